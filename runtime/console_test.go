package runtime

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pty opens a pseudoterminal.
func pty(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudoterminals here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudoterminals here: %v", err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// A caller whose stdin, stdout and stderr are one terminal (host) talks to a
// container's terminal; then the container's side is closed.
func TestConsole(t *testing.T) {
	hostMaster, host := pty(t)
	master, slave := pty(t)
	before, err := unix.IoctlGetTermios(int(host.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	size := &unix.Winsize{Row: 33, Col: 77}
	if err := unix.IoctlSetWinsize(int(hostMaster.Fd()), unix.TIOCSWINSZ, size); err != nil {
		t.Fatal(err)
	}
	a := &app{stdin: host, stdout: host, stderr: host}
	c := a.attachConsole(master)
	c.resize()
	if ws, err := unix.IoctlGetWinsize(int(slave.Fd()), unix.TIOCGWINSZ); err != nil || ws.Row != 33 || ws.Col != 77 {
		t.Errorf("the container's terminal has size %+v, %v", ws, err)
	}
	if mode, _ := unix.IoctlGetTermios(int(host.Fd()), unix.TCGETS); mode.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != 0 {
		t.Errorf("the caller's terminal is not raw: %#x", mode.Lflag)
	}
	makeRaw(slave) // no echo, and output as it is written
	expect(t, hostMaster, slave, "typed\n")
	expect(t, slave, hostMaster, "shown")
	slave.WriteString("last words")
	slave.Close()
	c.close()
	expectRead(t, hostMaster, "last words")
	after, err := unix.IoctlGetTermios(int(host.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("the caller's terminal is not restored: %v, %+v", err, after)
	}
}

func expect(t *testing.T, from, to *os.File, s string) {
	t.Helper()
	if _, err := from.WriteString(s); err != nil {
		t.Fatal(err)
	}
	expectRead(t, to, s)
}

func expectRead(t *testing.T, f *os.File, s string) {
	t.Helper()
	buf := make([]byte, len(s))
	if _, err := io.ReadFull(f, buf); err != nil || string(buf) != s {
		t.Fatalf("read %q, %v, want %q", buf, err, s)
	}
}

// Without a terminal, stdin is left alone and output is copied to the end.
func TestConsoleWithoutTerminal(t *testing.T) {
	master, slave := pty(t)
	makeRaw(slave)
	stdin, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	c := (&app{stdin: stdin, stdout: stdout, stderr: stdout}).attachConsole(master)
	c.resize()
	long := strings.Repeat("0123456789", 1000) // more than a terminal buffers
	go func() {
		slave.WriteString(long)
		slave.Close()
	}()
	expectRead(t, out, long)
	c.close()
}

func TestNoConsole(t *testing.T) {
	c := (&app{}).attachConsole(nil)
	c.resize()
	c.close()
	if c != nil {
		t.Error("a console without a master")
	}
}
