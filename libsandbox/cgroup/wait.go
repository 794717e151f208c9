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
// v1 hosts the process lists are read again and again, after pauses of at most
// 10 ms.
func (c *Cgroup) WaitEmpty(ctx context.Context) error {
	if d := c.unified(); d != nil {
		return waitEvent(ctx, d.path, "populated 0")
	}
	for wait := 100 * time.Microsecond; ; wait = min(2*wait, 10*time.Millisecond) {
		pids, err := c.Procs()
		if err != nil || len(pids) == 0 {
			return err
		}
		if !sleep(ctx, wait) {
			return context.Cause(ctx)
		}
	}
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
		text, err := readAll(fd) // also acknowledges the last event
		if gone(err) || err == nil && strings.Contains("\n"+text, "\n"+line+"\n") {
			return nil
		}
		if err != nil {
			return &os.PathError{Op: "read", Path: path, Err: err}
		}
		if err := pollEvent(ctx, fd); err != nil {
			return err
		}
	}
}

// pollEvent blocks for at most 50 ms, so that ctx is looked at that often.
func pollEvent(ctx context.Context, fd int) error {
	timeout := 50 * time.Millisecond
	if end, ok := ctx.Deadline(); ok {
		timeout = min(timeout, max(0, time.Until(end)))
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}}, int(timeout.Milliseconds()+1))
	if err != nil && err != unix.EINTR {
		return os.NewSyscallError("poll", err)
	}
	return nil
}
