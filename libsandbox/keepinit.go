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
// meanwhile, as nobody in the container may run: the program that does it enters its
// namespaces, or comes to life in its pid namespace, with the host's privileges.
func (r *resetting) keepInit(ctx context.Context) error {
	if r.pidfd < 0 {
		return fmt.Errorf("%w", ErrNotRunning)
	}
	if err := r.compileReroot(); err != nil {
		return err
	}
	if err := r.cgroup.Isolate(r.now.rec.Init.Pid); err != nil {
		return err
	}
	r.step("isolated")
	if r.status != StatePaused {
		defer func() { _ = r.cgroup.Thaw() }()
	}
	r.made.reapExecs()
	held, err := r.oldRoot()
	if err != nil {
		return err
	}
	r.held = held
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

// oldRoot opens the root directory of init, which stands still, and makes sure that it is
// where the runtime has put it: with the privileges for that it may have gone elsewhere.
func (r *resetting) oldRoot() (*os.File, error) {
	pid := r.now.rec.Init.Pid
	held := openOldRoot(pid)
	if held == nil {
		return nil, fmt.Errorf("%w", ErrNotRunning)
	}
	err := r.atHome(held)
	if ended, _ := kernel.WaitExit(r.pidfd, 0); ended { // and the number may be another's
		err = fmt.Errorf("%w", ErrNotRunning)
	}
	if err != nil {
		held.Close()
		return nil, err
	}
	return held, nil
}

func (r *resetting) atHome(root *os.File) error {
	if left := r.left(); len(left) > 0 {
		return fmt.Errorf("init has left its %s namespace: restart it instead", left[0])
	}
	st, err := kernel.Statx(int(root.Fd()), "")
	if err != nil {
		return fmt.Errorf("root directory of init: %w", err)
	}
	mounts, err := kernel.Mounts(r.now.rec.Init.Pid)
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if m.ID == st.Mnt_id && m.Shows(r.old) && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
			return nil
		}
	}
	return errors.New("init has changed its root directory: restart it instead")
}

// compileReroot compiles the program.
func (r *resetting) compileReroot() error {
	c := r.c
	facts, err := c.facts(c.sb.store)
	if err != nil {
		return err
	}
	if was := c.compiledBefore(facts); was != nil {
		c.init = was.init
		return nil
	}
	if c.init, err = compile.NewReroot(r.spec, facts); err != nil {
		return err
	}
	if err := c.init.Verify(); err != nil {
		return err
	}
	c.keepCompiled(facts)
	if c.sb.store.tamper != nil {
		c.sb.store.tamper(c.init.Program)
	}
	return nil
}

// reroot runs the program. Where it fails, what it has left is taken away; where the root
// is exchanged by then, that is all that was left to do.
func (r *resetting) reroot(ctx context.Context, root *os.File) error {
	run := r.runIn
	if r.c.init.Aside {
		run = r.runAside
	}
	err := run(ctx, r.c.init.Program, root)
	if err == nil {
		return nil
	}
	pivoted, perr := r.pivoted(root)
	if perr != nil {
		return errors.Join(err, perr)
	}
	p := compile.NewUnroot(r.spec, &compile.Facts{}, pivoted)
	uerr := p.Verify()
	if pivoted && uerr == nil {
		uerr = r.emptyAttic()
	}
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

// attic is a tmpfs that a program moves the old root to.
type attic struct{ fd int }

func (a *attic) Fd() uintptr { return uintptr(a.fd) }

// newAttic makes one, unattached.
func newAttic() (*attic, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("fsopen tmpfs", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, os.NewSyscallError("fsconfig tmpfs", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fsmount tmpfs", err)
	}
	if err := unix.Mkdirat(fd, compile.AtticDir, 0o700); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("mkdirat", err)
	}
	return &attic{fd}, nil
}

// emptyAttic removes the directory that the old root is on. In this mount namespace it is
// no mount point.
func (r *resetting) emptyAttic() error {
	err := unix.Unlinkat(r.attic.fd, compile.AtticDir, unix.AT_REMOVEDIR)
	if err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove the old root: %w", err)
	}
	return nil
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

// runAside runs a program without a process of its own.
func (r *resetting) runAside(_ context.Context, p *program.Program, root *os.File) error {
	named, err := r.rerootFiles(root)
	if err != nil {
		return err
	}
	host, err := unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open mount namespace", err)
	}
	defer unix.Close(host)
	named[compile.FileHost] = host
	return engine.RunAside(p, named)
}

// rerootFiles are the descriptors that the programs have in common.
func (r *resetting) rerootFiles(root *os.File) (map[string]int, error) {
	if r.attic == nil {
		attic, err := newAttic()
		if err != nil {
			return nil, err
		}
		r.attic = attic
		r.fds.add(int(attic.Fd()))
	}
	named := map[string]int{compile.FileInit: r.pidfd, compile.FileRoot: int(root.Fd()), compile.FileAttic: int(r.attic.Fd())}
	if r.ahead.mount != nil {
		named[compile.FileLayer] = int(r.ahead.mount.Fd())
	}
	return named, nil
}

// runIn runs a program that ends at BarrierDone.
func (r *resetting) runIn(ctx context.Context, p *program.Program, root *os.File) error {
	named, err := r.rerootFiles(root)
	if err != nil {
		return err
	}
	files, err := openFiles(&r.fds, nil, nil, nil, nil)
	if err != nil {
		return err
	}
	o := &engine.Options{Name: "adl-reset", Files: files, CgroupFD: -1, Named: named}
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
			kernel.Close(rec.Files...)
			return false, err
		case rec.Barrier == compile.BarrierDone:
			done = true
		case rec.Barrier == compile.BarrierAttic:
			if err := r.emptyAttic(); err != nil {
				return false, err
			}
			if err := c.child.Release(); err != nil {
				return false, c.explain(err)
			}
		case rec.Barrier == compile.BarrierCopyUp, rec.Barrier >= compile.BarrierTarget:
			if err := c.barrier(ctx, rec); err != nil {
				return false, c.explain(err)
			}
		default:
			kernel.Close(rec.Files...)
			return false, fmt.Errorf("the program that makes the new root is at barrier %d", rec.Barrier)
		}
	}
}

// movedTo writes down which layer the container is on now.
func (r *resetting) movedTo() error {
	r.now.rec.Init.Layer = r.next.Key()
	if r.mode != "" { // and no snapshot
		r.now.rec.Init.Volumes = volumeKeys(r.volumes)
		r.now.rec.Init.Resets++
	}
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
	if !compile.HasOwn(r.spec, specs.IPCNamespace) {
		done <- nil
		return done
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/ipc", r.now.rec.Init.Pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		if ended, _ := kernel.WaitExit(r.pidfd, 0); ended {
			unix.Close(fd) // the number is another's now
			err = unix.ESRCH
		}
	}
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
