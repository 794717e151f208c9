package libsandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// Process is a process that Exec has made. Its methods may be called from several
// goroutines at once.
type Process struct {
	sb      *Sandbox
	pid     int
	console *os.File
	idle    bool // see ExecOptions

	mu     sync.Mutex // is held to reap the process, so that Signal hits no other
	ended  bool
	status unix.WaitStatus
}

// Pid returns the process's id as this process sees it. It is another's as soon as
// Wait has returned.
func (p *Process) Pid() int { return p.pid }

// Console returns the master of the process's terminal, nil where it has none or a
// console socket was sent it. The caller owns it.
func (p *Process) Console() *os.File { return p.console }

// Signal sends sig to the process. ErrNotRunning: it has ended, and Wait has returned.
func (p *Process) Signal(sig unix.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return fmt.Errorf("%w", ErrNotRunning)
	}
	if err := unix.Kill(p.pid, sig); err != nil {
		return fmt.Errorf("signal %d: %w", int(sig), err)
	}
	return nil
}

// Wait waits for the end of the process, reaps it and returns its status. Whoever calls
// it later gets the same answer.
func (p *Process) Wait(ctx context.Context) (unix.WaitStatus, error) {
	if ctx.Done() != nil {
		if err := p.waitContext(ctx); err != nil {
			return 0, err
		}
	}
	return p.reap()
}

// waitContext waits for the end of the process or of ctx.
func (p *Process) waitContext(ctx context.Context) error {
	p.mu.Lock()
	fd, err := -1, error(nil)
	if !p.ended {
		fd, err = unix.PidfdOpen(p.pid, 0)
	}
	p.mu.Unlock()
	if fd < 0 {
		if err != nil {
			return fmt.Errorf("wait: pidfd: %w", err)
		}
		return nil
	}
	defer unix.Close(fd)
	if done, err := waitExitContext(ctx, fd, -1); err != nil || !done {
		return errors.Join(err, ctx.Err())
	}
	return nil
}

// reap waits for the end of the process without holding the lock.
func (p *Process) reap() (unix.WaitStatus, error) {
	p.mu.Lock()
	ended := p.ended
	p.mu.Unlock()
	if !ended {
		// ECHILD: somebody was faster.
		_ = kernel.Retry(func() error { return unix.Waitid(unix.P_PID, p.pid, nil, unix.WEXITED|unix.WNOWAIT, nil) })
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return p.status, nil
	}
	var ws unix.WaitStatus
	if err := kernel.Retry(func() error { _, err := unix.Wait4(p.pid, &ws, 0, nil); return err }); err != nil {
		return 0, fmt.Errorf("wait: %w", err)
	}
	p.end(ws)
	return ws, nil
}

// reapAtEnd has the process reaped as soon as it ends, without a thread that waits. Until it
// is, the container's init cannot go away, whoever kills it.
func (p *Process) reapAtEnd() error {
	const nonblock = unix.O_NONBLOCK // PIDFD_NONBLOCK (Linux 5.10)
	fd, err := unix.PidfdOpen(p.pid, nonblock)
	if err != nil {
		return fmt.Errorf("pidfd: %w", err)
	}
	f := os.NewFile(uintptr(fd), "pidfd")
	conn, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return fmt.Errorf("pidfd: %w", err)
	}
	go func() {
		defer f.Close()
		err := conn.Read(func(fd uintptr) bool {
			ended, err := kernel.WaitExit(int(fd), 0)
			return ended || err != nil
		})
		if err == nil {
			_, _ = p.reap()
		}
	}()
	return nil
}

// end takes the process off the books. The caller holds the lock and has reaped it.
func (p *Process) end(ws unix.WaitStatus) {
	p.ended, p.status = true, ws
	p.sb.mu.Lock()
	delete(p.sb.execs, p)
	p.sb.mu.Unlock()
}

// reapExecs reaps the processes of a killed container that Exec has made, or is about to
// have made, and nobody has waited for: init does not end before them
// (pid_namespaces(7)). It does not wait.
func (sb *Sandbox) reapExecs() {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	sb.killed = true
	for p := range sb.execs {
		go func() { _, _ = p.reap() }()
	}
}
