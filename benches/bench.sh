#!/usr/bin/env bash
# pan against text and pgcrypto, and the audit trail against none, in one run. BENCH_ROWS=1000000 BENCH_ROUNDS=3; SKIP_INSTALL=1 takes the installed pgpci.
# Writes bench-results/bench.json and bench-results/bench.svg; what misses its target is printed as a miss.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh bench
export PATH="$HOME/.cargo/bin:$PATH"
[ -n "${SKIP_INSTALL:-}" ] || { mkdir -p target; scripts/install.sh >target/bench-build.log 2>&1 || { tail -30 target/bench-build.log >&2; exit 1; }; }
# A directory that user postgres can read, wherever the checkout is.
dir=$(mktemp -d /tmp/pgpci-bench.XXXXXX)
cleanup() {
    for one in with beside without all pgaudit log; do
        MODE=immediate scripts/cluster.sh stop "$dir/$one"
    done
    rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
chmod 755 "$dir"
conf=("fsync = off" "max_wal_size = 16GB" "shared_buffers = 1GB" "checkpoint_timeout = 1h" "autovacuum = off"
    "max_parallel_workers_per_gather = 0" "max_parallel_maintenance_workers = 0" "jit = off")
port=${BENCH_PORT:-54391}
scripts/cluster.sh start "$dir/with" "$port" "${conf[@]}"
# Two more, alike and empty but for the library: what it costs statements that have nothing to do with card numbers.
scripts/cluster.sh start "$dir/beside" $((port + 2)) "${conf[@]}"
KEY=no scripts/cluster.sh start "$dir/without" $((port + 1)) "${conf[@]}" "shared_preload_libraries = ''"
# And with everything recorded.
KEY=no scripts/cluster.sh start "$dir/all" $((port + 3)) "${conf[@]}" "pgpci.audit_scope = all"
# The usual ways to have everything recorded, by the logging collector as files of CSV.
collector=("logging_collector = on" "log_destination = csvlog")
KEY=no scripts/cluster.sh start "$dir/pgaudit" $((port + 4)) "${conf[@]}" "${collector[@]}" "shared_preload_libraries = pgaudit" "pgaudit.log = all"
KEY=no scripts/cluster.sh start "$dir/log" $((port + 5)) "${conf[@]}" "${collector[@]}" "shared_preload_libraries = ''" "log_statement = all"
python3 benches/bench.py "$dir" "$port" "$@"
