#!/usr/bin/env bash
# Generates the messages and stubs of Coffer's contract into a folder with this module: generate.sh FOLDER
# They are those of the stock generators protoc-gen-go and protoc-gen-go-grpc, which are built into FOLDER/bin by $GO.
set -euo pipefail
proto=$(cd "$(dirname "$0")/../../proto" && pwd)
cd "$1"
"${GO:-go}" build -o bin/ google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc

# Debian's files have no Go package of their own choice, and neither have Coffer's.
options=()
for file in "$proto"/coffer/v1/*.proto "$proto"/coffer/rpc/v1/*.proto; do
    name=${file#"$proto"/}
    package=cofferpb
    [[ $name != coffer/rpc/* ]] || package=rpcpb
    options+=("--go_opt=M$name=coffer.internal/client/$package" "--go-grpc_opt=M$name=coffer.internal/client/$package")
done
PATH=$PWD/bin:$PATH protoc -I"$proto" --go_out=. --go-grpc_out=. --go_opt=module=coffer.internal/client \
    --go-grpc_opt=module=coffer.internal/client "${options[@]}" \
    "$proto"/coffer/v1/*.proto "$proto"/coffer/rpc/v1/*.proto
