#!/usr/bin/env bash
# Every test suite, whatever fails before it; a table at the end. The extension is built in the profile quick, minutes
# sooner than the release; PROFILE=release tests that.
# SKIP_INSTALL=1 takes the pgpci that is installed.
set -uo pipefail
cd "$(dirname "$0")/.."
export PATH="$HOME/.cargo/bin:$PATH" PROFILE=${PROFILE:-quick}
logs=$PWD/target/test-logs
mkdir -p "$logs"
rm -f "$logs"/*
table=() passed=0 failed=0 suite=''

scripts/setup.sh test || exit 1

# Each suite runs in a process group of its own, so that stopping us stops what it started.
set -m
stop_suite() {
    [ -n "$suite" ] && kill -TERM -- "-$suite" 2>/dev/null
    wait 2>/dev/null
    exit 130
}
trap stop_suite INT TERM HUP

# Prints "PASSED FAILED" of a log by the runners' own totals: cargo test, pytest, pg_regress, node, TAP.
totals() {
    sed 's/\x1b\[[0-9;]*m//g' "$1" | awk '
        function number_before(word,    i) {
            for (i = 2; i <= NF; i++) if (index($i, word) == 1) return $(i - 1) + 0
            return 0
        }
        /^test result: / { p += number_before("passed"); f += number_before("failed") }
        /^=+ .*(passed|failed|error).* in [0-9.]+s/ || /^[0-9]+ (passed|failed|error).* in [0-9.]+s/ {
            p += number_before("passed"); f += number_before("failed") + number_before("error")
        }
        /^ *All [0-9]+ tests passed/ { p += $2 }
        /^ *[0-9]+ of [0-9]+ tests failed/ { f += $1; p += $3 - $1 }
        /^(#|ℹ) pass [0-9]+/ { p += $3; p -= tap_p; tap_p = 0 }
        /^(#|ℹ) fail [0-9]+/ { f += $3; f -= tap_f; tap_f = 0 }
        /^ok [0-9]+/ { p++; tap_p++ }
        /^not ok [0-9]+/ { f++; tap_f++ }
        /^TAP version/ { tap_p = tap_f = 0 }
        END { print p + 0, f + 0 }'
}

run() { # run NAME COMMAND...
    local name=$1 log status from=$SECONDS counts p f verdict
    log=$logs/${name// /-}.log
    shift
    printf '== %s\n' "$name"
    "$@" >"$log" 2>&1 </dev/null &
    suite=$!
    wait "$suite"
    status=$?
    # What a suite left behind would disturb the next one.
    kill -TERM -- "-$suite" 2>/dev/null
    suite=''
    counts=$(totals "$log")
    p=${counts% *} f=${counts#* }
    # A suite without totals of its own counts as one test; one that fails has at least one failure.
    if [ $((p + f)) = 0 ] && [ "$status" = 0 ]; then p=1; fi
    if [ "$status" != 0 ] && [ "$f" = 0 ]; then f=1; fi
    passed=$((passed + p)) failed=$((failed + f))
    verdict=ok
    if [ "$f" != 0 ]; then
        verdict=FAILED
        tail -n 40 "$log"
    fi
    table+=("$(printf '%-18s %-7s %6d %6d %6d s' "$name" "$verdict" "$p" "$f" $((SECONDS - from)))")
}

lint() {
    local pg_config major
    pg_config=$(command -v "${PG_CONFIG:-pg_config}") || return 1
    major=$("$pg_config" --version | sed 's/^PostgreSQL \([0-9]*\).*/\1/')
    cargo clippy -p pgpci-core -p pgpci-kms -p pgpci-cli --all-targets -- -D warnings || return 1
    # The extension in the profile that the suites after it build: its dependencies are compiled once.
    PGRX_PG_CONFIG_PATH=$pg_config cargo clippy --profile "$PROFILE" --lib --no-default-features --features "pg$major" -- -D warnings
}
venv() { # venv REQUIREMENTS
    [ -x .venv/bin/python ] || python3 -m venv .venv || return 1
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$1"
}
unit_tests() {
    # The emulator of AWS KMS, which the tests start themselves.
    venv tests/kms/requirements.txt || return 1
    cargo test -p pgpci-core -p pgpci-kms -p pgpci-cli
}
cluster_tests() {
    [ -f tests/cluster/requirements.txt ] || { echo "tests/cluster is not there"; return 1; }
    venv tests/cluster/requirements.txt && venv tests/kms/requirements.txt || return 1
    .venv/bin/python -m pytest -q --durations=25 tests/cluster
}

run format cargo fmt --all --check
run lint lint
run unit unit_tests
run backend scripts/backend.sh
[ -n "${SKIP_INSTALL:-}" ] || run install scripts/install.sh
run regress scripts/regress.sh
run cluster cluster_tests
run clients tests/clients/run.sh

printf '\n%-18s %-7s %6s %6s %8s\n' suite result passed failed time
printf '%s\n' "${table[@]}"
printf 'logs: %s\n\n' "$logs"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
