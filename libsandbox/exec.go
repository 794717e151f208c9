package libsandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/cgroup"
	"adl.run/adl-runtime/libsandbox/internal/compile"
	"adl.run/adl-runtime/libsandbox/internal/engine"
	"adl.run/adl-runtime/libsandbox/internal/kernel"
	"adl.run/adl-runtime/libsandbox/internal/program"
	"adl.run/adl-runtime/libsandbox/security/seccomp"
	"adl.run/adl-runtime/spec"
)

// ExecOptions are the choices of whoever executes a process in a container. The zero
// value, or nil, gives it /dev/null for stdin, stdout and stderr.
type ExecOptions struct {
	// Stdin, Stdout and Stderr of the process; nil is /dev/null. They stay the
	// caller's, and do not matter with Process.Terminal.
	Stdin, Stdout, Stderr *os.File
	// ExtraFiles become descriptors 3, 4 and so on of the process. They stay the
	// caller's.
	ExtraFiles []*os.File
	// ConsoleSocket is an AF_UNIX stream socket that is sent the master of the
	// process's terminal. Without it, Process.Console has the master.
	ConsoleSocket string
	// PidFile is a file that the process's pid is written to, once it is executing.
	PidFile string
	// PidfdSocket is an AF_UNIX stream socket that is sent a pidfd of the process, once
	// it is executing.
	PidfdSocket string
	// Cgroup has the process enter cgroups below the container's: paths, relative to
	// the container's, by cgroup v1 controller, or one for all by the name "". They
	// must exist.
	Cgroup map[string]string
	// Subreaper makes the process the parent of its descendants whose own parent has
	// ended, in place of process 1 (PR_SET_CHILD_SUBREAPER).
	Subreaper bool
	// IgnorePaused lets the process be made in a paused container. Exec returns when
	// the container is resumed, and not before.
	IgnorePaused bool

	fileAt int  // the number of the last of ExtraFiles, unless 0
	idle   bool // the process does not count as use of the container; see Idle
}

// Process returns a copy of the process that the container was made with, to be changed
// and given to Exec.
func (sb *Sandbox) Process() (*specs.Process, error) {
	if err := sb.reload(); err != nil {
		return nil, err
	}
	sb.mu.Lock()
	defer sb.mu.Unlock()
	s, err := sb.config()
	if err != nil {
		return nil, err
	}
	p := *s.Process
	p.Args, p.Env = slices.Clone(p.Args), slices.Clone(p.Env)
	p.User.AdditionalGids = slices.Clone(p.User.AdditionalGids)
	if p.Capabilities != nil {
		c := *p.Capabilities
		for _, set := range []*[]string{&c.Bounding, &c.Effective, &c.Inheritable, &c.Permitted, &c.Ambient} {
			*set = slices.Clone(*set)
		}
		p.Capabilities = &c
	}
	return &p, nil
}

