package libsandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/engine"
	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// child is what only the process that made a container has of it.
type child struct {
	*engine.Child
	console *os.File
	once    sync.Once
	reaped  atomic.Bool
	status  unix.WaitStatus
	err     error
}

// reap waits for the end of init and takes it out of the process table. Whoever
// comes later gets the same answer.
func (c *child) reap() (unix.WaitStatus, error) {
	c.once.Do(func() {
		c.err = kernel.Retry(func() error { _, err := unix.Wait4(c.Pid, &c.status, 0, nil); return err })
		c.reaped.Store(true)
	})
	return c.status, c.err
}

// ended says whether init has been reaped, and its status then.
func (c *child) ended() (unix.WaitStatus, bool) {
	if !c.reaped.Load() {
		return 0, false
	}
	return c.status, true
}

// Console returns the master of the terminal of a container that was made with
// KeepConsole, and nil otherwise. The caller owns it.
func (sb *Sandbox) Console() *os.File {
	c, _ := sb.waited()
	if c == nil {
		return nil
	}
	return c.console
}

// Pid returns the pid of init as this process sees it, 0 for none.
func (sb *Sandbox) Pid() int {
	_, init := sb.waited()
	return init.Pid
}

// Wait waits for the end of init, which it reaps, and returns its status. A reset by this
// process is not the end. Wait works only in the process that started init. Delete reaps
// as well.
func (sb *Sandbox) Wait(ctx context.Context) (unix.WaitStatus, error) {
	for {
		c, init := sb.waited()
		status, err := c.wait(ctx, init)
		if err != nil || !sb.goesOn(ctx, c) {
			return status, err
		}
	}
}

// waited is the init to wait for.
func (sb *Sandbox) waited() (*child, initRecord) {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	return sb.child, sb.rec.Init
}

// goesOn says whether there is another init in place of c, which has ended.
func (sb *Sandbox) goesOn(ctx context.Context, c *child) bool {
	sb.mu.Lock()
	renewing := sb.renewing
	sb.mu.Unlock()
	if renewing != nil {
		select {
		case <-renewing:
		case <-ctx.Done():
		}
	}
	now, _ := sb.waited()
	return now != c
}

func (c *child) wait(ctx context.Context, init initRecord) (unix.WaitStatus, error) {
	if c == nil {
		return 0, errors.New("wait: the container was made by another process")
	}
	if ctx.Done() != nil {
		fd, err := init.Open()
		if err != nil && !errors.Is(err, unix.ESRCH) { // ESRCH: reaped before
			return 0, fmt.Errorf("wait: %w", err)
		}
		if err == nil {
			done, err := waitExitContext(ctx, fd, -1)
			unix.Close(fd)
			if err != nil || !done {
				return 0, errors.Join(err, ctx.Err())
			}
		}
	}
	ws, err := c.reap()
	if err != nil {
		return 0, fmt.Errorf("wait: %w", err)
	}
	return ws, nil
}

// reapKilled reaps an init that has ended and that nobody has waited for.
func (sb *Sandbox) reapKilled() {
	c, init := sb.waited()
	if c == nil {
		return
	}
	if fd, err := init.Open(); err == nil {
		unix.Close(fd)
		_, _ = c.reap()
	}
}
