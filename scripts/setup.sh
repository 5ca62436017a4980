#!/usr/bin/env bash
# Installs what is missing on Debian 12: scripts/setup.sh [build|demo|test|bench|fuzz|deny]
# As root by apt-get; as an ordinary user it says what to install. Quick when all is there.
set -euo pipefail
for_what=${1:-build}
missing=()

has() { command -v "$1" >/dev/null 2>&1; }
need() { # need PACKAGE TEST...: the package is missing unless the test succeeds
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}
has_server_headers() {
    [ -e "$("${PG_CONFIG:-pg_config}" --includedir-server)/postgres.h" ]
}
has_server() {
    [ -x "$("${PG_CONFIG:-pg_config}" --bindir)/initdb" ] || [ -x /usr/lib/postgresql/15/bin/initdb ]
}
has_libclang() {
    ldconfig -p | grep -q 'libclang-\?[0-9.]*\.so' || compgen -G '/usr/lib/llvm-*/lib/libclang*.so*'
}

if [ "$for_what" != fuzz ] && [ "$for_what" != deny ]; then
    need postgresql-15 has_server
    need postgresql-server-dev-15 has_server_headers
    need clang has clang
    need libclang-dev has_libclang
fi
need pkg-config has pkg-config
need build-essential has cc
need curl has curl
need ca-certificates test -e /etc/ssl/certs/ca-certificates.crt
if [ "$for_what" = demo ] || [ "$for_what" = test ]; then
    # Emulators of AWS KMS and of an HSM.
    need python3-venv python3 -c 'import venv, ensurepip'
    need softhsm2 has softhsm2-util
    need opensc has pkcs11-tool
fi
if [ "$for_what" = bench ]; then
    # Another audit trail to compare with.
    need postgresql-15-pgaudit test -e "$("${PG_CONFIG:-pg_config}" --pkglibdir)/pgaudit.so"
fi
if [ "$for_what" = test ]; then
    need libpostgresql-jdbc-java test -e /usr/share/java/postgresql.jar
    need default-jdk-headless has javac
    need nodejs has node
    need npm has npm
    need openssl has openssl
fi

if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && has apt-get; then
        echo "setup: apt-get install ${missing[*]}"
        apt-get update -qq
        # Debian would start a server of its own on port 5432; pgpci needs none.
        if [[ " ${missing[*]} " == *" postgresql-15 "* ]]; then
            mkdir -p /etc/postgresql-common
            [ -e /etc/postgresql-common/createcluster.conf ] ||
                echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
        fi
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    else
        echo "setup: please install as root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
fi

if ! has cargo; then
    echo "setup: installing Rust by rustup"
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y -q --profile minimal
fi
[ -e "${CARGO_HOME:-$HOME/.cargo}/env" ] && . "${CARGO_HOME:-$HOME/.cargo}/env"

# A cargo command of exactly this version: NAME VERSION
command_of_cargo() {
    [ "$(cargo "${1#cargo-}" --version 2>/dev/null)" = "$1 $2" ] && return
    echo "setup: installing $1 $2"
    cargo install "$1" --version "$2" --locked
}
case $for_what in
    fuzz) command_of_cargo cargo-fuzz 0.13.2 ;;
    deny) command_of_cargo cargo-deny 0.20.2 ;;
    *) command_of_cargo cargo-pgrx 0.18.1 ;;
esac
