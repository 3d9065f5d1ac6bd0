#!/usr/bin/env bash
# Usage: tests/fuzz/search.sh BUILD [CLANG]
#
# Builds the fuzzing programs with libFuzzer and the sanitizers into BUILD, and lets each search from its corpus on for
# COFFER_FUZZ_SECONDS (5). TEST_SEED repeats a search; an input that breaks something is left in BUILD/found. Put it
# into tests/fuzz/corpus/<name>, where it is replayed by every build from then on.
set -euo pipefail
source=$(cd "$(dirname "$0")/../.." && pwd)
build=${1:?tests/fuzz/search.sh BUILD [CLANG]}
seconds=${COFFER_FUZZ_SECONDS:-5}
seed=${TEST_SEED:-$((RANDOM * 32768 + RANDOM + 1))}

CC=${2:-clang-14} cmake -S "$source" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DCOFFER_FUZZ=ON \
    -DCOFFER_SANITIZE=address,undefined >"$build.log" 2>&1 || { tail -n 20 "$build.log" >&2; exit 1; }
cmake --build "$build" --target fuzz_all >"$build.log" 2>&1 || { tail -n 40 "$build.log" >&2; exit 1; }

echo "TEST_SEED=$seed"
export LSAN_OPTIONS=suppressions=$source/tests/support/lsan.supp:print_suppressions=0
mkdir -p "$build/found"
failed=0
for program in "$build"/tests/fuzz/fuzz_*; do
    name=${program##*/fuzz_}
    [[ $name == *_replay || ! -x $program || -d $program ]] && continue
    mkdir -p "$build/searched/$name"
    if "$program" -seed="$seed" -max_total_time="$seconds" -max_len=4096 -artifact_prefix="$build/found/$name-" \
        "$build/searched/$name" "$source/tests/fuzz/corpus/$name" >"$build/$name.log" 2>&1; then
        tail -n 1 "$build/$name.log" | sed "s/^/$name: /"
    else
        tail -n 40 "$build/$name.log" >&2
        failed=1
    fi
done
exit "$failed"
