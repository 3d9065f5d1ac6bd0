#!/usr/bin/env bash
# Builds Coffer and runs all of its tests and checks. What it needs is installed by .ci/deps.
#
#   tests/run.sh            clang with sanitizers for addresses and undefined behaviour, gcc with the one for threads,
#                           gcc hardened as released: all tests in the first, in the second those with threads, and in the
#                           third those of what only that build has; gcc for debugging: unit tests under valgrind, the
#                           checks, and that each can fail; about 40 minutes
#   tests/run.sh --quick    the build for debugging, its tests, and the checks that take seconds
#
# Every stage writes build/logs/<stage>.log. The first stage that fails ends the run; its log is shown.
# The last lines are ctest's summary.
set -euo pipefail
cd "$(dirname "$0")/.."

quick=0
case ${1:-} in
    '') ;;
    --quick) quick=1 ;;
    *) sed -n '2,11p' "$0" >&2; exit 2 ;;
esac

jobs=$(nproc)
logs=build/logs
mkdir -p "$logs"

# stage NAME COMMAND...: runs it into its log.
stage() {
    local name=$1 log=$logs/${1//[^a-z]/-}.log begin=$SECONDS
    shift
    if "$@" >"$log" 2>&1; then
        printf '%-16s ok %4d s\n' "$name" $((SECONDS - begin))
        return
    fi
    tail -n 60 "$log" >&2
    echo "tests/run.sh: the stage \"$name\" failed; all of its output: $log" >&2
    exit 1
}

# Tests of whole servers meet each other's load: what fails is tried again, twice at most, and the log says so.
tries=(--repeat until-pass:3)

build() {
    cmake --preset "$1" && cmake --build --preset "$1" -j "$jobs"
}

# Most tests wait, for a time or for a disk, more than they compute.
at_once=$((2 * jobs))

# What runs beside them.
beside='^(check/tidy|fuzz/search)$'

# ctest begins with what took longest in an earlier run, which a fresh build does not have.
longest_first() {
    mkdir -p "build/$1/Testing/Temporary"
    awk '!/^#/ { print $1, 1, $2 }' tests/durations.tsv >"build/$1/Testing/Temporary/CTestCostData.txt"
}

# run PRESET LABELS: its tests but those with one of the labels; the results are what .ci/acceptance reads.
run() {
    rm -f "build/$1/results.xml"
    longest_first "$1"
    ctest --preset "$1" -j "$at_once" "${tries[@]}" -LE "$2" -E "$beside" --no-tests=error --output-junit results.xml
}

# The thread sanitizer does not start where addresses are too random. The tests of the programs as a person uses them,
# and those that ask one thing after the other, give it nothing to look at.
run_tsan() {
    local fixed=()
    if setarch -R true 2>/dev/null; then fixed=(setarch -R); fi
    rm -f build/tsan/results.xml
    longest_first tsan
    "${fixed[@]}" ctest --preset tsan -j "$at_once" "${tries[@]}" -LE "check|e2e|sequential" --no-tests=error \
        --output-junit results.xml
}

symbolizer=$(command -v llvm-symbolizer-14 || command -v llvm-symbolizer || true)
export ASAN_OPTIONS=strict_string_checks=1:detect_stack_use_after_return=1:check_initialization_order=1
export LSAN_OPTIONS=print_suppressions=0:suppressions=$PWD/tests/support/lsan.supp
export UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS=second_deadlock_stack=1:history_size=4:suppressions=$PWD/tests/support/tsan.supp
if [[ -n $symbolizer ]]; then
    export ASAN_SYMBOLIZER_PATH=$symbolizer
fi

stage "debug build" build debug
if ((quick)); then
    exec ctest --preset debug -j "$jobs" -LE slow --no-label-summary
fi

# clang-tidy and the search for inputs that break something take a quarter of all work, and the processors when nothing
# else wants them; they are waited for at the end.
set -m # a process group of its own, so that it can be ended with all that it has started
nice -n 19 ctest --preset debug -R "$beside" --no-tests=error --output-junit beside.xml >"$logs/beside.log" 2>&1 &
others=$!
set +m
trap 'kill -- "-$others" 2>/dev/null || true' EXIT

end_of_others() {
    wait "$others" || { cat "$logs/beside.log" && return 1; }
}

stage "asan build" build asan
stage "asan tests" run asan check
stage "tsan build" build tsan
stage "tsan tests" run_tsan
stage "release build" build release
stage "release tests" run release "check|sanitized"

stage "beside them" end_of_others
trap - EXIT

# The last run has what no other build can run; the rules' tests must have passed in a run before it.
export COFFER_RESULTS=$PWD/build/asan/results.xml:$PWD/build/tsan/results.xml:$PWD/build/release/results.xml:$PWD/build/debug/beside.xml
exec ctest --preset debug -j "$jobs" "${tries[@]}" -L "check|memcheck" -E "$beside" --no-tests=error --no-label-summary
