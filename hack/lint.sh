#!/bin/sh
# Format, vet and staticcheck of every Go module, shellcheck of every script.
# The tools' versions are pinned in hack/tools/go.mod. CI runs this and not
# golangci-lint; .golangci.yml is for editors.
set -eu
cd "$(dirname "$0")/.."
go=${GO:-go}
TAGS=${TAGS:-urfave_cli_no_docs}

step() { echo "lint: $*"; }

step build tools
"$go" -C hack/tools build -o ../../build/tools/ honnef.co/go/tools/cmd/staticcheck mvdan.cc/gofumpt
tools=$PWD/build/tools

step gofumpt
unformatted=$("$tools/gofumpt" -l main.go runtime spec libsandbox tests hack)
if [ -n "$unformatted" ]; then
	echo "not formatted with gofumpt:" >&2
	echo "$unformatted" >&2
	exit 1
fi

for module in . tests/conformance tests/managers; do
	step "vet and staticcheck in $module"
	(cd "$module" && "$go" vet -tags "$TAGS" ./... && "$tools/staticcheck" -tags "$TAGS" ./...)
done

if command -v shellcheck >/dev/null; then
	step shellcheck
	shellcheck hack/*.sh .ci/run
else
	step "shellcheck: skipped, it is not installed (Debian: shellcheck)"
fi
