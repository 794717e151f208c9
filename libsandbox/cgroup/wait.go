package cgroup

import (
	"context"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// WaitEmpty returns when no live process is left in the cgroup and below it, or
// with ctx's error. In a unified hierarchy the kernel says so by an event; on pure
// v1 hosts the ends of the processes are events, by their pidfds.
func (c *Cgroup) WaitEmpty(ctx context.Context) error {
	return waitEmpty(ctx, c.primary())
}

func waitEmpty(ctx context.Context, d *dir) error {
	if d.unified() {
		return waitEvent(ctx, d.path, "populated 0")
	}
	return waitMembers(ctx, d.path)
}

// waitMembers waits for the end of each process that a v1 directory lists, and then
// looks again, because they may have had children.
func waitMembers(ctx context.Context, path string) error {
	for {
		pids, err := procs(nil, path)
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := waitMember(ctx, pid); err != nil {
				return err
			}
		}
	}
}

// waitMember waits for the end of a process, but no longer than a look at the list
// should be old: it may also leave the cgroup alive.
func waitMember(ctx context.Context, pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	switch err {
	case nil:
		defer unix.Close(fd)
		return poll(ctx, fd, unix.POLLIN)
	case unix.ESRCH:
		return nil
	}
	// The leader has exited and other threads have not (EINVAL), or descriptors have
	// run out: there is nothing to wait for but time.
	if !sleep(ctx, time.Millisecond) {
		return context.Cause(ctx)
	}
	return nil
}

// waitEvent waits for a line of cgroup.events, whose changes poll(2) reports with
// POLLPRI. A cgroup that is gone counts as having had every event.
func waitEvent(ctx context.Context, path, line string) error {
	path += "/cgroup.events"
	fd, err := open(path, unix.O_RDONLY)
	if gone(err) {
		return nil
	}
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	for {
		if yes, err := hasLine(fd, line); yes || err != nil {
			return err
		}
		if err := poll(ctx, fd, unix.POLLPRI); err != nil {
			return err
		}
	}
}

// hasLine says whether an open cgroup.events has a line, and acknowledges its last
// change. The file of a cgroup that is gone has all.
func hasLine(fd int, line string) (bool, error) {
	text, err := readAll(fd)
	if gone(err) {
		return true, nil
	}
	if err != nil {
		return false, os.NewSyscallError("read cgroup.events", err)
	}
	return strings.Contains("\n"+text, "\n"+line+"\n"), nil
}

// poll blocks for at most 50 ms, so that ctx is looked at that often.
func poll(ctx context.Context, fd int, events int16) error {
	timeout := 50 * time.Millisecond
	if end, ok := ctx.Deadline(); ok {
		timeout = min(timeout, max(0, time.Until(end)))
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, int(timeout.Milliseconds()+1))
	if err != nil && err != unix.EINTR {
		return os.NewSyscallError("poll", err)
	}
	return nil
}
