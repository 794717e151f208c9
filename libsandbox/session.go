package libsandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/cgroup"
	"adl.run/adl-runtime/libsandbox/internal/kernel"
	"adl.run/adl-runtime/libsandbox/shell"
)

// ShellOptions are the choices of Shell; nil is the zero value.
type ShellOptions struct {
	// Args start the shell; empty is bash where the container has /bin/bash, and /bin/sh
	// otherwise. See shell.Options.
	Args []string
	// Env are variables (NAME=VALUE) beside those of the container's process, which they
	// replace.
	Env []string
	// Dir is where the shell begins; empty is the container's working directory.
	Dir string
	// User of the shell; nil is the container's.
	User *specs.User
	// Limit, JobLimit and Jobs are as in shell.Options.
	Limit, JobLimit, Jobs int
	// Terminal gives commands a pseudo terminal.
	Terminal bool

	idle bool // the shell does not count as use of the container
}

// sessionFiles is the most that the files of a session can hold: commands, and what a
// session is to remember of a shell that has died.
const sessionFiles = 64 << 20

// Shell makes a session: a shell in the container that is kept between commands. It is
// started by the first command, and anew by the first after its end. What a reset ends is
// not restored: the next command has a new shell in the working directory. The session
// ends with Delete, or with its Close. Its shell counts as a process of Exec.
//
// The container needs /proc, where the shell finds the session's files. ErrNotRunning: it
// is stopped.
func (sb *Sandbox) Shell(ctx context.Context, o *ShellOptions) (*shell.Session, error) {
	var own ShellOptions
	if o != nil {
		own = *o
	}
	o = &own
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sb.touch()
	p, err := sb.Process()
	if err != nil {
		return nil, fmt.Errorf("shell: %w", err)
	}
	args := o.Args
	if len(args) == 0 {
		if args, err = sb.findShell(); err != nil {
			return nil, fmt.Errorf("shell: %w", err)
		}
	}
	if o.Dir == "" {
		o.Dir = p.Cwd
	}
	rw, ro, err := kernel.PrivateTmpfs(sessionFiles)
	if err != nil {
		return nil, fmt.Errorf("shell: %w", err)
	}
	f := &freezer{sb: sb}
	s, err := shell.New(&shell.Options{
		Args: args, Env: slices.Concat(p.Env, o.Env), Home: o.Dir, Dir: rw, ShellDir: ro,
		Limit: o.Limit, JobLimit: o.JobLimit, Jobs: o.Jobs, Terminal: o.Terminal,
		Start: func(ctx context.Context, so *shell.StartOptions) (*shell.Process, error) {
			return sb.startShell(ctx, o, so)
		},
		Freeze: f.set, Generation: sb.generation,
	})
	if err != nil {
		return nil, fmt.Errorf("shell: %w", err)
	}
	sb.mu.Lock()
	defer sb.mu.Unlock()
	if sb.sessions == nil {
		sb.sessions = map[*shell.Session]struct{}{}
	}
	sb.sessions[s] = struct{}{}
	return s, nil
}

// findShell looks for a shell in the container.
func (sb *Sandbox) findShell() ([]string, error) {
	p, err := sb.enter()
	if errors.Is(err, ErrNotRunning) {
		sb.settle()
		p, err = sb.enter()
	}
	if err != nil {
		return nil, err
	}
	defer p.close()
	for _, path := range []string{"/bin/bash", "/usr/bin/bash"} {
		if fd, err := kernel.OpenAtRoot(p.root, path[1:], unix.O_PATH); err == nil {
			unix.Close(fd)
			return []string{path}, nil
		}
	}
	return []string{"/bin/sh"}, nil
}

// startShell executes the shell of a session. One that a reset or a snapshot overtakes is
// executed after it.
func (sb *Sandbox) startShell(ctx context.Context, o *ShellOptions, so *shell.StartOptions) (*shell.Process, error) {
	p, err := sb.Process()
	if err != nil {
		return nil, err
	}
	p.Args, p.Env, p.Cwd, p.Terminal = so.Args, so.Env, so.Cwd, so.Terminal
	if o.User != nil {
		p.User = *o.User
	}
	x := &ExecOptions{
		Stdin: so.Stdin, Stdout: so.Stdout, Stderr: so.Stdout, ExtraFiles: []*os.File{so.Dir},
		Subreaper: true, fileAt: shell.DirFD, idle: o.idle,
	}
	process, err := sb.Exec(ctx, p, x)
	if errors.Is(err, ErrNotRunning) || errors.Is(err, ErrPaused) || errors.Is(err, errExecDied) {
		sb.settle()
		process, err = sb.Exec(ctx, p, x)
	}
	if errors.Is(err, ErrPaused) {
		err = kindError{errors.New("the container is paused"), ErrPaused}
	}
	if err != nil {
		return nil, err
	}
	if err := process.reapAtEnd(); err != nil {
		_ = process.Signal(unix.SIGKILL)
		_, _ = process.reap()
		return nil, err
	}
	return &shell.Process{
		Pid: process.Pid(), Console: process.Console(),
		Wait: func() (unix.WaitStatus, error) { return process.Wait(context.Background()) },
	}, nil
}

