package program

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// flagName is the name of a set of bits, or, in an enumeration, of a value.
type flagName struct {
	bits uint64
	name string
}

// flagText spells v with the given names; what they do not cover follows as a
// number.
func flagText(names []flagName, v uint64) string {
	var list []string
	rest := v
	for _, f := range names {
		if f.bits == v {
			return f.name
		}
		if f.bits != 0 && rest&f.bits == f.bits {
			list = append(list, f.name)
			rest &^= f.bits
		}
	}
	if rest != 0 || len(list) == 0 {
		list = append(list, fmt.Sprintf("%#x", rest))
	}
	return strings.Join(list, "|")
}

// flagsOf returns the names of the flags of argument k. CLOEXEC flags have none:
// every descriptor is close-on-exec, and saying so in each line hides the rest.
func flagsOf(op *Op, k int) []flagName {
	switch op.Call {
	case unix.SYS_OPENAT:
		return openFlags()
	case unix.SYS_OPEN_TREE, unix.SYS_MOUNT_SETATTR, unix.SYS_EXECVEAT:
		return []flagName{{unix.OPEN_TREE_CLOEXEC, "CLOEXEC"}, {unix.OPEN_TREE_CLONE, "OPEN_TREE_CLONE"}, {unix.AT_RECURSIVE, "AT_RECURSIVE"}, {unix.AT_SYMLINK_NOFOLLOW, "AT_SYMLINK_NOFOLLOW"}, {unix.AT_EMPTY_PATH, "AT_EMPTY_PATH"}}
	case unix.SYS_MOVE_MOUNT:
		return []flagName{{unix.MOVE_MOUNT_F_EMPTY_PATH, "F_EMPTY_PATH"}, {unix.MOVE_MOUNT_T_EMPTY_PATH, "T_EMPTY_PATH"}}
	case unix.SYS_MOUNT:
		return mountFlags()
	case unix.SYS_UMOUNT2:
		return []flagName{{unix.MNT_DETACH, "MNT_DETACH"}}
	case unix.SYS_FSOPEN:
		return []flagName{{unix.FSOPEN_CLOEXEC, "CLOEXEC"}}
	case unix.SYS_FSMOUNT:
		if k == 1 {
			return []flagName{{unix.FSMOUNT_CLOEXEC, "CLOEXEC"}}
		}
		return attrFlags()
	case unix.SYS_FSCONFIG:
		return []flagName{{unix.FSCONFIG_SET_FLAG, "SET_FLAG"}, {unix.FSCONFIG_SET_STRING, "SET_STRING"}, {unix.FSCONFIG_CMD_CREATE, "CMD_CREATE"}}
	case unix.SYS_SETNS, unix.SYS_UNSHARE, unix.SYS_CLONE:
		return cloneFlags()
	case unix.SYS_PRCTL:
		return prctlNames()
	case unix.SYS_KEYCTL:
		return []flagName{{unix.KEYCTL_JOIN_SESSION_KEYRING, "KEYCTL_JOIN_SESSION_KEYRING"}, {unix.KEYCTL_SETPERM, "KEYCTL_SETPERM"}}
	case unix.SYS_FCNTL:
		if k == 2 {
			return []flagName{{unix.FD_CLOEXEC, "FD_CLOEXEC"}}
		}
		return []flagName{{unix.F_SETFD, "F_SETFD"}}
	case unix.SYS_IOCTL:
		return []flagName{{unix.SIOCSIFFLAGS, "SIOCSIFFLAGS"}, {unix.TIOCSPTLCK, "TIOCSPTLCK"}, {unix.TIOCGPTPEER, "TIOCGPTPEER"}, {unix.TIOCSWINSZ, "TIOCSWINSZ"}, {unix.TIOCSCTTY, "TIOCSCTTY"}}
	case unix.SYS_SECCOMP:
		if k == 0 {
			return []flagName{{unix.SECCOMP_SET_MODE_FILTER, "SET_MODE_FILTER"}}
		}
		return []flagName{{unix.SECCOMP_FILTER_FLAG_LOG, "LOG"}, {unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, "SPEC_ALLOW"}, {unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, "NEW_LISTENER"}, {unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, "WAIT_KILLABLE_RECV"}}
	case unix.SYS_DUP3:
		if k == 2 {
			return []flagName{{unix.O_CLOEXEC, "CLOEXEC"}}
		}
		return decimals(op.Args[k].Val)
	}
	return nil
}

// decimals makes a number its own name.
func decimals(v uint64) []flagName { return []flagName{{v, fmt.Sprint(v)}} }

