package kernel

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Aside calls f on a thread of its own, which does not share its root directory, working
// directory and umask with the others, so that it can enter mount namespaces (setns(2)).
// The thread ends with f.
func Aside(f func() error) error {
	done := make(chan error, 1)
	go aside(f, done)
	return <-done
}

func aside(f func() error, done chan<- error) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The first thread cannot end before the process does. While it is held here,
		// this is another one.
		done <- Aside(f)
		runtime.UnlockOSThread()
		return
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		done <- os.NewSyscallError("unshare", err)
		return
	}
	done <- f()
}
