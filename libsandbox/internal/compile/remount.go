package compile

import (
	"strconv"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// statfsFlags is the slot of f_flags within struct statfs (fstatfs(2)).
const statfsFlags = 10

// mountFlag is one attribute in its three encodings: of fstatfs(2), mount(2) and
// mount_setattr(2).
type mountFlag struct {
	st   uint64 // ST_*
	ms   int
	attr uint64
}

// remount is setattr for kernels without mount_setattr(2), which came with Linux
// 5.12. mount(2) replaces all attributes, so those that the change leaves alone are
// looked up, and there is one call for each combination of them.
func (c *compiler) remount(m program.Slot, a attrs) {
	r := remounting{path: c.String("/")}
	if m != c.root { // which it is by now, and which may have no /proc
		r.path = c.String("/proc/self/fd/" + strconv.Itoa(c.scratch))
		c.Emit(unix.SYS_DUP3, program.Val(m), program.Num(c.scratch), program.Num(unix.O_CLOEXEC))
	}
	c.Emit(unix.SYS_FSTATFS, program.Val(m), program.Out(c.st, statfsSlots))
	flags, kept := a.remountFlags()
	// mount(2) takes no flag about access times for keeping them all.
	r.atime = a.clear&unix.MOUNT_ATTR__ATIME != 0 || (a.set|a.clear)&unix.MOUNT_ATTR_NODIRATIME != 0
	c.remountKeeping(&r, kept, flags)
	c.Bind(&r.done)
	if m != c.root {
		c.Emit(unix.SYS_CLOSE, program.Num(c.scratch))
	}
}

// remounting is what all calls of one change have in common.
type remounting struct {
	path  program.Arg
	atime bool // the change says something about access times
	done  program.Label
}

// remountKeeping emits a decision for each flag in kept and a call for each way
// through them.
func (c *compiler) remountKeeping(r *remounting, kept []mountFlag, flags int) {
	if len(kept) == 0 {
		if r.atime && flags&(unix.MS_NOATIME|unix.MS_RELATIME) == 0 {
			flags |= unix.MS_STRICTATIME
		}
		c.OnSuccess(c.Emit(unix.SYS_MOUNT, program.Num(0), r.path, program.Num(0), program.Num(flags)), &r.done)
		return
	}
	var unset program.Label
	i := c.Check(c.st+statfsFlags, kept[0].st, kept[0].st, unix.EINVAL)
	c.OnError(i, unix.EINVAL, &unset)
	c.remountKeeping(r, kept[1:], flags|kept[0].ms)
	c.Bind(&unset)
	c.remountKeeping(r, kept[1:], flags)
}

// remountFlags returns the mount(2) flags of a change and those that depend on what
// the mount has.
func (a attrs) remountFlags() (flags int, kept []mountFlag) {
	list := []mountFlag{
		{0x1, unix.MS_RDONLY, unix.MOUNT_ATTR_RDONLY},
		{0x2, unix.MS_NOSUID, unix.MOUNT_ATTR_NOSUID},
		{0x4, unix.MS_NODEV, unix.MOUNT_ATTR_NODEV},
		{0x8, unix.MS_NOEXEC, unix.MOUNT_ATTR_NOEXEC},
		{0x2000, unix.MS_NOSYMFOLLOW, unix.MOUNT_ATTR_NOSYMFOLLOW},
	}
	flags = unix.MS_REMOUNT | unix.MS_BIND | a.msFlags()
	touched := a.set | a.clear
	modes := a.clear&unix.MOUNT_ATTR__ATIME != 0
	switch { // without any flag about access times, the kernel keeps them
	case modes:
		list = append(list, mountFlag{0x800, unix.MS_NODIRATIME, unix.MOUNT_ATTR_NODIRATIME})
		if a.set&(unix.MOUNT_ATTR_NOATIME|unix.MOUNT_ATTR_STRICTATIME) == 0 {
			flags |= unix.MS_RELATIME
		}
	case touched&unix.MOUNT_ATTR_NODIRATIME != 0:
		list = append(list, mountFlag{0x400, unix.MS_NOATIME, 0}, mountFlag{0x1000, unix.MS_RELATIME, 0})
	}
	for _, f := range list {
		if touched&f.attr == 0 {
			kept = append(kept, f)
		}
	}
	return flags, kept
}
