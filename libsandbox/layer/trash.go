package layer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Pace is how fast Empty deletes: after every Files files, each of those who delete does
// nothing for Pause. The zero Pace is without pauses.
type Pace struct {
	Files int
	Pause time.Duration
}

// Empty deletes what is in the trash, and comes back when there is nothing in it any
// more, or ctx is done. Only one process or goroutine does that at a time: ErrBusy for
// others, who can rely on it. What cannot be deleted is left and named by the error,
// after the rest is deleted.
func (r *Root) Empty(ctx context.Context, p Pace) error {
	e := emptying{r: r, pace: p}
	for first := true; ; first = false {
		err := e.once(ctx)
		if errors.Is(err, ErrBusy) && !first {
			return nil // who has it now began after us
		}
		if err != nil {
			return err
		}
		// Whoever was told that the trash is being emptied, while it was not any
		// more, relies on this look.
		if n, err := e.left(); n == 0 || err != nil {
			break
		}
	}
	if r.memory {
		e.errs = append(e.errs, r.unmount())
	}
	return errors.Join(e.errs...)
}

// after returns what is called after each file.
func (p Pace) after(ctx context.Context) func() error {
	n := 0
	return func() error {
		if n++; p.Files <= 0 || n%p.Files != 0 || p.Pause <= 0 {
			return ctx.Err()
		}
		t := time.NewTimer(p.Pause)
		defer t.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
			return nil
		}
	}
}

// emptying is one call of Empty.
type emptying struct {
	r    *Root
	pace Pace

	mu     sync.Mutex
	failed []string // keys
	errs   []error
}

// With so many layers in the trash two goroutines delete, with twice as many three, up to
// maxDeleters: whoever makes more of them than one can delete, as a disk takes its time,
// does not pile them up.
const (
	manyLayers  = 16
	maxDeleters = 32
)

// once locks the trash and deletes what is in it.
func (e *emptying) once(ctx context.Context) error {
	root, err := e.r.open()
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(root)
	lock, err := openDir(root, trashDir) // itself: on a full disk there is no room for a file
	if err == unix.ENOENT {              // whoever made the root did not get so far
		return nil
	}
	if err != nil {
		return fmt.Errorf("lock the trash: %w", err)
	}
	defer unix.Close(lock)
	if err := unix.Flock(lock, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if err == unix.EWOULDBLOCK {
			err = ErrBusy
		}
		return fmt.Errorf("lock the trash: %w", err)
	}
	for {
		keys, err := e.todo(root)
		if err != nil || len(keys) == 0 {
			return err
		}
		var next atomic.Int64
		work := func() {
			w := walk{pause: e.pace.after(ctx)}
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(keys) {
					return
				}
				e.delete(ctx, root, keys[i], &w)
			}
		}
		var others sync.WaitGroup
		for range min(len(keys)/manyLayers, maxDeleters-1) {
			others.Go(work)
		}
		work()
		others.Wait()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// delete deletes a layer. One that cannot be deleted is not tried again.
func (e *emptying) delete(ctx context.Context, root int, key string, w *walk) {
	err := e.r.remove(root, key, w)
	if err == nil || ctx.Err() != nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failed = append(e.failed, key)
	e.errs = append(e.errs, fmt.Errorf("delete layer %s: %w", key, err))
}

// todo lists the trash without what could not be deleted.
func (e *emptying) todo(root int) ([]string, error) {
	keys, err := trashed(root)
	return slices.DeleteFunc(keys, func(key string) bool { return slices.Contains(e.failed, key) }), err
}

func (e *emptying) left() (int, error) {
	root, err := e.r.open()
	if err != nil {
		return 0, err
	}
	defer unix.Close(root)
	keys, err := e.todo(root)
	return len(keys), err
}

// trashed lists what is in the trash.
func trashed(root int) ([]string, error) {
	names, err := namesIn(root, trashDir)
	return slices.DeleteFunc(names, func(name string) bool { return name == lockFile }), err
}

// TrashLen returns how many layers wait to be deleted.
func (r *Root) TrashLen() (int, error) {
	e := emptying{r: r}
	n, err := e.left()
	if errors.Is(err, unix.ENOENT) {
		return 0, nil
	}
	return n, err
}
