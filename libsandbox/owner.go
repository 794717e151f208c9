package libsandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// usedFile is there for a container with a limit on its idle time. When it was last
// modified is when the container was last used, as far as its owner has said so.
const usedFile = "used"

// ownerRecord is the process that a container belongs to.
type ownerRecord struct {
	kernel.ProcessID
	// Namespace is the inode of the pid namespace that Pid is a number of.
	Namespace uint64 `json:"namespace"`
}

// thisProcess is this one as an owner.
func thisProcess() (*ownerRecord, error) {
	id, err := kernel.Identify(os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("identify this process: %w", err)
	}
	return &ownerRecord{id, pidNamespace()}, nil
}

// pidNamespace is the inode of this process's, 0 where /proc does not say.
func pidNamespace() uint64 {
	var st unix.Stat_t
	if unix.Stat("/proc/self/ns/pid", &st) != nil {
		return 0
	}
	return st.Ino
}

// ended says whether the owner has. That of another pid namespace counts as alive: its
// number would be taken for another's.
func (o *ownerRecord) ended() bool {
	return o != nil && o.Namespace == pidNamespace() && !o.Alive()
}

// Expiry says why a container is to be deleted by whoever collects.
type Expiry string

// The reasons.
const (
	// OwnerEnded: the process that made it is gone.
	OwnerEnded Expiry = "its owner has ended"
	// LifetimeOver: it has existed for longer than its Lifetime.
	LifetimeOver Expiry = "its lifetime is over"
	// IdleTooLong: nobody has used it for longer than its Idle time.
	IdleTooLong Expiry = "it was idle for too long"
)

// expired returns why the container, whose entry is at dir, is to be deleted; empty for
// none.
func (r *record) expired(dir string, now time.Time) Expiry {
	created, err := time.Parse(time.RFC3339Nano, r.Created)
	switch {
	case r.Owner.ended():
		return OwnerEnded
	case err == nil && r.Lifetime > 0 && now.Sub(created) > r.Lifetime:
		return LifetimeOver
	case r.Idle <= 0:
		return ""
	}
	var st unix.Stat_t
	if unix.Lstat(filepath.Join(dir, usedFile), &st) == nil {
		// The owner says so four times in that time.
		if used := time.Unix(st.Mtim.Unix()); now.Sub(used) > r.Idle+r.Idle/2 {
			return IdleTooLong
		}
	}
	return ""
}

// Collected is a container that CollectOwned has deleted.
type Collected struct {
	ID  string
	Why Expiry
}

// CollectOwned deletes the containers of the store whose owner has ended and those whose
// Lifetime or Idle time is over. One that another command is working on is left alone. It
// goes on after an error.
func (s *Store) CollectOwned(ctx context.Context) ([]Collected, error) {
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	var done []Collected
	var errs []error
	for _, sb := range all {
		if err := ctx.Err(); err != nil {
			return done, errors.Join(append(errs, err)...)
		}
		if sb.rec.expired(filepath.Join(s.root, sb.id), time.Now()) == "" {
			continue
		}
		why, err := sb.collect(ctx)
		if err != nil {
			errs = append(errs, fmt.Errorf("container %s: %w", sb.id, err))
		} else if why != "" {
			done = append(done, Collected{sb.id, why})
		}
	}
	return done, errors.Join(errs...)
}

// collect deletes the container if that is still called for once it is locked: another of
// its name may have taken its place.
func (sb *Sandbox) collect(ctx context.Context) (Expiry, error) {
	e, err := sb.store.lockWithin(sb.id, 0)
	if errors.Is(err, errBusy) || errors.Is(err, ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer e.close()
	now := &Sandbox{store: sb.store, id: sb.id}
	if err := now.load(e.path); err != nil {
		return "", err
	}
	why := now.rec.expired(e.path, time.Now())
	if why == "" {
		return "", nil
	}
	return why, now.destroy(ctx, e)
}

// limitTime begins to watch the container, if there are limits.
func (sb *Sandbox) limitTime() {
	if sb.rec.Lifetime <= 0 && sb.rec.Idle <= 0 {
		return
	}
	sb.touch()
	sb.ended = make(chan struct{})
	go sb.watchTime(sb.ended, sb.rec.Lifetime, sb.rec.Idle)
}

// touch says that the container is in use.
func (sb *Sandbox) touch() { sb.used.Store(time.Now().UnixNano()) }

// watchTime deletes the container when its time is over.
func (sb *Sandbox) watchTime(ended <-chan struct{}, lifetime, idle time.Duration) {
	born := time.Now()
	var seen int64
	for {
		wait := time.Hour
		if lifetime > 0 {
			wait = min(wait, time.Until(born.Add(lifetime)))
		}
		if idle > 0 {
			wait = min(wait, idle/4)
		}
		t := time.NewTimer(max(wait, 0))
		select {
		case <-ended:
			t.Stop()
			return
		case <-t.C:
		}
		used := sb.lastUsed()
		if lifetime > 0 && time.Since(born) >= lifetime || idle > 0 && time.Since(time.Unix(0, used)) > idle {
			_ = sb.Delete(context.Background(), &DeleteOptions{Force: true}) // gc tries again
			return
		}
		if used != seen {
			seen = used
			sb.sayUsed(used)
		}
	}
}

// lastUsed is when the container was last used, now where a process of Exec runs, in
// nanoseconds since 1970.
func (sb *Sandbox) lastUsed() int64 {
	sb.mu.Lock()
	busy := sb.running > 0
	for p := range sb.execs {
		busy = busy || !p.idle
	}
	sb.mu.Unlock()
	if busy {
		sb.touch()
	}
	return sb.used.Load()
}

// sayUsed tells other processes.
func (sb *Sandbox) sayUsed(at int64) {
	t := []unix.Timespec{unix.NsecToTimespec(at), unix.NsecToTimespec(at)}
	_ = unix.UtimesNanoAt(unix.AT_FDCWD, filepath.Join(sb.store.root, sb.id, usedFile), t, unix.AT_SYMLINK_NOFOLLOW)
}

// unwatch ends the watch.
func (sb *Sandbox) unwatch() {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	if sb.ended != nil {
		close(sb.ended)
		sb.ended = nil
	}
}
