package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// gap is the idle time before what is timed.
const gap = 20 * time.Millisecond

// bench is what all measurements share.
type bench struct {
	ctx    context.Context
	o      *options
	rep    *report
	base   string // the scratch folder
	cgroup string
}

// newBench returns a bench to close even with an error. Inits that commands leave to
// themselves become its children.
func newBench(ctx context.Context, o *options, rep *report) (*bench, error) {
	b := &bench{ctx: ctx, o: o, rep: rep, cgroup: fmt.Sprintf("adl-layers-%d", os.Getpid())}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return b, os.NewSyscallError("prctl", err)
	}
	var err error
	b.base, err = os.MkdirTemp(o.dir, "adl-layers-")
	return b, err
}

func (b *bench) wants(op string) bool { return slices.Contains(b.o.ops, op) }

// close removes what is no place's.
func (b *bench) close() error {
	err := errors.Join(killChildren(), removeCgroups(b.cgroup))
	if b.base != "" {
		err = errors.Join(err, os.RemoveAll(b.base))
	}
	return err
}

// cell is one thing to measure. before and after may be nil; run alone is timed.
type cell struct {
	key                key
	before, run, after func() error
}

// rounds measures the cells in turn, each once in a round. The first round is not
// recorded.
func (b *bench) rounds(p *place, cells []cell) error {
	for turn := range b.o.rounds + 1 {
		for _, i := range rand.Perm(len(cells)) {
			took, err := b.once(p, &cells[i])
			if err != nil {
				return fmt.Errorf("%s: %w", cells[i].key, err)
			}
			if turn > 0 {
				b.rep.add(cells[i].key, took)
			}
		}
	}
	return nil
}

// once measures a cell, in ms.
func (b *bench) once(p *place, c *cell) (ms float64, err error) {
	if err := b.ctx.Err(); err != nil {
		return 0, fmt.Errorf("interrupted: %w", err)
	}
	if c.before != nil {
		if err := c.before(); err != nil {
			return 0, err
		}
	}
	if err := p.settle(); err != nil {
		return 0, err
	}
	time.Sleep(gap)
	began := time.Now()
	err = c.run()
	took := time.Since(began)
	if err == nil && c.after != nil {
		err = c.after()
	}
	return float64(took) / 1e6, err
}

// killChildren ends all children and those that their end leaves to us.
func killChildren() error {
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		switch {
		case err == unix.ECHILD:
			return nil
		case pid > 0 || err == unix.EINTR:
			continue
		case time.Now().After(end):
			return fmt.Errorf("processes that cannot be killed: %v", children())
		}
		for _, pid := range children() {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

func children() (pids []int) {
	tasks, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range tasks {
		raw, _ := os.ReadFile(path)
		if parentOf(raw) == os.Getpid() {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// removeCgroups removes the parent of all containers' cgroups, which are gone.
func removeCgroups(name string) error {
	var left []string
	for end := time.Now().Add(2 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		left = left[:0]
		for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
			dirs, _ := filepath.Glob(pattern + name)
			for _, d := range dirs {
				if removeCgroup(d) != nil {
					left = append(left, d)
				}
			}
		}
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("cgroups left: %v", left)
		}
	}
}

func removeCgroup(dir string) error {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			_ = removeCgroup(filepath.Join(dir, e.Name()))
		}
	}
	return unix.Rmdir(dir)
}
