package kernel

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func openLock(t *testing.T, dir string) int {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// Who gives up leaves the lock to others, also when it becomes free later.
func TestLockGivesUp(t *testing.T) {
	dir := t.TempDir()
	holder := openLock(t, dir)
	if err := Lock(holder, 0); err != nil {
		t.Fatal(err)
	}
	for _, limit := range []time.Duration{0, 300 * time.Microsecond, 30 * time.Millisecond} {
		fd, begin := openLock(t, dir), time.Now()
		if err := Lock(fd, limit); err != unix.EWOULDBLOCK || time.Since(begin) < limit {
			t.Errorf("limit %v: %v after %v", limit, err, time.Since(begin))
		}
		unix.Close(fd)
	}
	unix.Close(holder)
	fd := openLock(t, dir)
	defer unix.Close(fd)
	if err := Lock(fd, 10*time.Second); err != nil {
		t.Error(err)
	}
	if other := openLock(t, dir); Lock(other, 0) != unix.EWOULDBLOCK {
		t.Error("a lock that was waited for does not hold")
	} else {
		unix.Close(other)
	}
}

// Who waits gets the lock beside others who take it again as soon as they have let go.
func TestLockIsFair(t *testing.T) {
	dir := t.TempDir()
	var stop atomic.Bool
	var others sync.WaitGroup
	for range 4 {
		others.Go(func() {
			for !stop.Load() {
				fd := openLock(t, dir)
				if Lock(fd, 10*time.Second) == nil {
					time.Sleep(2 * time.Millisecond)
				}
				unix.Close(fd)
			}
		})
	}
	var took time.Duration
	for range 10 { // 0.9 s each by trying again and again
		time.Sleep(10 * time.Millisecond) // the others wait in line again
		fd, begin := openLock(t, dir), time.Now()
		if err := Lock(fd, 10*time.Second); err != nil {
			t.Error(err)
		}
		took += time.Since(begin)
		unix.Close(fd)
	}
	if took > 3*time.Second {
		t.Errorf("10 locks took %v", took)
	}
	stop.Store(true)
	others.Wait()
}
