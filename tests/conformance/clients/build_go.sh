#!/usr/bin/env bash
# Builds the client in Go, its scenario and its tour: build_go.sh GO SOURCE FOLDER
set -euo pipefail
export GO=$1 GOTOOLCHAIN=local GOFLAGS=-buildvcs=false
mkdir -p "$3"
cp -R "$2"/. "$3"
"$2/generate.sh" "$3"
cd "$3"
unformatted=$("$(dirname "$GO")/gofmt" -l ./*.go internal examples)
[[ -z $unformatted ]] || { echo "gofmt would write these in another way: $unformatted" >&2; exit 1; }
"$GO" vet . ./internal/scenario ./examples/tour
"$GO" build -o bin/ ./internal/scenario ./examples/tour
