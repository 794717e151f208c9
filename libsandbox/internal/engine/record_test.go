package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// parent returns a child of whose records the test writes.
func parent(t *testing.T) (c *Child, child int) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := program.NewBuilder(3)
	b.Note("root.path")
	b.Emit(unix.SYS_CHDIR)
	if err := unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		t.Fatal(err)
	}
	c = &Child{Pid: unix.Getpid(), program: &b.Program, sync: pair[0]}
	t.Cleanup(func() { c.Close(); unix.Close(pair[1]) })
	return c, pair[1]
}

func words(first, second uint32) []byte {
	return binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, first), second)
}

func TestNext(t *testing.T) {
	cases := []struct {
		raw  []byte
		want Record
		err  string
	}{
		{words(Ready, 2), Record{Barrier: 2}, ""},
		{words(Ready, 0), Record{}, ""},
		{words(Ready, 0xffffffff), Record{Barrier: 0xffffffff}, ""},
		{words(42, 0), Record{Forked: 42}, ""},
		{words(0, uint32(unix.ENOENT)), Record{}, "root.path: chdir: no such file or directory"},
		{words(77, uint32(unix.EPERM)), Record{}, "init: op 77: operation not permitted"},
		{words(0xfffffffe, 0xffffffff), Record{}, "init: op 4294967294: errno 4294967295"},
		{[]byte("short"), Record{}, "engine: init sent 5 bytes"},
		{[]byte("x"), Record{}, "engine: init sent 1 bytes"},
	}
	for _, k := range cases {
		c, child := parent(t)
		if _, err := unix.Write(child, k.raw); err != nil {
			t.Fatal(err)
		}
		r, err := c.Next()
		if fmt.Sprint(r) != fmt.Sprint(k.want) || err == nil && k.err != "" || err != nil && err.Error() != k.err {
			t.Errorf("%x: %+v, %v, want %+v, %s", k.raw, r, err, k.want, k.err)
		}
	}
}

// Only the process that was started says who goes on in its place, and once: its child
// inside a container may be somebody else's puppet.
func TestForkedBySomebodyElse(t *testing.T) {
	c, child := parent(t)
	for n, want := range []string{"<nil>", fmt.Sprintf("engine: process %d says that it goes on as process 1", c.Pid)} {
		if _, err := unix.Write(child, words(1, 0)); err != nil {
			t.Fatal(err)
		}
		if r, err := c.Next(); fmt.Sprint(err) != want || (r.Forked != 0) != (err == nil) {
			t.Errorf("record %d: %+v, %v, want %s", n, r, err, want)
		}
	}
	c, child = parent(t)
	c.Pid++
	if _, err := unix.Write(child, words(1, 0)); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Next(); err == nil || r.Forked != 0 {
		t.Errorf("from another process: %+v, %v", r, err)
	}
}

func TestNextAtTheEnd(t *testing.T) {
	c, child := parent(t)
	_ = unix.Shutdown(child, unix.SHUT_WR)
	if r, err := c.Next(); err != io.EOF {
		t.Errorf("end of file: %+v, %v", r, err)
	}
	// A peer that dies with something unread resets the connection.
	c, child = parent(t)
	if err := c.Release(); err != nil {
		t.Fatal(err)
	}
	_ = unix.Shutdown(child, unix.SHUT_RDWR)
	if r, err := c.Next(); err != io.EOF {
		t.Errorf("reset: %+v, %v", r, err)
	}
	c.Close()
	c.Close()
	if r, err := c.Next(); !errors.Is(err, unix.EBADF) {
		t.Errorf("closed: %+v, %v", r, err)
	}
	if err := c.Release(); !errors.Is(err, unix.EBADF) {
		t.Errorf("release of a closed one: %v", err)
	}
}

func TestReleaseOfTheDead(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(pair[1])
	c := &Child{sync: pair[0]}
	defer c.Close()
	if err := c.Release(); !errors.Is(err, unix.EPIPE) {
		t.Errorf("release: %v", err)
	}
}

// A record takes its descriptors along, also where it is no record: the receiver
// must be able to close them.
func TestNextFiles(t *testing.T) {
	for _, raw := range [][]byte{words(Ready, 3), []byte("short")} {
		c, child := parent(t)
		if err := unix.Sendmsg(child, raw, unix.UnixRights(0, 1), nil, 0); err != nil {
			t.Fatal(err)
		}
		r, _ := c.Next()
		if len(r.Files) != 2 {
			t.Fatalf("%q came with descriptors %v", raw, r.Files)
		}
		for _, fd := range r.Files {
			unix.Close(fd)
		}
	}
}

func TestPending(t *testing.T) {
	c, child := parent(t)
	if err := c.Pending(); err != nil {
		t.Errorf("nothing was sent: %v", err)
	}
	for raw, want := range map[string]string{
		string(words(0, uint32(unix.EPERM))): "root.path: chdir: operation not permitted",
		string(words(Ready, 1)):              "<nil>",
		"short":                              "<nil>",
	} {
		if _, err := unix.Write(child, []byte(raw)); err != nil {
			t.Fatal(err)
		}
		if err := c.Pending(); fmt.Sprint(err) != want {
			t.Errorf("%x: %v, want %s", raw, err, want)
		}
	}
	c.Close()
	if err := c.Pending(); err != nil {
		t.Errorf("closed: %v", err)
	}
}

