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
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ownMounts as the first argument says that the mount namespace is our own.
const ownMounts = "bench-shell-own-mounts"

// options is the command line.
type options struct {
	paths    map[string]string // name -> executable; without those that are missing
	missing  []string
	out, dir string        // folder of the report; parent of the scratch folder
	rounds   int           // recorded; one more warms up
	rate     time.Duration // for each of the rates
	check    bool
}

func main() {
	err := start()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench-shell:", err)
		os.Exit(1)
	}
}

// start moves this process to a mount namespace of its own, by executing it again: the
// other threads stay in the old one.
func start() error {
	if len(os.Args) > 1 && os.Args[1] == ownMounts {
		return benchMain(os.Args[2:])
	}
	if _, err := parseFlags(os.Args[1:]); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("must be root: sandboxes and mounts are made")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	err := unix.Unmount("/sys/fs/cgroup/unified", 0)
	if err != nil && err != unix.EINVAL && err != unix.ENOENT { // v1 or v2 alone
		return os.NewSyscallError("umount", err)
	}
	args := append([]string{os.Args[0], ownMounts}, os.Args[1:]...)
	return os.NewSyscallError("execve", syscall.Exec("/proc/self/exe", args, os.Environ()))
}

func benchMain(args []string) error {
	o, err := parseFlags(args)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	rep := newReport()
	for _, m := range o.missing {
		rep.note(m)
	}
	if err := measure(ctx, o, rep); err != nil {
		return err
	}
	if err := rep.write(os.Stdout, o.out); err != nil {
		return err
	}
	if missed, unmeasured := rep.verdict(); o.check && len(missed)+len(unmeasured) > 0 {
		return errors.New("targets missed or not measured")
	}
	return nil
}

func parseFlags(args []string) (*options, error) {
	fs := flag.NewFlagSet("shell", flag.ContinueOnError)
	o := &options{paths: map[string]string{}}
	flags := map[string]*string{}
	for _, f := range [][2]string{{"adl", "build/adl-runtime"}, {"bash", "bash"}, {"crun", "crun"}, {"runc", "runc"}, {"podman", "podman"}} {
		flags[f[0]] = fs.String(f[0], f[1], f[0]+"'s `path`; empty leaves it out")
	}
	quick := fs.Bool("quick", false, "few rounds: shows that all works, the numbers say little")
	fs.StringVar(&o.out, "out", "build/bench", "`folder` of the report")
	fs.StringVar(&o.dir, "dir", os.TempDir(), "`folder` for scratch files")
	fs.IntVar(&o.rounds, "rounds", 100, "recorded rounds")
	fs.DurationVar(&o.rate, "for", 3*time.Second, "how long commands are run without a pause, for each rate")
	fs.BoolVar(&o.check, "check", false, "fail when a target is missed")
	if err := fs.Parse(args); err != nil {
		return nil, err
	}
	if *quick {
		o.rounds, o.rate = min(o.rounds, 5), 200*time.Millisecond
	}
	if o.rounds < 1 || o.rate <= 0 {
		return nil, errors.New("-rounds must be at least 1, -for above 0")
	}
	for name, path := range flags {
		if err := o.find(name, *path); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// find looks for a program. Without ours and the floor there is nothing to say.
func (o *options) find(name, path string) error {
	found, err := exec.LookPath(path)
	if err == nil {
		o.paths[name], err = filepath.Abs(found)
		return err
	}
	if name == "adl" || name == "bash" {
		return fmt.Errorf("-%s: %w", name, err)
	}
	o.missing = append(o.missing, name+" is left out: "+err.Error())
	return nil
}
