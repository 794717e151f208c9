#!/bin/sh
# Runs every fuzzer for $FUZZTIME, one after the other.
set -eu
cd "$(dirname "$0")/.."
go=${GO:-go}
TAGS=${TAGS:-urfave_cli_no_docs}

for dir in $(grep -rl --include='*_test.go' '^func Fuzz' libsandbox runtime spec | xargs -n 1 dirname | sort -u); do
	for name in $("$go" test -tags "$TAGS" -list '^Fuzz' "./$dir" | grep '^Fuzz'); do
		echo "fuzz: $name in $dir"
		"$go" test -tags "$TAGS" -run '^$' -fuzz "^$name\$" -fuzztime "${FUZZTIME:-20s}" "./$dir"
	done
done
