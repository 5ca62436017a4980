#!/usr/bin/env bash
# PostgreSQL's own regression tests on a server with pgpci that records everything, and on one without it: what they
# print must be the same. POSTGRES_SOURCE=DIR scripts/postgres-regress.sh, DIR being the source of the server's major
# version (of Debian's source package, or from postgresql.org).
set -euo pipefail
cd "$(dirname "$0")/.."
pg_config=${PG_CONFIG:-pg_config}
source=${POSTGRES_SOURCE:?"the directory of PostgreSQL's source"}/src/test/regress
pg_regress=$(dirname "$("$pg_config" --pgxs)")/../test/regress/pg_regress
dir=$(mktemp -d /tmp/pgpci-regress.XXXXXX)
cleanup() {
    for one in with without; do MODE=immediate scripts/cluster.sh stop "$dir/$one"; done
    rm -rf "$dir"
}
trap cleanup EXIT
chmod 755 "$dir"
as_server() {
    if [ "$(id -u)" = 0 ]; then
        setpriv --reuid=postgres --regid=postgres --init-groups -- env -C / HOME=/var/lib/postgresql "$@"
    else
        "$@"
    fi
}

# What the tests load.
cc -O1 -fPIC -shared -I"$("$pg_config" --includedir-server)" -o "$dir/regress.so" "$source/regress.c"
cp "$("$pg_config" --pkglibdir)"/{refint,autoinc}.so "$dir"

run() { # run NAME PORT CONF...
    local name=$1 port=$2
    shift 2
    KEY=no scripts/cluster.sh start "$dir/$name" "$port" "fsync = off" "max_prepared_transactions = 2" "$@"
    cp -r "$source" "$dir/$name/regress"
    [ "$(id -u)" = 0 ] && chown -R postgres "$dir/$name/regress"
    # Failures of both are this server's matter.
    as_server "$pg_regress" --bindir="$("$pg_config" --bindir)" --dlpath="$dir" --inputdir="$dir/$name/regress" \
        --outputdir="$dir/$name/regress" --schedule="$dir/$name/regress/parallel_schedule" --max-concurrent-tests=20 \
        --host="$dir/$name" --port="$port" --user=postgres | tail -n 8 || true
    scripts/cluster.sh stop "$dir/$name"
    # Where the run was is no difference.
    find "$dir/$name/regress/results" -type f -exec sed -i "s#$dir/$name#DIR#g" {} +
}
port=${PORT:-54471}
echo "== without pgpci"
run without "$port" "shared_preload_libraries = ''"
echo "== with pgpci"
run with $((port + 1)) "pgpci.audit_scope = all"
echo "== the trail"
cat "$dir"/with/data.pgpci/trail/*.jsonl | wc -l
"$("$pg_config" --bindir)/pgpci" verify "$dir/with/data.pgpci/trail" --key "$dir/with/data.pgpci/trail/trail.vkey" || [ $? = 6 ]
# With a label provider there, any, the messages on labels are others.
rm -f "$dir"/{with,without}/regress/results/security_label.out
if diff -r "$dir/without/regress/results" "$dir/with/regress/results" >"$dir/difference"; then
    echo "PostgreSQL's tests print the same with pgpci: $(find "$dir/with/regress/results" -name '*.out' | wc -l) files"
else
    cp "$dir/difference" "${DIFFERENCE:-target/postgres-regress.diff}"
    echo "PostgreSQL's tests print something else with pgpci: see ${DIFFERENCE:-target/postgres-regress.diff}"
    exit 1
fi
