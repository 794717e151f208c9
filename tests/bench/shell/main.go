package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"adl.run/adl-runtime/tests/bench/frame"
)

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
	o, err := parseFlags(os.Args[1:])
	if err == nil {
		err = frame.OwnMounts(frame.HideUnified)
	}
	if err == nil {
		err = benchMain(o)
	}
	frame.Exit("bench-shell", err)
}

func benchMain(o *options) error {
	ctx, stop := frame.Context()
	defer stop()
	rep := newReport()
	rep.Notes = append(rep.Notes, o.missing...)
	if err := measure(ctx, o, rep); err != nil {
		return err
	}
	if err := rep.write(os.Stdout, o.out); err != nil || !o.check {
		return err
	}
	return frame.Judge(rep.targets()).Err()
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
	found, err := frame.FullPath(path)
	if err == nil {
		o.paths[name] = found
		return nil
	}
	if name == "adl" || name == "bash" {
		return fmt.Errorf("-%s: %w", name, err)
	}
	o.missing = append(o.missing, name+" is left out: "+err.Error())
	return nil
}
