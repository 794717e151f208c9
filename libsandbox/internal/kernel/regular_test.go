package kernel

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOpenRegular(t *testing.T) {
	path := t.TempDir()
	if err := os.WriteFile(filepath.Join(path, "file"), []byte("text"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(path, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("file", filepath.Join(path, "link")); err != nil {
		t.Fatal(err)
	}
	dir, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dir)
	fd, st, err := OpenRegular(dir, "file")
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	buf := make([]byte, 8)
	if n, err := Read(fd, buf); string(buf[:max(n, 0)]) != "text" || st.Mode != unix.S_IFREG|0o640 {
		t.Errorf("content %q, mode %o, %v", buf[:max(n, 0)], st.Mode, err)
	}
	for _, name := range []string{"fifo", "link", "."} {
		if _, _, err := OpenRegular(dir, name); err != unix.EINVAL {
			t.Errorf("%s: %v, want EINVAL", name, err)
		}
	}
	if _, _, err := OpenRegular(dir, "missing"); err != unix.ENOENT {
		t.Errorf("missing: %v, want ENOENT", err)
	}
}
