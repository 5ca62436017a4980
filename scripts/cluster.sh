#!/usr/bin/env bash
# A private cluster with pgpci: scripts/cluster.sh start|stop|restart DIR PORT [postgresql.conf line ...]
# As root, the server runs as user postgres; else as whoever calls.
set -euo pipefail
bin=$("${PG_CONFIG:-pg_config}" --bindir)
action=$1 dir=$(realpath -m "$2") port=${3:-}
shift $(( $# < 3 ? $# : 3 ))

as_server() {
    if [ "$(id -u)" = 0 ]; then
        # From a directory that user postgres can be in.
        setpriv --reuid=postgres --regid=postgres --init-groups -- env -C / HOME=/var/lib/postgresql "$@"
    else
        "$@"
    fi
}

start() {
    mkdir -p "$dir"
    [ "$(id -u)" = 0 ] && chown postgres:postgres "$dir"
    chmod 755 "$dir"
    if [ ! -d "$dir/data" ]; then
        as_server "$bin/initdb" -D "$dir/data" -U postgres -A trust --no-sync -E UTF8 --locale=C >"$dir/initdb.log"
        {
            echo "port = $port"
            echo "listen_addresses = '127.0.0.1'"
            echo "unix_socket_directories = '$dir'"
            echo "shared_preload_libraries = 'pgpci'"
            echo "wal_level = logical"
            printf '%s\n' "$@"
        } | as_server tee -a "$dir/data/postgresql.conf" >/dev/null
        if [ "${KEY:-yes}" = yes ]; then
            as_server "$bin/pgpci" key init --pgdata "$dir/data" >"$dir/key.log"
        fi
    fi
    as_server "$bin/pg_ctl" -D "$dir/data" -l "$dir/server.log" -w start >/dev/null
}

stop() {
    as_server "$bin/pg_ctl" -D "$dir/data" -m "${MODE:-fast}" -w stop >/dev/null 2>&1 || true
}

case $action in
    start) start "$@" ;;
    stop) stop ;;
    restart) stop; start ;;
    *) echo "usage: $0 start|stop|restart DIR PORT [postgresql.conf line ...]" >&2; exit 2 ;;
esac
