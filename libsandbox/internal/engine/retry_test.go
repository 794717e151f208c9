package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// A lookup of ".." that must stay below a directory fails with EAGAIN whenever
// anybody renames a file into another directory meanwhile. Nobody shall be able to
// keep containers from being made that way.
func TestLookupsDuringRenames(t *testing.T) {
	if _, err := unix.Openat2(-1, "", &unix.OpenHow{}); err == unix.ENOSYS {
		t.Skip("needs openat2(2), which qemu lacks")
	}
	dir := t.TempDir()
	for _, name := range []string{"a/b", "c"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	from, to := filepath.Join(dir, "a/file"), filepath.Join(dir, "c/file")
	if err := os.WriteFile(from, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	defer func() { close(stop); <-done }()
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				_ = unix.Rename(from, to)
				_ = unix.Rename(to, from)
			}
		}
	}()
	b := begin()
	root := b.Slot("root")
	b.EmitTo(root, unix.SYS_OPENAT, program.Num(unix.AT_FDCWD), b.String(dir), program.Num(unix.O_PATH|unix.O_CLOEXEC))
	how := b.Words(unix.O_PATH|unix.O_CLOEXEC, 0, unix.RESOLVE_IN_ROOT)
	fd := b.Slot("fd")
	for range 1000 {
		b.EmitTo(fd, unix.SYS_OPENAT2, program.Val(root), b.String(strings.Repeat("a/b/../../", 20)), how, program.Num(unix.SizeofOpenHow))
		b.Emit(unix.SYS_CLOSE, program.Val(fd))
	}
	c, err := run(t, b, nil)
	if ws := wait(t, c); ws.ExitStatus() != 42 {
		t.Errorf("status %d, %v", ws.ExitStatus(), err)
	}
}