// Exec executes p in a running or created container, in all of its namespaces and in
// its cgroup, and returns when it is executing. What p leaves open (nil or empty) of
// capabilities, rlimits, umask, oomScoreAdj, apparmorProfile, selinuxLabel, scheduler,
// ioPriority and execCPUAffinity is as in the container's own process; HOME is from the
// container's /etc/passwd where the environment has none. The process ends with its
// container. ErrNotRunning: the container has stopped. ErrPaused: it is paused.
//
// The process is a child of the caller, who has to call Process.Wait, or to Delete the
// container by this Sandbox. Until then the kernel keeps the container's init from
// going away. ctx is looked at before the process is made. Exec may be called from
// several goroutines at once.
func (sb *Sandbox) Exec(ctx context.Context, p *specs.Process, o *ExecOptions) (*Process, error) {
	if o == nil {
		o = &ExecOptions{}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sb.touch()
	defer sb.store.work()()
	x := &execution{sb: sb, o: o}
	if err := x.load(p); err != nil {
		return nil, err
	}
	var fds descriptors
	defer fds.close()
	if err := x.find(&fds); err != nil {
		return nil, err
	}
	if err := x.run(&fds); err != nil {
		return nil, x.explain(err)
	}
	return x.process(), nil
}

// execution is the state of one Exec.
type execution struct {
	sb      *Sandbox
	o       *ExecOptions
	rec     record
	spec    *specs.Spec // the container's, but for the process
	cgroup  *cgroup.Cgroup
	pidfd   int // of init
	facts   compile.Facts
	program *compile.Exec
	filter  *seccomp.Filter
	child   *engine.Child
	first   int // the pid of the process that was started
	console *os.File
}

// load reads what is stored of the container, and completes and checks the process.
func (x *execution) load(p *specs.Process) error {
	sb := x.sb
	if err := sb.reload(); err != nil {
		return err
	}
	sb.mu.Lock()
	defer sb.mu.Unlock()
	s, err := sb.config()
	if err != nil {
		return err
	}
	x.rec = sb.rec
	own := *s
	own.Process = inherit(p, s.Process)
	x.spec = &own
	if err := spec.ValidateProcess(own.Process); err != nil {
		return err
	}
	if !own.Process.Terminal && x.o.ConsoleSocket != "" {
		return errors.New("console socket: process.terminal is not set")
	}
	return nil
}

// inherit takes from the container's process what p leaves open, as runc does.
func inherit(p, from *specs.Process) *specs.Process {
	c := *p
	if c.Capabilities == nil {
		c.Capabilities = from.Capabilities
	}
	if len(c.Rlimits) == 0 {
		c.Rlimits = from.Rlimits
	}
	if c.User.Umask == nil {
		c.User.Umask = from.User.Umask
	}
	if c.OOMScoreAdj == nil {
		c.OOMScoreAdj = from.OOMScoreAdj
	}
	if c.ApparmorProfile == "" {
		c.ApparmorProfile = from.ApparmorProfile
	}
	if c.SelinuxLabel == "" {
		c.SelinuxLabel = from.SelinuxLabel
	}
	if c.Scheduler == nil {
		c.Scheduler = from.Scheduler
	}
	if c.IOPriority == nil {
		c.IOPriority = from.IOPriority
	}
	if c.ExecCPUAffinity == nil {
		c.ExecCPUAffinity = from.ExecCPUAffinity
	}
	return &c
}

// find gets hold of init and of the cgroup, and refuses what has stopped.
func (x *execution) find(fds *descriptors) (err error) {
	x.pidfd, err = x.rec.Init.Open()
	if errors.Is(err, unix.ESRCH) {
		return errStopped()
	}
	if err != nil {
		return fmt.Errorf("pidfd of init: %w", err)
	}
	fds.add(x.pidfd)
	if x.stopped() {
		return errStopped()
	}
	if x.cgroup, err = cgroup.Load(x.rec.Cgroup); err != nil {
		return err
	}
	if len(x.o.Cgroup) > 0 {
		if x.cgroup, err = x.cgroup.Sub(x.o.Cgroup); err != nil {
			return kindError{err, ErrCgroup}
		}
	}
	return nil
}

func errStopped() error {
	return kindError{errors.New("cannot exec in a stopped container"), ErrNotRunning}
}

// stopped says whether init has exited, reaped or not.
func (x *execution) stopped() bool {
	exited, err := kernel.WaitExit(x.pidfd, 0)
	return exited && err == nil
}

// explain says that the container has stopped, where that is why something failed. Init
// has no namespaces to enter, and its pid namespace takes no processes, some time before
// it counts as exited.
func (x *execution) explain(err error) error {
	var f *program.Fault
	ending := errors.As(err, &f) && (f.What == "setns" && f.Errno == unix.ESRCH || f.What == "clone" && f.Errno == unix.ENOMEM)
	if errors.Is(err, errExecDied) { // most likely killed with all the others, of whom init is one
		ending, _ = kernel.WaitExit(x.pidfd, int(endTimeout.Milliseconds()))
	}
	if ending || x.stopped() {
		return errStopped()
	}
	return err
}

// endTimeout is how long a container takes to end at most, once its processes have
// begun to.
const endTimeout = 100 * time.Millisecond

// run executes the process in the container's cgroup or, where the container has given
// that one's controllers to cgroups of its own, beside init.
func (x *execution) run(fds *descriptors) error {
	if err := x.gather(); err != nil {
		return err
	}
	err := x.attempt(fds, x.cgroup, true)
	if errors.Is(err, unix.EBUSY) && len(x.o.Cgroup) == 0 {
		if where, werr := x.cgroup.Where(x.rec.Init.Pid); werr == nil && !x.stopped() {
			err = x.attempt(fds, where, false) // its cgroups, which it may freeze as it likes
		}
	}
	return err
}

// gather finds out what the compiler has to know.
func (x *execution) gather() error {
	p := x.spec.Process
	if err := checkLabels(p); err != nil {
		return err
	}
	x.facts = compile.Facts{
		Ignored:    kernel.IgnoredSignals(),
		TimerSlack: kernel.TimerSlack(),
		Root:       x.rec.Rootfs,
		Home:       home("/proc/"+strconv.Itoa(x.rec.Init.Pid)+"/root", p),
	}
	if x.stopped() { // so that /proc/PID may have been another's
		return errStopped()
	}
	filter, err := x.sb.store.filter(x.spec.Linux.Seccomp)
	if err != nil {
		return err
	}
	x.filter, x.facts.Seccomp = filter, filterFact(filter)
	if x.facts.ResctrlTasks, err = x.sb.store.resctrlTasks(&x.rec); err != nil {
		return err
	}
	x.facts.Bounding, x.facts.LastCap = kernel.Bounding()
	if a := p.ExecCPUAffinity; a != nil {
		x.facts.Affinity, _ = spec.ParseCPUs(a.Final) // has been validated
	}
	return nil
}

// attempt compiles the program, starts it in cg, and follows it until the process is
// executing. born says that it may be born there; see launch.
func (x *execution) attempt(fds *descriptors, cg *cgroup.Cgroup, born bool) error {
	if err := x.launch(fds, cg, born); err != nil {
		return err
	}
	defer x.child.Close()
	err := x.follow()
	if err == nil {
		err = x.publish()
	}
	if err != nil {
		x.kill()
	}
	return err
}

// launch starts the program. It is born in cg where the lock, for that long, keeps
// everybody from pausing the container: born in a frozen cgroup it would not even get as
// far as its execve, and meanwhile a thread of this process would hang in clone(2),
// where the Go runtime cannot stop it. Otherwise it enters the cgroup by itself.
func (x *execution) launch(fds *descriptors, cg *cgroup.Cgroup, born bool) error {
	lock := x.sb.store.share(x.sb.id)
	if lock != nil {
		defer lock.close()
	}
	frozen, err := x.cgroup.Frozen()
	if err != nil {
		return err
	}
	if frozen && !x.o.IgnorePaused {
		return kindError{errors.New("cannot exec in a paused container (use --ignore-paused to override)"), ErrPaused}
	}
	o := &engine.Options{Name: "adl-exec", Named: map[string]int{compile.FileInit: x.pidfd}, CgroupFD: -1}
	x.facts.Tasks = cg.TasksFiles()
	if !born || lock == nil || frozen || x.cgroup.Halted() {
		x.facts.Tasks = append(x.facts.Tasks, cg.ProcsFiles()...)
	} else if o.CgroupFD, err = cg.OpenDir(); err != nil {
		return err
	}
	if o.CgroupFD >= 0 {
		fds.add(o.CgroupFD)
	}
	if err := x.compile(); err != nil {
		return err
	}
	return x.start(o, fds)
}

func (x *execution) compile() (err error) {
	if x.sb.store.facts != nil {
		x.sb.store.facts(&x.facts)
	}
	opts := &compile.Options{ExtraFiles: len(x.o.ExtraFiles), Subreaper: x.o.Subreaper, FileAt: x.o.fileAt}
	if !x.rec.NoNewKeyring {
		opts.Keyring = keyringName(x.rec.ID)
	}
	if x.program, err = compile.NewExec(x.spec, &x.facts, opts); err != nil {
		return err
	}
	for _, w := range x.program.Warnings {
		slog.Warn(w)
	}
	if err := x.program.Verify(); err != nil {
		return err
	}
	if x.sb.store.tamper != nil {
		x.sb.store.tamper(x.program.Program)
	}
	return nil
}

// keyringName is the session keyring of a container, as runc calls it.
func keyringName(id string) string { return "_ses." + id }

// start starts the program.
func (x *execution) start(o *engine.Options, fds *descriptors) (err error) {
	if o.Files, err = openFiles(fds, x.o.Stdin, x.o.Stdout, x.o.Stderr, x.o.ExtraFiles); err != nil {
		return err
	}
	var initial []uint64
	if a := x.spec.Process.ExecCPUAffinity; a != nil {
		initial, _ = spec.ParseCPUs(a.Initial)
	}
	err = kernel.WithAffinity(initial, func() (err error) {
		x.child, err = engine.Start(x.program.Program, o)
		return err
	})
	if err != nil {
		return fmt.Errorf("exec: %w", err)
	}
	x.first = x.child.Pid
	return nil
}

// follow answers the program's records until it executes the process.
func (x *execution) follow() error {
	forked := !x.program.Forks
	for {
		r, err := x.child.Next()
		switch {
		case err == io.EOF && forked:
			return nil
		case err == io.EOF:
			return errExecDied
		case err != nil:
			kernel.Close(r.Files...)
			return err
		case r.Forked != 0:
			reap(x.child.Pid)
			x.child.Pid = r.Forked
			forked = true
			if err := x.release(); err != nil {
				return err
			}
			continue
		case r.Barrier == compile.BarrierListener && x.filter != nil && x.filter.Listener != nil:
			kernel.Close(r.Files...)
			if err := passListener(x.filter.Listener, x.child.Pid, r.Value, x.rec.hookState(specs.StateRunning, x.rec.Init.Pid)); err != nil {
				return err
			}
			if err := x.release(); err != nil {
				return err
			}
			continue
		case r.Barrier != compile.BarrierConsole || x.console != nil || forked && x.program.Forks:
			kernel.Close(r.Files...)
			return fmt.Errorf("exec: the process is at barrier %d with %d descriptors", r.Barrier, len(r.Files))
		}
		if x.console, err = passConsole(r.Files, x.o.ConsoleSocket); err != nil {
			return err
		}
		if err := x.release(); err != nil {
			return err
		}
	}
}

var errExecDied = errors.New("exec: the process ended before it was ready")

// release lets the program go on. Where it has ended, what it says of that is the error.
func (x *execution) release() error {
	err := x.child.Release()
	if err == nil {
		return nil
	}
	if fault := x.child.Pending(); fault != nil {
		return fault
	}
	if errors.Is(err, unix.EPIPE) {
		return errExecDied
	}
	return err
}

// publish tells others of the process.
func (x *execution) publish() error {
	if x.o.PidFile != "" {
		if err := writePidFile(x.o.PidFile, x.child.Pid); err != nil {
			return err
		}
	}
	if x.o.PidfdSocket == "" {
		return nil
	}
	fd, err := unix.PidfdOpen(x.child.Pid, 0)
	if err == nil {
		err = passPidfd(fd, x.o.PidfdSocket)
	}
	if err != nil && x.o.PidFile != "" {
		_ = unix.Unlink(x.o.PidFile)
	}
	return err
}

// kill ends what has been started.
func (x *execution) kill() {
	_ = unix.Kill(x.child.Pid, unix.SIGKILL)
	reap(x.child.Pid)
	x.child.Close()
	if x.child.Pid == x.first { // its child, if it has one that it has not told of
		_ = unix.Kill(-x.first, unix.SIGKILL)
		reap(-x.first)
	}
	if x.console != nil {
		x.console.Close()
	}
}

// process hands the process to the caller.
func (x *execution) process() *Process {
	p := &Process{sb: x.sb, pid: x.child.Pid, console: x.console, idle: x.o.idle}
	x.sb.mu.Lock()
	defer x.sb.mu.Unlock()
	if x.sb.execs == nil {
		x.sb.execs = make(map[*Process]struct{})
	}
	x.sb.execs[p] = struct{}{}
	if x.sb.killed {
		go func() { _, _ = p.reap() }()
	}
	return p
}
