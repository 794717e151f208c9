package engine

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// begin returns a program that has set its fault descriptor.
func begin() *program.Builder {
	b := program.NewBuilder(3)
	b.Let(program.FaultFD, b.File(Sync))
	return b
}

func run(t *testing.T, b *program.Builder, stdout *os.File) (*Child, error) {
	t.Helper()
	b.Emit(unix.SYS_EXIT_GROUP, program.Num(42))
	if err := b.Verify(); err != nil {
		t.Fatal(err)
	}
	files := []uintptr{0, 1, 2}
	if stdout != nil {
		files[1] = stdout.Fd()
	}
	c, err := Start(&b.Program, &Options{Name: "test", Files: files, CgroupFD: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	_, err = c.Next()
	return c, err
}

func wait(t *testing.T, c *Child) unix.WaitStatus {
	t.Helper()
	var ws unix.WaitStatus
	if _, err := unix.Wait4(c.Pid, &ws, 0, nil); err != nil {
		t.Fatal(err)
	}
	return ws
}

func TestExecveEndsTheRecords(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b := begin()
	b.Emit(unix.SYS_FCNTL, b.File(Sync), program.Num(unix.F_SETFD), program.Num(unix.FD_CLOEXEC))
	b.Emit(unix.SYS_CLOSE_RANGE, program.Num(4), program.Num(^uint32(0)), program.Num(0))
	b.Emit(unix.SYS_EXECVE, b.String("/bin/echo"), b.Strings([]string{"echo", "hello"}), b.Strings([]string{"A=b"}))
	files := []uintptr{0, w.Fd(), 2}
	if err := b.Verify(); err != nil {
		t.Fatal(err)
	}
	c, err := Start(&b.Program, &Options{Name: "test", Files: files, CgroupFD: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w.Close()
	if _, err := c.Next(); err != io.EOF {
		t.Fatalf("after execve Next returned %v, want EOF", err)
	}
	out, _ := io.ReadAll(r)
	if ws := wait(t, c); string(out) != "hello\n" || ws.ExitStatus() != 0 {
		t.Fatalf("echo wrote %q and ended with %v", out, ws)
	}
}

func TestFaultNamesTheOp(t *testing.T) {
	b := begin()
	b.Note("process.cwd")
	b.Emit(unix.SYS_CHDIR, b.String("/does/not/exist"))
	c, err := run(t, b, nil)
	var f *program.Fault
	if !errors.As(err, &f) || f.Op != 1 || !errors.Is(err, unix.ENOENT) {
		t.Fatalf("got %v", err)
	}
	if want := "process.cwd: chdir: no such file or directory"; err.Error() != want {
		t.Errorf("message %q, want %q", err, want)
	}
	if ws := wait(t, c); ws.ExitStatus() != 1 {
		t.Errorf("child ended with %v", ws)
	}
}

// TestJumps goes through every way of leaving an op: each block that must not run
// would exit with its own status.
func TestJumps(t *testing.T) {
	b := begin()
	die := func(status int) { b.Emit(unix.SYS_EXIT_GROUP, program.Num(status)) }
	v := b.Slot("v")
	b.Let(v, program.Num(0x1234))

	var success, first, second, test, checked program.Label
	b.OnSuccess(b.Emit(unix.SYS_UMASK, program.Num(0o22)), &success)
	b.Bind(&success)

	i := b.Emit(unix.SYS_CHDIR, b.String("/does/not/exist"))
	b.OnError(i, unix.ENOENT, &first)
	b.OnError(i, unix.ENOTDIR, &second)
	die(10)
	b.Bind(&second)
	b.Emit(unix.SYS_CLOSE, program.Num(-1))
	b.Bind(&first)

	i = b.Emit(unix.SYS_CHDIR, b.String("/dev/null/x"))
	b.Tolerate(i, unix.ENOENT)
	b.OnError(i, unix.ENOTDIR, &test)
	die(11)
	b.Bind(&test)

	b.Check(v, 0xff00, 0x1200, unix.EINVAL)
	b.OnError(b.Check(v, 0xff, 0x35, unix.EBADF), unix.EBADF, &checked)
	die(12)
	b.Bind(&checked)

	// Verify cannot know that no value reaches the dead blocks, so they stay.
	c, err := run(t, b, nil)
	if err != io.EOF {
		t.Fatalf("records ended with %v", err)
	}
	if ws := wait(t, c); ws.ExitStatus() != 42 {
		t.Errorf("left at status %d, want 42", ws.ExitStatus())
	}
}

func TestSlotsAddressesAndBarrier(t *testing.T) {
	b := begin()
	st := b.Slots("st", 32)
	b.Emit(unix.SYS_STATX, program.Num(unix.AT_FDCWD), b.String("/dev/null"), program.Num(0),
		program.Num(unix.STATX_BASIC_STATS), program.Out(st, 32))
	b.Check(st+3, unix.S_IFMT<<32, unix.S_IFCHR<<32, unix.EUCLEAN)
	b.Check(st+16, ^uint64(0), 1|3<<32, unix.ENODEV)
	b.Emit(unix.SYS_WRITE, program.Val(program.FaultFD), b.Words(Ready|7<<32), program.Num(8))
	buf := b.Slot("buf")
	b.Emit(unix.SYS_READ, b.File(Sync), program.Out(buf, 1), program.Num(1))
	b.Check(buf, 0xff, 1, unix.EPIPE)
	b.Emit(unix.SYS_EXIT_GROUP, program.Num(42))
	if err := b.Verify(); err != nil {
		t.Fatal(err)
	}
	c, err := Start(&b.Program, &Options{Name: "test", Files: []uintptr{0, 1, 2}, CgroupFD: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r, err := c.Next()
	if err != nil || r.Barrier != 7 {
		t.Fatalf("barrier %+v, %v", r, err)
	}
	if err := c.Release(); err != nil {
		t.Fatal(err)
	}
	if ws := wait(t, c); ws.ExitStatus() != 42 {
		t.Errorf("ended with %v", ws)
	}
}

func TestParentDeathEndsTheChild(t *testing.T) {
	b := begin()
	buf := b.Slot("buf")
	b.EmitTo(buf, unix.SYS_READ, b.File(Sync), program.Out(buf, 1), program.Num(1))
	b.Check(buf, ^uint64(0), 1, unix.EPIPE)
	b.Emit(unix.SYS_EXIT_GROUP, program.Num(42))
	c, err := Start(&b.Program, &Options{Name: "test", Files: []uintptr{0, 1, 2}, CgroupFD: -1})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if ws := wait(t, c); ws.Exited() && ws.ExitStatus() == 42 {
		t.Errorf("the child went on without its parent")
	}
}

func TestInterpreterText(t *testing.T) {
	text := interpText()
	if len(text) < 100 || len(text) > opsOffset-textOffset {
		t.Fatalf("the interpreter has %d bytes", len(text))
	}
	if strings.Contains(string(text), "adl-") {
		t.Error("the text contains its own marker")
	}
}
