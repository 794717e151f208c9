package libsandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"runtime"
	"strings"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/cgroup"
	"adl.run/adl-runtime/libsandbox/internal/compile"
	"adl.run/adl-runtime/libsandbox/internal/engine"
	"adl.run/adl-runtime/libsandbox/internal/kernel"
	"adl.run/adl-runtime/libsandbox/internal/program"
)

// hookRun is one hook at one point of a container's life (config.md, "POSIX-platform
// Hooks").
type hookRun struct {
	name  string // hooks.poststart[0]
	hook  *specs.Hook
	state *specs.State
	files []uintptr
	dir   string
}

// starter starts a hook's process and returns its pid.
type starter func(*hookRun) (pid int, err error)

// runHooks runs hooks one after the other and stops at the first that fails.
func runHooks(ctx context.Context, name string, hooks []specs.Hook, state *specs.State, start starter) error {
	for i := range hooks {
		r := &hookRun{name: fmt.Sprintf("hooks.%s[%d]", name, i), hook: &hooks[i], state: state, dir: state.Bundle}
		if err := r.run(ctx, start); err != nil {
			return err
		}
	}
	return nil
}

// warnHooks runs hooks whose failure is only worth a warning.
func warnHooks(ctx context.Context, name string, hooks []specs.Hook, state *specs.State) {
	for i := range hooks {
		r := &hookRun{name: fmt.Sprintf("hooks.%s[%d]", name, i), hook: &hooks[i], state: state, dir: state.Bundle}
		if err := r.run(ctx, startOnHost); err != nil {
			slog.Warn(err.Error())
		}
	}
}

// run runs the hook with the container's state on its stdin. Its output is kept for
// the error message only.
func (r *hookRun) run(ctx context.Context, start starter) error {
	state, err := json.Marshal(r.state)
	if err != nil {
		return fmt.Errorf("%s: state: %w", r.name, err)
	}
	// Files in memory: a hook can neither block on its output nor leave a child
	// behind that keeps us waiting for the end of it.
	in, err := memFile("adl-hook-state", state)
	if err != nil {
		return fmt.Errorf("%s: %w", r.name, err)
	}
	defer in.Close()
	out, err := memFile("adl-hook-output", nil)
	if err != nil {
		return fmt.Errorf("%s: %w", r.name, err)
	}
	defer out.Close()
	r.files = []uintptr{in.Fd(), out.Fd(), out.Fd()}
	pid, err := start(r)
	var fault *program.Fault
	if errors.As(err, &fault) && fault.Note == r.name {
		return err // which begins with it
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r.name, err)
	}
	if err := waitHook(ctx, pid, r.hook.Timeout); err != nil {
		return fmt.Errorf("error running hook %s %s: %w, output: %s", r.name, r.hook.Path, err, tail(out))
	}
	return nil
}

func memFile(name string, content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	if err := kernel.WriteAll(fd, content); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("write: %w", err)
	}
	_, _ = unix.Seek(fd, 0, io.SeekStart)
	return os.NewFile(uintptr(fd), name), nil
}

// tail returns the end of a hook's output, on one line.
func tail(f *os.File) string {
	const most = 1024
	size, _ := f.Seek(0, io.SeekEnd)
	buf := make([]byte, min(size, most))
	n, _ := f.ReadAt(buf, size-int64(len(buf)))
	return strings.Join(strings.Fields(strings.ToValidUTF8(string(buf[:n]), "?")), " ")
}

// startOnHost starts a hook in the runtime's namespaces.
func startOnHost(r *hookRun) (int, error) {
	args := r.hook.Args
	if len(args) == 0 {
		args = []string{r.hook.Path}
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(kernel.TimerSlack()), 0, 0, 0) // is inherited
	pid, err := syscall.ForkExec(r.hook.Path, args, &syscall.ProcAttr{Dir: r.dir, Env: r.hook.Env, Files: r.files})
	if err != nil {
		return 0, fmt.Errorf("exec %s: %w", r.hook.Path, err)
	}
	return pid, nil
}

// inContainer starts a hook in the namespaces of process pid and, where cg is not
// nil, confined like the container's process: cgroup, seccomp filter and resctrl group
// included.
func inContainer(spec *specs.Spec, pid int, dir string, cg *cgroup.Cgroup, filter *compile.Filter, rdt []string) starter {
	return func(r *hookRun) (int, error) {
		init, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			return 0, fmt.Errorf("pidfd of init: %w", err)
		}
		defer unix.Close(init)
		o := &engine.Options{Name: "adl-hook", Files: r.files, Named: map[string]int{compile.FileInit: init}, CgroupFD: -1}
		var facts *compile.Facts
		if cg != nil {
			facts = &compile.Facts{Tasks: cg.TasksFiles(), ResctrlTasks: rdt, TimerSlack: kernel.TimerSlack(), Seccomp: filter}
			facts.Bounding, facts.LastCap = kernel.Bounding()
			if o.CgroupFD, err = cg.OpenDir(); err != nil {
				return 0, err
			}
			if o.CgroupFD >= 0 {
				defer unix.Close(o.CgroupFD)
			}
		}
		p := compile.NewHook(spec, r.hook, r.name, dir, facts)
		if err := p.Verify(); err != nil {
			return 0, err
		}
		c, err := engine.Start(p, o)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		return followHook(c)
	}
}

