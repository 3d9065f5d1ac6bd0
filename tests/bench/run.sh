#!/usr/bin/env bash
# Measures Coffer against the gates of its benchmarks (docs/benchmarks.md) on a server of its own.
#
#   tests/bench/run.sh [--rounds N] [--deviation PERCENT] [--output FILE] [FIGURE...]
#
# Needs the release build (cmake --preset release && cmake --build --preset release) and PostgreSQL's pgbench. Each
# figure takes about a minute. Prints a table; FILE gets everything as JSON. Exits with 1 if a gate is missed, and
# with 3 if the machine was too busy to tell.
set -euo pipefail
cd "$(dirname "$0")/../.."

export COFFER_BUILD=${COFFER_BUILD:-$PWD/build/release}
for program in "$COFFER_BUILD"/server/cofferd "$COFFER_BUILD"/client/bench/coffer-bench; do
    if [[ ! -x $program ]]; then
        echo "tests/bench/run.sh: $program is missing; build the preset release first" >&2
        exit 2
    fi
done
export PYTHONDONTWRITEBYTECODE=1
exec python3 tests/bench/figures.py "$@"
