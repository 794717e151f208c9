package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// destroyTime bounds how long Destroy waits for processes that are already dead to
// leave. They normally have left, or do within a millisecond.
const destroyTime = 2 * time.Second

// Destroy removes the cgroup and everything below it from every hierarchy, deepest
// first. What is already gone is no error. It kills nothing: a cgroup that still
// has processes after two seconds is an error.
func (c *Cgroup) Destroy() error {
	var left []string
	for i := range c.dirs {
		if err := unix.Rmdir(c.dirs[i].path); err != nil && !gone(err) {
			left = append(left, c.dirs[i].path)
		}
	}
	if len(left) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), destroyTime)
	defer cancel()
	var errs []error
	for _, path := range left {
		if err := c.remove(ctx, path); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// remove tries until ctx is done to remove what a plain rmdir could not: the
// container made cgroups of its own, or a task is still exiting, for which rmdir
// fails with EBUSY although cgroup.procs no longer lists it.
func (c *Cgroup) remove(ctx context.Context, path string) error {
	for wait := 100 * time.Microsecond; ; wait = min(2*wait, 20*time.Millisecond) {
		err := removeTree(path)
		if err == nil || !errors.Is(err, unix.EBUSY) {
			return err
		}
		if c.WaitEmpty(ctx) != nil || !sleep(ctx, wait) {
			return fmt.Errorf("%w: %w", errBusy, err)
		}
	}
}

// removeTree removes a cgroup after its children. Only directories can be removed
// in a cgroup filesystem, and only they need to be.
func removeTree(path string) error {
	children, err := childrenOf(path)
	if err != nil {
		return err
	}
	for _, child := range children {
		if err := removeTree(filepath.Join(path, child)); err != nil {
			return err
		}
	}
	if err := unix.Rmdir(path); err != nil && !gone(err) {
		return &os.PathError{Op: "rmdir", Path: path, Err: err}
	}
	return nil
}

// childrenOf lists the cgroups in a cgroup; one that is gone has none.
func childrenOf(path string) ([]string, error) {
	entries, err := readDir(path)
	if err != nil && !gone(err) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.kind == unix.DT_DIR {
			names = append(names, e.name)
		}
	}
	return names, nil
}

// sleep waits, and reports whether ctx left it the time.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