// followHook waits until the hook is executing.
func followHook(c *engine.Child) (int, error) {
	for {
		r, err := c.Next()
		switch {
		case err == io.EOF:
			return c.Pid, nil
		case err != nil:
			_ = unix.Kill(c.Pid, unix.SIGKILL)
			reap(c.Pid)
			return 0, err
		case r.Forked != 0:
			reap(c.Pid)
			c.Pid = r.Forked
		}
	}
}

// waitHook waits for the hook's end, and ends it after timeout seconds; nil means
// that there is no limit.
func waitHook(ctx context.Context, pid int, timeout *int) error {
	ms := -1
	if timeout != nil {
		ms = min(*timeout, math.MaxInt32/1000) * 1000 // poll(2) takes an int
	}
	var killed error
	if fd, err := unix.PidfdOpen(pid, 0); err == nil {
		done, _ := waitExitContext(ctx, fd, ms)
		if !done {
			killed = fmt.Errorf("hook ran past specified timeout of %.1fs", float64(ms)/1000)
			if ctx.Err() != nil {
				killed = ctx.Err()
			}
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
		unix.Close(fd)
	}
	var ws unix.WaitStatus
	if err := kernel.Retry(func() error { _, err := unix.Wait4(pid, &ws, 0, nil); return err }); err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	switch {
	case killed != nil:
		return killed
	case ws.Signaled():
		return errors.New("signal: " + ws.Signal().String())
	case ws.ExitStatus() != 0:
		return fmt.Errorf("exit status %d", ws.ExitStatus())
	}
	return nil
}

// waitExitContext is kernel.WaitExit that also ends with ctx.
func waitExitContext(ctx context.Context, pidfd, ms int) (bool, error) {
	if ctx.Done() == nil {
		return kernel.WaitExit(pidfd, ms)
	}
	var wake [2]int
	if err := unix.Pipe2(wake[:], unix.O_CLOEXEC); err != nil {
		return false, err
	}
	defer unix.Close(wake[0])
	stop := context.AfterFunc(ctx, func() { unix.Close(wake[1]) })
	defer func() {
		if stop() {
			unix.Close(wake[1])
		}
	}()
	return kernel.WaitExitOr(pidfd, wake[0], ms)
}

// hooks runs what is due between the making of the namespaces and pivot_root.
func (c *creation) hooks(ctx context.Context) error {
	h := c.bundle.Spec.Hooks
	if h == nil {
		return nil
	}
	state := c.sb.rec.hookState(specs.StateCreating, c.child.Pid)
	//nolint:staticcheck // prestart is deprecated, and in use
	if err := runHooks(ctx, "prestart", h.Prestart, state, startOnHost); err != nil {
		return err
	}
	if err := runHooks(ctx, "createRuntime", h.CreateRuntime, state, startOnHost); err != nil {
		return err
	}
	return runHooks(ctx, "createContainer", h.CreateContainer, state, inContainer(c.bundle.Spec, c.child.Pid, c.bundle.Rootfs(), nil, nil, nil))
}

// hookState is the container's state as hooks and seccomp agents are told.
func (r *record) hookState(status specs.ContainerState, pid int) *specs.State {
	return &specs.State{Version: r.Version, ID: r.ID, Status: status, Pid: pid, Bundle: r.Bundle, Annotations: r.Annotations}
}

// startContainerHooks runs in the container, after pivot_root and before the
// process. The programs are the image's, so they may do no more than the process,
// as in runc.
func (sb *Sandbox) startContainerHooks(ctx context.Context, spec *specs.Spec) error {
	if h := sb.rec.Hooks; h != nil && len(h.StartContainer) > 0 {
		cg, err := cgroup.Load(sb.rec.Cgroup)
		if err != nil {
			return err
		}
		filter, err := sb.store.filter(spec.Linux.Seccomp)
		if err != nil {
			return err
		}
		rdt, err := sb.store.resctrlTasks(&sb.rec)
		if err != nil {
			return err
		}
		pid := sb.rec.Init.Pid
		return runHooks(ctx, "startContainer", h.StartContainer, sb.rec.hookState(specs.StateCreated, pid), inContainer(spec, pid, spec.Process.Cwd, cg, filterFact(filter), rdt))
	}
	return nil
}

// poststart runs when the process is executing. Up to runtime-spec 1.2.0 a failing
// hook is a warning; since 1.2.1 it ends the container.
func (sb *Sandbox) poststart(ctx context.Context) error {
	h := sb.rec.Hooks
	if h == nil || len(h.Poststart) == 0 {
		return nil
	}
	state := sb.rec.hookState(specs.StateRunning, sb.rec.Init.Pid)
	if poststartMayFail(sb.rec.Version) {
		warnHooks(ctx, "poststart", h.Poststart, state)
		return nil
	}
	err := runHooks(ctx, "poststart", h.Poststart, state, startOnHost)
	if err != nil {
		_ = sb.killAll()
	}
	return err
}

func poststartMayFail(version string) bool {
	var major, minor, patch int
	_, _ = fmt.Sscanf(version, "%d.%d.%d", &major, &minor, &patch)
	return major == 1 && (minor < 2 || minor == 2 && patch < 1)
}
