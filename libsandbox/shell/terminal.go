package shell

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// errNoTerminal: Options.Terminal was not set, or no shell runs.
var errNoTerminal = errors.New("the session has no terminal")

// terminal is the master of the shell's pseudo terminal. The shell itself leaves the
// terminal as soon as it is up, and is sent commands as without one, so that neither its
// prompts nor its input are among what commands print; they are given /dev/tty.
type terminal struct {
	mu   sync.Mutex
	fd   int // -1 where no shell runs
	size unix.Winsize
}

// topName is the FIFO that is the stdin of a shell that has left its terminal.
const topName = "top"

// quietTime is how long a terminal has to be silent after a command's end for all of its
// output to have come: the kernel hands it from one side to the other by a work queue.
const quietTime = 4 * time.Millisecond

// set gives t the terminal of a new shell.
func (t *terminal) set(fd int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fd = fd
	if fd >= 0 && t.size != (unix.Winsize{}) {
		_ = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &t.size)
	}
}

// Write types on the terminal of a session that has one, and waits until it takes what is
// typed.
func (s *Session) Write(p []byte) (n int, err error) {
	t := &s.tty
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fd < 0 {
		return 0, errNoTerminal
	}
	for n < len(p) {
		m, err := unix.Write(t.fd, p[n:])
		switch err {
		case nil:
			n += m
		case unix.EINTR:
		case unix.EAGAIN:
			fds := []unix.PollFd{{Fd: int32(t.fd), Events: unix.POLLOUT}, {Fd: int32(s.wake), Events: unix.POLLIN}}
			_, _ = unix.Poll(fds, 100)
			if s.closed.Load() {
				return n, ErrClosed
			}
		default:
			return n, fmt.Errorf("terminal: %w", err)
		}
	}
	return n, nil
}

// Resize sets the size of the session's terminal, also of those to come. The foreground
// process is sent SIGWINCH.
func (s *Session) Resize(rows, columns int) error {
	if !s.o.Terminal {
		return errNoTerminal
	}
	t := &s.tty
	t.mu.Lock()
	defer t.mu.Unlock()
	t.size = unix.Winsize{Row: uint16(rows), Col: uint16(columns)}
	if t.fd < 0 {
		return nil
	}
	if err := unix.IoctlSetWinsize(t.fd, unix.TIOCSWINSZ, &t.size); err != nil {
		return fmt.Errorf("resize: %w", err)
	}
	return nil
}

// leaveTerminal has a shell that was started on a terminal read its commands from a FIFO.
// What is typed to that end is not echoed.
func (s *Session) leaveTerminal(p *process) (err error) {
	tty := int(p.Console.Fd())
	if err := unix.SetNonblock(tty, true); err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	echo, err := unix.IoctlGetTermios(tty, unix.TCGETS)
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	// The line editor of ash may have been faster, which turns these off.
	echo.Lflag |= unix.ECHO | unix.ICANON | unix.ISIG
	echo.Cc[unix.VINTR] = 3 // ^C
	// Nobody could continue what the key (^Z) has stopped, the shell itself among it.
	echo.Cc[unix.VSUSP] = 0 // _POSIX_VDISABLE
	silent := *echo
	silent.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(tty, unix.TCSETS, &silent); err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	if p.stdin, err = s.dir.fifo(topName, unix.O_RDWR); err != nil {
		return err
	}
	p.input = p.stdin
	line := text(nil).str(`\exec <`, within, topName, ` >`, within, recordName, ` 2>/dev/null`, "\n")
	if err := kernel.WriteAll(tty, line); err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	p.restoreEcho = func() {
		// The prompts, and what the shell had to say about itself.
		drainTerminal(tty)
		_ = unix.IoctlSetTermios(tty, unix.TCSETS, echo)
		s.tty.set(tty)
	}
	return nil
}

// drainTerminal reads until the terminal is silent, for at most 100 ms.
func drainTerminal(tty int) {
	var buf [4096]byte
	for until := time.Now().Add(100 * time.Millisecond); time.Now().Before(until); {
		fds := []unix.PollFd{{Fd: int32(tty), Events: unix.POLLIN}}
		if n, _ := unix.Poll(fds, int(quietTime/time.Millisecond)); n == 0 {
			return
		}
		if n, _ := kernel.Read(tty, buf[:]); n <= 0 {
			return
		}
	}
}

// settleTerminal reads the rest of what an ended command has printed.
func (r *run) settleTerminal() {
	for range 256 {
		fds := []unix.PollFd{{Fd: int32(r.out.fd), Events: unix.POLLIN}}
		if n, _ := unix.Poll(fds, int(quietTime/time.Millisecond)); n <= 0 || r.out.read(maxRead, r.s.scratch) == 0 {
			return
		}
	}
}
