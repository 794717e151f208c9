package libsandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/compile"
	"adl.run/adl-runtime/libsandbox/internal/engine"
	"adl.run/adl-runtime/libsandbox/internal/kernel"
	"adl.run/adl-runtime/libsandbox/internal/program"
)

// keepInit exchanges the root filesystem under a living init, which stands still
// meanwhile, as nobody in the container may run: the program that does it comes to life
// in the container's pid namespace with the host's privileges.
func (r *resetting) keepInit(ctx context.Context) error {
	if r.pidfd < 0 {
		return fmt.Errorf("%w", ErrNotRunning)
	}
	if err := r.compileReroot(); err != nil {
		return err
	}
	held := openOldRoot(r.now.rec.Init.Pid)
	if held == nil {
		return fmt.Errorf("%w", ErrNotRunning)
	}
	defer r.now.store.emptyLater(r.now.rec.Layer, held)
	if err := r.cgroup.Isolate(r.now.rec.Init.Pid); err != nil {
		return err
	}
	r.step("isolated")
	if r.status != StatePaused {
		defer func() { _ = r.cgroup.Thaw() }()
	}
	r.made.reapExecs()
	if err := ctx.Err(); err != nil {
		return err
	}
	cleared := r.clearIPC() // meanwhile
	if err := r.reroot(ctx, held); err != nil {
		return errors.Join(err, <-cleared)
	}
	r.step("rerooted")
	return errors.Join(r.movedTo(), <-cleared)
}

// compileReroot compiles the program.
func (r *resetting) compileReroot() error {
	c := r.c
	facts, err := gather(c.bundle, c.cgroup)
	if err != nil {
		return err
	}
	facts.Layer = c.layerFact()
	if c.sb.store.facts != nil {
		c.sb.store.facts(facts)
	}
	if c.init, err = compile.NewReroot(r.spec, facts); err != nil {
		return err
	}
	if err := c.init.Verify(); err != nil {
		return err
	}
	if c.sb.store.tamper != nil {
		c.sb.store.tamper(c.init.Program)
	}
	return nil
}

// reroot runs the program. Where it fails, what it has left is taken away; where the root
// is exchanged by then, that is all that was left to do.
func (r *resetting) reroot(ctx context.Context, root *os.File) error {
	err := r.runIn(ctx, r.c.init.Program, root)
	if err == nil {
		return nil
	}
	pivoted, perr := r.pivoted(root)
	if perr != nil {
		return errors.Join(err, perr)
	}
	p := compile.NewUnroot(r.spec, &compile.Facts{}, pivoted)
	uerr := p.Verify()
	if uerr == nil {
		uerr = r.runIn(context.WithoutCancel(ctx), p, root)
	}
	switch {
	case uerr != nil:
		return errors.Join(err, fmt.Errorf("undo: %w", uerr))
	case pivoted:
		slog.Warn("reset: done with a second attempt", "error", err)
		return nil
	}
	return err
}

// pivoted says whether init stands on another root than it did.
func (r *resetting) pivoted(root *os.File) (bool, error) {
	was, err := kernel.Statx(int(root.Fd()), "")
	if err != nil {
		return false, err
	}
	is, err := kernel.Statx(unix.AT_FDCWD, fmt.Sprintf("/proc/%d/root", r.now.rec.Init.Pid))
	if err != nil {
		return false, err
	}
	return was.Mnt_id != is.Mnt_id, nil
}

// runIn runs a program that ends at BarrierDone.
func (r *resetting) runIn(ctx context.Context, p *program.Program, root *os.File) error {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	o := &engine.Options{
		Name: "adl-reset", Files: []uintptr{null.Fd(), null.Fd(), null.Fd()}, CgroupFD: -1,
		Named: map[string]int{compile.FileInit: r.pidfd, compile.FileRoot: int(root.Fd())},
	}
	if r.mount != nil {
		o.Named[compile.FileLayer] = int(r.mount.Fd())
	}
	var child *engine.Child
	err = kernel.WithPidNamespace(r.pidfd, func() (err error) {
		child, err = engine.Start(p, o)
		return err
	})
	if err != nil {
		return err
	}
	r.c.child = child
	done, err := r.followReroot(ctx)
	if !done || err != nil {
		_ = unix.Kill(child.Pid, unix.SIGKILL)
	}
	reap(child.Pid)
	child.Close()
	return err
}

// followReroot answers the program's records.
func (r *resetting) followReroot(ctx context.Context) (done bool, err error) {
	c := r.c
	for {
		rec, err := c.child.Next()
		switch {
		case err == io.EOF && done:
			return true, nil
		case err == io.EOF:
			return false, errors.New("the program that makes the new root ended before it was done")
		case err != nil:
			closeAll(rec.Files)
			return false, err
		case rec.Barrier == compile.BarrierDone:
			done = true
		case rec.Barrier == compile.BarrierCopyUp, rec.Barrier >= compile.BarrierTarget:
			if err := c.barrier(ctx, rec); err != nil {
				return false, c.explain(err)
			}
		default:
			closeAll(rec.Files)
			return false, fmt.Errorf("the program that makes the new root is at barrier %d", rec.Barrier)
		}
	}
}

// movedTo writes down which layer the container is on now.
func (r *resetting) movedTo() error {
	r.now.rec.Init.Layer = r.next.Key()
	if err := replaceFile(r.entry.join(initFile), r.now.rec.Init.appendJSON(nil)); err != nil {
		return err
	}
	r.now.read = stampOf(r.entry.path)
	return nil
}

// clearIPC begins to remove the System V objects and the POSIX message queues of the
// container's IPC namespace, if it has one of its own, and says when it has.
func (r *resetting) clearIPC() <-chan error {
	done := make(chan error, 1)
	if !hasOwn(r.spec, specs.IPCNamespace) {
		done <- nil
		return done
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/ipc", r.now.rec.Init.Pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		done <- fmt.Errorf("ipc namespace: %w", err)
		return done
	}
	go func() {
		err := kernel.ClearIPC(fd)
		unix.Close(fd)
		if err != nil {
			err = fmt.Errorf("ipc namespace: %w", err)
		}
		done <- err
	}()
	return done
}
