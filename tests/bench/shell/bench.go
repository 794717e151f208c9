package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox"
	"adl.run/adl-runtime/libsandbox/shell"
	"adl.run/adl-runtime/tests/bench/frame"
)

// Who runs commands.
const (
	byLibrary     = "library"
	byCoprocess   = "co-process"
	byCommandLine = "command line"
	bareBash      = "bare bash"
)

// What they run. There is a file of a megabyte; $data is its folder, for each of them.
const (
	builtin = ":"
	program = "/bin/true"
	output  = "cat $data/1MB"

	outputSize = 1_000_000
	sessionUp  = "session start"
)

// crowd is how many sandboxes there are at most.
const crowd = 16

// bench is what all measurements share.
type bench struct {
	ctx     context.Context
	o       *options
	rep     *report
	base    string // the scratch folder, a tmpfs
	cgroup  string // the parent of all cgroups
	store   *libsandbox.Store
	boxes   []*libsandbox.Sandbox
	voices  []*voice
	cleanup []func() error
}

// voice has shell text executed, and waits for its end. want is the length of the output.
type voice struct {
	name  string
	run   func(text string, want int) error
	burst int // commands in a round
}

// measure does it all. Whatever happens, nothing is left.
func measure(ctx context.Context, o *options, rep *report) (err error) {
	b := &bench{ctx: ctx, o: o, rep: rep, cgroup: fmt.Sprintf("adl-bench-shell-%d", os.Getpid())}
	defer func() { err = errors.Join(err, b.close()) }()
	for _, do := range []func() error{b.prepare, b.ours, b.peers, b.latencies, b.starts, b.throughput, b.rates, b.memory} {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// close takes everything down, the last first.
func (b *bench) close() error {
	var errs []error
	for i := len(b.cleanup) - 1; i >= 0; i-- {
		errs = append(errs, b.cleanup[i]())
	}
	return errors.Join(errs...)
}

func (b *bench) later(f func() error) { b.cleanup = append(b.cleanup, f) }

// prepare makes the scratch folder with the root filesystem.
func (b *bench) prepare() (err error) {
	if b.base, err = os.MkdirTemp(b.o.dir, "adl-bench-shell-"); err != nil {
		return err
	}
	b.later(func() error { return os.RemoveAll(b.base) })
	if err := unix.Mount("tmpfs", b.base, "tmpfs", 0, "mode=700"); err != nil {
		return os.NewSyscallError("mount", err)
	}
	b.later(func() error { return os.NewSyscallError("umount", unix.Unmount(b.base, unix.MNT_DETACH)) })
	b.later(func() error { return frame.RemoveCgroup(b.cgroup, 2*time.Second) })
	for _, dir := range []string{"usr", "proc", "dev", "sys", "tmp", "data"} {
		if err := os.MkdirAll(filepath.Join(b.rootfs(), dir), 0o755); err != nil {
			return err
		}
	}
	for _, dir := range []string{"bin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+dir, filepath.Join(b.rootfs(), dir)); err != nil {
			return err
		}
	}
	text := []byte(strings.Repeat(strings.Repeat("x", 99)+"\n", outputSize/100))
	return os.WriteFile(filepath.Join(b.rootfs(), "data/1MB"), text, 0o644)
}

func (b *bench) rootfs() string    { return filepath.Join(b.base, "rootfs") }
func (b *bench) storeRoot() string { return filepath.Join(b.base, "store") }

// ours makes the sandboxes and what speaks with the first.
func (b *bench) ours() (err error) {
	if b.store, err = libsandbox.OpenStore(b.storeRoot()); err != nil {
		return err
	}
	for i := range crowd {
		sb, err := libsandbox.New(b.ctx, &libsandbox.Config{
			Store: b.store, ID: fmt.Sprintf("box%d", i), Rootfs: b.rootfs(), CgroupParent: b.cgroup,
			Layer:   libsandbox.LayerOptions{Root: filepath.Join(b.base, "layers")},
			Volumes: []string{"/usr:/usr:ro"}, Env: []string{"data=/data"},
		})
		if err != nil {
			return err
		}
		b.later(func() error { return sb.Delete(context.Background(), &libsandbox.DeleteOptions{Force: true}) })
		b.boxes = append(b.boxes, sb)
	}
	p, err := b.startCoprocess()
	if err != nil {
		return err
	}
	b.later(p.close)
	bare, err := b.startBare()
	if err != nil {
		return err
	}
	b.later(bare.close)
	b.voices = []*voice{
		{byLibrary, func(text string, want int) error { return b.library(b.boxes[0].Run, text, want) }, 20},
		{byCoprocess, p.run, 20},
		{byCommandLine, b.commandLine, 1},
		{bareBash, bare.run, 20},
	}
	return nil
}

// library runs a command in the sandbox's own session.
func (b *bench) library(run func(context.Context, string, *shell.Command) (*shell.Result, error), text string, want int) error {
	r, err := run(b.ctx, text, nil)
	if err == nil && (r.ExitStatus != 0 || len(r.Stdout) != want) {
		err = fmt.Errorf("status %d, %d bytes, %q", r.ExitStatus, len(r.Stdout), r.Stderr)
	}
	return err
}

// latencies measures each command by each voice, in turn.
func (b *bench) latencies() error {
	type cell struct {
		v    *voice
		text string
		want int
	}
	var cells []cell
	for _, v := range b.voices {
		cells = append(cells, cell{v, builtin, 0}, cell{v, program, 0}, cell{v, output, outputSize})
	}
	for turn := range b.o.rounds + 1 {
		for _, i := range rand.Perm(len(cells)) {
			c := cells[i]
			for range c.v.burst {
				took, err := b.timed(func() error { return c.v.run(c.text, c.want) })
				if err != nil {
					return fmt.Errorf("%s: %s: %w", c.v.name, c.text, err)
				}
				if turn > 0 {
					b.rep.series.Add(key{c.v.name, c.text}, took)
				}
			}
		}
	}
	return nil
}

// timed measures, in ms.
func (b *bench) timed(f func() error) (float64, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, fmt.Errorf("interrupted: %w", err)
	}
	began := time.Now()
	err := f()
	return float64(time.Since(began)) / 1e6, err
}

// starts measures a new session with its first command.
func (b *bench) starts() error {
	stop := func() error { return b.verb("shell", "stop", "box1") }
	if err := b.verb("shell", "box1", "--", builtin); err != nil {
		return err
	}
	for turn := range b.o.rounds + 1 {
		for _, c := range []struct {
			who         string
			before, run func() error
		}{
			{byLibrary, nil, b.librarySession},
			{byCoprocess, nil, b.coprocessSession},
			{byCommandLine, stop, func() error { return b.verb("shell", "box1", "--", builtin) }},
			{bareBash, nil, b.bareSession},
		} {
			if c.before != nil {
				if err := c.before(); err != nil {
					return err
				}
			}
			took, err := b.timed(c.run)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", c.who, sessionUp, err)
			}
			if turn > 0 {
				b.rep.series.Add(key{c.who, sessionUp}, took)
			}
		}
	}
	return b.verb("shell", "stop", "box1")
}

// librarySession has its end in it, which takes little.
func (b *bench) librarySession() error {
	s, err := b.boxes[1].Shell(b.ctx, nil)
	if err != nil {
		return err
	}
	run := func(ctx context.Context, text string, _ *shell.Command) (*shell.Result, error) {
		return s.Run(ctx, &shell.Command{Text: text})
	}
	return errors.Join(b.library(run, builtin, 0), s.Close())
}
