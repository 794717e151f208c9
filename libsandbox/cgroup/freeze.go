package cgroup

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// freezeTime bounds how long a process may take to stop; one in uninterruptible
// sleep (a hanging network filesystem) can take for ever.
const freezeTime = 10 * time.Second

// Freeze stops every process of the cgroup, and returns when all stand still. One
// that does not within ten seconds is an error, and then the others run again.
//
// Where there is a unified hierarchy its cgroup.freeze is used: unlike with the v1
// freezer, frozen processes can be killed.
func (c *Cgroup) Freeze() error {
	ctx, cancel := context.WithTimeout(context.Background(), freezeTime)
	defer cancel()
	freeze := c.freezeV1
	if c.unified() != nil {
		freeze = c.freezeUnified
	}
	if err := freeze(ctx); err != nil {
		return errors.Join(fmt.Errorf("freeze: %w", err), c.Thaw())
	}
	return nil
}

func (c *Cgroup) freezeUnified(ctx context.Context) error {
	path := c.unified().path
	if err := writeFile(path, "cgroup.freeze", "1"); err != nil {
		return err
	}
	return waitEvent(ctx, path, "frozen 1")
}

// freezeV1 keeps asking: a process that forks while its cgroup is FREEZING, or that
// could not be stopped at once, is only looked at again with the next write
// (Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst). Where that does not
// help, all run again for a moment: one may have to wait for another that stands
// still already, as the parent does in vfork(2).
func (c *Cgroup) freezeV1(ctx context.Context) error {
	d := c.controller("freezer")
	if d == nil {
		return errors.New("the host has no freezer cgroup controller")
	}
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, 10*time.Millisecond) {
		if wait == 10*time.Millisecond {
			if err := writeFile(d.path, "freezer.state", "THAWED"); err != nil {
				return err
			}
			sleep(ctx, time.Millisecond)
		}
		if err := writeFile(d.path, "freezer.state", "FROZEN"); err != nil {
			return err
		}
		if state, err := readFile(d.path, "freezer.state"); err != nil || state == "FROZEN" {
			return err
		}
		if !sleep(ctx, wait) {
			return context.Cause(ctx)
		}
	}
}

// Thaw lets the processes run again. It is no error if they do already.
func (c *Cgroup) Thaw() error {
	d, file, data := c.unified(), "cgroup.freeze", "0"
	if d == nil {
		d, file, data = c.controller("freezer"), "freezer.state", "THAWED"
	}
	if d == nil {
		return nil
	}
	if err := writeFile(d.path, file, data); err != nil && !gone(err) {
		return fmt.Errorf("thaw: %w", err)
	}
	return nil
}

// ThawKilled thaws a frozen cgroup on a pure v1 host, where killed processes do not
// end before. Elsewhere they do.
func (c *Cgroup) ThawKilled() error {
	if c.unified() != nil {
		return nil
	}
	frozen, err := c.Frozen()
	if err != nil || !frozen {
		return err
	}
	return c.Thaw()
}

// Halted reports whether the kernel keeps the processes of the cgroup v2 directory from
// running, which a frozen cgroup above it is enough for (cgroups(7), "frozen" in
// cgroup.events, Linux 5.2). It is false where there is no cgroup v2.
func (c *Cgroup) Halted() bool {
	d := c.unified()
	if d == nil {
		return false
	}
	events, err := readFile(d.path, "cgroup.events")
	return err == nil && strings.Contains("\n"+events+"\n", "\nfrozen 1\n")
}

// Frozen reports whether Freeze has been called and Thaw has not. A cgroup that is
// gone is not frozen.
func (c *Cgroup) Frozen() (bool, error) {
	d, file, yes := c.unified(), "cgroup.freeze", "1"
	if d == nil {
		d, file, yes = c.controller("freezer"), "freezer.self_freezing", "1"
	}
	if d == nil {
		return false, nil
	}
	state, err := readFile(d.path, file)
	if err != nil && !gone(err) {
		return false, err
	}
	return state == yes, nil
}
