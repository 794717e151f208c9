package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox"
)

// soak is what all sandboxes share.
type soak struct {
	o      *options
	base   string // the scratch folder, a tmpfs
	cgroup string // the parent of all cgroups
	store  *libsandbox.Store
	rep    *report
	number atomic.Int64 // of the last command
}

// run does it all. The report has what there is also after an error.
func run(ctx context.Context, o *options) (rep *report, err error) {
	s := &soak{o: o, rep: newReport(), cgroup: fmt.Sprintf("adl-soak-%d", os.Getpid())}
	ctx, cancel := context.WithTimeoutCause(ctx, o.limit, fmt.Errorf("it has not ended after %v", o.limit))
	defer cancel()
	if err := s.prepare(); err != nil {
		return s.rep, errors.Join(err, s.remove())
	}
	before := look()
	err = s.all(ctx)
	s.rep.finish()
	return s.rep, errors.Join(err, s.rep.grows(), s.nothingLeft(before), s.remove())
}

// prepare makes the scratch folder:
//
//	BASE/busybox  BASE/bash    root filesystems
//	BASE/store    BASE/layers
func (s *soak) prepare() (err error) {
	if s.base, err = os.MkdirTemp(s.o.dir, "adl-soak-"); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", s.base, "tmpfs", 0, "mode=700,size=2g"); err != nil {
		return os.NewSyscallError("mount", err)
	}
	if s.store, err = libsandbox.OpenStore(filepath.Join(s.base, "store")); err != nil {
		return err
	}
	raw, err := os.ReadFile(s.o.busybox)
	if err != nil {
		return err
	}
	bin := filepath.Join(s.base, "busybox/bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(bin, "busybox"), raw, 0o755); err != nil {
		return err
	}
	for _, applet := range []string{"sh", "cat", "dd", "head", "rm", "seq", "setsid", "sleep", "true"} {
		if err := os.Symlink("busybox", filepath.Join(bin, applet)); err != nil {
			return err
		}
	}
	for _, dir := range []string{"usr", "proc", "dev", "sys", "tmp"} {
		if err := os.MkdirAll(filepath.Join(s.base, "bash", dir), 0o755); err != nil {
			return err
		}
	}
	for _, dir := range []string{"bin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+dir, filepath.Join(s.base, "bash", dir)); err != nil {
			return err
		}
	}
	return nil
}

// all has every sandbox work until it has done its share, or until one fails.
func (s *soak) all(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	for i := range s.o.boxes {
		all.Go(func() {
			if err := s.one(ctx, i); err != nil {
				cancel(fmt.Errorf("sandbox %d: %w", i, err))
			}
		})
	}
	done := make(chan struct{})
	go func() { s.rep.watch(done, s.o.progress) }()
	all.Wait()
	close(done)
	return context.Cause(ctx)
}

// one is the life of a sandbox.
func (s *soak) one(ctx context.Context, i int) (err error) {
	b := &box{s: s, id: fmt.Sprintf("box%d", i), rng: rand.New(rand.NewPCG(s.o.seed, uint64(i)))}
	if err := b.make(ctx, i); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, b.sb.Delete(context.Background(), &libsandbox.DeleteOptions{Force: true}))
	}()
	commands, resets := share(s.o.commands, s.o.boxes), share(s.o.resets, s.o.boxes)
	for b.commands < commands || b.resets < resets {
		if b.resets*commands < b.commands*resets || b.commands >= commands {
			err = b.anyReset(ctx)
		} else {
			err = b.step(ctx)
		}
		if err != nil {
			return fmt.Errorf("%w; after %q", err, b.did)
		}
	}
	return nil
}

// share is what one of n has to do.
func share(all, n int) int { return (all + n - 1) / n }

// remove takes the scratch folder away.
func (s *soak) remove() error {
	for unix.Unmount(s.base, unix.MNT_DETACH) == nil {
	}
	return os.RemoveAll(s.base)
}

// patience is the time after which an operation counts as hanging.
const patience = time.Minute
