package kernel

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// mountinfo is from Linux 6.18, with mount points named by the root test below.
const mountinfo = `22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
25 22 0:22 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw
90 22 0:60 / /tmp/a\040b\011c\012d\134e rw,relatime shared:50 - tmpfs a\040source rw
91 90 0:61 / /tmp/a\040b\011c\012d\134e/\134040 rw,relatime - tmpfs none rw
92 22 0:62 /sub\040dir /tmp/nbsp` + "\u00a0" + `and` + "\v" + `tab` + "\r" + `end rw,relatime - tmpfs none rw
93 22 0:63 / /tmp/#hash rw,relatime - tmpfs \043 rw
`

func TestFindMount(t *testing.T) {
	for id, want := range map[uint64]string{
		22: "/", 25: "/proc", 90: "/tmp/a b\tc\nd\\e", 91: "/tmp/a b\tc\nd\\e/\\040", 92: "/tmp/nbsp\u00a0and\vtab\rend", 93: "/tmp/#hash",
		2: "", 1: "", 0: "",
	} {
		if got, ok := findMount(mountinfo, id); got != want || ok != (want != "") {
			t.Errorf("mount %d: %q, %v, want %q", id, got, ok, want)
		}
	}
	for _, text := range []string{"", "\n", "22\n", "22 1 254:0 / /\n", "22 1 254:0 / "} {
		if got, ok := findMount(text, 22); ok {
			t.Errorf("%q: found %q", text, got)
		}
	}
}

func mountTmpfs(t *testing.T, dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts a tmpfs")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("umount %q: %v", dir, err)
		}
	})
}

func TestMountPointNames(t *testing.T) {
	base := t.TempDir()
	for _, name := range []string{"plain", "a b\tc\nd\\e", `\040`, "nbsp\u00a0and\vtab\rend", "#hash", "\xff"} {
		dir := filepath.Join(base, name)
		mountTmpfs(t, dir)
		inside := filepath.Join(dir, "sub")
		if err := os.Mkdir(inside, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{dir, inside} {
			if got, err := MountPoint(path); got != dir || err != nil {
				t.Errorf("%q: %q, %v", path, got, err)
			}
		}
	}
	// A name that only begins like a mount point is not below it.
	beside := filepath.Join(base, "plain2")
	if err := os.Mkdir(beside, 0o755); err != nil {
		t.Fatal(err)
	}
	above, err := MountPoint(base)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := MountPoint(beside); got != above || err != nil {
		t.Errorf("%q is on %q, %v, its directory on %q", beside, got, err, above)
	}
}

// A mount that another one covers is still in the list.
func TestMountPointCovered(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	mountTmpfs(t, dir)
	mountTmpfs(t, filepath.Join(dir, "sub"))
	mountTmpfs(t, dir)
	sub := filepath.Join(dir, "sub")
	if err := os.Mkdir(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := MountPoint(sub); got != dir || err != nil {
		t.Errorf("%q is on %q, %v", sub, got, err)
	}
}

func TestMountPointThroughASymlink(t *testing.T) {
	base := t.TempDir()
	dir, link := filepath.Join(base, "dir"), filepath.Join(base, "link")
	mountTmpfs(t, dir)
	if err := os.Symlink("dir", link); err != nil {
		t.Fatal(err)
	}
	if got, err := MountPoint(link); got != dir || err != nil {
		t.Errorf("%q is on %q, %v", link, got, err)
	}
	if got, err := MountPoint(filepath.Join(base, "missing")); err == nil {
		t.Errorf("a missing file is on %q", got)
	}
}

func TestShows(t *testing.T) {
	const head = "36 35 0:40 / / rw - overlay overlay rw,"
	for line, want := range map[string]bool{
		head + "lowerdir=/r,upperdir=/l/layers/k1/upper,workdir=/l/layers/k1/work": true,
		head + "lowerdir=k2/upper:/r,upperdir=k1/upper,workdir=k1/work":            true,
		head + "lowerdir=k1/upper:/r,upperdir=/l/layers/k2/upper":                  true,
		head + "lowerdir=/r,upperdir=/l/layers/xk1/upper":                          false,
		head + "lowerdir=/r,upperdir=/l/layers/k11/upper":                          false,
	} {
		m := Mount{line: line}
		if m.Shows("k1") != want {
			t.Errorf("%s: %v, want %v", line, !want, want)
		}
	}
}
