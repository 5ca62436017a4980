# Every target sets up what it needs and skips what is there.
SHELL := /bin/bash
export PATH := $(HOME)/.cargo/bin:$(PATH)
FUZZ_SECONDS ?= 60
MIRI_TOOLCHAIN ?= nightly

.PHONY: help demo test bench fuzz miri deny postgres-tests install clean

help:
	@echo 'make demo     a private cluster with a million card payments, and what pgpci does with them'
	@echo 'make test     every test suite'
	@echo 'make bench    pan against text and pgcrypto, the audit trail against others (BENCH_ROWS=1000000)'
	@echo 'make fuzz     every parser, FUZZ_SECONDS=60 each'
	@echo 'make miri     the core crate under Miri; needs a nightly Rust with the component miri'
	@echo 'make deny     licences, sources, banned crates, and (with network) advisories of all dependencies'
	@echo 'make postgres-tests  PostgreSQL'\''s own regression tests with and without pgpci (POSTGRES_SOURCE=its source)'
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
	@FUZZ_SECONDS=$(FUZZ_SECONDS) scripts/fuzz.sh

# An interpreter that finds undefined behaviour, some hundred times slower: few cases of each property.
miri:
	@cargo +$(MIRI_TOOLCHAIN) miri --version >/dev/null 2>&1 || { \
	    echo 'make miri needs: rustup toolchain install nightly --profile minimal --component miri,rust-src' >&2; exit 1; }
	PROPTEST_CASES=4 MIRIFLAGS=-Zmiri-disable-isolation cargo +$(MIRI_TOOLCHAIN) miri test -p pgpci-core

deny:
	@scripts/setup.sh deny
	cargo deny --workspace check

postgres-tests:
	@scripts/setup.sh
	@scripts/postgres-regress.sh

install:
	@scripts/setup.sh
	@scripts/install.sh

clean:
	@scripts/demo.sh stop
	cargo clean
	rm -rf .venv bench-results fuzz/target tests/pg_regress/results tests/clients/*/node_modules
