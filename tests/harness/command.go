package harness

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Timeout bounds every runtime command. Only the command itself is killed then;
// the cleanup deletes what it leaves.
const Timeout = 20 * time.Second

// Result is a finished command.
type Result struct {
	Args   []string
	Stdout string
	Stderr string
	Code   int // exit status; 128+n for a signal
}

// Cmd is a runtime command that may still run. Its output goes to files, so that a
// container that holds them open does not keep Wait from returning.
type Cmd struct {
	*exec.Cmd
	t      testing.TB
	stdout string
	stderr string
}

// Option changes a runtime command before it starts.
type Option func(*exec.Cmd)

// Stdin gives the command this text on standard input; otherwise it is /dev/null.
func Stdin(text string) Option {
	return func(c *exec.Cmd) { c.Stdin = strings.NewReader(text) }
}

// Dir sets the command's working directory.
func Dir(dir string) Option {
	return func(c *exec.Cmd) { c.Dir = dir }
}

// Environ adds to the command's environment.
func Environ(env ...string) Option {
	return func(c *exec.Cmd) { c.Env = append(c.Env, env...) }
}

// ExtraFiles passes files as descriptors 3 and up.
func ExtraFiles(files ...*os.File) Option {
	return func(c *exec.Cmd) { c.ExtraFiles = files }
}

// Command starts the runtime with exactly these arguments.
func (b *Bundle) Command(args []string, opts ...Option) *Cmd {
	b.t.Helper()
	c := &Cmd{Cmd: exec.Command(os.Getenv(envRuntime), args...), t: b.t}
	c.Env = append(os.Environ(), "ADL_TEST_BUNDLE="+b.Dir)
	c.Cmd.Dir = b.Dir
	name := filepath.Join(b.Work, "cmd-"+Random())
	c.stdout, c.stderr = name+".out", name+".err"
	for _, o := range opts {
		o(c.Cmd)
	}
	var opened []*os.File
	if c.Cmd.Stdout == nil {
		f, err := os.Create(c.stdout)
		Must(b.t, err)
		c.Cmd.Stdout, opened = f, append(opened, f)
	}
	if c.Cmd.Stderr == nil {
		f, err := os.Create(c.stderr)
		Must(b.t, err)
		c.Cmd.Stderr, opened = f, append(opened, f)
	}
	err := c.Start()
	for _, f := range opened {
		f.Close()
	}
	Must(b.t, err)
	return c
}

// Stdout is what the command and its container have written so far.
func (c *Cmd) Stdout() string { return readSoFar(c.stdout) }

// Stderr is what the command and its container have written so far.
func (c *Cmd) Stderr() string { return readSoFar(c.stderr) }

func readSoFar(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}

// Finish waits for the command; after [Timeout] it kills that process and fails
// the test.
func (c *Cmd) Finish() Result {
	c.t.Helper()
	timer := time.AfterFunc(Timeout, func() { c.Process.Kill() })
	err := c.Wait()
	if !timer.Stop() {
		c.t.Errorf("%v: no end after %v, killed; stderr: %s", c.Args, Timeout, c.Stderr())
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.t.Fatalf("%v: %v", c.Args, err)
	}
	return Result{Args: c.Args, Stdout: c.Stdout(), Stderr: c.Stderr(), Code: exitCode(c.ProcessState.Sys().(syscall.WaitStatus))}
}

func exitCode(ws syscall.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}

// Do runs `runtime --root ROOT args...` to its end.
func (b *Bundle) Do(args ...string) Result {
	b.t.Helper()
	return b.DoWith(args)
}

// DoWith is Do with options.
func (b *Bundle) DoWith(args []string, opts ...Option) Result {
	b.t.Helper()
	return b.Command(append([]string{"--root", b.Root}, args...), opts...).Finish()
}

