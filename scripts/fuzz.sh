#!/usr/bin/env bash
# Every fuzz target, FUZZ_SECONDS each: scripts/fuzz.sh [target ...]
# With nightly Rust where it is installed; else with the pinned toolchain, which is told to allow what fuzzing needs.
# FUZZ_TOOLCHAIN=pinned takes the pinned one in any case.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
seconds=${FUZZ_SECONDS:-60}

# Asked before it is used: naming a toolchain that is not there may start a download.
if [ "${FUZZ_TOOLCHAIN:-}" != pinned ] && rustup toolchain list 2>/dev/null | grep -q '^nightly'; then
    cargo=(cargo +nightly) rustc=(rustc +nightly)
else
    cargo=(cargo) rustc=(rustc)
    export RUSTC_BOOTSTRAP=1
fi
# Not cargo-fuzz's own default, which may be musl: a sanitizer needs a dynamic C library.
target=$("${rustc[@]}" -vV | sed -n 's/^host: //p')
sanitizer=none
if compgen -G "$("${rustc[@]}" --print sysroot)/lib/rustlib/$target/lib/librustc-*_rt.asan.a" >/dev/null; then
    sanitizer=address
fi
echo "$("${rustc[@]}" --version), sanitizer: $sanitizer"

mapfile -t targets < <("${cargo[@]}" fuzz list)
[ $# = 0 ] || targets=("$@")
for one in "${targets[@]}"; do
    echo "== $one, $seconds s"
    "${cargo[@]}" fuzz run --fuzz-dir . --target "$target" --sanitizer "$sanitizer" "$one" -- \
        -max_total_time="$seconds" -print_final_stats=1
done
