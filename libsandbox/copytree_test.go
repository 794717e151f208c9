package libsandbox

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// copyTree is copyUp between directories with names.
func copyTree(t *testing.T, from, to string) error {
	t.Helper()
	var fds []int
	for _, dir := range []string{from, to} {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, fd)
	}
	done := make(chan error, 1)
	go func() { done <- copyUp(fds) }()
	select {
	case err := <-done:
		for _, fd := range fds {
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
				t.Errorf("descriptor %d stays open", fd)
			}
		}
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("copyUp blocks")
		return nil
	}
}

// inventory describes everything in a tree but the access times, which reading
// changes.
func inventory(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		line := fmt.Sprintf("%s mode %o owner %d:%d modified %d.%09d", rel, st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" size %d %.40q", st.Size, bytes.Trim(raw, "\x00"))
		case unix.S_IFLNK:
			to, _ := os.Readlink(path)
			line += " -> " + to
		case unix.S_IFCHR, unix.S_IFBLK:
			line += fmt.Sprintf(" device %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
		for _, name := range []string{"security.capability", "trusted.test", "security.test"} {
			buf := make([]byte, 256)
			if n, err := unix.Lgetxattr(path, name, buf); err == nil {
				line += fmt.Sprintf(" %s=%x", name, buf[:n])
			}
		}
		list = append(list, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// everyFile fills dir with one of everything.
func everyFile(t *testing.T, dir string) {
	t.Helper()
	in := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(in("sub/empty"), 0o755))
	must(os.WriteFile(in("sub/plain"), []byte("text"), 0o640))
	must(os.WriteFile(in("none"), nil, 0o000))
	must(os.WriteFile(in("setuid"), []byte("x"), 0o755))
	must(unix.Chown(in("setuid"), 1234, 5678))
	must(unix.Chmod(in("setuid"), 0o6755))
	must(os.Link(in("sub/plain"), in("hard")))
	must(os.Symlink("/etc/passwd", in("link")))
	must(os.Symlink("loop", in("loop")))
	must(os.Symlink("../../../..", in("up")))
	must(unix.Lchown(in("link"), 7, 8))
	must(unix.Mkfifo(in("fifo"), 0o620))
	must(unix.Mknod(in("socket"), unix.S_IFSOCK|0o755, 0))
	must(unix.Mknod(in("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	must(unix.Mknod(in("block"), unix.S_IFBLK|0o600, int(unix.Mkdev(7, 200))))
	must(unix.Chown(in("fifo"), 9, 10))
	must(os.WriteFile(in("odd \n\xff name"), []byte("odd"), 0o600))
	must(os.WriteFile(in(strings.Repeat("n", 255)), []byte("long"), 0o600))
	must(os.WriteFile(in("big"), bytes.Repeat([]byte("0123456789abcdef"), 1<<18), 0o600)) // 4 MiB
	must(os.WriteFile(in("caps"), []byte("x"), 0o755))
	const chown = "\x01\x00\x00\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" // vfs_cap_data, revision 2
	must(unix.Setxattr(in("caps"), "security.capability", []byte(chown), 0))
	must(unix.Setxattr(in("sub"), "trusted.test", []byte("of a directory"), 0))
	must(unix.Setxattr(in("caps"), "trusted.test", nil, 0))
	must(unix.Chown(in("sub"), 11, 12))
	must(unix.Chmod(in("sub"), 0o3751))
	must(unix.Chmod(dir, 0o1770))
	must(unix.Chown(dir, 13, 14))
	for i, name := range []string{"sub/plain", "fifo", "link", "null", "big", "sub/empty", "sub", "."} {
		ts := unix.Timespec{Sec: int64(1000 * (i + 1)), Nsec: 123456789}
		must(unix.UtimesNanoAt(unix.AT_FDCWD, in(name), []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW))
	}
}

func TestCopyUp(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes devices and mounts a tmpfs")
	}
	base := t.TempDir()
	from, to := filepath.Join(base, "from"), filepath.Join(base, "to")
	tmpfs(t, from, 0)
	tmpfs(t, to, 0)
	everyFile(t, from)
	want := inventory(t, from)
	if err := copyTree(t, from, to); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, inventory(t, to)); d != "" {
		t.Errorf("copy (-original +copy):\n%s", d)
	}
	if d := cmp.Diff(want, inventory(t, from)); d != "" {
		t.Errorf("the original has changed:\n%s", d)
	}
}

// What a file says of itself, such as a terabyte of nothing, must not fill the
// memory.
func TestCopyUpSparse(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts a tmpfs")
	}
	base := t.TempDir()
	from, to := filepath.Join(base, "from"), filepath.Join(base, "to")
	if err := os.Mkdir(from, 0o755); err != nil {
		t.Fatal(err)
	}
	tmpfs(t, to, 0)
	sizes := map[string]int64{"hole": 1 << 40, "middle": 1 << 30, "end": 3<<20 + 1, "start": 1 << 30, "full": 5000, "empty": 0}
	for name, size := range sizes {
		f, err := os.Create(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		switch name {
		case "middle":
			_, err = f.WriteAt([]byte("middle"), 1<<29)
		case "end":
			_, err = f.WriteAt([]byte("end"), size-3)
		case "start":
			_, err = f.WriteAt([]byte("start"), 0)
		case "full":
			_, err = f.WriteAt(bytes.Repeat([]byte("f"), 5000), 0)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := copyTree(t, from, to); err != nil {
		t.Fatal(err)
	}
	for name, size := range sizes {
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(to, name), &st); err != nil || st.Size != size || st.Blocks > 64 {
			t.Errorf("%s: size %d in %d blocks, %v, want size %d", name, st.Size, st.Blocks, err, size)
		}
	}
	f, err := os.Open(filepath.Join(to, "middle"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	buf := make([]byte, 8)
	if _, err := f.ReadAt(buf, 1<<29-1); err != nil || string(buf) != "\x00middle\x00" {
		t.Errorf("the data in the middle is %q, %v", buf, err)
	}
}

func TestCopyUpFails(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts a tmpfs")
	}
	if err := copyUp(nil); err == nil || err.Error() != "init sent 0 descriptors" {
		t.Errorf("no descriptors: %v", err)
	}
	base := t.TempDir()
	from, to := filepath.Join(base, "from"), filepath.Join(base, "to")
	if err := os.MkdirAll(filepath.Join(from, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(from, "sub/big"), make([]byte, 20<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	tmpfs(t, to, 0)
	if err := copyTree(t, from, to); !errors.Is(err, unix.ENOSPC) || !strings.HasPrefix(err.Error(), "sub: big: ") {
		t.Errorf("a tmpfs that is too small: %v", err)
	}
	if err := os.WriteFile(filepath.Join(to, "there"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := copyTree(t, to, to); !errors.Is(err, unix.EEXIST) {
		t.Errorf("a file that is there already: %v", err)
	}
}

// A name that was a regular file when it was looked at may be something else when it
// is opened. A FIFO would block for ever.
func TestCopyUpOfAnExchangedFile(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes a device")
	}
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for name, mode := range map[string]uint32{"fifo": unix.S_IFIFO, "zero": unix.S_IFCHR, "socket": unix.S_IFSOCK} {
		if err := unix.Mknodat(fd, name, mode|0o666, int(unix.Mkdev(1, 5))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"fifo", "zero", "socket", "link"} {
		if err := copyFile(fd, fd, name); !errors.Is(err, unix.EINVAL) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSplitNul(t *testing.T) {
	for list, want := range map[string]string{"": "[]", "a\x00": "[a]", "a\x00bc\x00": "[a bc]", "a\x00b": "[a b]", "\x00": "[]"} {
		got := []string{}
		for s := range splitNul([]byte(list)) {
			if s != "" {
				got = append(got, s)
			}
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%q: %v, want %s", list, got, want)
		}
	}
	for range splitNul([]byte("a\x00b\x00")) {
		break // must not go on
	}
}
