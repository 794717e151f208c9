package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"adl.run/adl-runtime/tests/bench/frame"
)

// The operations of -ops.
const (
	opReset     = "reset"
	opRecreate  = "recreate"
	opSnapshot  = "snapshot"
	opFork      = "fork"
	opTo        = "to"
	opCommand   = "command"
	opTogether  = "together"
	opSustained = "sustained"
)

func allOps() []string {
	return []string{opReset, opRecreate, opSnapshot, opFork, opTo, opCommand, opTogether, opSustained}
}

// The filesystems of -fs.
const (
	ext4  = "ext4"
	tmpfs = "tmpfs"
	btrfs = "btrfs"
)

// options is the command line.
type options struct {
	paths     map[string]string // runtime -> executable
	busybox   string            // static
	out, dir  string            // folder of the report; parent of the scratch folder
	ops, fs   []string
	rounds    int           // recorded; one more warms up
	sustained time.Duration // for each number of containers
	many      int           // containers alive; 0 leaves that out
	deep      int           // the longer chain of layers
	check     bool
}

func main() {
	o, err := parseFlags(os.Args[1:])
	if err == nil {
		err = frame.OwnMounts(nil)
	}
	if err == nil {
		err = benchMain(o)
	}
	frame.Exit("bench-layers", err)
}

func benchMain(o *options) error {
	ctx, stop := frame.Context()
	defer stop()
	rep := newReport(o)
	if err := measure(ctx, o, rep); err != nil {
		return err
	}
	if err := rep.write(os.Stdout, o.out); err != nil || !o.check {
		return err
	}
	return rep.verdict().Err()
}

// measure goes through the filesystems. Whatever happens, nothing is left.
func measure(ctx context.Context, o *options, rep *report) (err error) {
	b, err := newBench(ctx, o, rep)
	defer func() { err = errors.Join(err, b.close()) }()
	if err != nil {
		return err
	}
	for i, fs := range o.fs {
		p, err := b.newPlace(fs)
		var skip skipped
		if errors.As(err, &skip) {
			rep.skip(fs, skip.Error())
			err = nil
		} else if err == nil {
			err = b.measureAt(p, i == 0)
		}
		if p.forgotten > 0 {
			rep.note(fmt.Sprintf("%s: %d times a layer was left in the trash that nobody was deleting", fs, p.forgotten))
		}
		if err = errors.Join(err, p.close()); err != nil {
			return fmt.Errorf("%s: %w", fs, err)
		}
	}
	return nil
}

func (b *bench) measureAt(p *place, first bool) error {
	for _, part := range []struct {
		ops []string
		run func(*place) error
	}{
		{[]string{opReset, opRecreate}, b.resets},
		{[]string{opSnapshot, opFork, opTo}, b.states},
		{[]string{opTogether}, b.together},
		{[]string{opSustained}, b.sustained},
		{[]string{opCommand}, b.commands},
	} {
		if slices.ContainsFunc(part.ops, b.wants) {
			if err := part.run(p); err != nil {
				return err
			}
		}
	}
	if first && b.o.many > 0 {
		return b.among(p)
	}
	return nil
}

func parseFlags(args []string) (*options, error) {
	fs := flag.NewFlagSet("layers", flag.ContinueOnError)
	o := &options{}
	adl := fs.String("adl", "build/adl-runtime", "our `path`")
	crun := fs.String("crun", "crun", "crun's `path`; empty leaves it out")
	runc := fs.String("runc", "runc", "runc's `path`; empty leaves it out")
	ops := fs.String("ops", strings.Join(allOps(), ","), "operations to measure")
	on := fs.String("fs", "ext4,tmpfs,btrfs", "filesystems to measure on")
	quick := fs.Bool("quick", false, "few rounds: shows that all works, the numbers say little")
	fs.StringVar(&o.busybox, "busybox", "busybox", "static busybox for the rootfs")
	fs.StringVar(&o.out, "out", "build/bench", "`folder` of the report")
	fs.StringVar(&o.dir, "dir", os.TempDir(), "`folder` for the filesystems' images")
	fs.IntVar(&o.rounds, "rounds", 24, "recorded rounds")
	fs.DurationVar(&o.sustained, "for", time.Minute, "how long containers are reset without a pause")
	fs.IntVar(&o.many, "many", 0, "measure a reset beside so many live containers")
	fs.IntVar(&o.deep, "deep", 100, "snapshots below the deep container")
	fs.BoolVar(&o.check, "check", false, "fail when a target is missed")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if *quick {
		o.rounds, o.sustained = min(o.rounds, 3), 5*time.Second
	}
	o.paths = map[string]string{"adl": *adl, "crun": *crun, "runc": *runc}
	o.ops, o.fs = frame.List(*ops), frame.List(*on)
	return o, o.resolve()
}

func (o *options) resolve() (err error) {
	if o.rounds < 1 || o.sustained < time.Second || o.many < 0 || o.deep < 1 {
		return errors.New("-rounds and -deep must be at least 1, -for at least 1s, -many at least 0")
	}
	for _, v := range []struct {
		flag       string
		have, want []string
	}{{"ops", allOps(), o.ops}, {"fs", []string{ext4, tmpfs, btrfs}, o.fs}} {
		for _, name := range v.want {
			if !slices.Contains(v.have, name) {
				return fmt.Errorf("-%s: unknown %q (have %s)", v.flag, name, strings.Join(v.have, ", "))
			}
		}
	}
	for name, path := range o.paths {
		if path == "" && name != "adl" {
			delete(o.paths, name)
			continue
		}
		if o.paths[name], err = frame.FullPath(path); err != nil {
			return fmt.Errorf("-%s: %w", name, err)
		}
	}
	o.busybox, err = frame.FullPath(o.busybox)
	return err
}
