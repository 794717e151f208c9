package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A result is one program run against one runtime.
type result struct {
	program, target string
	outcome
	tap     tapResult
	stderr  string
	failure string // why it did not pass; "" if it passed
	left    []string
	tries   int
}

func (r *result) passed() bool { return r.failure == "" }

// A job is a program to run against a runtime.
type job struct {
	program string
	target  target
	result  *result
}

// A runner runs jobs. Only mu and the results change after it was made.
type runner struct {
	ctx  context.Context
	opts options
	dir  string // holds everything the jobs write; removed at the end

	// cgroups is held by the programs that all use the same cgroup paths.
	cgroups sync.Mutex
}

// runAll runs each program against each runtime, and some of them again.
// When ctx ends, it waits for the programs that are running, which supervise
// ends, cleans up and returns an error.
func runAll(ctx context.Context, opts options, targets []target, programs []string, reasons map[string]reason) ([]*result, error) {
	dir, err := os.MkdirTemp("", "adl-conformance-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	// The users of a user namespace have to get at the bundles.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	r := &runner{ctx: ctx, opts: opts, dir: dir}
	jobs := makeJobs(targets, programs)
	if err := r.runJobs(jobs, opts.workers); err != nil {
		return nil, err
	}
	if err := r.retry(jobs, reasons); err != nil {
		return nil, err
	}
	var results []*result
	for _, j := range jobs {
		results = append(results, j.result)
	}
	return results, nil
}

// makeJobs puts the programs that sleep for long first, and those that share a
// cgroup path, which exclude each other, right after.
func makeJobs(targets []target, programs []string) []*job {
	var slow, shared, rest []*job
	for _, program := range programs {
		for _, t := range targets {
			j := &job{program: program, target: t}
			switch {
			case program == "delete" || program == "kill" || program == "pidfile":
				slow = append(slow, j)
			case sharesCgroup(program):
				shared = append(shared, j)
			default:
				rest = append(rest, j)
			}
		}
	}
	return append(append(slow, interleave(shared, rest)...), rest[min(len(shared), len(rest)):]...)
}

// interleave alternates between a and b until a is used up.
func interleave(a, b []*job) []*job {
	var out []*job
	for i, j := range a {
		out = append(out, j)
		if i < len(b) {
			out = append(out, b[i])
		}
	}
	return out
}

// sharesCgroup says whether the program uses the paths /cgrouptest or
// testdir/cgrouptest, the same in every run.
func sharesCgroup(program string) bool {
	return strings.HasPrefix(program, "linux_cgroups_") ||
		program == "delete_resources" || program == "delete_only_create_resources"
}

func (r *runner) runJobs(jobs []*job, workers int) error {
	queue := make(chan *job)
	failed := make(chan error, len(jobs))
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for j := range queue {
				if err := r.runJob(j); err != nil {
					failed <- fmt.Errorf("%s with %s: %w", j.program, j.target.name, err)
				}
			}
		})
	}
	for _, j := range jobs {
		queue <- j
	}
	close(queue)
	wg.Wait()
	close(failed)
	return <-failed
}

// How often a program runs that only some runtimes passed, or that
// no reason explains. Some of them race with the container's process: poststart
// compares the order in which the process and a hook write to a file, killsig
// sends a signal to a shell that may not have set its trap yet.
const (
	maxTries     = 5 // of ours
	maxPeerTries = 3
)

// retry runs the programs that failed with one runtime and passed with another
// again, one at a time, and those that ours fails without a reason.
func (r *runner) retry(jobs []*job, reasons map[string]reason) error {
	passed := make(map[string]bool)
	for _, j := range jobs {
		passed[j.program] = passed[j.program] || j.result.passed()
	}
	for _, j := range jobs {
		why, explained := reasons[j.program]
		if explained && (!passed[j.program] || why.when == whenMaybe) {
			continue
		}
		most := maxPeerTries
		if j.target.name == ours {
			most = maxTries
		}
		for tries := 2; !j.result.passed() && tries <= most; tries++ {
			if err := r.runJob(j); err != nil {
				return err
			}
			j.result.tries = tries
		}
	}
	return nil
}

// runJob runs j and sets its result. An error means that the run itself could
// not be made, not that the program failed.
func (r *runner) runJob(j *job) error {
	if err := context.Cause(r.ctx); err != nil {
		return err
	}
	if sharesCgroup(j.program) {
		r.cgroups.Lock()
		defer r.cgroups.Unlock()
	}
	p, err := r.prepare(j)
	if err != nil {
		return err
	}
	out, err := p.run(r.ctx)
	left := append(out.Left, p.clean()...)
	if err != nil {
		return err
	}
	j.result = &result{program: j.program, target: j.target.name, outcome: out, left: left, tries: 1}
	if err := p.logLeftovers(j.result.left); err != nil {
		return err
	}
	if err := p.readOutput(j.result); err != nil {
		return err
	}
	j.result.failure = verdict(j.result)
	return nil
}

// A place is the directory of one job and the files in it.
type place struct {
	opts   options
	job    *job
	dir    string // holds all that follows but logs
	work   string // the program's working directory
	tmp    string // its TMPDIR: the bundles
	state  string // the runtime's --root, unless the target has one of its own
	list   string // containers that were created
	report string
	logs   string // stdout and stderr; stays
}

