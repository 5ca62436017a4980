#!/usr/bin/env bash
# Builds and installs the extension and the pgpci command into the PostgreSQL of $PG_CONFIG.
# PROFILE: release (default) or quick.
set -euo pipefail
cd "$(dirname "$0")/.."
pg_config=${PG_CONFIG:-pg_config} profile=${PROFILE:-release}
cargo pgrx init --pg15 "$pg_config" >/dev/null 2>&1 || true
cargo build --profile "$profile" -p pgpci-cli
cargo pgrx install --profile "$profile" --pg-config "$pg_config" ${FEATURES:-}
install -m 755 "target/$profile/pgpci" "$("$pg_config" --bindir)/pgpci"
