package kernel

import (
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// Aside calls f on a thread of its own, which does not share its root directory, working
// directory and umask with the others, so that it can enter mount namespaces (setns(2)).
// The thread ends with f, and Aside returns when it has ended: then it is in no namespace
// any more.
func Aside(f func() error) error {
	done := make(chan ended, 1)
	go aside(f, done)
	e := <-done
	for n := 0; e.tid != 0 && unix.Tgkill(unix.Getpid(), e.tid, 0) == nil; n++ {
		if n < 1000 {
			Yield()
		} else {
			time.Sleep(100 * time.Microsecond)
		}
	}
	return e.err
}

// ended is what a thread says at its end, which tid is 0 for where it is none.
type ended struct {
	tid int
	err error
}

func aside(f func() error, done chan<- ended) {
	runtime.LockOSThread()
	tid := unix.Gettid()
	if tid == unix.Getpid() {
		// The first thread cannot end before the process does. While it is held here,
		// this is another one.
		done <- ended{err: Aside(f)}
		runtime.UnlockOSThread()
		return
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		done <- ended{tid, os.NewSyscallError("unshare", err)}
		return
	}
	done <- ended{tid, f()}
}