func (r *runner) prepare(j *job) (*place, error) {
	dir := filepath.Join(r.dir, j.target.name, j.program)
	p := &place{
		opts: r.opts, job: j, dir: dir,
		work: filepath.Join(dir, "work"), tmp: filepath.Join(dir, "tmp"), state: filepath.Join(dir, "state"),
		list: filepath.Join(dir, "containers"), report: filepath.Join(dir, "report"),
		logs: filepath.Join(r.opts.build, "logs", j.target.name, j.program),
	}
	for _, d := range []string{p.work, p.tmp, p.state, p.logs} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	archive := rootfsPath(r.opts)
	if err := os.Symlink(archive, filepath.Join(p.work, filepath.Base(archive))); err != nil {
		return nil, err
	}
	// A copy: the suite's helper would copy a symlink as a symlink.
	tester, err := os.ReadFile(filepath.Join(r.opts.build, "tools", "runtimetest"))
	if err != nil {
		return nil, err
	}
	return p, os.WriteFile(filepath.Join(p.work, "runtimetest"), tester, 0o755)
}

// run starts supervise. When ctx ends it is told to end the program.
func (p *place) run(ctx context.Context) (outcome, error) {
	var out outcome
	self, err := os.Executable()
	if err != nil {
		return out, err
	}
	stdout, err := os.Create(filepath.Join(p.logs, "stdout"))
	if err != nil {
		return out, err
	}
	defer stdout.Close()
	stderr, err := os.Create(filepath.Join(p.logs, "stderr"))
	if err != nil {
		return out, err
	}
	defer stderr.Close()
	t, err := json.Marshal(p.task())
	if err != nil {
		return out, err
	}
	cmd := exec.CommandContext(ctx, self, superviseArg, string(t))
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGINT) }
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = p.work, stdout, stderr, p.environ()
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	if err := cmd.Run(); err != nil {
		return out, fmt.Errorf("%w (see %s)", err, stderr.Name())
	}
	data, err := os.ReadFile(p.report)
	if err != nil {
		return out, err
	}
	return out, json.Unmarshal(data, &out)
}

func (p *place) task() task {
	t := task{
		Program: filepath.Join(p.opts.build, "programs", p.job.program),
		Limit:   p.opts.timeout,
		Report:  p.report,
		Dir:     p.dir,
	}
	if p.job.target.hideUnified {
		t.Hide = unifiedMount
	}
	return t
}

// environ configures the program and the shim.
func (p *place) environ() []string {
	env := append(os.Environ(),
		"TMPDIR="+p.tmp,
		"RUNTIME="+filepath.Join(p.opts.build, "tools", "shim"),
		"ADL_SHIM_RUNTIME="+p.job.target.path,
		"ADL_SHIM_CONTAINERS="+p.list,
	)
	if p.job.target.state == "" {
		env = append(env, "ADL_SHIM_STATE="+p.state)
	}
	return env
}

func (p *place) logLeftovers(left []string) error {
	text := strings.Join(append(left, ""), "\n")
	return os.WriteFile(filepath.Join(p.logs, "left"), []byte(text), 0o644)
}

func (p *place) readOutput(r *result) error {
	stdout, err := os.Open(filepath.Join(p.logs, "stdout"))
	if err != nil {
		return err
	}
	defer stdout.Close()
	tap, tapErr := parseTAP(stdout)
	stderr, err := os.ReadFile(filepath.Join(p.logs, "stderr"))
	r.tap, r.stderr = tap, string(stderr)
	return errors.Join(tapErr, err)
}

// verdict says why r did not pass, or "".
func verdict(r *result) string {
	switch {
	case r.TimedOut:
		return fmt.Sprintf("no end after %s", r.Elapsed.Round(time.Second))
	case r.tap.bailed:
		return "bailed out"
	case r.tap.failed > 0:
		return r.tap.failures[0]
	case len(r.tap.errors) > 0:
		return firstLine(r.tap.errors[0])
	case r.Exit != 0:
		return fmt.Sprintf("exit status %d: %s", r.Exit, errorLine(r.stderr))
	case r.tap.badPlan:
		return "the output ends early"
	case strings.Contains(r.stderr, "hook invoke fails"):
		// The hook programs only warn about a hook that never ran.
		return "a hook was not run"
	case r.tap.passed == 0 && !needsNoPoints(r):
		return "nothing was tested"
	}
	return ""
}

// needsNoPoints says whether r may pass without a single test point: the hook
// programs print a plan of none when all is well, and two programs print
// nothing when create fails as it should.
func needsNoPoints(r *result) bool {
	for _, prefix := range []string{"prestart", "poststart", "poststop"} {
		if strings.HasPrefix(r.program, prefix) {
			return r.tap.plans > 0
		}
	}
	return r.program == "process_rlimits_fail" || r.program == "process_capabilities_fail"
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// errorLine returns the first line of stderr that says what is wrong: the
// programs' own lines only say that something is.
func errorLine(stderr string) string {
	for line := range strings.Lines(stderr) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "failed to ") && !strings.HasPrefix(line, "exit status ") {
			return line
		}
	}
	return "no error text"
}