// generation changes with each reset, whoever does it. It waits for the end of one: a shell
// dies at its beginning.
func (sb *Sandbox) generation() string {
	sb.settle()
	if err := sb.reload(); err != nil {
		return ""
	}
	sb.mu.Lock()
	defer sb.mu.Unlock()
	i := &sb.rec.Init
	return fmt.Sprintf("%d.%d.%d", i.Pid, i.Start, i.Resets)
}

// settle waits until nobody works on the container.
func (sb *Sandbox) settle() {
	if e, err := sb.store.lock(sb.id); err == nil {
		e.close()
	}
}

// freezer stops and continues the processes of a container for a session. Meanwhile it has
// the container's lock, so that nobody is born in a frozen cgroup.
type freezer struct {
	sb    *Sandbox
	entry *entry // locked; nil while nothing is frozen
}

func (f *freezer) set(frozen bool) error {
	if !frozen {
		if f.entry == nil {
			return nil // paused, and to stay so
		}
		defer f.release()
		return f.do((*cgroup.Cgroup).Thaw)
	}
	e, err := f.sb.store.lock(f.sb.id)
	if err != nil {
		return err
	}
	f.entry = e
	if f.sb.view().frozen() {
		f.release()
		return nil
	}
	if err := f.do((*cgroup.Cgroup).Freeze); err != nil {
		f.release()
		return err
	}
	return nil
}

func (f *freezer) release() {
	f.entry.close()
	f.entry = nil
}

func (f *freezer) do(what func(*cgroup.Cgroup) error) error {
	cg, err := cgroup.Load(f.sb.view().rec.Cgroup)
	if err != nil {
		return err
	}
	return what(cg)
}

// RunOptions are the choices of Run and Background, without the Text; nil is the zero
// value.
type RunOptions = shell.Command

// Run runs a command in the sandbox's own session, which it makes if there is none: the
// working directory, variables and functions that commands leave are there for the next.
// Calls run one after the other. A command that fails is no error; see shell.Session.Run.
func (sb *Sandbox) Run(ctx context.Context, text string, o *RunOptions) (*shell.Result, error) {
	s, done, err := sb.session(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	return s.Run(ctx, command(text, o))
}

// Background starts a command in a subshell of the sandbox's own session, and does not
// wait for it. The handle reads its output, waits for it and signals it; a reset ends it.
func (sb *Sandbox) Background(ctx context.Context, text string, o *RunOptions) (*shell.Job, error) {
	s, done, err := sb.session(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	return s.Start(ctx, command(text, o))
}

// Jobs are what Background has started and what commands of Run have left running, oldest
// first.
func (sb *Sandbox) Jobs() []*shell.Job {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	if sb.shell == nil {
		return nil
	}
	return sb.shell.Jobs()
}

func command(text string, o *RunOptions) *shell.Command {
	c := shell.Command{}
	if o != nil {
		c = *o
	}
	c.Text = text
	return &c
}

// session is the sandbox's own, which is in use until done.
func (sb *Sandbox) session(ctx context.Context) (s *shell.Session, done func(), err error) {
	sb.touch()
	sb.mu.Lock()
	s = sb.shell
	sb.mu.Unlock()
	if s == nil {
		if s, err = sb.Shell(ctx, &ShellOptions{idle: true}); err != nil {
			return nil, nil, err
		}
		if s, err = sb.adopt(s); err != nil {
			return nil, nil, err
		}
	}
	sb.mu.Lock()
	sb.running++
	sb.mu.Unlock()
	return s, func() {
		sb.mu.Lock()
		sb.running--
		sb.mu.Unlock()
		sb.touch()
	}, nil
}

// adopt makes a session the sandbox's own, unless somebody was faster.
func (sb *Sandbox) adopt(s *shell.Session) (*shell.Session, error) {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	if sb.shell == nil {
		sb.shell = s
		return s, nil
	}
	delete(sb.sessions, s)
	return sb.shell, s.Close()
}

// parkTime is how long a snapshot waits for a command to end, of each session.
const parkTime = 50 * time.Millisecond

// park sends the idle shells of all sessions to the root directory, until unpark: one that
// stands in a directory of the root filesystem makes a snapshot a copy.
func (sb *Sandbox) park(ctx context.Context) (unpark func()) {
	if sb.view().frozen() {
		return func() {} // they cannot be sent anywhere
	}
	sb.mu.Lock()
	var all []*shell.Session
	for s := range sb.sessions {
		if s.Pid() != 0 {
			all = append(all, s)
		}
	}
	sb.mu.Unlock()
	var parked []*shell.Session
	for _, s := range all {
		limited, cancel := context.WithTimeout(ctx, parkTime)
		err := s.Park(limited)
		cancel()
		switch {
		case err == nil:
			parked = append(parked, s)
		case errors.Is(err, shell.ErrClosed):
			sb.mu.Lock()
			delete(sb.sessions, s)
			sb.mu.Unlock()
		}
	}
	unparkHeld := sb.parkHeld()
	return func() {
		unparkHeld()
		for _, s := range parked {
			_ = s.Unpark() // the shell has ended, which its next command tells
		}
	}
}

// closeSessions ends the sessions of a container that is deleted.
func (sb *Sandbox) closeSessions() {
	sb.mu.Lock()
	all := sb.sessions
	sb.sessions, sb.shell = nil, nil
	sb.mu.Unlock()
	for s := range all {
		_ = s.Close()
	}
}
