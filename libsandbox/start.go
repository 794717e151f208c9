package libsandbox

import (
	"context"
	"errors"
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/compile"
	"adl.run/adl-runtime/libsandbox/internal/engine"
	"adl.run/adl-runtime/libsandbox/internal/kernel"
	"adl.run/adl-runtime/libsandbox/internal/program"
)

// Start lets a created container execute its process and returns when it does.
// ErrNotCreated: the container has been started, or is stopped.
func (sb *Sandbox) Start(ctx context.Context) error {
	e, err := sb.refresh()
	if err != nil {
		return err
	}
	defer e.close()
	switch status := sb.currentStatus(); status {
	case specs.StateCreated:
	case specs.StateStopped:
		return kindError{errors.New("cannot start a container that has stopped"), ErrNotCreated}
	case specs.StateRunning:
		return kindError{errors.New("cannot start an already running container"), ErrNotCreated}
	default:
		return kindError{fmt.Errorf("cannot start a container in the %s state", status), ErrNotCreated}
	}
	if h := sb.rec.Hooks; h != nil && len(h.StartContainer) > 0 {
		s, err := e.config()
		if err != nil {
			return err
		}
		if err := sb.startContainerHooks(ctx, s); err != nil {
			_ = sb.killAll()
			return err
		}
	}
	if err := sb.release(e); err != nil {
		return err
	}
	return sb.poststart(ctx)
}

// release tells init to execute the process and waits until it does.
func (sb *Sandbox) release(e *entry) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("start socket: %w", err)
	}
	defer unix.Close(fd)
	if err := kernel.Retry(func() error { return unix.Connect(fd, e.startAddress()) }); err != nil {
		return fmt.Errorf("start socket: %w", err)
	}
	if _, err := unix.Write(fd, []byte{1}); err != nil {
		return fmt.Errorf("start socket: %w", err)
	}
	if err := engine.DecodeFault(fd, execFault{sb.rec.Arg0, sb.rec.ExecOp}); err != nil {
		return err
	}
	_ = unix.Unlink(e.join(startFile)) // connecting again would be refused anyway
	return nil
}

// execFault explains the faults that can occur after the start.
type execFault struct {
	arg0 string
	exec int // the last op
}

func (f execFault) Explain(op int, errno unix.Errno) error {
	if op < f.exec {
		return &program.Fault{Op: op, Errno: errno, Note: "linux.seccomp", Text: "load the filter: "}
	}
	return &program.Fault{Op: op, Errno: errno, Note: "process.args[0]", Text: compile.ExecFault(f.arg0)}
}
