#!/usr/bin/env bash
# pgpci in five minutes: scripts/demo.sh [stop]
# Leaves a private cluster running in $DEMO_DIR, port $DEMO_PORT. SKIP_INSTALL=1 takes the pgpci that is installed.
set -Eeuo pipefail
cd "$(dirname "$0")/.."
# User postgres cannot read a checkout below /root.
if [ "$(id -u)" = 0 ]; then default_dir=/tmp/pgpci-demo; else default_dir=$PWD/target/demo; fi
dir=${DEMO_DIR:-$default_dir} port=${DEMO_PORT:-54329} rows=${DEMO_ROWS:-1000000}
export PGOPTIONS='' PGCONNECT_TIMEOUT=10

remove_old() {
    [ -e "$dir" ] || [ -L "$dir" ] || return 0
    if [ -L "$dir" ] || [ ! -O "$dir/.pgpci-demo" ]; then
        echo "$dir is there and was not made by this demo; set DEMO_DIR" >&2
        exit 1
    fi
    scripts/cluster.sh stop "$dir"
    # A demo that failed leaves the small disk of chapter 8.
    ! mountpoint -q "$dir/small" || umount "$dir/small"
    rm -rf "$dir"
}

if [ "${1:-}" = stop ]; then
    remove_old
    exit
fi

scripts/setup.sh build
export PATH="$HOME/.cargo/bin:$PATH"
if [ -z "${SKIP_INSTALL:-}" ]; then
    echo "Building and installing pgpci (some minutes the first time) ..."
    mkdir -p target
    scripts/install.sh >target/demo-build.log 2>&1 || { tail -30 target/demo-build.log >&2; exit 1; }
fi
remove_old
mkdir -p "$dir"
touch "$dir/.pgpci-demo"
trap 'echo "The demo failed; the server log is $dir/server.log" >&2' ERR

title() { printf '\n\033[1m%s\033[0m\n' "$1"; }
as() { # as ROLE SQL...: shows the statements and what the server answers
    local role=$1
    shift
    local statement
    for statement in "$@"; do
        printf '\033[36m%s=> %s\033[0m\n' "$role" "$statement"
        psql -X -q -h "$dir" -p "$port" -U "$role" -d postgres -P footer=off -P pager=off -c "$statement" 2>&1
    done
}
quiet() { psql -X -q -At -v ON_ERROR_STOP=1 -h "$dir" -p "$port" -U postgres -d postgres "$@"; }
refused() { # like as, but a success would be a failure of the demo
    if as "$@"; then
        echo "this should have been refused" >&2
        false
    fi
}

title "1. A private cluster with pgpci and a local wrapping key"
scripts/cluster.sh start "$dir" "$port" "fsync = off" "max_wal_size = 4GB" "shared_buffers = 256MB" \
    "pgpci.audit_checkpoint_interval = 1"
cat "$dir/key.log"
quiet <<'SQL' >/dev/null
CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN;   -- officers: who may do what
CREATE ROLE cy LOGIN; CREATE ROLE di LOGIN;     -- custodians: keys
CREATE ROLE eve LOGIN; CREATE ROLE fay LOGIN;   -- auditors
CREATE ROLE shop LOGIN; CREATE ROLE support LOGIN; CREATE ROLE disputes LOGIN;
SQL
as postgres "CREATE EXTENSION pgpci" >"$dir/out"
as postgres "SELECT pci.init(officers => '{ann,bob}', custodians => '{cy,di}', auditors => '{eve,fay}')" >>"$dir/out"
grep '=>' "$dir/out"
as postgres "CREATE TABLE payments (id bigint PRIMARY KEY, paid_at timestamptz, shop text, amount numeric(10,2), card pci.pan)" \
    "GRANT SELECT, INSERT ON payments TO shop, support, disputes"

title "2. Nobody may do anything yet, superusers included; an officer grants"
refused postgres "INSERT INTO payments (id, card) VALUES (0, '4111 1111 1111 1111')"
as ann "SELECT pci.grant_access('shop', 'default', 'store')" \
    "SELECT pci.grant_access('support', 'default', 'search')" >"$dir/out"
grep '=>' "$dir/out"

title "   ... but what lets digits out takes two: one asks, another approves"
as ann "SELECT pci.grant_access('disputes', 'default', 'reveal', purposes => '{chargeback}')"
refused ann "SELECT pci.approve(1)"
as bob "SELECT pci.approve(1)" | grep '=>'
as bob "SELECT id, state, kind, role, capability, purposes, requested_by, decided_by FROM pci.requests"

