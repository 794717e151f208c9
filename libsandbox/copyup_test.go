package libsandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestCopyUpExchanged copies a directory in which somebody exchanges two files and
// a device all the time. What arrives may fail, but never have the owner and mode of
// one file and the content of another, nor come out of a device.
func TestCopyUpExchanged(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes a device")
	}
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"600": 0o600, "644": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mknod(filepath.Join(dir, "null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	defer func() { close(stop); <-done }()
	go func() {
		defer close(done)
		for pair := 0; ; pair++ {
			select {
			case <-stop:
				return
			default:
			}
			other := [...]string{"644", "null"}[pair/100%2]
			_ = unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, "600"), unix.AT_FDCWD, filepath.Join(dir, other), unix.RENAME_EXCHANGE)
		}
	}()
	copies := 0
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		to := t.TempDir()
		if copyUp([]int{open(t, dir), open(t, to)}) == nil {
			copies++
		}
		for _, name := range []string{"600", "644", "null"} {
			checkCopy(t, filepath.Join(to, name))
		}
		if t.Failed() {
			return
		}
	}
	if copies == 0 {
		t.Error("no copy succeeded")
	}
}

// checkCopy wants a file that says its own mode.
func checkCopy(t *testing.T, path string) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	text, err := os.ReadFile(path)
	if got := fmt.Sprintf("%o", info.Mode().Perm()); err != nil || string(text) != got && !(got == "600" && len(text) == 0 && info.Size() == 0) {
		t.Errorf("%s has mode %s and content %q (%v)", path, got, text, err)
	}
}

func open(t *testing.T, dir string) int {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}
