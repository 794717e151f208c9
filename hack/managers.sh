#!/bin/sh
# managers.sh [FLAG of go test...]: podman, containerd and Docker, as Debian has them,
# on this project's runtime; with MANAGERS_RUNTIME=runc on another one.
set -eu
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then
	echo "managers: SKIPPED, managers of containers need root (sudo env \"PATH=\$PATH\" make managers)"
	exit 0
fi
hack/need-packages.sh busybox-static runc iproute2 iptables \
	podman conmon netavark aardvark-dns catatonit buildah containerd containernetworking-plugins docker.io tini apparmor
echo "managers: on ${MANAGERS_RUNTIME:-adl-runtime}"
podman --version
containerd --version
/usr/sbin/dockerd --version
exec "${GO:-go}" -C tests/managers test -count=1 -timeout 45m "$@" ./...
