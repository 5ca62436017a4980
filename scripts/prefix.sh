#!/usr/bin/env bash
# A PostgreSQL of one's own for tests: scripts/prefix.sh DIR
# Same programs as $PG_CONFIG's, but extensions installed through the pg_config that this prints go to DIR, and its
# servers see only those. PostgreSQL finds its files relative to its programs; those are copied, all else is linked.
set -euo pipefail
pg_config=${PG_CONFIG:-pg_config}
dir=$(realpath -m "$1")
ask() { "$pg_config" "--$1"; }

bin=$(ask bindir) lib=$(ask pkglibdir) share=$(ask sharedir)
# What all of them have in common becomes DIR.
common=$bin
for path in "$lib" "$share" "$(ask includedir-server)" "$(ask libdir)"; do
    while [ "${path#"$common"/}" = "$path" ] && [ "$common" != / ]; do common=$(dirname "$common"); done
done
[ "$common" != / ] || { echo "the parts of $pg_config have no directory in common" >&2; exit 1; }
place() { echo "$dir${1#"$common"}"; }

link_all() { # link_all DIR: its entries, one by one, so that ours can stand beside them
    mkdir -p "$(place "$1")"
    find "$1" -mindepth 1 -maxdepth 1 ! -name 'pgpci*' ! -name extension -exec ln -sfn -t "$(place "$1")" {} +
}
rm -rf "$dir"
link_all "$lib"
link_all "$share"
mkdir -p "$(place "$share/extension")"
find "$share/extension" -mindepth 1 ! -name 'pgpci*' -exec ln -sfn -t "$(place "$share/extension")" {} +
for path in "$(ask includedir-server)" "$(ask libdir)"; do
    [ -e "$(place "$path")" ] && continue
    mkdir -p "$(dirname "$(place "$path")")"
    ln -sfn "$path" "$(place "$path")"
done
mkdir -p "$(place "$bin")"
find "$bin" -mindepth 1 -maxdepth 1 ! -name pgpci -exec cp -t "$(place "$bin")" {} +
chmod -R a+rX "$dir"
place "$bin/pg_config"
