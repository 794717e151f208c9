package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// killTime bounds Kill where it has to look for the processes itself.
const killTime = 5 * time.Second

// Procs lists the processes in the cgroup and below it, in the order of their ids,
// as seen from the caller's pid namespace; processes outside of that are left out.
// A cgroup that is gone has none.
func (c *Cgroup) Procs() ([]int, error) {
	pids, err := procs(nil, c.primary().path)
	slices.Sort(pids)
	return slices.Compact(pids), err
}

func procs(pids []int, path string) ([]int, error) {
	text, err := readFile(path, "cgroup.procs")
	// A threaded cgroup does not tell; the root of its threads, above, lists them.
	if err != nil && !gone(err) && !errors.Is(err, unix.EOPNOTSUPP) {
		return pids, err
	}
	for line := range strings.Lines(text) {
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	children, err := childrenOf(path)
	for _, child := range children {
		if err == nil {
			pids, err = procs(pids, filepath.Join(path, child))
		}
	}
	return pids, err
}

// Kill sends SIGKILL to every process in the cgroup and below it, frozen or not. It
// does not wait for them to be gone (WaitEmpty) and is no error for a cgroup that
// has none or is gone. After it, no process may be cloned into the cgroup; see
// OpenDir.
func (c *Cgroup) Kill() error {
	if d := c.unified(); d != nil {
		err := writeFile(d.path, "cgroup.kill", "1")
		if err == nil {
			return c.thawV1()
		}
		if !gone(err) {
			return fmt.Errorf("kill: %w", err)
		}
		if !isDir(d.path) {
			return nil
		}
	}
	if err := c.killEach(); err != nil { // Linux before 5.14, or no unified hierarchy
		return fmt.Errorf("kill: %w", err)
	}
	return nil
}

// thawV1 thaws what somebody else froze in the v1 hierarchy, the container itself
// in cgroups of its own among them: such a process does not die before it is thawed.
func (c *Cgroup) thawV1() error {
	d := c.controller("freezer")
	if d == nil || d.unified() {
		return nil
	}
	if err := thawTree(d.path); err != nil {
		return fmt.Errorf("kill: %w", err)
	}
	return nil
}

func thawTree(path string) error {
	if err := writeFile(path, "freezer.state", "THAWED"); err != nil && !gone(err) {
		return err
	}
	children, err := childrenOf(path)
	for _, child := range children {
		if err == nil {
			err = thawTree(filepath.Join(path, child))
		}
	}
	return err
}

// killEach kills process by process, frozen so that none can fork away, until none
// is left.
func (c *Cgroup) killEach() error {
	ctx, cancel := context.WithTimeout(context.Background(), killTime)
	defer cancel()
	for wait := time.Duration(0); ; wait = min(2*wait+100*time.Microsecond, 20*time.Millisecond) {
		if !sleep(ctx, wait) {
			return errors.New("processes keep coming")
		}
		// Without a freezer, or with a process that cannot be stopped, the
		// repetition has to be enough.
		fctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		if c.unified() != nil {
			_ = c.freezeUnified(fctx)
		} else {
			_ = c.freezeV1(fctx)
		}
		cancel()
		n, err := c.Signal(unix.SIGKILL)
		if err := errors.Join(err, c.Thaw(), c.thawV1()); err != nil || n == 0 {
			return err
		}
	}
}

// Signal sends sig to every process in the cgroup and below it, and returns how many
// there were.
func (c *Cgroup) Signal(sig unix.Signal) (int, error) {
	fds, n, err := c.pidfds(0)
	defer kernel.Close(fds...)
	if err != nil || n == 0 {
		return 0, err
	}
	return n, signalAll(fds, sig)
}

// pidfds opens every process in the cgroup and below it, apart from one, and returns how
// many there were. A descriptor that was opened while the process was listed is kept, so
// that a number that changed hands meanwhile is not hit.
func (c *Cgroup) pidfds(except int) (fds []int, n int, err error) {
	pids, err := c.Procs()
	pids = slices.DeleteFunc(pids, func(pid int) bool { return pid == except })
	if err != nil || len(pids) == 0 {
		return nil, 0, err
	}
	opened := make(map[int]int, len(pids))
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err == nil {
			opened[pid] = fd
		} else if err != unix.ESRCH && err != unix.EINVAL { // EINVAL: its leader has exited
			closeEach(opened)
			return nil, 0, os.NewSyscallError("pidfd_open", err)
		}
	}
	confirmed, err := c.Procs()
	for _, pid := range confirmed {
		if fd, ok := opened[pid]; ok {
			fds = append(fds, fd)
			delete(opened, pid)
		}
	}
	closeEach(opened)
	return fds, len(pids), err
}

func closeEach(fds map[int]int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

func signalAll(pidfds []int, sig unix.Signal) error {
	for _, fd := range pidfds {
		if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && err != unix.ESRCH {
			return err
		}
	}
	return nil
}
