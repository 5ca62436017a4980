#!/usr/bin/env bash
# The tests that run inside a backend (pg_test/): scripts/backend.sh [name]
# Their build of the extension goes to a PostgreSQL of its own; the installed one stays as it is.
# As root, the server runs as user postgres.
set -euo pipefail
cd "$(dirname "$0")/.."
export PG_CONFIG=${PG_CONFIG:-pg_config}
major=$("$PG_CONFIG" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")

as_server=() options=() dir=$target/backend
mkdir -p "$target"
if [ "$(id -u)" = 0 ]; then
    as_server=(setpriv --reuid=postgres --regid=postgres --init-groups --)
    options=(--runas postgres)
    export PATH="$PWD/scripts/shims:$PATH"
    # User postgres cannot read a checkout below /root. Another place each time costs new bindings each time.
    "${as_server[@]}" test -x "$target" || dir=$(mktemp -d "${TMPDIR:-/tmp}/pgpci-backend.XXXXXX")
else
    USER=$(id -un)
    export USER
fi
finish() {
    status=$?
    case $dir in "$target"/*) rm -rf "$dir/data" ;; *) rm -rf "$dir" ;; esac
    exit $status
}
trap finish EXIT
trap 'exit 130' INT TERM

mkdir -p "$dir/home"
chmod 755 "$dir"
prefix=$(scripts/prefix.sh "$dir/pg")
config=$(printf '[configs]\npg%s = "%s"\n' "$major" "$prefix")
# Untouched if it says so already: bindings are made anew after it.
[ "$(cat "$dir/home/config.toml" 2>/dev/null)" = "$config" ] || echo "$config" >"$dir/home/config.toml"

cargo build -p pgpci-cli
install -m 755 "$target/debug/pgpci" "$("$prefix" --bindir)/pgpci"
rm -rf "$dir/data"
mkdir "$dir/data"
[ "$(id -u)" != 0 ] || chown postgres:postgres "$dir/data"
"${as_server[@]}" "$("$prefix" --bindir)/pgpci" key init --file "$dir/data/local.key"

# Tests share the server's memory: one after the other.
export PGRX_HOME=$dir/home RUST_TEST_THREADS=1 PGPCI_TEST_DIRECTORY=$dir/data
cargo pgrx test --no-default-features --features "pg$major" --pgdata "$dir/data" "${options[@]}" "pg$major" "$@"
