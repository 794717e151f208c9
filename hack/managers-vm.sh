#!/bin/sh
# managers-vm.sh [FLAG of the test binary...]: the managers with cgroups made by
# systemd, in a machine with cgroup v2 alone.
#
# VM is a command that runs the command in its arguments as root in a virtual machine
# with systemd as process 1, over the files of this one; MANAGERS_SLOW says how many
# times slower it is than this one. MANAGERS_CGROUPS= (nothing) leaves cgroups to the
# runtime instead.
set -eu
cd "$(dirname "$0")/.."

if [ -z "${VM:-}" ]; then
	echo "managers-vm: SKIPPED, VM does not name a command that runs another in a virtual machine with systemd"
	exit 0
fi
go=${GO:-go}
CGO_ENABLED=0 "$go" build -buildvcs=false -trimpath -tags "${TAGS:-urfave_cli_no_docs}" -o build/adl-runtime .
CGO_ENABLED=0 "$go" -C tests/managers test -c -o ../../build/managers.test .
[ $# -gt 0 ] || set -- -test.short -test.v
# shellcheck disable=SC2086 # a command with its arguments
exec $VM env "MANAGERS_RUNTIME=${MANAGERS_RUNTIME:-$PWD/build/adl-runtime}" "MANAGERS_CGROUPS=${MANAGERS_CGROUPS-systemd}" \
	"MANAGERS_SLOW=${MANAGERS_SLOW:-20}" "$PWD/build/managers.test" -test.timeout 2h "$@"