func openFlags() []flagName {
	return []flagName{
		{unix.O_PATH | unix.O_CLOEXEC, "O_PATH"},
		{unix.O_WRONLY | unix.O_CLOEXEC, "O_WRONLY"},
		{unix.O_PATH, "O_PATH"},
		{unix.O_WRONLY, "O_WRONLY"},
		{unix.O_RDWR, "O_RDWR"},
		{unix.O_DIRECTORY, "O_DIRECTORY"},
		{unix.O_NOFOLLOW, "O_NOFOLLOW"},
		{unix.O_NOCTTY, "O_NOCTTY"},
		{unix.O_CLOEXEC, "O_CLOEXEC"},
	}
}

func resolveFlags() []flagName {
	return []flagName{
		{unix.RESOLVE_IN_ROOT, "IN_ROOT"},
		{unix.RESOLVE_BENEATH, "BENEATH"},
		{unix.RESOLVE_NO_XDEV, "NO_XDEV"},
		{unix.RESOLVE_NO_MAGICLINKS, "NO_MAGICLINKS"},
		{unix.RESOLVE_NO_SYMLINKS, "NO_SYMLINKS"},
	}
}

func mountFlags() []flagName {
	return []flagName{
		{unix.MS_REC, "MS_REC"},
		{unix.MS_PRIVATE, "MS_PRIVATE"},
		{unix.MS_SLAVE, "MS_SLAVE"},
		{unix.MS_SHARED, "MS_SHARED"},
		{unix.MS_UNBINDABLE, "MS_UNBINDABLE"},
		{unix.MS_MOVE, "MS_MOVE"},
		{unix.MS_REMOUNT, "MS_REMOUNT"},
		{unix.MS_BIND, "MS_BIND"},
		{unix.MS_RDONLY, "MS_RDONLY"},
		{unix.MS_NOSUID, "MS_NOSUID"},
		{unix.MS_NODEV, "MS_NODEV"},
		{unix.MS_NOEXEC, "MS_NOEXEC"},
		{unix.MS_NOSYMFOLLOW, "MS_NOSYMFOLLOW"},
		{unix.MS_NOATIME, "MS_NOATIME"},
		{unix.MS_NODIRATIME, "MS_NODIRATIME"},
		{unix.MS_RELATIME, "MS_RELATIME"},
		{unix.MS_STRICTATIME, "MS_STRICTATIME"},
	}
}

func attrFlags() []flagName {
	return []flagName{
		{unix.MOUNT_ATTR_RDONLY, "RDONLY"},
		{unix.MOUNT_ATTR_NOSUID, "NOSUID"},
		{unix.MOUNT_ATTR_NODEV, "NODEV"},
		{unix.MOUNT_ATTR_NOEXEC, "NOEXEC"},
		{unix.MOUNT_ATTR_NOATIME, "NOATIME"},
		{unix.MOUNT_ATTR_STRICTATIME, "STRICTATIME"},
		{unix.MOUNT_ATTR_NODIRATIME, "NODIRATIME"},
		{unix.MOUNT_ATTR_NOSYMFOLLOW, "NOSYMFOLLOW"},
	}
}

func cloneFlags() []flagName {
	return []flagName{
		{unix.CLONE_NEWNS, "CLONE_NEWNS"},
		{unix.CLONE_NEWCGROUP, "CLONE_NEWCGROUP"},
		{unix.CLONE_NEWUTS, "CLONE_NEWUTS"},
		{unix.CLONE_NEWIPC, "CLONE_NEWIPC"},
		{unix.CLONE_NEWUSER, "CLONE_NEWUSER"},
		{unix.CLONE_NEWPID, "CLONE_NEWPID"},
		{unix.CLONE_NEWNET, "CLONE_NEWNET"},
		{unix.CLONE_NEWTIME, "CLONE_NEWTIME"},
		{unix.CLONE_PARENT, "CLONE_PARENT"},
		{unix.CLONE_VM, "CLONE_VM"},
		{unix.CLONE_VFORK, "CLONE_VFORK"},
		{unix.CLONE_FILES, "CLONE_FILES"},
		{uint64(unix.SIGCHLD), "SIGCHLD"},
	}
}

// prctlNames is an enumeration.
func prctlNames() []flagName {
	return []flagName{
		{unix.PR_SET_DUMPABLE, "PR_SET_DUMPABLE"},
		{unix.PR_SET_TIMERSLACK, "PR_SET_TIMERSLACK"},
		{unix.PR_SET_KEEPCAPS, "PR_SET_KEEPCAPS"},
		{unix.PR_CAPBSET_DROP, "PR_CAPBSET_DROP"},
		{unix.PR_CAP_AMBIENT, "PR_CAP_AMBIENT"},
		{unix.PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS"},
		{unix.PR_SET_CHILD_SUBREAPER, "PR_SET_CHILD_SUBREAPER"},
		{unix.PR_SET_NAME, "PR_SET_NAME"},
	}
}
