package libsandbox

import (
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// Relay catches the signals that are sent to this process and hands them on to a
// container that runs in the foreground. Catching begins before the container is
// made, so that no signal in between can end this process and leave the container
// behind. There is one Relay at a time, and it does not go together with os/signal
// for the same signals.
type Relay struct{ k *kernel.Relay }

// CatchSignals begins to catch all signals that can be handed on and are not
// ignored now. Close ends it.
func CatchSignals() (*Relay, error) {
	k, err := kernel.CatchSignals()
	if err != nil {
		return nil, err
	}
	return &Relay{k}, nil
}

// Close gives signals their former actions back.
func (r *Relay) Close() { r.k.Close() }

// Wait waits for the end of the init of sb, a child of this process, and returns its
// status. Meanwhile it hands on every signal, and reaps every other child that ends,
// as a subreaper has to (PR_SET_CHILD_SUBREAPER). A change of the terminal's size
// (SIGWINCH) goes to resize instead, if it is not nil.
//
// A container with a layer is reset when another process asks for it (RequestReset). That
// is not the end of init; restarted, if not nil, is called when there is another.
func (r *Relay) Wait(sb *Sandbox, resize, restarted func()) (unix.WaitStatus, error) {
	w := waiting{relay: r, control: sb.listenControl(), resize: resize}
	if w.control >= 0 {
		defer unix.Close(w.control)
	}
	w.pid = sb.Pid
	w.send = func(sig unix.Signal) error { return sb.Signal(sig, false) }
	w.serve = func() {
		was := sb.Pid()
		sb.serveControl(w.control)
		if restarted != nil && sb.Pid() != was {
			restarted()
		}
	}
	w.ended = func() (unix.WaitStatus, bool) { return sb.child.ended() }
	return w.wait()
}

// WaitProcess is Wait for a process that Exec has made.
func (r *Relay) WaitProcess(p *Process, resize func()) (unix.WaitStatus, error) {
	w := waiting{relay: r, control: -1, resize: resize, pid: p.Pid, send: p.Signal}
	status, err := w.wait()
	if err == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.end(status)
	}
	return status, err
}

// waiting is a wait for a process, with all that happens meanwhile.
type waiting struct {
	relay   *Relay
	control int // the socket for requests; -1 for none
	pid     func() int
	send    func(unix.Signal) error
	resize  func()                         // nil for nothing
	serve   func()                         // answers a request
	ended   func() (unix.WaitStatus, bool) // whether somebody else has reaped it; nil for nobody
}

func (w *waiting) wait() (unix.WaitStatus, error) {
	for {
		if w.ended != nil {
			if status, ok := w.ended(); ok {
				return status, nil
			}
		}
		if status, ended, err := reapUntil(w.pid()); ended || err != nil {
			return status, err
		}
		sig, err := w.next()
		switch {
		case err != nil:
			return 0, err
		case sig == 0:
			w.serve()
		case sig == unix.SIGCHLD:
		case sig == unix.SIGWINCH && w.resize != nil:
			w.resize()
		default:
			if err := w.send(sig); err != nil {
				slog.Debug("signal not handed on", "signal", sig.String(), "error", err)
			}
		}
	}
}

// next waits for a signal, or returns 0 when there is a request.
func (w *waiting) next() (unix.Signal, error) {
	if w.control < 0 {
		return w.relay.k.Next()
	}
	return w.relay.k.NextOr(w.control)
}

// reapUntil reaps the children that have ended, up to pid.
func reapUntil(pid int) (status unix.WaitStatus, ended bool, err error) {
	for {
		got, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, false, fmt.Errorf("wait for process %d: %w", pid, err)
		case got == pid:
			return status, true, nil
		case got == 0:
			return 0, false, nil
		}
	}
}