// OK fails the test unless the command exited with 0, and returns it.
func (r Result) OK(t testing.TB) Result {
	t.Helper()
	if r.Code != 0 {
		t.Fatalf("%s: exit status %d\nstdout: %s\nstderr: %s", strings.Join(r.Args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return r
}

// Fails fails the test unless the command exited with 1 and wrote the text to
// standard error, and returns it.
func (r Result) Fails(t testing.TB, text string) Result {
	t.Helper()
	if r.Code != 1 {
		t.Errorf("%s: exit status %d, want 1\nstdout: %s\nstderr: %s", strings.Join(r.Args, " "), r.Code, r.Stdout, r.Stderr)
	}
	if !strings.Contains(r.Stderr, text) {
		t.Errorf("%s: stderr %q does not contain %q", strings.Join(r.Args, " "), r.Stderr, text)
	}
	return r
}

// Refused fails the test unless the command failed and said why. Of this project's
// runtime it expects status 1 and one line that contains field, in the spec's own
// words; of runc it expects status 1 and its own text; of crun any message.
func (r Result) Refused(t testing.TB, field, runc string) Result {
	t.Helper()
	switch Reference() {
	case "runc":
		return r.Fails(t, runc)
	case "crun":
		if r.Code == 0 || r.Stderr == "" {
			t.Errorf("exit status %d, stderr %q", r.Code, r.Stderr)
		}
		return r
	}
	return r.Fails(t, field).OneLine(t)
}

// OneLine fails the test unless standard error is exactly one line.
func (r Result) OneLine(t testing.TB) Result {
	t.Helper()
	if strings.Count(r.Stderr, "\n") != 1 || !strings.HasSuffix(r.Stderr, "\n") {
		t.Errorf("stderr is not one line: %q", r.Stderr)
	}
	return r
}

// Run writes config.json and runs the bundle in the foreground, under a new id.
func (b *Bundle) Run(opts ...Option) Result {
	b.t.Helper()
	return b.StartRun(opts...).Finish()
}

// Out is Run for a container that must exit with 0; it returns its standard output
// without the last newline.
func (b *Bundle) Out(opts ...Option) string {
	b.t.Helper()
	return strings.TrimSuffix(b.Run(opts...).OK(b.t).Stdout, "\n")
}

// StartRun is Run without waiting. The id is the last of Cmd.Args.
func (b *Bundle) StartRun(opts ...Option) *Cmd {
	b.t.Helper()
	b.WriteSpec()
	return b.Command([]string{"--root", b.Root, "run", "--bundle", b.Dir, b.NewID()}, opts...)
}

// Container is a container made by `create`.
type Container struct {
	*Cmd // the create command
	ID   string
	Pid  int // init, a child of the test process; reaped by Wait
	b    *Bundle
}

// TryCreate writes config.json and runs `create` with a pid file; flags come
// before the id.
func (b *Bundle) TryCreate(flags []string, opts ...Option) (*Container, Result) {
	b.t.Helper()
	b.WriteSpec()
	c := &Container{ID: b.NewID(), b: b}
	pidFile := filepath.Join(b.Work, c.ID+".pid")
	args := append([]string{"--root", b.Root, "create", "--bundle", b.Dir, "--pid-file", pidFile}, flags...)
	c.Cmd = b.Command(append(args, c.ID), opts...)
	r := c.Finish()
	if text, err := os.ReadFile(pidFile); err == nil {
		c.Pid, _ = strconv.Atoi(string(text))
		b.pids = append(b.pids, c.Pid)
	}
	return c, r
}

// Create is TryCreate for a container that must be made.
func (b *Bundle) Create(opts ...Option) *Container {
	b.t.Helper()
	c, r := b.TryCreate(nil, opts...)
	r.OK(b.t)
	if c.Pid <= 0 {
		b.t.Fatalf("create %s: no pid in the pid file", c.ID)
	}
	return c
}

// Launch is Create and Start.
func (b *Bundle) Launch(opts ...Option) *Container {
	b.t.Helper()
	c := b.Create(opts...)
	c.Start()
	return c
}

// Start runs `start`, which must succeed.
func (c *Container) Start() {
	c.t.Helper()
	c.b.Do("start", c.ID).OK(c.t)
}

// Kill runs `kill ID SIGNAL`, which must succeed.
func (c *Container) Kill(signal string) {
	c.t.Helper()
	c.b.Do("kill", c.ID, signal).OK(c.t)
}

// Delete runs `delete`, which must succeed.
func (c *Container) Delete(flags ...string) {
	c.t.Helper()
	c.b.Do(append(append([]string{"delete"}, flags...), c.ID)...).OK(c.t)
}

// WaitExit reaps init and returns its exit status; it fails the test after [Timeout].
func (c *Container) WaitExit() int {
	c.t.Helper()
	code, ok := reap(c.Pid, Timeout)
	if !ok {
		c.t.Fatalf("init %d of %s is no child of ours, or did not end in %v", c.Pid, c.ID, Timeout)
	}
	c.b.forget(c.Pid)
	return code
}

// WaitOutput waits until the container has written text to standard output.
func (c *Cmd) WaitOutput(text string) {
	c.t.Helper()
	Eventually(c.t, "no "+strconv.Quote(text)+" in the output", func() bool {
		return strings.Contains(c.Stdout(), text)
	})
}

func (b *Bundle) forget(pid int) {
	var keep []int
	for _, p := range b.pids {
		if p != pid {
			keep = append(keep, p)
		}
	}
	b.pids = keep
}

// reap waits for one child; ok is false when there is no such child or it lives on.
func reap(pid int, limit time.Duration) (code int, ok bool) {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		var ws unix.WaitStatus
		got, err := unix.Wait4(pid, &ws, unix.WNOHANG, nil)
		switch {
		case got == pid:
			return exitCode(syscall.WaitStatus(ws)), true
		case err != nil && err != unix.EINTR:
			return 0, false
		}
	}
	return 0, false
}

// Lines splits text, without the empty last line.
func Lines(text string) []string {
	text = strings.TrimSuffix(text, "\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

// Adopt returns a container that a command other than `create` made, with the pid
// from its pid file; its init is a child of the test process.
func (b *Bundle) Adopt(id, pidFile string) *Container {
	b.t.Helper()
	pid, err := strconv.Atoi(ReadFile(b.t, pidFile))
	Must(b.t, err)
	b.pids = append(b.pids, pid)
	return &Container{Cmd: &Cmd{t: b.t}, ID: id, Pid: pid, b: b}
}

// AdoptProcesses has the cleanup reap every process that is in the bundle's cgroup
// now: without a pid namespace they become children of the test process once init
// is gone. It returns their number.
func (b *Bundle) AdoptProcesses() int {
	b.t.Helper()
	found := map[int]bool{}
	for _, dir := range cgroupsNamed(b.Cgroup[1:]) {
		for _, line := range Lines(readSoFar(filepath.Join(dir, "cgroup.procs"))) {
			pid, err := strconv.Atoi(line)
			Must(b.t, err)
			found[pid] = true
		}
	}
	for pid := range found {
		b.forget(pid)
		b.pids = append(b.pids, pid)
	}
	return len(found)
}
