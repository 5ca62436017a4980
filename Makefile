# Every target sets up what it needs and skips what is there.
SHELL := /bin/bash
export PATH := $(HOME)/.cargo/bin:$(PATH)
FUZZ_SECONDS ?= 60
FUZZ_TARGET := x86_64-unknown-linux-gnu

.PHONY: help demo test bench fuzz install clean

help:
	@echo 'make demo     a private cluster with a million card payments, and what pgpci does with them'
	@echo 'make test     every test suite'
	@echo 'make bench    pan against text and pgcrypto, in one run (BENCH_ROWS=1000000)'
	@echo 'make fuzz     every parser, FUZZ_SECONDS=60 each'
	@echo 'make install  builds and installs the extension and the pgpci command (PG_CONFIG=pg_config)'
	@echo 'make clean    removes what the other targets made'

demo:
	@scripts/demo.sh

test:
	@scripts/test.sh

bench:
	@benches/bench.sh

fuzz:
	@scripts/setup.sh fuzz
	@set -e; for target in $$(cargo +nightly fuzz list); do \
	    echo "== $$target, $(FUZZ_SECONDS) s"; \
	    cargo +nightly fuzz run --target $(FUZZ_TARGET) $$target -- -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1; \
	done

install:
	@scripts/setup.sh
	@scripts/install.sh

clean:
	@scripts/demo.sh stop
	cargo clean
	rm -rf .venv bench-results fuzz/target tests/pg_regress/results tests/clients/*/node_modules
