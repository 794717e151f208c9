package libsandbox

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/engine"
	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// child is what only the process that made a container has of it.
type child struct {
	*engine.Child
	console *os.File
}

// Console returns the master of the terminal of a container that was made with
// KeepConsole, and nil otherwise. The caller owns it.
func (sb *Sandbox) Console() *os.File {
	if sb.child == nil {
		return nil
	}
	return sb.child.console
}

// Pid returns the pid of init as this process sees it, 0 for none.
func (sb *Sandbox) Pid() int { return sb.rec.Init.Pid }

// Wait waits for the end of init, which it reaps, and returns its status. It works
// once, and only in the process that made the container.
func (sb *Sandbox) Wait(ctx context.Context) (unix.WaitStatus, error) {
	if sb.child == nil {
		return 0, errors.New("wait: the container was made by another process")
	}
	if ctx.Done() != nil {
		fd, err := sb.rec.Init.Open()
		if err != nil {
			return 0, fmt.Errorf("wait: %w", err)
		}
		done, err := waitExitContext(ctx, fd, -1)
		unix.Close(fd)
		if err != nil || !done {
			return 0, errors.Join(err, ctx.Err())
		}
	}
	var ws unix.WaitStatus
	err := kernel.Retry(func() error { _, err := unix.Wait4(sb.child.Pid, &ws, 0, nil); return err })
	if err != nil {
		return 0, fmt.Errorf("wait: %w", err)
	}
	sb.child = nil
	return ws, nil
}
