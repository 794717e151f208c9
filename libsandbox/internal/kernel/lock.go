package kernel

import (
	"time"

	"golang.org/x/sys/unix"
)

// Lock is an exclusive flock(2) that gives up, with EWOULDBLOCK, after limit. Closing
// the descriptor unlocks.
func Lock(fd int, limit time.Duration) error {
	end := time.Now().Add(limit)
	for wait := 100 * time.Microsecond; ; wait = min(2*wait, 10*time.Millisecond) {
		err := Retry(func() error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
		if err != unix.EWOULDBLOCK || !time.Now().Before(end) {
			return err
		}
		time.Sleep(wait)
	}
}
