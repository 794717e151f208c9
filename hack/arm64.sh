#!/bin/sh
# Runs the arm64 engine's tests under qemu's user-mode emulation. The programs
# that they start are arm64 executables too, so the kernel has to know qemu as
# their interpreter. It is registered in a user namespace of our own (Linux 6.7
# or newer) and the machine's own registrations stay as they are.
# shellcheck disable=SC2016 # what is in single quotes is for the shell inside
set -eu
cd "$(dirname "$0")/.."
go=${GO:-go}

skip() {
	echo "arm64: SKIPPED, $*"
	exit 0
}
qemu=$(command -v qemu-aarch64-static) || skip "qemu-aarch64-static is not installed (Debian: qemu-user-static)"

test=build/engine-arm64.test
GOOS=linux GOARCH=arm64 CGO_ENABLED=0 "$go" test -c -o $test ./libsandbox/internal/engine

# The first 20 bytes of a little-endian arm64 executable (elf(5)) and their mask.
# Flags: O, qemu gets a descriptor, as the executable may have no name; C, the
# executable's credentials; F, qemu is opened here, not where the program runs.
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
inside='mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc && printf %s "$1" >/proc/sys/fs/binfmt_misc/register'
enter() { unshare --user --map-root-user --mount sh -c "$@" sh ":adl-aarch64:M::$magic:$mask:$qemu:OCF" ./$test; }

if enter "$inside" 2>/dev/null; then
	echo "arm64: engine tests under qemu"
	enter "$inside"' && exec "$2" -test.v'
else
	echo "arm64: this kernel has no binfmt_misc for user namespaces (Linux 6.7): only the test of the interpreter's text"
	"$qemu" ./$test -test.v -test.run '^TestInterpreterText$'
fi
