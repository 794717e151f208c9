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
// has processes after two seconds is an error. A unit of systemd's is stopped first.
func (c *Cgroup) Destroy() error {
	if c.unit != nil && c.unit.started {
		return errors.Join(c.unit.stop(), c.removeDirs())
	}
	return c.removeDirs()
}

func (c *Cgroup) removeDirs() error {
	var left []*dir
	for i := range c.dirs {
		if err := unix.Rmdir(c.dirs[i].path); err != nil && !gone(err) {
			left = append(left, &c.dirs[i])
		}
	}
	if len(left) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), destroyTime)
	defer cancel()
	var first error // it is the same in all hierarchies
	for _, d := range left {
		if err := d.remove(ctx); first == nil {
			first = err
		}
	}
	return first
}

// remove removes what a plain rmdir could not: the container made cgroups of its
// own, or a process is still exiting. It waits for the event of that process's end.
// Only where that has come and the kernel still says EBUSY does it wait for time to
// pass: v1 lists no longer a task that holds the directory until it has been
// scheduled for the last time.
func (d *dir) remove(ctx context.Context) error {
	for wait := time.Duration(0); ; wait = min(2*wait+50*time.Microsecond, 20*time.Millisecond) {
		err := removeTree(d.path)
		if err == nil || !errors.Is(err, unix.EBUSY) {
			return err
		}
		if !sleep(ctx, wait) || waitEmpty(ctx, d) != nil {
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
