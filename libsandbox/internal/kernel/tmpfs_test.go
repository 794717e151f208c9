package kernel

import (
	"errors"
	"io"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestPrivateTmpfs(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts")
	}
	rw, ro, err := PrivateTmpfs(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	checkTmpfs(t, rw, ro)
}

// The same as before Linux 6.15.
func TestPrivateTmpfsAttached(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts")
	}
	fd, err := newTmpfs(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	both, err := cloneAttached(fd)
	unix.Close(fd)
	if err != nil {
		t.Fatal(err)
	}
	files, err := openRoots(both[0], both[1])
	if err != nil {
		t.Fatal(err)
	}
	checkTmpfs(t, files[0], files[1])
}

// checkTmpfs: what is made by one is seen by the other, which makes nothing but can write
// to FIFOs.
func checkTmpfs(t *testing.T, rw, ro *os.File) {
	t.Helper()
	defer rw.Close()
	defer ro.Close()
	if err := unix.Mkfifoat(int(rw.Fd()), "fifo", 0o666); err != nil {
		t.Fatal(err)
	}
	r, err := unix.Openat(int(rw.Fd()), "fifo", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	w, err := unix.Openat(int(ro.Fd()), "fifo", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteAll(w, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	unix.Close(w)
	_ = unix.SetNonblock(r, false)
	f := os.NewFile(uintptr(r), "fifo")
	defer f.Close()
	if got, err := io.ReadAll(f); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	if err := unix.Mkfifoat(int(ro.Fd()), "other", 0o666); !errors.Is(err, unix.EROFS) {
		t.Errorf("made by the read-only one: %v", err)
	}
}
