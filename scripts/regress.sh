#!/usr/bin/env bash
# The golden files of tests/pg_regress, by PostgreSQL's own pg_regress against a private cluster.
# scripts/regress.sh [test ...]; tests build on those before them, so name a beginning of the list.
set -euo pipefail
cd "$(dirname "$0")/.."
pg_config=${PG_CONFIG:-pg_config}
bin=$("$pg_config" --bindir)
pg_regress=$(dirname "$("$pg_config" --pgxs)")/../test/regress/pg_regress
tests=tests/pg_regress

for sql in "$tests"/sql/*.sql; do
    name=$(basename "$sql" .sql)
    [ -f "$tests/expected/$name.out" ] || { echo "$tests/expected/$name.out is missing" >&2; exit 1; }
    names+=("$name")
done
for expected in "$tests"/expected/*.out; do
    name=$(basename "$expected" .out)
    [ -f "$tests/sql/$name.sql" ] || { echo "$tests/sql/$name.sql is missing" >&2; exit 1; }
done
[ $# = 0 ] || names=("$@")

dir=$(mktemp -d "${TMPDIR:-/tmp}/pgpci-regress.XXXXXX")
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
finish() {
    status=$?
    MODE=immediate scripts/cluster.sh stop "$dir"
    rm -rf "$dir"
    exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

# Few enough conflicts that 04_capabilities reaches the limit.
scripts/cluster.sh start "$dir" "$port" "pgpci.max_conflicts_per_hour = 5"
rm -f "$tests/regression.diffs"
"$pg_regress" --inputdir="$tests" --outputdir="$tests" --bindir="$bin" --host=127.0.0.1 --port="$port" \
    --user=postgres --dbname=regression "${names[@]}" || {
    [ ! -f "$tests/regression.diffs" ] || cat "$tests/regression.diffs"
    exit 1
}
