#!/bin/sh
# Makes build/go the Go toolchain that go.mod asks for, if the machine has none that
# will do: Debian's own go command is too old to build the project, but it can fetch
# a newer toolchain, which is published as a module (golang.org/toolchain).
set -eu
cd "$(dirname "$0")/.."

hack/need-go.sh 2>/dev/null && exit 0
hack/need-packages.sh golang-go ca-certificates
version=$(sed -n 's/^toolchain go//p' go.mod)
version=${version:-$(sed -n 's/^go //p' go.mod)}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
echo "fetching Go $version"
printf 'module bootstrap\n' >"$tmp/go.mod"
module=golang.org/toolchain@v0.0.1-go$version.linux-$(dpkg --print-architecture)
dir=$(cd "$tmp" && /usr/bin/go mod download -json "$module" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
# Module archives carry no modes.
chmod -R u+w "$dir"
find "$dir/bin" "$dir/pkg/tool" -type f -exec chmod 755 {} +
mkdir -p build
ln -sfn "$dir" build/go
GO=$PWD/build/go/bin/go hack/need-go.sh