title "3. $rows card payments, loaded by COPY: each number is checked and encrypted on its way in"
# Deterministic; test ranges of the brands; the check digit by tables of the Luhn sums of three digits.
awk -v rows="$rows" 'BEGIN {
    for (n = 0; n < 1000; n++) {
        a = int(n / 100); b = int(n / 10) % 10; c = n % 10
        odd[n] = twice(a) + b + twice(c); even[n] = a + twice(b) + c; text[n] = sprintf("%03d", n)
    }
    kinds = split("411111 424242 555555 510510 601111", bin, " ")
    shops = split("Bakery,Books,Cinema,Florist,Grocer,Hotel,Pharmacy,Railway", shop, ",")
    for (i = 1; i <= rows; i++) {
        k = bin[i % kinds + 1]; r = (i * 618033989) % 1000000000
        a = int(r / 1000000); b = int(r / 1000) % 1000; c = r % 1000
        sum = odd[int(k / 1000)] + even[k % 1000] + odd[a] + even[b] + odd[c]
        printf "%d\t2026-%02d-%02d %02d:%02d:00+00\t%s\t%d.%02d\t%s%s%s%s%d\n", i, a % 12 + 1, b % 28 + 1, c % 24, a % 60, \
            shop[b % shops + 1], c % 400 + 1, a % 100, k, text[a], text[b], text[c], (10 - sum % 10) % 10
    }
}
function twice(d) { return d > 4 ? 2 * d - 9 : 2 * d }' >"$dir/payments.tsv"
pan=$(sed -n '1000{s/.*\t//p;q}' "$dir/payments.tsv")
printf 'the file:  %s\n' "$(sed -n '1000{p;q}' "$dir/payments.tsv")"
psql -X -q -h "$dir" -p "$port" -U shop -d postgres -c '\timing on' \
    -c "\\copy payments FROM '$dir/payments.tsv'" | sed "s/^Time:/loaded $rows rows in/"
rm "$dir/payments.tsv"
quiet -c 'VACUUM ANALYZE payments' -c 'CHECKPOINT'

title "4. Reading never decrypts: everybody sees masks"
as shop "SELECT * FROM payments WHERE id BETWEEN 998 AND 1002"
as postgres "SELECT pci.brand(card), count(*), min(pci.last4(card)) FROM payments GROUP BY 1 ORDER BY 1"

title "5. Look-up by the whole number, by the index, for roles with the capability search"
as ann "SELECT pci.grant_access('postgres', 'default', 'search')" | grep '=>'
as postgres "CREATE INDEX ON payments (card)"
as support "SELECT id, shop, amount, card FROM payments WHERE card = '$pan'" \
    "EXPLAIN (ANALYZE, COSTS off, SUMMARY off) SELECT id FROM payments WHERE card = '$pan'"
refused shop "SELECT id FROM payments WHERE card = '$pan'"

title "6. Clear digits come from one door: pci.reveal, which is refused ..."
refused support "SELECT pci.reveal(card) FROM payments WHERE id = 1000"
refused disputes "SELECT pci.reveal(card, 'curiosity') FROM payments WHERE id = 1000"
title "   ... or granted, for a purpose, and recorded"
as disputes "SELECT id, card, pci.reveal(card, 'chargeback') FROM payments WHERE id = 1000"
cat "$dir"/data.pgpci/trail/*.jsonl | grep -E '"event":"(reveal|DENIED)"' | sed 's/.*"time"/the trail:  "time"/' | tail -4

title "7. On the disk"
as postgres "SELECT pg_column_size(card) AS bytes_a_value FROM payments WHERE id = 1000" \
    "SELECT pg_size_pretty(pg_relation_size('payments')) AS \"table\", pg_size_pretty(pg_relation_size('payments_card_idx')) AS index"
quiet -c CHECKPOINT
if grep -rqaF "$pan" "$dir/data/base" "$dir/data/pg_wal"; then
    echo "card number $pan found in the data files" >&2
    false
fi
echo "$pan is nowhere in the data files and the WAL."

# Chapter 8.
bin=$("${PG_CONFIG:-pg_config}" --bindir)
. scripts/demo-trail.sh

# Chapters 9 and 10.
. scripts/demo-keys.sh

# Chapter 11.
. scripts/demo-accounts.sh

title "The cluster is up. Go on by hand (roles: shop, support, disputes, officer ann, superuser postgres):"
echo "    psql -h $dir -p $port -U support postgres"
echo "Stop and remove it with: make clean, or scripts/demo.sh stop"
