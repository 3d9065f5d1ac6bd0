#!/usr/bin/env bash
# Generates the messages and services of Coffer's contract into FOLDER/gen: generate.sh FOLDER
# The generator is the stock one, protoc-gen-es, from FOLDER/node_modules.
set -euo pipefail
proto=$(cd "$(dirname "$0")/../../proto" && pwd)
cd "$1"
rm -rf gen
mkdir gen
PATH=$PWD/node_modules/.bin:$PATH protoc -I"$proto" --es_out=gen --es_opt=target=ts,import_extension=js \
    "$proto"/coffer/v1/*.proto "$proto"/coffer/rpc/v1/*.proto "$proto"/google/rpc/*.proto "$proto"/grpc/health/v1/*.proto