// faults explains by numbers.
type faults struct{}

func (faults) Explain(op int, errno unix.Errno) error { return fmt.Errorf("op %d: %w", op, errno) }

func TestDecodeFault(t *testing.T) {
	for _, k := range []struct {
		name string
		typ  int
		raw  []byte
		want string
	}{
		{"a fault", unix.SOCK_SEQPACKET, words(7, uint32(unix.ENOENT)), "op 7: no such file or directory"},
		{"an absurd one", unix.SOCK_SEQPACKET, words(0xffffffff, 0xffffffff), "op 4294967295: errno 4294967295"},
		{"the end", unix.SOCK_SEQPACKET, nil, "<nil>"},
		{"too short", unix.SOCK_SEQPACKET, []byte("1234567"), "engine: init sent 7 bytes"},
		{"too long", unix.SOCK_SEQPACKET, append(words(7, uint32(unix.ENOENT)), "more"...), "op 7: no such file or directory"},
		{"half a stream", unix.SOCK_STREAM, []byte("123"), "engine: init sent 3 bytes"},
	} {
		pair, err := unix.Socketpair(unix.AF_UNIX, k.typ|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(k.raw) > 0 {
			if _, err := unix.Write(pair[1], k.raw); err != nil {
				t.Fatal(err)
			}
		}
		unix.Close(pair[1])
		if err := DecodeFault(pair[0], faults{}); fmt.Sprint(err) != k.want {
			t.Errorf("%s: %v, want %s", k.name, err, k.want)
		}
		unix.Close(pair[0])
	}
	if err := DecodeFault(-1, faults{}); !errors.Is(err, unix.EBADF) {
		t.Errorf("closed: %v", err)
	}
}

// The peer ended with the start byte unread.
func TestDecodeFaultReset(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	if _, err := unix.Write(pair[0], []byte{1}); err != nil {
		t.Fatal(err)
	}
	unix.Close(pair[1])
	if err := DecodeFault(pair[0], faults{}); err != nil {
		t.Errorf("reset: %v", err)
	}
}

// FuzzRecord decodes any eight bytes: they come from another process.
func FuzzRecord(f *testing.F) {
	f.Add(words(Ready, 1))
	f.Add(words(0, 2))
	f.Add(words(0xfffffffe, 0xffffffff))
	f.Add(words(1, 0))
	b := begin()
	b.Emit(unix.SYS_CHDIR)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var buf [8]byte
		copy(buf[:], raw)
		var r Record
		err := r.decode(buf, &b.Program)
		if r.Barrier < 0 || r.Forked < 0 || r.Barrier != 0 && r.Forked != 0 {
			t.Errorf("%x: %+v", buf, r)
		}
		var fault *program.Fault
		if err != nil && (!errors.As(err, &fault) || strings.Contains(err.Error(), "\n") || fault.Errno == 0) {
			t.Errorf("%x: %v", buf, err)
		}
	})
}

func TestStartRefuses(t *testing.T) {
	whole := func(name string) *program.Program {
		b := begin()
		b.Emit(unix.SYS_EXIT_GROUP, b.File(name))
		return &b.Program
	}
	for _, k := range []struct {
		p    *program.Program
		opts Options
		want string
	}{
		{whole(Sync), Options{Files: []uintptr{0, 1}}, "engine: 2 descriptors for a program that wants 3"},
		{whole("other"), Options{Files: []uintptr{0, 1, 2}, Named: map[string]int{"another": 0}}, `engine: no descriptor "other"`},
		{whole(Sync), Options{Files: []uintptr{0, 1, 2}, Name: "a\x00b"}, "clone: invalid argument"},
		{whole(Sync), Options{Files: []uintptr{0, 1, 2}, Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_FS}, "clone: invalid argument"},
	} {
		k.opts.CgroupFD = -1
		before := openFiles(t)
		if c, err := Start(k.p, &k.opts); err == nil || err.Error() != k.want {
			t.Errorf("%+v: %+v, %v, want %s", k.opts, c, err, k.want)
		}
		if after := openFiles(t); after != before {
			t.Errorf("%s: %d descriptors before, %d after", k.want, before, after)
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	fds, err := unix.Open("/proc/self/fd", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds)
	buf := make([]byte, 1<<16)
	n, err := unix.Getdents(fds, buf)
	if err != nil {
		t.Fatal(err)
	}
	_, count, _ := unix.ParseDirent(buf[:n], -1, nil)
	return count
}

// The peer has reported a fault and ended with a byte unread: the reset comes before
// the fault, which must not get lost.
func TestFaultBehindReset(t *testing.T) {
	for name, read := range map[string]func(c *Child) error{
		"next":    func(c *Child) error { _, err := c.Next(); return err },
		"pending": (*Child).Pending,
		"decode":  func(c *Child) error { return DecodeFault(c.sync, c.program) },
	} {
		c, child := parent(t)
		_, err := unix.Write(child, words(0, uint32(unix.ENOENT)))
		if err == nil {
			err = c.Release()
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Dup3(c.sync, child, unix.O_CLOEXEC); err != nil { // closes the child's end
			t.Fatal(err)
		}
		if err := read(c); !errors.Is(err, unix.ENOENT) {
			t.Errorf("%s: %v, want the fault", name, err)
		}
	}
}
