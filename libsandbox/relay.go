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
func (r *Relay) Wait(sb *Sandbox, resize func()) (unix.WaitStatus, error) {
	return r.wait(sb.Pid(), func(sig unix.Signal) error { return sb.Signal(sig, false) }, resize)
}

// WaitProcess is Wait for a process that Exec has made.
func (r *Relay) WaitProcess(p *Process, resize func()) (unix.WaitStatus, error) {
	status, err := r.wait(p.Pid(), p.Signal, resize)
	if err == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.end(status)
	}
	return status, err
}

func (r *Relay) wait(pid int, send func(unix.Signal) error, resize func()) (unix.WaitStatus, error) {
	for {
		if status, ended, err := reapUntil(pid); ended || err != nil {
			return status, err
		}
		sig, err := r.k.Next()
		switch {
		case err != nil:
			return 0, err
		case sig == unix.SIGCHLD:
		case sig == unix.SIGWINCH && resize != nil:
			resize()
		default:
			if err := send(sig); err != nil {
				slog.Debug("signal not handed on", "signal", sig.String(), "error", err)
			}
		}
	}
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
