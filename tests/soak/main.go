package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// options is the command line.
type options struct {
	adl, busybox    string // executables
	dir             string // parent of the scratch folder
	boxes           int
	commands        int
	resets          int
	seed            uint64
	progress, limit time.Duration
}

func main() {
	err := soakMain(os.Args[1:])
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

func soakMain(args []string) error {
	o := &options{}
	fs := flag.NewFlagSet("soak", flag.ContinueOnError)
	fs.StringVar(&o.adl, "adl", "build/adl-runtime", "the runtime's `path`")
	fs.StringVar(&o.busybox, "busybox", "busybox", "static busybox for the rootfs")
	fs.StringVar(&o.dir, "dir", os.TempDir(), "`folder` for scratch files")
	fs.IntVar(&o.boxes, "boxes", 16, "sandboxes")
	fs.IntVar(&o.commands, "commands", 100_000, "commands, of all sandboxes")
	fs.IntVar(&o.resets, "resets", 2000, "resets, of all sandboxes")
	fs.Uint64Var(&o.seed, "seed", 1, "of the random numbers")
	fs.DurationVar(&o.progress, "progress", 10*time.Second, "how often to say how far it is")
	fs.DurationVar(&o.limit, "limit", 2*time.Hour, "when to give up")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("must be root: sandboxes and mounts are made")
	}
	for _, path := range []*string{&o.adl, &o.busybox} {
		found, err := exec.LookPath(*path)
		if err != nil {
			return err
		}
		if *path, err = filepath.Abs(found); err != nil {
			return err
		}
	}
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return err
	}
	o.dir = dir
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	rep, err := run(ctx, o)
	rep.write(os.Stdout)
	return err
}
