package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"adl.run/adl-runtime/tests/bench/frame"
)

// benchArg as the first argument makes the test binary the bench.
const benchArg = "bench-under-test"

// TestMain lets the test binary be the worker that startWorker starts, or the
// bench that a test kills.
func TestMain(m *testing.M) {
	var err error
	switch {
	case len(os.Args) > 1 && os.Args[1] == workerArg:
		err = workerMain()
	case len(os.Args) > 1 && os.Args[1] == benchArg:
		err = benchMain(os.Args[2:])
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// fakeRuntime is a shell script that behaves like a runtime as far as the bench
// looks, without any container. SABOTAGE is replaced by a test.
const fakeRuntime = `#!/bin/sh
if [ "$1" = --version ]; then echo fake version 1; exit; fi
if [ "$1" = spec ]; then echo '{"process":{},"root":{},"linux":{}}' >config.json; exit; fi
root=$2 verb=$3
for id; do :; done
state=$root/$id
SABOTAGE
case $verb in
run) case $5 in */probe) exit 7;; esac ;;
create) mkdir "$state"; sleep 1000 & echo $! | tee "$state/pid" >"$7" ;;
start) ;;
exec | shell) ;;
delete) [ "$4" != --force ] || kill -9 $(cat "$state/pid"); rm -r "$state" ;;
esac
`

// fakeArgs installs the fake runtime and returns the flags of a short bench
// that uses it in all roles.
func fakeArgs(t *testing.T, sabotage string) (args []string, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the bench makes mount namespaces and cgroups")
	}
	if _, err := exec.LookPath("busybox"); err != nil {
		t.Skip("needs a static busybox in PATH (Debian package busybox-static)")
	}
	path := filepath.Join(t.TempDir(), "fake")
	if err := os.WriteFile(path, []byte(strings.Replace(fakeRuntime, "SABOTAGE", sabotage, 1)), 0o755); err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	return []string{
		"-adl", path, "-crun", path, "-runc", path, "-dir", dir, "-out", filepath.Join(t.TempDir(), "out"),
		"-rounds", "1", "-reps", "1", "-parallel", "2", "-gap", "1ms", "-timeout", "1s",
	}, dir
}

// nothingLeft checks what a bench of process pid must not leave. Orphans of a
// killed bench need a moment to clean up after themselves.
func nothingLeft(t *testing.T, dir string, pid int) {
	t.Helper()
	if err := frame.Childless(10 * time.Second); err != nil {
		t.Error(err)
		_ = frame.KillDescendants(5 * time.Second)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("scratch folder: %v, %v", left, err)
	}
	name := fmt.Sprintf("adl-bench-%d", pid)
	if left, err := frame.CgroupsNamed(name); err != nil || len(left) > 0 {
		t.Errorf("cgroups: %v, %v", left, err)
		_ = frame.RemoveCgroup(name, time.Second)
	}
}

func TestMeasureFake(t *testing.T) {
	args, dir := fakeArgs(t, "")
	opts, err := parseFlags(args)
	if err != nil {
		t.Fatal(err)
	}
	r := newReport(opts)
	if err := measure(context.Background(), opts, r.samples); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, dir, os.Getpid())
	// The names of the targets at N=2: each has samples.
	if _, unmeasured := checkTargets(r.samples, 2, 1); len(unmeasured) > 0 {
		t.Errorf("unmeasured: %q", unmeasured)
	}
	for _, k := range r.samples.Keys() {
		want := 1
		switch {
		case k.Metric == latency:
			want = k.N
		case k.Metric == pss || k.Metric == rss:
			want = 2 // one for each gap
		}
		if k.Op == opExec || k.Op == opExecUser || k.Op == opShell {
			want *= execs
		}
		if got, _ := r.samples.Summary(k); got.Samples != want {
			t.Errorf("%v: %d samples, want %d", k, got.Samples, want)
		}
	}
}

// TestRateFake: a runtime that gets slower with every exec.
func TestRateFake(t *testing.T) {
	args, dir := fakeArgs(t, `[ $verb != exec ] || { echo >>"$root/n"; sleep 0.0$(wc -l <"$root/n"); }`)
	args = append(args, "-runtimes", "adl", "-rate", "50", "-for", "200ms")
	for check, want := range map[string]error{"-check": errMissed, "-check=false": nil} {
		opts, err := parseFlags(append(args, check))
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		if err := rateMain(context.Background(), opts, &text); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", check, err, want)
		}
		if lines := strings.Count(text.String(), "\n"); lines != 3+1+parts+1 {
			t.Errorf("%d lines:\n%s", lines, text.String())
		}
		nothingLeft(t, dir, os.Getpid())
	}
}

// A runtime that does not do what it says stops the bench, is named, and does
// not keep the bench from cleaning up.
func TestBadRuntimeIsCaught(t *testing.T) {
	for name, test := range map[string]struct{ sabotage, want string }{
		"fails to start":      {`[ $verb != start ] || { echo no luck >&2; exit 3; }`, "exit status 3 instead of 0; run again for its messages (exit status 3): no luck"},
		"swallows the status": {`[ $verb != run ] || exit 0`, "exit status 0 instead of 7"},
		"hangs":               {`[ $verb != run ] || exec sleep 1000`, "killed after 1s"},
		"leaves a process":    {`[ $verb != run ] || { sleep 1000 & }`, "processes left: "},
		"leaves its state":    {`[ $verb != run ] || mkdir "$state"`, "state left: "},
		"starts nothing":      {`[ $verb != create ] || { mkdir "$state"; (exec tail -f /dev/null) & echo $! >"$7"; exit; }`, `is "tail", not sleep`},
		"loses the init":      {`[ $verb != create ] || { mkdir "$state"; echo 4194305 >"$7"; exit; }`, "init 4194305: no such process"},
		"leaves a cgroup": {
			`[ $verb != run ] || for d in /sys/fs/cgroup/*/adl-bench-$PPIDS /sys/fs/cgroup/adl-bench-$PPIDS; do [ ! -d $d ] || mkdir -p $d/adl-0; done`,
			"cgroup left: ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			sabotage := strings.ReplaceAll(test.sabotage, "$PPIDS", fmt.Sprint(os.Getpid()))
			args, dir := fakeArgs(t, sabotage)
			opts, err := parseFlags(args)
			if err != nil {
				t.Fatal(err)
			}
			err = measure(context.Background(), opts, &samples{})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v, want %q in it", err, test.want)
			}
			nothingLeft(t, dir, os.Getpid())
		})
	}
}

// A bench that is interrupted or killed leaves nothing either: in the second
// case its workers see the pipe close and remove everything.
func TestEndedBenchLeavesNothing(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			args, dir := fakeArgs(t, "")
			if err := frame.AdoptOrphans(); err != nil { // the killed bench's workers
				t.Fatal(err)
			}
			cmd := exec.Command("/proc/self/exe", append(append([]string{benchArg}, args...), "-rounds", "1000")...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			awaitContainer(t, dir)
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err == nil || errors.Is(err, exec.ErrWaitDelay) {
				t.Errorf("the ended bench's status: %v, want a failure", err)
			}
			nothingLeft(t, dir, cmd.Process.Pid)
		})
	}
}

// awaitContainer returns when the bench has a container.
func awaitContainer(t *testing.T, dir string) {
	t.Helper()
	for range 10000 {
		if found, _ := filepath.Glob(filepath.Join(dir, "adl-bench-*/root-*/*/pid")); len(found) > 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Error("no container in 10 s")
}
