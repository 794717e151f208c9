package engine

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// beginAside returns a program for RunAside.
func beginAside() *program.Builder {
	b := program.NewBuilder(3)
	b.Let(program.FaultFD, program.Num(0))
	return b
}

func runAside(t *testing.T, b *program.Builder, named map[string]int) error {
	t.Helper()
	b.Emit(unix.SYS_EXIT_GROUP, program.Num(0))
	if err := b.Verify(); err != nil {
		t.Fatal(err)
	}
	before := countFiles(t)
	err := RunAside(&b.Program, named)
	if after := countFiles(t); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	return err
}

func countFiles(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// A program on a thread does what one in a process does: arguments of every kind, jumps,
// tolerated errors. Its working directory and root are its own.
func TestRunAside(t *testing.T) {
	dir := t.TempDir()
	was, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	d, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(d)
	b := beginAside()
	f, st := b.Slot("f"), b.Slots("st", 32)
	b.Emit(unix.SYS_FCHDIR, b.File("dir"))
	b.Emit(unix.SYS_CHROOT, b.String("."))
	b.EmitTo(f, unix.SYS_OPENAT, program.Num(unix.AT_FDCWD), b.String("/made"), program.Num(unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC), program.Num(0o640))
	b.Emit(unix.SYS_STATX, program.Val(f), b.String(""), program.Num(unix.AT_EMPTY_PATH), program.Num(unix.STATX_SIZE), program.Out(st, 32))
	b.Check(st+5, ^uint64(0), 0, unix.EXDEV) // stx_size
	var done program.Label
	i := b.Emit(unix.SYS_UNLINKAT, program.Num(unix.AT_FDCWD), b.String("none"), program.Num(0))
	b.OnError(i, unix.ENOENT, &done)
	b.Emit(unix.SYS_WRITE, program.Val(f), b.String("skipped"), program.Num(7))
	b.Bind(&done)
	b.Emit(unix.SYS_WRITE, program.Val(f), b.String("written"), program.Num(7))
	b.EmitTo(f, unix.SYS_OPENAT, program.Num(unix.AT_FDCWD), b.String("/made"), program.Num(unix.O_RDONLY))
	b.Emit(unix.SYS_CLOSE, program.Val(f))
	if err := runAside(t, b, map[string]int{"dir": d}); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(filepath.Join(dir, "made")); err != nil || string(raw) != "written" {
		t.Errorf("%q, %v", raw, err)
	}
	if is, err := os.Getwd(); err != nil || is != was {
		t.Errorf("working directory %q, was %q: %v", is, was, err)
	}
	if _, err := os.Stat("/made"); !os.IsNotExist(err) {
		t.Errorf("root directory: %v", err)
	}
}

func TestRunAsideFault(t *testing.T) {
	b := beginAside()
	b.Note("root.path")
	f := b.Slot("f")
	b.EmitTo(f, unix.SYS_OPENAT, program.Num(unix.AT_FDCWD), b.String("/"), program.Num(unix.O_PATH))
	b.Emit(unix.SYS_UNLINKAT, program.Val(f), b.String("none"), program.Num(0))
	err := runAside(t, b, nil)
	if !errors.Is(err, unix.ENOENT) || !strings.HasPrefix(err.Error(), "root.path: unlinkat: ") {
		t.Error(err)
	}
	b = beginAside()
	b.Note("check")
	b.Check(program.FaultFD, 1, 1, unix.EXDEV)
	if err := runAside(t, b, nil); !errors.Is(err, unix.EXDEV) {
		t.Error(err)
	}
}

// What would concern the whole process is refused before anything is done.
func TestRunAsideRefuses(t *testing.T) {
	dir := t.TempDir()
	b := beginAside()
	b.Emit(unix.SYS_UNLINKAT, program.Num(unix.AT_FDCWD), b.String(dir), program.Num(unix.AT_REMOVEDIR))
	b.Emit(unix.SYS_CLOSE_RANGE, program.Num(0), program.Num(^uint32(0)), program.Num(0))
	if err := runAside(t, b, nil); err == nil || !strings.Contains(err.Error(), "is not for a thread") {
		t.Error(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Error(err)
	}
	b = beginAside()
	b.Emit(unix.SYS_FCHDIR, b.File("dir"))
	if err := runAside(t, b, nil); err == nil || !strings.Contains(err.Error(), `"dir"`) {
		t.Error(err)
	}
}
