package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Event is what a Watch waits for.
type Event int

const (
	// EventNone is the end of the time to wait.
	EventNone Event = iota
	// EventOOM is that the kernel ran out of the cgroup's memory: a process was killed
	// (v2), or waits for the v1 OOM killer's decision.
	EventOOM
	// EventEmpty is that no process is left.
	EventEmpty
)

// Watch is told by the kernel what happens in a cgroup.
//
//	             v1                                    v2
//	out of       eventfd(2), registered by a write     memory.events, poll(2);
//	memory       to cgroup.event_control               oom_kill has grown
//	empty        cgroup.events of a hybrid host;       cgroup.events, poll(2);
//	             otherwise cgroup.procs, looked at     populated is 0
//	             when the time to wait is over
type Watch struct {
	c       *Cgroup
	oom     int    // eventfd, or memory.events; -1 without a memory controller
	events  int    // cgroup.events, or -1
	control string // v1: gone when the eventfd only says that the cgroup is
	kills   uint64 // v2: the last oom_kill
}

// Watch begins to watch. The caller closes it.
func (c *Cgroup) Watch() (w *Watch, err error) {
	w = &Watch{c: c, oom: -1, events: -1}
	defer func() {
		if err != nil {
			w.Close()
			err = fmt.Errorf("watch: %w", err)
		}
	}()
	if d := c.unified(); d != nil {
		if w.events, err = openFile(d.path, "cgroup.events"); err != nil {
			return w, err
		}
	}
	d := c.controller("memory")
	switch {
	case d == nil:
		return w, nil
	case !d.unified():
		return w, w.register(d.path)
	}
	w.oom, err = openFile(d.path, "memory.events")
	if gone(err) { // without the controller
		return w, nil
	}
	if err == nil {
		w.kills, err = oomKills(w.oom)
	}
	return w, err
}

func openFile(path, file string) (int, error) {
	fd, err := open(path+"/"+file, unix.O_RDONLY)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path + "/" + file, Err: err}
	}
	return fd, nil
}

// register asks for a count of OOM events (Documentation/admin-guide/cgroup-v1/memory.rst,
// section 10).
func (w *Watch) register(path string) error {
	control, err := openFile(path, "memory.oom_control")
	if err != nil {
		return err
	}
	defer unix.Close(control) // the kernel needs it during the write only
	if w.oom, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return os.NewSyscallError("eventfd", err)
	}
	w.control = path + "/cgroup.event_control"
	return writeFile(path, "cgroup.event_control", strconv.Itoa(w.oom)+" "+strconv.Itoa(control))
}

// Close ends the watch.
func (w *Watch) Close() {
	for _, fd := range [...]int{w.oom, w.events} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// Next waits for an event, for no longer than limit or ctx.
func (w *Watch) Next(ctx context.Context, limit time.Duration) (Event, error) {
	end := time.Now().Add(limit)
	for {
		event, err := w.look()
		if event != EventNone || err != nil {
			return event, err
		}
		left := time.Until(end)
		if left <= 0 {
			return w.timeout()
		}
		if ctx.Err() != nil {
			return EventNone, context.Cause(ctx)
		}
		// A poll that is not woken by ctx looks at it four times a second.
		ms := min(left, 250*time.Millisecond).Milliseconds() + 1
		fds := []unix.PollFd{{Fd: int32(w.oom), Events: w.wanted()}, {Fd: int32(w.events), Events: unix.POLLPRI}}
		if _, err := unix.Poll(fds, int(ms)); err != nil && err != unix.EINTR {
			return EventNone, os.NewSyscallError("poll", err)
		}
	}
}

func (w *Watch) wanted() int16 {
	if w.control != "" {
		return unix.POLLIN
	}
	return unix.POLLPRI
}

// look reads what there is to read, which also makes the next poll wait for the next
// change.
func (w *Watch) look() (Event, error) {
	if event, err := w.lookOOM(); event != EventNone || err != nil {
		return event, err
	}
	if w.events < 0 {
		return EventNone, nil
	}
	empty, err := hasLine(w.events, "populated 0")
	if err == nil && empty {
		return EventEmpty, nil
	}
	return EventNone, err
}

func (w *Watch) lookOOM() (Event, error) {
	switch {
	case w.oom < 0:
		return EventNone, nil
	case w.control != "":
		var count [8]byte
		if n, _ := unix.Read(w.oom, count[:]); n <= 0 {
			return EventNone, nil
		}
		// The removal of the cgroup is counted, too.
		if unix.Access(w.control, unix.F_OK) != nil {
			return EventEmpty, nil
		}
		return EventOOM, nil
	}
	kills, err := oomKills(w.oom)
	if gone(err) {
		return EventEmpty, nil
	}
	if err != nil || kills <= w.kills {
		return EventNone, err
	}
	w.kills = kills
	return EventOOM, nil
}

// timeout is the one look that a pure v1 host needs.
func (w *Watch) timeout() (Event, error) {
	if w.events >= 0 {
		return EventNone, nil
	}
	pids, err := w.c.Procs()
	if err == nil && len(pids) == 0 {
		return EventEmpty, nil
	}
	return EventNone, err
}

// oomKills reads oom_kill of an open memory.events.
func oomKills(fd int) (uint64, error) {
	text, err := readAll(fd)
	if err != nil {
		return 0, os.NewSyscallError("read memory.events", err)
	}
	for line := range strings.Lines(text) {
		var n uint64
		if _, err := fmt.Sscanf(line, "oom_kill %d", &n); err == nil {
			return n, nil
		}
	}
	return 0, errors.New("memory.events has no oom_kill")
}
