package kernel

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// WithPidNamespace calls f on a thread whose children are born in the pid namespace of the
// process that pidfd refers to (setns(2), Linux 5.8).
func WithPidNamespace(pidfd int, f func() error) error {
	return onThread("pid_for_children", pidfd, unix.CLONE_NEWPID, f)
}

// NamespaceInode returns the inode of the namespace that /proc/PID/ns/NAME names, for the
// process that pidfd refers to, or 0. Linux 6.11 tells it without procfs (ioctl_pidfd(2)),
// in a third of the time.
func NamespaceInode(pidfd, pid int, name string) uint64 {
	const get = 0xff00 // _IO(PIDFS_IOCTL_MAGIC, 0)
	var st unix.Stat_t
	if n := namespaceNumber(name); n > 0 {
		fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(pidfd), uintptr(get+n), 0)
		if errno == 0 {
			err := unix.Fstat(int(fd), &st)
			unix.Close(int(fd))
			if err == nil {
				return st.Ino
			}
		}
	}
	if unix.Stat("/proc/"+strconv.Itoa(pid)+"/ns/"+name, &st) != nil {
		return 0
	}
	return st.Ino
}

// namespaceNumber is the request's number in linux/pidfd.h.
func namespaceNumber(name string) int {
	switch name {
	case "cgroup":
		return 1
	case "ipc":
		return 2
	case "mnt":
		return 3
	case "net":
		return 4
	case "pid":
		return 5
	case "time":
		return 7
	case "user":
		return 9
	case "uts":
		return 10
	}
	return 0
}
