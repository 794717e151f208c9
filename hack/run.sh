#!/bin/sh
# From a fresh Debian 12 to a running container: what `make run` does.
set -eu
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then
	# shellcheck disable=SC2016 # for the reader's shell
	echo 'adl-runtime needs root so far: sudo env "PATH=$PATH" make run' >&2
	exit 1
fi
show() {
	echo
	echo "# $*"
	"$@"
}

hack/bootstrap-go.sh
PATH=$PWD/build/go/bin:$PATH
hack/need-packages.sh busybox-static
make --no-print-directory build
hack/make-bundle.sh build/bundle
show build/adl-runtime --version
show build/adl-runtime run build/bundle/
cat <<'END'

That was a container. What its init did, system call by system call:
  build/adl-runtime run --dry-run build/bundle/ | less
END
