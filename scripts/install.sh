#!/usr/bin/env bash
# Builds and installs the extension and the pgpci command into the PostgreSQL of $PG_CONFIG.
# PROFILE: release (default) or quick. FEATURES: default "--no-default-features --features pgNN", NN its major.
set -euo pipefail
cd "$(dirname "$0")/.."
pg_config=${PG_CONFIG:-pg_config} profile=${PROFILE:-release} target=${CARGO_TARGET_DIR:-target}
major=$("$pg_config" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')
cargo pgrx init "--pg$major" "$pg_config" >/dev/null 2>&1 || true
package=$target/package-$major
# What an earlier run packaged for another PostgreSQL must not be installed there again.
rm -rf "$package"
# Linking the cloud's SDK as one piece takes minutes, and what the helper does is waiting.
cargo build --profile quick -p pgpci-cli
# shellcheck disable=SC2086 # several words on purpose
cargo pgrx package --profile "$profile" --pg-config "$pg_config" --out-dir "$package" \
    ${FEATURES:---no-default-features --features "pg$major"}
# install(1) replaces files: a server that runs keeps the library it has.
find "$package" -type f | while read -r file; do
    install -D -m 644 "$file" "/${file#"$package"/}"
done
chmod 755 "$("$pg_config" --pkglibdir)/pgpci.so"
install -m 755 "$target/quick/pgpci" "$("$pg_config" --bindir)/pgpci"
