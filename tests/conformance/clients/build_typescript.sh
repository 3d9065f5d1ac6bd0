#!/usr/bin/env bash
# Builds the client in TypeScript, its scenario and its tour: build_typescript.sh NODE SOURCE FOLDER [MODULES]
# MODULES is what npm has installed by the client's lock file (.ci/deps); without it npm is asked now.
set -euo pipefail
mkdir -p "$3"
cp -R "$2"/. "$3"
export PATH=${1%/*}:$PATH
cd "$3"
if [[ -d ${4:-} ]]; then
    ln -sfn "$4" node_modules
else
    npm ci --no-audit --no-fund
fi
"$2/generate.sh" "$3"
"$1" node_modules/typescript/bin/tsc -p .
