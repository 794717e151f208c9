package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// superviseArg as the first argument turns this binary into the parent of a
// single validation program.
const superviseArg = "supervise"

func main() {
	if len(os.Args) > 1 && os.Args[1] == superviseArg {
		os.Exit(supervise(os.Args[2:]))
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

// options are the command line's.
type options struct {
	only    *regexp.Regexp // programs to run; nil means all
	workers int
	timeout time.Duration // for one program
	repo    string        // the main module's directory
	build   string        // <repo>/build/conformance
}

func parseOptions() (options, error) {
	var o options
	only := flag.String("run", "", "run only the programs whose name matches this `regexp`")
	flag.IntVar(&o.workers, "j", 4, "programs to run at once")
	flag.DurationVar(&o.timeout, "timeout", 30*time.Second, "time limit of one program")
	flag.Parse()
	if *only != "" {
		re, err := regexp.Compile(*only)
		if err != nil {
			return o, err
		}
		o.only = re
	}
	if os.Geteuid() != 0 {
		return o, errors.New("must run as root")
	}
	repo, err := findRepo()
	if err != nil {
		return o, err
	}
	o.repo = repo
	o.build = filepath.Join(repo, "build", "conformance")
	return o, nil
}

// findRepo returns the nearest directory upwards that holds the main module.
func findRepo() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(mod), "module adl.run/adl-runtime\n") {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("not inside the adl-runtime repository")
		}
		dir = parent
	}
}

func run() error {
	opts, err := parseOptions()
	if err != nil {
		return err
	}
	runtimes, err := findRuntimes(opts.repo)
	if err != nil {
		return err
	}
	reasons, err := readReasons(filepath.Join(opts.repo, "tests", "conformance", "reasons.txt"))
	if err != nil {
		return err
	}
	programs, err := buildTools(opts)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	results, err := runAll(ctx, opts, runtimes, programs, reasons)
	if err != nil {
		return err
	}
	report := judge(results, reasons, opts.only != nil)
	report.print(os.Stdout, filepath.Join(opts.build, "logs"))
	if len(report.violations) > 0 {
		return fmt.Errorf("%d violations", len(report.violations))
	}
	return nil
}
