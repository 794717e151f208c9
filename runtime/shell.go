package runtime

import (
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/holder"
	"adl.run/adl-runtime/libsandbox/shell"
)

func (a *app) shell() *cli.Command {
	return &cli.Command{
		Name:  "shell",
		Usage: "run commands in a shell that is kept between them",
		ArgsUsage: `<container-id> [--] [<command> [args...]]
   ` + name + ` shell list <container-id>
   ` + name + ` shell stop <container-id> [<session>]
   ` + name + ` shell jobs <container-id>
   ` + name + ` shell output <container-id> <job>
   ` + name + ` shell wait <container-id> <job>
   ` + name + ` shell signal <container-id> <job> [<signal>]

Where "<command>" is shell text; several arguments are joined by spaces. A container that
is called as one of the words comes after "--".`,
		Description: `The shell command runs a command in a session of a running container: a shell that
the first command starts, and that keeps its working directory, variables, functions
and options for the next. It exits with the status of the command, with 124 where that
took too long, and with 125 where the runtime has failed. The command's stdin is
empty without --stdin. Interrupting the verb kills what the command has started; the
session goes on.

Without a command, and with a terminal for stdin, it attaches to an interactive shell,
which stays when the terminal goes away. With --json it is a co-process for other
programs: requests on stdin, events on stdout, one to a line.

Sessions of the command line are held by a process that ends with the container, or
with the last session that "shell stop" ends.`,
		Flags: []cli.Flag{
			flagString("session", "the session's name (default: \"default\"; \"tty\" with --tty, \"interactive\" without a command)"),
			flagString("shell", "the shell of a new session, with its arguments (default: bash, or sh where there is none)"),
			flagString("cwd", "where a new session begins (default: the container's working directory)"),
			flagList("env", "set a variable of a new session, name=value", "e"),
			flagString("timeout", "kill what the command has started after this time: seconds, or with a unit as in 500ms or 2m"),
			flagString("idle-timeout", "the same after this time without output"),
			flagBool("isolated", "run the command in a subshell, so that it leaves the session as it was"),
			flagBool("tty", "give the command a terminal", "t"),
			flagBool("stdin", "pass standard input on to the command", "i"),
			flagBool("background", "start the command in the background, and print its job's number"),
			flagBool("json", "take requests from standard input, and answer on standard output"),
			flagString("offset", "of output: where to begin, in bytes"),
			flagString("stream", "of output: only stdout or only stderr"),
			flagDefault("format", "table", "of list and jobs: table or json", "f"),
			flagHidden("hold", "hold sessions for others"),
			flagHidden(idFollows, "no word, but a container's id comes first"),
		},
		Action: a.doShell,
	}
}

// The names of sessions where none is given. One with a terminal is not the one without.
const (
	defaultSession     = "default"
	terminalSession    = "tty"
	interactiveSession = "interactive"
)

// sessionName is the session that the flags name.
func sessionName(c *cli.Context, without string) string {
	if c.IsSet("session") {
		return c.String("session")
	}
	return without
}

// shellError is an error of the runtime's, as opposed to a command that fails. The status
// is that of env(1) and timeout(1).
type shellError struct{ err error }

func (e shellError) Error() string { return "shell: " + e.err.Error() }
func (e shellError) Unwrap() error { return e.err }
func (e shellError) ExitCode() int { return 125 }

// timedOut is the exit status of timeout(1).
const timedOut = 124

func (a *app) doShell(c *cli.Context) error {
	if err := a.checkArgs(c, 1, math.MaxInt); err != nil {
		return shellError{err}
	}
	var err error
	switch first := c.Args().First(); {
	case c.Bool("hold"):
		err = a.holdShells(c)
	case c.Bool("json"):
		err = a.shellJSON(c)
	case isShellWord(first) && !c.Bool(idFollows):
		err = a.shellWord(c, first)
	default:
		err = a.shellCommand(c)
	}
	if err != nil {
		return shellError{err}
	}
	return nil
}

// idFollows is the flag that a "--" before the first argument becomes: the flag package
// drops it, and a container may be called as one of the words.
const idFollows = "id-follows"

// isShellWord says whether a first argument is no container's id.
func isShellWord(arg string) bool {
	switch arg {
	case "list", "stop", "jobs", "output", "wait", "signal":
		return true
	}
	return false
}

// shellCommand runs a command or, without one, attaches the terminal.
func (a *app) shellCommand(c *cli.Context) error {
	q, err := shellRequest(c)
	if err != nil {
		return err
	}
	id, args := c.Args().First(), c.Args().Tail()
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	q.Text = strings.Join(args, " ")
	background, stdin, tty := c.Bool("background"), c.Bool("stdin"), c.Bool("tty")
	switch {
	case background && (stdin || tty):
		return errors.New("--background: there is nobody to pass stdin on, nor a terminal")
	case background && (q.Timeout != 0 || q.IdleTimeout != 0):
		return errors.New("--background: there is nobody to watch the time")
	case len(args) == 0 && (background || !isTerminal(a.stdin)):
		return errors.New("there is no command, and standard input is not a terminal")
	case len(args) == 0:
		q.Name = sessionName(c, interactiveSession)
		return a.withHolder(c, id, func(h *holder.Client) error { return a.shellTerminal(h, q) })
	case tty:
		q.Name = sessionName(c, terminalSession)
		return a.withHolder(c, id, func(h *holder.Client) error { return a.shellTerminal(h, q) })
	case background:
		return a.withHolder(c, id, func(h *holder.Client) error {
			job, err := h.Start(q)
			if err == nil {
				_, err = fmt.Fprintln(a.stdout, job)
			}
			return err
		})
	case stdin:
		closeInput, err := a.passStdin(q)
		if err != nil {
			return err
		}
		defer closeInput()
	}
	return a.withHolder(c, id, func(h *holder.Client) error { return a.shellRun(h, q) })
}

