package libsandbox

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/cgroup"
	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// Signal sends sig to the container's init or, with all, to each of its processes.
// SIGKILL for a container that has no pid namespace of its own goes to all.
// ErrNotRunning: there is no process.
func (sb *Sandbox) Signal(sig unix.Signal, all bool) error {
	if err := sb.reload(); err != nil {
		return err
	}
	now := sb.view()
	if all || sig == unix.SIGKILL && !now.rec.OwnPid {
		return sb.signalAll(sig)
	}
	fd, err := now.rec.Init.Open()
	if err == nil && !now.rec.Init.Alive() {
		unix.Close(fd)
		err = unix.ESRCH
	}
	if errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("%w", ErrNotRunning)
	}
	if err != nil {
		return fmt.Errorf("pidfd of init: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil {
		return fmt.Errorf("signal %d: %w", int(sig), err)
	}
	if sig == unix.SIGKILL {
		return now.thawKilled()
	}
	return nil
}

// thawKilled lets a killed process of a paused container die where only the v1
// freezer stops it: there it does not before it runs again.
func (sb *Sandbox) thawKilled() error {
	if _, unified := sb.rec.Cgroup[""]; unified {
		return nil
	}
	cg, err := cgroup.Load(sb.rec.Cgroup)
	if err != nil {
		return err
	}
	return cg.ThawKilled()
}

// signalAll sends sig to every process of the cgroup.
func (sb *Sandbox) signalAll(sig unix.Signal) error {
	if sig == unix.SIGKILL {
		return sb.killAll()
	}
	cg, err := cgroup.Load(sb.view().rec.Cgroup)
	if err != nil {
		return err
	}
	n, err := cg.Signal(sig)
	switch {
	case err != nil:
		return fmt.Errorf("signal %d: %w", int(sig), err)
	case n == 0:
		return fmt.Errorf("%w", ErrNotRunning)
	}
	return nil
}

// exitTimeout bounds the wait for killed processes: a process in an uninterruptible
// sleep does not end, and a command must not hang with it.
const exitTimeout = 10 * time.Second

// killAll kills every process of the container and waits until init has exited.
// The end of init in a pid namespace of its own is the end of all the others; a
// container without one is killed by its cgroup.
func (sb *Sandbox) killAll() error {
	now := sb.view()
	fd, err := now.rec.Init.Open()
	if err == nil {
		defer unix.Close(fd)
		err = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill init: %w", err)
	}
	if !now.rec.OwnPid || now.currentStatus() == StatePaused {
		cg, err := cgroup.Load(now.rec.Cgroup)
		if err != nil {
			return err
		}
		if err := cg.Kill(); err != nil {
			return err
		}
	}
	sb.reapExecs()
	if fd >= 0 {
		return now.waitKilled(fd)
	}
	return nil
}

// frozenTimeout is when a killed container that does not end is taken for one that
// has frozen processes in a cgroup v1 of its own.
const frozenTimeout = 200 * time.Millisecond

// waitKilled waits for the end of init, which has been killed.
func (sb *Sandbox) waitKilled(pidfd int) error {
	done, err := kernel.WaitExit(pidfd, int(frozenTimeout.Milliseconds()))
	if err != nil || done {
		return err
	}
	cg, err := cgroup.Load(sb.rec.Cgroup)
	if err == nil {
		err = cg.Kill()
	}
	if err != nil {
		return err
	}
	done, err = kernel.WaitExit(pidfd, int(exitTimeout.Milliseconds()))
	if err == nil && !done {
		err = fmt.Errorf("process %d does not end", sb.rec.Init.Pid)
	}
	return err
}
