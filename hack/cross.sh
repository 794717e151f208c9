#!/bin/sh
# Builds, vets and links everything for arm64: the program and all tests.
set -eu
cd "$(dirname "$0")/.."
go=${GO:-go}
TAGS=${TAGS:-urfave_cli_no_docs}

echo "cross: arm64 build, vet, test binaries"
export GOOS=linux GOARCH=arm64 CGO_ENABLED=0
"$go" build -trimpath -buildvcs=false -tags "$TAGS" -ldflags '-s -w -E adl_entry' -o build/adl-runtime-arm64 .
"$go" vet -tags "$TAGS" ./...
"$go" test -tags "$TAGS" -c -o /dev/null ./...
"$go" -C tests/conformance vet ./...
"$go" -C tests/managers vet ./...
hack/arm64.sh
