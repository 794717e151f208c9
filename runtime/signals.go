package runtime

import (
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox"
)

// signals catches what is sent to a run in the foreground and forwards it.
//
// Catching one signal with os/signal costs 20 to 50 us, because the thread
// that receives signals changes its mask each time: 2 ms for all of them, a third
// of a whole run. So they are caught in two steps:
//
//	before the container starts: those that would end this process and leave the
//	    container behind, and those that programs commonly take orders by. That is
//	    done in parallel to reading the bundle, and they wait in c
//	some ms after it started: the others, which Go drops until then
type signals struct {
	c     chan os.Signal
	ready chan struct{} // closed when the first step is done
}

// settle is how long a container has to live before the second step. One that
// ends sooner never pays for it.
const settle = 3 * time.Millisecond

// backlog is how many signals may wait for the container to start.
const backlog = 64

// catchSignals begins the first step.
func catchSignals() *signals {
	s := &signals{c: make(chan os.Signal, backlog), ready: make(chan struct{})}
	go func() {
		signal.Notify(s.c, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2)
		close(s.ready)
	}()
	return s
}

// caught waits for the end of the first step.
func (s *signals) caught() { <-s.ready }

// forward sends each signal to the container's init until stop is called. A
// change of the terminal's size is applied to tty instead.
func (s *signals) forward(sandbox *libsandbox.Sandbox, tty *console) (stop func()) {
	if tty != nil {
		// Before the size is read for the first time, so that no change is missed.
		// SIGPIPE, because then a stdout that went away is an error and not our end.
		signal.Notify(s.c, unix.SIGWINCH, unix.SIGPIPE)
		tty.resize()
	}
	done := make(chan struct{})
	go s.loop(sandbox, tty, done)
	return func() { close(done) }
}

func (s *signals) loop(sandbox *libsandbox.Sandbox, tty *console, done <-chan struct{}) {
	settled := time.After(settle)
	for {
		select {
		case <-done:
			return
		case <-settled:
			signal.Notify(s.c, otherSignals()...)
		case sig := <-s.c:
			n := sig.(syscall.Signal)
			switch {
			case n == unix.SIGWINCH && tty != nil:
				tty.resize()
			case n != unix.SIGPIPE:
				if err := sandbox.Signal(n, false); err != nil {
					slog.Debug("signal not forwarded", "signal", n.String(), "error", err)
				}
			}
		}
	}
}

// otherSignals are all that the container may want and that can be caught. Not
// among them: the death of our children, the preemption of Go's threads, and
// the two that the C library keeps for itself (nptl(7)).
func otherSignals() []os.Signal {
	var all []os.Signal
	for n := unix.SIGHUP; n <= lastSignal; n++ {
		switch n {
		case unix.SIGKILL, unix.SIGSTOP, unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE, 32, 33:
		default:
			all = append(all, n)
		}
	}
	return all
}
