#!/bin/sh
# make-bundle.sh DIR: makes an OCI bundle of a static busybox in DIR, or brings it
# up to date. Its process is rootfs/hello, which tells what a container sees.
# ADL_RUNTIME is the runtime whose spec verb writes config.json.
set -eu

dir=${1:?usage: make-bundle.sh DIR}
runtime=${ADL_RUNTIME:-build/adl-runtime}
busybox=$(command -v busybox) || {
	echo "no busybox in PATH (Debian: busybox-static)" >&2
	exit 1
}
if ldd "$busybox" >/dev/null 2>&1; then
	echo "$busybox is not static (Debian: busybox-static)" >&2
	exit 1
fi

rootfs=$dir/rootfs
mkdir -p "$rootfs/bin"
cp "$busybox" "$rootfs/bin/busybox"
"$busybox" --list | grep -vx busybox | (cd "$rootfs/bin" && xargs -n 1 ln -sf busybox)

cat >"$rootfs/hello" <<'HELLO'
echo "hello from a container"
echo "  hostname    $(hostname)"
echo "  pid 1       $(tr '\0' ' ' </proc/1/cmdline)"
echo "  user        $(id)"
echo "  mounts      $(wc -l </proc/self/mounts)"
echo "  network     $(ls /sys/class/net | tr '\n' ' ')"
echo "  privileges  $(grep CapEff /proc/self/status)"
touch /x 2>/dev/null || echo "  /           is read-only"
HELLO

rm -f "$dir/config.json"
"$runtime" spec --bundle "$dir"
sed -i -e 's/"terminal": true/"terminal": false/' \
	-e '/"args": \[/,/\]/s|"sh"|"sh", "/hello"|' \
	-e 's/"hostname": "[^"]*"/"hostname": "adl"/' "$dir/config.json"
