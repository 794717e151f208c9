#!/bin/sh
# test.sh unit: the packages whose tests need no privileges.
# test.sh root: the others. One package at a time, because their leak checks look
# at the whole machine.
set -eu
cd "$(dirname "$0")/.."
go=${GO:-go}
TAGS=${TAGS:-urfave_cli_no_docs}

root='adl.run/adl-runtime/(libsandbox|libsandbox/cgroup|libsandbox/layer|libsandbox/internal/kernel(/.*)?|tests/(bench|bundle|harness|soak))'

# select PATTERN [-v]: this module's packages whose whole path matches, or not
select_packages() { "$go" list ./... | grep -Ex ${2:+"$2"} -- "$1"; }

case ${1:-} in
unit)
	# shellcheck disable=SC2046 # a list of words
	"$go" test -tags "$TAGS" $(select_packages "$root" -v)
	"$go" -C tests/conformance test ./...
	;;
root)
	if [ "$(id -u)" != 0 ]; then
		echo "root: SKIPPED, tests that make containers need root (sudo env \"PATH=\$PATH\" make root)"
		exit 0
	fi
	# shellcheck disable=SC2046
	"$go" test -tags "$TAGS" -count=1 -p 1 $(select_packages "$root")
	# The oldest kernel there may be, as far as a seccomp filter can make this one that.
	ADL_OLD_KERNEL=5.10 "$go" test -tags "$TAGS" -count=1 -run '^Test(Verbs|Hooks|Process|Reset|Snapshot|Shell)_' ./tests/bundle
	# The whole of it, with the other managers, is `make managers`.
	"$go" -C tests/managers test -count=1 -short -run '^Test(Podman|Containerd)$' ./...
	;;
*)
	echo "usage: test.sh unit|root" >&2
	exit 2
	;;
esac
