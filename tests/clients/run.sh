#!/usr/bin/env bash
# Unmodified clients against a private cluster: tests/clients/run.sh [psycopg sqlalchemy node jdbc tokio]
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../.. && pwd)
clients=${*:-psycopg sqlalchemy node jdbc tokio}
bin=$("${PG_CONFIG:-pg_config}" --bindir)
dir=$(mktemp -d "${TMPDIR:-/tmp}/pgpci-clients.XXXXXX")
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

finish() {
    status=$?
    MODE=immediate "$root/scripts/cluster.sh" stop "$dir"
    if [ $status != 0 ] && [ -f "$dir/server.log" ]; then
        echo "--- the end of the server's log"
        tail -n 40 "$dir/server.log"
    fi
    rm -rf "$dir"
    exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

"$root/scripts/cluster.sh" start "$dir" "$port"
unset PGUSER PGPASSWORD PGSERVICE PGOPTIONS PGSSLMODE
export PGHOST=127.0.0.1 PGPORT=$port PGDATABASE=postgres
"$bin/psql" -X -q -U postgres -f setup.sql >/dev/null

python() {
    [ -x "$root/.venv/bin/python" ] || python3 -m venv --upgrade-deps "$root/.venv"
    "$root/.venv/bin/pip" install -q --disable-pip-version-check -r requirements.txt
    "$root/.venv/bin/python" -m pytest -q -p no:cacheprovider "python/test_$1.py"
}
psycopg() { python psycopg; }
sqlalchemy() { python sqlalchemy; }
node() {
    [ node/node_modules/.package-lock.json -nt node/package-lock.json ] ||
        npm --prefix node ci --no-fund --no-audit --loglevel=error
    (cd node && command node --test)
}
jdbc() { java -cp "${JDBC_JAR:-/usr/share/java/postgresql.jar}" jdbc/Payments.java; }
tokio() { CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target/clients} cargo run -q --locked --manifest-path tokio/Cargo.toml; }

failed=
for client in $clients; do
    echo "=== $client"
    "$client" || failed="$failed $client"
done
[ -z "$failed" ] || { echo "failed:$failed"; exit 1; }
