package harness

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Console is the master side of a pseudo-terminal. A goroutine collects what
// appears on it until the last slave descriptor is closed.
type Console struct {
	*os.File
	t    testing.TB
	mu   sync.Mutex
	text strings.Builder
	done chan struct{}
}

// OpenPTY makes a pseudo-terminal; the caller closes slave once it has passed it on.
func OpenPTY(t testing.TB) (master *Console, slave *os.File) {
	t.Helper()
	m, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	Must(t, err)
	var n int
	withFD(t, m, func(fd int) {
		n, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
		Must(t, err)
		Must(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	})
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	Must(t, err)
	return newConsole(t, m), slave
}

func newConsole(t testing.TB, m *os.File) *Console {
	c := &Console{File: m, t: t, done: make(chan struct{})}
	go c.collect()
	t.Cleanup(func() { m.Close(); <-c.done })
	return c
}

func (c *Console) collect() {
	defer close(c.done)
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		c.mu.Lock()
		c.text.Write(buf[:n])
		c.mu.Unlock()
		if err != nil { // EIO: no slave is open any more
			return
		}
	}
}

// Text is what has appeared on the terminal so far.
func (c *Console) Text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// WaitText waits until text has appeared.
func (c *Console) WaitText(text string) {
	c.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(c.Text(), text); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("after 10 s: no %q on the terminal: %q", text, c.Text())
		}
	}
}

// Type writes text to the terminal, as a keyboard would.
func (c *Console) Type(text string) {
	c.t.Helper()
	_, err := c.WriteString(text)
	Must(c.t, err)
}

// SetSize sets the terminal's window size, which signals its foreground process group.
func (c *Console) SetSize(rows, cols uint16) {
	c.t.Helper()
	withFD(c.t, c.File, func(fd int) {
		Must(c.t, unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols}))
	})
}

// Size is the terminal's window size.
func (c *Console) Size() (rows, cols uint16) {
	c.t.Helper()
	withFD(c.t, c.File, func(fd int) {
		ws, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
		Must(c.t, err)
		rows, cols = ws.Row, ws.Col
	})
	return rows, cols
}

func withFD(t testing.TB, f *os.File, use func(fd int)) {
	t.Helper()
	rc, err := f.SyscallConn()
	Must(t, err)
	Must(t, rc.Control(func(fd uintptr) { use(int(fd)) }))
}

// OnTerminal runs the command on slave, as its controlling terminal in a session
// of its own.
func OnTerminal(slave *os.File) Option {
	return func(c *exec.Cmd) {
		c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	}
}

// ConsoleSocket is the socket on which a runtime hands over a terminal's master.
type ConsoleSocket struct {
	Path string
	l    *net.UnixListener
	t    testing.TB
}

// ListenConsole makes the socket in the bundle's work folder.
func (b *Bundle) ListenConsole() *ConsoleSocket {
	b.t.Helper()
	// sun_path holds 108 bytes, less than some of the testing package's folders.
	dir, err := os.MkdirTemp("", "adl-console-")
	Must(b.t, err)
	b.t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "console.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	Must(b.t, err)
	b.t.Cleanup(func() { l.Close() })
	return &ConsoleSocket{Path: path, l: l, t: b.t}
}

// Receive accepts one connection and takes exactly one descriptor from it.
func (s *ConsoleSocket) Receive() *Console {
	s.t.Helper()
	fd := s.ReceiveFD()
	Must(s.t, unix.SetNonblock(fd, true))
	return newConsole(s.t, os.NewFile(uintptr(fd), "console"))
}

// ReceiveFD accepts one connection and takes exactly one descriptor from it; the
// caller closes it.
func (s *ConsoleSocket) ReceiveFD() int {
	s.t.Helper()
	Must(s.t, s.l.SetDeadline(time.Now().Add(5*time.Second)))
	conn, err := s.l.AcceptUnix()
	Must(s.t, err)
	defer conn.Close()
	Must(s.t, conn.SetDeadline(time.Now().Add(5*time.Second)))
	data, oob := make([]byte, 4096), make([]byte, 256)
	_, n, _, _, err := conn.ReadMsgUnix(data, oob)
	Must(s.t, err)
	fds, err := rights(oob[:n])
	Must(s.t, err)
	if len(fds) != 1 {
		s.t.Fatalf("the console socket carried %d descriptors, want 1", len(fds))
	}
	return fds[0]
}

func rights(oob []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	if len(messages) != 1 {
		return nil, errors.New("not exactly one control message")
	}
	return unix.ParseUnixRights(&messages[0])
}

// Termios returns a terminal's settings in a comparable form.
func Termios(t testing.TB, f *os.File) string {
	t.Helper()
	var text string
	withFD(t, f, func(fd int) {
		settings, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		Must(t, err)
		text = fmt.Sprintf("%+v", *settings)
	})
	return text
}
