package kernel

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// WithPidNamespace calls f on a thread whose children are born in the pid namespace of the
// process that pidfd refers to (setns(2), Linux 5.8).
func WithPidNamespace(pidfd int, f func() error) error {
	runtime.LockOSThread()
	own, err := unix.Open("/proc/thread-self/ns/pid", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return os.NewSyscallError("open pid namespace", err)
	}
	defer unix.Close(own)
	if err := unix.Setns(pidfd, unix.CLONE_NEWPID); err != nil {
		runtime.UnlockOSThread()
		return os.NewSyscallError("setns", err)
	}
	err = f()
	if serr := unix.Setns(own, unix.CLONE_NEWPID); serr != nil {
		// The thread stays locked, and ends with the goroutine.
		return os.NewSyscallError("setns", serr)
	}
	runtime.UnlockOSThread()
	return err
}
