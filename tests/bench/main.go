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

// The names of the runtimes in flags, reports and targets.
const (
	nameADL  = "adl"
	nameCrun = "crun"
	nameRunc = "runc"
)

// workerArg as the first argument makes this program a worker.
const workerArg = "bench-worker"

// errMissed says that -check found a missed target; the list was printed.
var errMissed = errors.New("speed or memory targets missed or not measured")

// options is the command line.
type options struct {
	paths    map[string]string // runtime name -> executable
	runtimes []string          // names measured, in report order
	ops      []string          // operations recorded
	hide     []string          // runtimes that must not see cgroup v2 on a hybrid host
	busybox  string            // a static busybox for the rootfs
	out      string            // folder of bench.md, bench.json and bench.svg
	dir      string            // parent of the scratch folder: rootfs, bundles, state
	rounds   int               // rounds recorded; one more warms up
	reps     int               // repetitions of the one-at-a-time cells in each round
	parallel int               // containers at once in the parallel cells
	gap      time.Duration     // idle time before a command in the cells with gaps
	timeout  time.Duration     // after which a command counts as hanging
	check    bool              // fail when a target is missed
	rate     int               // execs a second in one container; 0 means to measure all else
	during   time.Duration     // how long the steady execs go on
}

func main() {
	var err error
	if len(os.Args) > 1 && os.Args[1] == workerArg {
		err = workerMain()
	} else {
		err = benchMain(os.Args[1:])
	}
	frame.Exit("bench", err)
}

// benchMain measures, prints the report and writes it below options.out.
func benchMain(args []string) error {
	opts, err := parseFlags(args)
	if err != nil {
		return err
	}
	// No ctrl-C reaches the workers: they are sessions of their own, and the
	// bench lets the command in flight end before it cleans up.
	ctx, stop := frame.Context()
	defer stop()
	if opts.rate > 0 {
		return rateMain(ctx, opts, os.Stdout)
	}
	rep := newReport(opts)
	if err := measure(ctx, opts, rep.samples); err != nil {
		return err
	}
	rep.finish()
	if err := rep.write(os.Stdout, opts.out); err != nil {
		return err
	}
	if opts.check && len(rep.Missed)+len(rep.Unmeasured) > 0 {
		return errMissed
	}
	return nil
}

// measure builds the rig, runs all rounds and takes the rig down, whatever
// happened; what could not be taken down is part of the error.
func measure(ctx context.Context, opts *options, s *samples) (err error) {
	r, err := newRig(ctx, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	return newSchedule(opts, r, s).run(ctx)
}

// parseFlags reads and checks the command line.
func parseFlags(args []string) (*options, error) {
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	opts := &options{}
	adl := fs.String("adl", envOr("ADL_RUNTIME", "build/adl-runtime"), "our `path` (also env ADL_RUNTIME)")
	crun := fs.String("crun", "crun", "crun's `path`")
	runc := fs.String("runc", "runc", "runc's `path`; its spec verb makes the bundle")
	runtimes := fs.String("runtimes", "adl,crun,runc", "runtimes to measure")
	ops := fs.String("ops", strings.Join(allOps(), ","), "operations to measure")
	hide := fs.String("hide-unified", nameCrun, "runtimes that must not see cgroup v2 on a hybrid host")
	quick := fs.Bool("quick", false, "few rounds: shows that all works, the numbers say little")
	fs.StringVar(&opts.busybox, "busybox", "busybox", "static busybox for the rootfs")
	fs.StringVar(&opts.out, "out", "build/bench", "`folder` of the report")
	fs.StringVar(&opts.dir, "dir", os.TempDir(), "`folder` for rootfs, bundles and state")
	fs.IntVar(&opts.rounds, "rounds", 24, "recorded rounds")
	fs.IntVar(&opts.reps, "reps", 3, "repetitions of one-at-a-time cells in a round")
	fs.IntVar(&opts.parallel, "parallel", 8, "containers at once")
	fs.DurationVar(&opts.gap, "gap", 40*time.Millisecond, "idle gap")
	fs.DurationVar(&opts.timeout, "timeout", 20*time.Second, "a command that takes longer has failed")
	fs.BoolVar(&opts.check, "check", false, "fail when a target is missed")
	fs.IntVar(&opts.rate, "rate", 0, "only exec, `N` times a second in one container (200 is the target)")
	fs.DurationVar(&opts.during, "for", 20*time.Second, "how long -rate goes on")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if *quick {
		opts.rounds, opts.reps = 3, 1
	}
	opts.paths = map[string]string{nameADL: *adl, nameCrun: *crun, nameRunc: *runc}
	opts.runtimes, opts.ops, opts.hide = frame.List(*runtimes), frame.List(*ops), frame.List(*hide)
	return opts, opts.resolve()
}

// resolve checks the values and replaces every executable by its full path.
func (o *options) resolve() error {
	if o.rounds < 1 || o.reps < 1 || o.parallel < 2 || o.gap < time.Millisecond || o.timeout <= 0 {
		return errors.New("-rounds and -reps must be at least 1, -parallel at least 2, -gap at least 1ms, -timeout above 0")
	}
	if o.rate < 0 || o.rate > 0 && o.during.Seconds()*float64(o.rate) < parts {
		return fmt.Errorf("-rate must not be below 0, and -for long enough for %d commands", parts)
	}
	for _, op := range o.ops {
		if !slices.Contains(allOps(), op) {
			return fmt.Errorf("-ops: unknown operation %q (have %s)", op, strings.Join(allOps(), ", "))
		}
	}
	for _, name := range o.runtimes {
		if _, ok := o.paths[name]; !ok {
			return fmt.Errorf("-runtimes: unknown runtime %q", name)
		}
		p, err := frame.FullPath(o.paths[name])
		if err != nil {
			return fmt.Errorf("runtime %s: %w", name, err)
		}
		o.paths[name] = p
	}
	var err error
	if o.busybox, err = frame.FullPath(o.busybox); err != nil {
		return fmt.Errorf("-busybox: %w (Debian package busybox-static)", err)
	}
	return nil
}

// envOr returns the variable's value, or def when it is unset or empty.
func envOr(name, def string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return def
}
