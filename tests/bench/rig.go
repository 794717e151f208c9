package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"adl.run/adl-runtime/tests/bench/frame"
)

// lead is how far ahead the start of N commands is set, so that every worker
// has its request and sleeps when the moment comes.
const lead = time.Millisecond

// rig is everything the measurements stand on: the scratch folder, the cgroup
// and the workers. close removes all of it.
type rig struct {
	base    string
	cgroup  string
	workers map[string][]*client // runtime name -> one worker for each slot
}

// newRig leaves nothing behind when it fails.
func newRig(ctx context.Context, opts *options) (*rig, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("must be root: containers, cgroups and mount namespaces are made")
	}
	r := &rig{workers: make(map[string][]*client)}
	if err := r.prepare(ctx, opts); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *rig) prepare(ctx context.Context, opts *options) error {
	if err := frame.AdoptOrphans(); err != nil {
		return err
	}
	var err error
	if r.base, err = os.MkdirTemp(opts.dir, "adl-bench-"); err != nil {
		return err
	}
	if err := frame.MakeRootfs(rootfsDir(r.base), opts.busybox); err != nil {
		return err
	}
	if err := makePodmanFiles(r.base); err != nil {
		return err
	}
	if err := makeTemplate(r.base, opts.paths); err != nil {
		return err
	}
	r.cgroup = fmt.Sprintf("adl-bench-%d", os.Getpid())
	if err := frame.MakeCgroup(r.cgroup); err != nil {
		return err
	}
	for _, name := range opts.runtimes {
		if err := r.startWorkers(ctx, opts, name); err != nil {
			return err
		}
	}
	return nil
}

// startWorkers starts the runtime's workers and lets each one prove that the
// runtime runs a program and passes its exit status on.
func (r *rig) startWorkers(ctx context.Context, opts *options, name string) error {
	if err := os.Mkdir(stateDir(r.base, name), 0o700); err != nil {
		return err
	}
	for slot := range opts.parallel {
		if err := ctx.Err(); err != nil {
			return err
		}
		c, err := startWorker(setup{
			Runtime: name, Path: opts.paths[name], Slot: slot,
			Base: r.base, Cgroup: r.cgroup, Hide: slices.Contains(opts.hide, name), Timeout: opts.timeout,
		})
		if err != nil {
			return err
		}
		r.workers[name] = append(r.workers[name], c)
		if _, err := c.ask(request{Step: stepProbe}); err != nil {
			return err
		}
	}
	return nil
}

// step lets the first n workers of a runtime do one step at the same time, gap
// from now, and returns their replies. All workers have answered when it
// returns, with or without an error.
func (r *rig) step(runtime, step string, n int, gap time.Duration) ([]reply, error) {
	q := request{Step: step, At: after(gap)}
	if n > 1 {
		q.At += int64(lead)
	}
	replies, errs := make([]reply, n), make([]error, n)
	var wg sync.WaitGroup
	for i, c := range r.workers[runtime][:n] {
		wg.Go(func() { replies[i], errs[i] = c.ask(q) })
	}
	wg.Wait()
	return replies, errors.Join(errs...)
}

// close ends the workers and removes what they shared. It works on a rig that
// is half made and reports what it could not remove.
func (r *rig) close() error {
	var mu sync.Mutex
	var errs error
	var wg sync.WaitGroup
	for _, clients := range r.workers {
		for _, c := range clients {
			wg.Go(func() {
				err := c.close()
				mu.Lock()
				defer mu.Unlock()
				errs = errors.Join(errs, err)
			})
		}
	}
	wg.Wait()
	errs = errors.Join(errs, frame.KillDescendants(5*time.Second))
	if r.cgroup != "" {
		errs = errors.Join(errs, frame.RemoveCgroup(r.cgroup, 2*time.Second))
	}
	if r.base != "" {
		errs = errors.Join(errs, os.RemoveAll(r.base))
	}
	return errs
}
