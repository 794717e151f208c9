#!/bin/sh
# Says in one line what is wrong with the Go installation, if anything is.
set -eu

want=$(sed -n 's/^go //p' go.mod)
go=${GO:-go}
hint="get it from https://go.dev/dl (Debian's own package is too old)"
if ! command -v "$go" >/dev/null; then
	echo "adl-runtime needs Go $want or newer, and there is no '$go' in PATH: $hint" >&2
	exit 1
fi
# Within the module, a go command from 1.21 on fetches the version that go.mod
# asks for, and fails where it may not.
if ! have=$("$go" env GOVERSION 2>/dev/null) ||
	[ "$(printf '%s\n' "$want" "${have#go}" | sort -V | head -n 1)" != "$want" ]; then
	have=$(GOTOOLCHAIN=local "$go" version 2>/dev/null || echo "something else")
	echo "adl-runtime needs Go $want or newer, and '$go' is $have: $hint" >&2
	exit 1
fi
