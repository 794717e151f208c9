package runtime

import (
	"errors"
	"os"
	goruntime "runtime"
	"sync/atomic"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// console joins the caller's terminal to the container's: bytes both ways, and
// the size. Nil is a container without a terminal; its methods then do nothing.
type console struct {
	line          atomic.Pointer[line]
	host          *os.File      // the caller's terminal, for its size; nil if there is none
	stdin, stdout *os.File      // stdin is set to raw mode if saved is not nil
	saved         *unix.Termios // stdin's mode to go back to
}

// line is one terminal of the container's. A reset that starts its process again makes
// another.
type line struct {
	master       *os.File
	exited, done chan struct{}
}

const (
	// reopenPause is how long to leave a terminal that no process has open: one
	// that ends its last process and then starts another (systemd) reopens it.
	reopenPause = 10 * time.Millisecond
	// drainLimit is how long output may still come after init ended, from
	// processes of a shared pid namespace that hold the terminal.
	drainLimit = 200 * time.Millisecond
)

// attachConsole takes over master, the container's end of its terminal, and
// copies until close. The caller's terminal is put into raw mode only if it is
// stdin: else the keys that interrupt would neither interrupt nor be read.
func (a *app) attachConsole(master *os.File) *console {
	if master == nil {
		return nil
	}
	t := &console{stdin: a.stdin, stdout: a.stdout}
	if t.host = a.terminal(); t.host == a.stdin {
		t.saved = makeRaw(a.stdin)
	}
	goruntime.GOMAXPROCS(goruntime.NumCPU()) // adl_entry has made it 1
	t.open(master)
	go t.copyIn()
	return t
}

// open begins to copy from another terminal.
func (t *console) open(master *os.File) {
	l := &line{master: master, exited: make(chan struct{}), done: make(chan struct{})}
	t.line.Store(l)
	go l.copyOut(t.stdout)
}

// reopen takes over another terminal of the container's in place of the one so far.
func (t *console) reopen(master *os.File) {
	if t == nil || master == nil || master == t.line.Load().master {
		return
	}
	t.line.Load().close()
	t.open(master)
	t.resize()
}

// terminal is the first of stdin, stdout and stderr that is a terminal, or nil.
func (a *app) terminal() *os.File {
	for _, f := range []*os.File{a.stdin, a.stdout, a.stderr} {
		if isTerminal(f) {
			return f
		}
	}
	return nil
}

// adoptSize has the container's terminal begin with the size of the caller's,
// whatever process.consoleSize says: the process may ask before it is attached.
func (a *app) adoptSize(p *specs.Process) {
	if p == nil || !p.Terminal {
		return
	}
	if f := a.terminal(); f != nil {
		if ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
			p.ConsoleSize = &specs.Box{Height: uint(ws.Row), Width: uint(ws.Col)}
		}
	}
}

// close waits for the output that is left, restores the caller's terminal and
// closes the master.
func (t *console) close() {
	if t == nil {
		return
	}
	l := t.line.Load()
	l.drain()
	if t.saved != nil {
		unix.IoctlSetTermios(int(t.stdin.Fd()), unix.TCSETS, t.saved)
	}
	l.master.Close()
}

// close waits for the output that is left and closes the master.
func (l *line) close() {
	l.drain()
	l.master.Close()
}

func (l *line) drain() {
	close(l.exited)
	select {
	case <-l.done:
	case <-time.After(drainLimit):
	}
}

// resize gives the container's terminal the size of the caller's.
func (t *console) resize() {
	if t == nil || t.host == nil {
		return
	}
	if ws, err := unix.IoctlGetWinsize(int(t.host.Fd()), unix.TIOCGWINSZ); err == nil {
		unix.IoctlSetWinsize(int(t.line.Load().master.Fd()), unix.TIOCSWINSZ, ws)
	}
}

// copyIn ends with stdin, or with the process: a read of a terminal cannot be
// called off. The end of stdin is not passed on; a terminal has none.
func (t *console) copyIn() {
	buf := make([]byte, 4<<10)
	for {
		n, err := t.stdin.Read(buf)
		if n > 0 {
			l := t.line.Load()
			if _, err := l.master.Write(buf[:n]); err != nil && l == t.line.Load() {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// copyOut copies what the container writes. A reader that went away does not
// stop it, so that the container is not held up by a full terminal.
func (l *line) copyOut(to *os.File) {
	defer close(l.done)
	buf := make([]byte, 32<<10)
	for {
		n, err := l.master.Read(buf)
		to.Write(buf[:n])
		if err == nil {
			continue
		}
		if !errors.Is(err, unix.EIO) { // EIO: no process has the terminal open (pty(7))
			return
		}
		select {
		case <-l.exited:
			return
		case <-time.After(reopenPause):
		}
	}
}

// makeRaw passes every byte of f on as it is (cfmakeraw(3)) and returns the mode
// before; nil if f is not a terminal or does not let itself be changed.
func makeRaw(f *os.File) *unix.Termios {
	old, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil
	}
	raw := *old
	raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	raw.Oflag &^= unix.OPOST
	raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, &raw) != nil {
		return nil
	}
	return old
}