// shellRequest is what the flags say.
func shellRequest(c *cli.Context) (*holder.Request, error) {
	q := &holder.Request{Isolated: c.Bool("isolated")}
	q.Name, q.Dir, q.Env = sessionName(c, defaultSession), c.String("cwd"), list(c, "env")
	if q.Name == "" {
		return nil, errors.New(`--session "": must be a name`)
	}
	for _, e := range q.Env {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" {
			return nil, fmt.Errorf("--env %q: must be name=value", e)
		}
	}
	if q.Args = strings.Fields(c.String("shell")); len(q.Args) == 0 && c.IsSet("shell") {
		return nil, errors.New(`--shell "": must be a program`)
	}
	var err error
	if q.Timeout, err = duration(c, "timeout"); err != nil {
		return nil, err
	}
	q.IdleTimeout, err = duration(c, "idle-timeout")
	return q, err
}

// duration is a flag's time: seconds, or with a unit.
func duration(c *cli.Context, flag string) (time.Duration, error) {
	s := c.String(flag)
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if seconds, serr := strconv.ParseFloat(s, 64); serr == nil {
		if d, err = time.Duration(seconds*float64(time.Second)), nil; seconds > math.MaxInt64/float64(time.Second) {
			d = math.MaxInt64
		}
	}
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("--%s %q: must be a time above 0, like 1.5, 500ms or 2m", flag, s)
	}
	return d, nil
}

// withHolder asks the holder of a container's sessions, which is started where there is
// none. One that has just ended is asked in vain.
func (a *app) withHolder(c *cli.Context, id string, ask func(*holder.Client) error) error {
	store, err := a.openStore(c)
	if err != nil {
		return err
	}
	root, err := stateRoot(c)
	if err != nil {
		return err
	}
	const tries = 5
	for try := 1; ; try++ {
		h, err := store.DialShells(id, func(listener *os.File) error { return startHolder(root, id, listener) })
		if err != nil {
			return err
		}
		err = ask(h)
		h.Close()
		if try == tries || !errors.Is(err, holder.ErrRefused) {
			return err
		}
	}
}

// startHolder starts a process that holds a container's sessions.
func startHolder(root, id string, listener *os.File) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	closeOnExec()
	_, err = syscall.ForkExec("/proc/self/exe", []string{name, "--root", root, "shell", "--hold", id}, &syscall.ProcAttr{
		Dir: "/", Files: []uintptr{null.Fd(), null.Fd(), null.Fd(), listener.Fd()}, Sys: &syscall.SysProcAttr{Setsid: true},
		Env: []string{"GODEBUG=disablethp=1"}, // huge pages would make its heap of 1 MiB one of 4
	})
	if err != nil {
		return fmt.Errorf("start "+name+" shell --hold: %w", err)
	}
	return nil
}

// passStdin copies standard input to a pipe, whose end the command gets. The command's end
// is not held up by an input that has none.
func (a *app) passStdin(q *holder.Request) (stop func(), err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	q.Stdin = r
	go func() {
		defer w.Close()
		buf := make([]byte, 64<<10)
		for {
			n, err := a.stdin.Read(buf)
			if n > 0 {
				if _, werr := w.Write(buf[:n]); werr != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	return func() { r.Close() }, nil
}

// shellRun runs a command to its end.
func (a *app) shellRun(h *holder.Client, q *holder.Request) error {
	res, err := h.Run(q, a.stdout, a.stderr)
	switch {
	case errors.Is(err, unix.EPIPE): // as SIGPIPE ends a command whose output nobody wants
		a.status = 128 + int(unix.SIGPIPE)
		return nil
	case err != nil:
		return err
	}
	a.status = shellStatus(res)
	return nil
}

func shellStatus(res *shell.Result) int {
	if res.TimedOut {
		return timedOut
	}
	return res.ExitStatus
}

// shellTerminal joins the caller's terminal to that of a command or of an interactive shell.
// What ends this process, the end of the caller's terminal for instance, ends the command,
// and leaves an interactive shell as it is.
func (a *app) shellTerminal(h *holder.Client, q *holder.Request) error {
	if f := a.terminal(); f != nil {
		if ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
			q.Rows, q.Columns = int(ws.Row), int(ws.Col)
		}
	}
	master, err := h.Terminal(q)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGWINCH, unix.SIGTERM, unix.SIGHUP, unix.SIGINT)
	defer signal.Stop(signals)
	tty := a.attachConsole(master)
	keepOutputErrors()
	defer tty.close()
	ended := make(chan error, 1)
	go func() {
		res, err := h.Result()
		if err == nil {
			a.status = shellStatus(res)
		}
		ended <- err
	}()
	for {
		select {
		case err := <-ended:
			return err
		case sig := <-signals:
			if sig != unix.SIGWINCH {
				a.status = 128 + int(sig.(syscall.Signal))
				return nil
			}
			tty.resize()
		}
	}
}

// holdShells is the process that startHolder starts.
func (a *app) holdShells(c *cli.Context) error {
	sandbox, err := a.load(c)
	if err != nil {
		return err
	}
	saveMemory()
	listener := os.NewFile(3, "listener")
	defer listener.Close()
	ctx, stop := signal.NotifyContext(c.Context, endSignals()...)
	defer stop()
	return sandbox.HoldShells(ctx, listener)
}
