package kernel

import "golang.org/x/sys/unix"

// WithPidNamespace calls f on a thread whose children are born in the pid namespace of the
// process that pidfd refers to (setns(2), Linux 5.8).
func WithPidNamespace(pidfd int, f func() error) error {
	return onThread("pid_for_children", pidfd, unix.CLONE_NEWPID, f)
}
