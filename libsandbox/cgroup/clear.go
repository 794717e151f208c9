package cgroup

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// Isolate stops every process in the cgroup and below it and kills all but one, or all
// where keep is 0. The one that is left stands still when Isolate returns nil; Thaw lets
// it go on. After an error all run that are left. Other than after Kill, processes can
// still be cloned into the cgroup.
func (c *Cgroup) Isolate(keep int) error {
	ctx, cancel := context.WithTimeout(context.Background(), freezeTime)
	defer cancel()
	if err := c.isolate(ctx, keep); err != nil {
		return errors.Join(fmt.Errorf("kill: %w", err), c.Thaw())
	}
	return nil
}

func (c *Cgroup) isolate(ctx context.Context, keep int) error {
	for {
		// What the container itself has frozen in the v1 hierarchy can neither be stopped
		// here nor die.
		if err := errors.Join(c.thawV1(), c.Freeze()); err != nil {
			return err
		}
		fds, n, err := c.pidfds(keep)
		if err == nil && n > 0 {
			err = c.end(ctx, fds)
		}
		kernel.Close(fds...)
		if err != nil || n == 0 {
			return err
		}
		if !sleep(ctx, 0) {
			return errors.New("processes keep coming")
		}
	}
}

// end kills processes of a frozen cgroup and waits for their ends. The v1 freezer lets
// nobody die, so there all have to run for that.
func (c *Cgroup) end(ctx context.Context, pidfds []int) error {
	if err := signalAll(pidfds, unix.SIGKILL); err != nil {
		return err
	}
	if err := errors.Join(c.ThawKilled(), c.thawV1()); err != nil {
		return err
	}
	end, _ := ctx.Deadline()
	for _, fd := range pidfds {
		done, err := kernel.WaitExit(fd, int(max(0, time.Until(end).Milliseconds())))
		if err != nil {
			return err
		}
		if !done {
			return errors.New("a process does not end")
		}
	}
	return nil
}

// Clear removes the cgroups that somebody has made below this one and takes the
// controllers back that they were given, so that a process can enter it again. There must
// be no processes in any.
func (c *Cgroup) Clear() error {
	var errs []error
	for i := range c.dirs {
		d := &c.dirs[i]
		if !hasChildren(d.path) {
			continue
		}
		children, err := childrenOf(d.path)
		errs = append(errs, err)
		for _, child := range children {
			errs = append(errs, d.removeChild(child))
		}
	}
	if d := c.unified(); d != nil {
		errs = append(errs, takeBack(d.path))
	}
	return errors.Join(errs...)
}

// hasChildren says whether a cgroup has any; its directory counts them as links.
func hasChildren(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && st.Nlink > 2
}

func (d *dir) removeChild(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), destroyTime)
	defer cancel()
	child := *d
	child.path = filepath.Join(d.path, name)
	return child.remove(ctx)
}

// takeBack is the opposite of enableIn: a cgroup that has given away controllers takes
// no processes (cgroup-v2.rst, "No Internal Process Constraint").
func takeBack(path string) error {
	text, err := readFile(path, "cgroup.subtree_control")
	if err != nil || text == "" {
		return err
	}
	return writeFile(path, "cgroup.subtree_control", "-"+strings.Join(strings.Fields(text), " -"))
}
