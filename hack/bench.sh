#!/bin/sh
# bench.sh: all measurements beside crun and runc, for a machine with nothing else to
# do. Prints the tables, and fails where a target is missed.
#
#	go run ./tests/bench -check                 one command at a time, and eight at once
#	go run ./tests/bench -check -rate 200       200 execs a second in one container
#	MANAGERS_SPEED=20 hack/managers.sh -v -run '^TestSpeed$'    podman and containerd
#	go test -run '^$' -bench Filter ./libsandbox                seccomp filters
set -eu
cd "$(dirname "$0")/.."
go=${GO:-go}
status=0

hack/need-packages.sh busybox-static crun runc

"$go" run ./tests/bench -check || status=1
"$go" run ./tests/bench -check -rate 200 || status=1
"$go" test -tags "${TAGS:-urfave_cli_no_docs}" -run '^$' -bench 'Filter' ./libsandbox || status=1
MANAGERS_RUNTIME=$PWD/build/adl-runtime MANAGERS_SPEED=20 hack/managers.sh -v -run '^TestSpeed$' || status=1
exit $status
