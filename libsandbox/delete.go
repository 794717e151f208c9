package libsandbox

import (
	"context"
	"fmt"
	"log/slog"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/cgroup"
	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// DeleteOptions are the choices of Delete; nil is the zero value.
type DeleteOptions struct {
	// Force kills a running container first.
	Force bool
}

// Delete removes a stopped or created container and everything it consists of,
// then runs its poststop hooks. ErrRunning: it is neither, and Force is not set.
func (sb *Sandbox) Delete(ctx context.Context, o *DeleteOptions) error {
	err := sb.remove(ctx, o)
	if err == nil {
		sb.closeSessions()
	}
	return err
}

func (sb *Sandbox) remove(ctx context.Context, o *DeleteOptions) error {
	defer sb.store.work()()
	e, err := sb.refresh()
	if err != nil {
		return err
	}
	defer e.close()
	if o == nil || !o.Force {
		switch status := sb.currentStatus(); status {
		case specs.StateStopped, specs.StateCreated:
		default:
			return kindError{fmt.Errorf("cannot delete container %s that is not stopped: %s", sb.id, status), ErrRunning}
		}
	}
	return sb.destroy(ctx, e)
}

// destroy removes the container. Every step works on what an earlier, interrupted
// one has left; the directory goes last, so that there is always a name to call.
func (sb *Sandbox) destroy(ctx context.Context, e *entry) error {
	sb.unwatch()
	cg, err := cgroup.Load(sb.rec.Cgroup) // refuses paths that are no container's
	if err != nil {
		return err
	}
	if err := sb.killAll(); err != nil {
		return err
	}
	sb.reapKilled()
	if !sb.rec.OwnPid || sb.rec.Init.Pid == 0 || cg.Halted() {
		if err := cg.Kill(); err != nil { // what init has left behind, or an exec that is kept from noticing
			return err
		}
	}
	sb.rec.detach() // a mount on the cgroup would keep it
	if err := cg.Destroy(); err != nil {
		return err
	}
	if err := sb.removeRdt(); err != nil {
		return err
	}
	if err := sb.dropLayers(e); err != nil {
		slog.Warn("container " + sb.id + ": " + err.Error() + "; gc will give them up")
	}
	if h := sb.rec.Hooks; h != nil {
		warnHooks(ctx, "poststop", h.Poststop, sb.rec.hookState(specs.StateStopped, 0))
	}
	return e.remove()
}

// detach takes the root filesystem's mounts off a host that shares its mount
// namespace with the container, unless that has happened or has not begun: what is
// then at Rootfs may be a mount of the manager's.
func (r *record) detach() {
	if r.RootMount != 0 && kernel.MountID(r.Rootfs) != r.RootMount {
		_ = unix.Unmount(r.Rootfs, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
}
