package managers

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"adl.run/adl-runtime/tests/harness"
)

// client is the command line of a manager, in one scenario. podman's and Docker's
// are the same for most of what the scenarios do.
type client struct {
	*testing.T
	program string
	global  []string // arguments before the verb
	environ []string
	create  []string // flags of every verb that makes a container
}

// result is a finished command.
type result struct {
	t        *testing.T
	line     string
	out, err string
	code     int
}

// do runs a command to its end, which it must reach in a minute.
func (c client) do(args ...string) result {
	c.Helper()
	return c.input("", args...)
}

// input is do with text on standard input.
func (c client) input(stdin string, args ...string) result {
	c.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit(time.Minute))
	defer cancel()
	cmd := c.command(ctx, args...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	// A monitor that keeps the pipes must not keep the test.
	cmd.WaitDelay = limit(5 * time.Second)
	err := cmd.Run()
	r := result{t: c.T, line: strings.Join(args, " "), out: out.String(), err: errOut.String()}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		c.Fatalf("%s: no end in time\n%s%s", r.line, r.out, r.err)
	case errors.As(err, &exit):
		r.code = exitCode(exit)
	case err != nil:
		c.Fatalf("%s: %v\n%s%s", r.line, err, r.out, r.err)
	}
	return r
}

func exitCode(e *exec.ExitError) int {
	if ws := e.Sys().(syscall.WaitStatus); ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return e.ExitCode()
}

func (c client) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.program, append(append([]string{}, c.global...), args...)...)
	cmd.Env = append(os.Environ(), c.environ...)
	cmd.Dir = env.dir // conmon leaves a file "oom" where it is started
	return cmd
}

// ok is do for a command that must succeed; it returns standard output without
// blanks around it.
func (c client) ok(args ...string) string {
	c.Helper()
	return c.do(args...).ok()
}

// line is ok for a command without blanks in its arguments.
func (c client) line(line string) string {
	c.Helper()
	return c.ok(words(line)...)
}

// run runs a script in a new container and returns its output.
func (c client) run(flags, script string) string {
	c.Helper()
	return c.tryRun(flags, "sh", "-c", script).ok()
}

// tryRun runs a command in a new container.
func (c client) tryRun(flags string, command ...string) result {
	c.Helper()
	return c.do(c.args("run --rm "+flags, command...)...)
}

// start runs a script in the background under a name.
func (c client) start(name, flags, script string) {
	c.Helper()
	c.ok(c.args("run -d --name "+name+" "+flags, "sh", "-c", script)...)
}

// args are a verb with its flags, the flags of every container, the image and the
// command.
func (c client) args(verb string, command ...string) []string {
	all := append(words(verb), c.create...)
	return append(append(all, image), command...)
}

// exec runs a script in a running container and returns its output.
func (c client) exec(flags, name, script string) string {
	c.Helper()
	return c.ok(append(words("exec "+flags), name, "sh", "-c", script)...)
}

// forever is a script that ends at once when it is asked to.
const forever = "trap 'exit 7' TERM; while :; do sleep 0.1; done"

func (r result) ok() string {
	r.t.Helper()
	if r.code != 0 {
		r.t.Fatalf("%s: exit status %d\n%s%s", r.line, r.code, r.out, r.err)
	}
	return strings.TrimSpace(r.out)
}

// fails wants that exit status, and text, a regular expression, in what was printed.
func (r result) fails(code int, text string) {
	r.t.Helper()
	if r.code != code || !regexp.MustCompile(text).MatchString(r.err+r.out) {
		r.t.Errorf("%s: exit status %d, want %d; stderr %q, want %q\n%s", r.line, r.code, code, r.err, text, r.out)
	}
}

// is compares text without the blanks around it to a regular expression for all of it.
func is(t *testing.T, what, got, want string) {
	t.Helper()
	got = strings.TrimSpace(strings.ReplaceAll(got, "\r\n", "\n"))
	if !regexp.MustCompile(`(?s)\A(?:` + want + `)\z`).MatchString(got) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// eventually polls cond for at most 20 seconds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit(20 * time.Second)); !cond(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("in 20 s not: ", what)
		}
	}
}

// sized is a script that waits until its terminal has the size of [client.terminal]:
// managers pass it on after the start.
const sized = "until stty size 2>/dev/null | grep '30 10''0'; do sleep 0.1; done"

// terminal runs a command on a pseudo-terminal of 30 rows and 100 columns.
type terminal struct {
	*harness.Console
	cmd *exec.Cmd
	t   *testing.T
}

func (c client) terminal(args ...string) *terminal {
	c.Helper()
	master, slave := harness.OpenPTY(c)
	master.SetSize(30, 100)
	cmd := c.command(context.Background(), args...)
	cmd.Env = append(cmd.Env, "TERM=xterm")
	harness.OnTerminal(slave)(cmd)
	err := cmd.Start()
	slave.Close()
	harness.Must(c, err)
	return &terminal{Console: master, cmd: cmd, t: c.T}
}

// see waits until text has appeared.
func (x *terminal) see(text string) {
	x.t.Helper()
	eventually(x.t, text+" on the terminal", func() bool { return strings.Contains(x.Text(), text) })
}

// exit waits for the command's end and returns its status.
func (x *terminal) exit() int {
	x.t.Helper()
	timer := time.AfterFunc(limit(30*time.Second), func() { x.cmd.Process.Kill() })
	err := x.cmd.Wait()
	if !timer.Stop() {
		x.t.Fatalf("no end in 30 s; the terminal shows %q", x.Text())
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exitCode(exit)
	}
	harness.Must(x.t, err)
	return 0
}
