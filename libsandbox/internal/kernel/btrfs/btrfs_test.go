package btrfs

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func open(t *testing.T, path string) int {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// filesystem returns the top of a new btrfs.
func filesystem(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount")
	}
	file, dir := filepath.Join(t.TempDir(), "img"), t.TempDir()
	err := os.WriteFile(file, nil, 0o600)
	if err == nil {
		err = os.Truncate(file, 130<<20)
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.btrfs", "-q", file).CombinedOutput(); err != nil {
		t.Skipf("needs mkfs.btrfs: %v %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop", file, dir).CombinedOutput(); err != nil {
		t.Skipf("needs a kernel that mounts btrfs: %v %s", err, out)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func TestSubvolumes(t *testing.T) {
	path := filesystem(t)
	dir := open(t, path)
	if err := Create(dir, "v"); err != nil {
		t.Fatal(err)
	}
	if err := Create(dir, "v"); err != unix.EEXIST {
		t.Errorf("create twice: %v", err)
	}
	v := open(t, path+"/v")
	if !IsSubvolume(v) || !SameFilesystem(v, dir) {
		t.Error("v is no subvolume of the filesystem")
	}
	// More than fit in one answer, at several depths.
	want := []Child{{Dir: "a/b c", Name: "deep:\n"}}
	if err := os.MkdirAll(path+"/v/a/b c", 0o755); err != nil {
		t.Fatal(err)
	}
	if IsSubvolume(open(t, path+"/v/a")) {
		t.Error("a directory is a subvolume")
	}
	if err := Create(open(t, path+"/v/a/b c"), "deep:\n"); err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		name := strconv.Itoa(i)
		if err := Create(v, name); err != nil {
			t.Fatal(err)
		}
		want = append(want, Child{Name: name})
	}
	got, err := Children(v)
	compare := func(a, b Child) int { return strings.Compare(a.Dir+"/"+a.Name, b.Dir+"/"+b.Name) }
	slices.SortFunc(got, compare)
	slices.SortFunc(want, compare)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("children %q, %v, want %q", got, err, want)
	}
	if err := Destroy(dir, "v"); err != unix.ENOTEMPTY {
		t.Errorf("destroy a subvolume with others in it: %v", err)
	}
}

func TestReadOnly(t *testing.T) {
	path := filesystem(t)
	dir := open(t, path)
	if err := Create(dir, "v"); err != nil {
		t.Fatal(err)
	}
	for _, ro := range []bool{true, false} {
		name := strconv.FormatBool(ro)
		if err := Snapshot(open(t, path+"/v"), dir, name, ro); err != nil {
			t.Fatal(err)
		}
		s := open(t, path+"/"+name)
		for _, now := range []bool{ro, !ro, !ro, ro} {
			if err := SetReadOnly(s, now); err != nil {
				t.Fatal(err)
			}
			err := os.WriteFile(path+"/"+name+"/file", nil, 0o600)
			if now != errors.Is(err, unix.EROFS) || !now && err != nil {
				t.Errorf("read-only %v: write: %v", now, err)
			}
		}
		if err := Destroy(dir, name); err != nil {
			t.Errorf("destroy: %v", err)
		}
		if _, err := os.Stat(path + "/" + name); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("still there: %v", err)
		}
	}
}

func TestNotBtrfs(t *testing.T) {
	dir := open(t, "/proc")
	if IsSubvolume(dir) || SameFilesystem(dir, dir) {
		t.Error("/proc is on btrfs")
	}
	if _, err := Children(dir); err == nil {
		t.Error("/proc has children")
	}
	long := strings.Repeat("x", 4089)
	for name, err := range map[string]error{
		"create": Create(dir, long), "snapshot": Snapshot(dir, dir, long, false), "destroy": Destroy(dir, long),
	} {
		if err != unix.ENAMETOOLONG {
			t.Errorf("%s with a long name: %v", name, err)
		}
	}
	if err := errors.Join(Create(dir, "x")); !errors.Is(err, unix.ENOTTY) {
		t.Errorf("create in /proc: %v", err)
	}
	if err := SetReadOnly(dir, true); err == nil {
		t.Error("/proc made read-only")
	}
}
