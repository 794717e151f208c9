package compile

import (
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// attrs is a change of a mount's attributes, for mount_setattr(2).
type attrs struct {
	set, clear uint64 // MOUNT_ATTR_*
	recursive  bool
}

// mountOptions is what the option strings of one mount mean.
type mountOptions struct {
	bind, recursive bool
	remount         bool
	attr            attrs // this mount
	rec             attrs // this mount and those below it: rro and the like
	propagation     []int // in the order given
	flags           []string
	data            []string // key=value or key, for the file system
	copyUp          bool
	idmap           bool // this mount
	idmapTree       bool // and those below it
}

// optionAttr returns the attributes that an option sets and clears.
func optionAttr(o string) (set, clear uint64, ok bool) {
	const atime = unix.MOUNT_ATTR__ATIME
	switch o {
	case "ro":
		return unix.MOUNT_ATTR_RDONLY, 0, true
	case "rw":
		return 0, unix.MOUNT_ATTR_RDONLY, true
	case "nosuid":
		return unix.MOUNT_ATTR_NOSUID, 0, true
	case "suid":
		return 0, unix.MOUNT_ATTR_NOSUID, true
	case "nodev":
		return unix.MOUNT_ATTR_NODEV, 0, true
	case "dev":
		return 0, unix.MOUNT_ATTR_NODEV, true
	case "noexec":
		return unix.MOUNT_ATTR_NOEXEC, 0, true
	case "exec":
		return 0, unix.MOUNT_ATTR_NOEXEC, true
	case "nodiratime":
		return unix.MOUNT_ATTR_NODIRATIME, 0, true
	case "diratime":
		return 0, unix.MOUNT_ATTR_NODIRATIME, true
	case "relatime", "atime", "nostrictatime":
		return unix.MOUNT_ATTR_RELATIME, atime, true
	case "noatime":
		return unix.MOUNT_ATTR_NOATIME, atime, true
	case "strictatime", "norelatime":
		return unix.MOUNT_ATTR_STRICTATIME, atime, true
	case "nosymfollow":
		return unix.MOUNT_ATTR_NOSYMFOLLOW, 0, true
	case "symfollow":
		return 0, unix.MOUNT_ATTR_NOSYMFOLLOW, true
	}
	return 0, 0, false
}

// propagation returns the mount(2) flags of a propagation option, 0 for none.
func propagation(o string) int {
	switch o {
	case "private":
		return unix.MS_PRIVATE
	case "rprivate":
		return unix.MS_PRIVATE | unix.MS_REC
	case "slave":
		return unix.MS_SLAVE
	case "rslave":
		return unix.MS_SLAVE | unix.MS_REC
	case "shared":
		return unix.MS_SHARED
	case "rshared":
		return unix.MS_SHARED | unix.MS_REC
	case "unbindable":
		return unix.MS_UNBINDABLE
	case "runbindable":
		return unix.MS_UNBINDABLE | unix.MS_REC
	}
	return 0
}

// superblockFlag says that an option is a flag of every file system, which
// fsconfig takes by name.
func superblockFlag(o string) bool {
	switch o {
	case "sync", "async", "dirsync", "lazytime", "nolazytime", "mand", "nomand":
		return true
	}
	return false
}

// parseOptions sorts the options of m. What it does not know belongs to the file
// system.
func parseOptions(m *specs.Mount) mountOptions {
	o := mountOptions{bind: m.Type == "bind" || m.Type == TypeCow}
	for _, s := range m.Options {
		o.add(s)
	}
	return o
}

func (o *mountOptions) add(s string) {
	if set, clear, ok := optionAttr(s); ok {
		o.attr.add(set, clear)
		return
	}
	if set, clear, ok := optionAttr(strings.TrimPrefix(s, "r")); ok && s[0] == 'r' {
		o.rec.add(set, clear)
		return
	}
	if p := propagation(s); p != 0 {
		o.propagation = append(o.propagation, p)
		return
	}
	switch s {
	case "bind":
		o.bind = true
	case "rbind":
		o.bind, o.recursive = true, true
	case "remount":
		o.remount = true
	case "tmpcopyup":
		o.copyUp = true
	case "idmap":
		o.idmap = true
	case "ridmap":
		o.idmap, o.idmapTree = true, true
	case "defaults", "", "silent", "loud", "iversion", "noiversion", "acl", "noacl":
		// "defaults" asks for nothing, and mount(2) has ignored the rest for years
		// or has them on always.
	default:
		if superblockFlag(s) {
			o.flags = append(o.flags, s)
		} else {
			o.data = append(o.data, s)
		}
	}
}

// add lets a later option override an earlier one.
func (a *attrs) add(set, clear uint64) {
	if clear&unix.MOUNT_ATTR__ATIME == unix.MOUNT_ATTR__ATIME {
		a.set &^= unix.MOUNT_ATTR__ATIME
	}
	a.set = a.set&^clear | set
	a.clear = a.clear&^set | clear
}

func (a attrs) zero() bool { return a.set|a.clear == 0 }

// msFlags translates attributes for the mount(2) of kernels without
// mount_setattr(2).
func (a attrs) msFlags() (flags int) {
	for _, f := range []struct {
		attr uint64
		ms   int
	}{
		{unix.MOUNT_ATTR_RDONLY, unix.MS_RDONLY},
		{unix.MOUNT_ATTR_NOSUID, unix.MS_NOSUID},
		{unix.MOUNT_ATTR_NODEV, unix.MS_NODEV},
		{unix.MOUNT_ATTR_NOEXEC, unix.MS_NOEXEC},
		{unix.MOUNT_ATTR_NODIRATIME, unix.MS_NODIRATIME},
		{unix.MOUNT_ATTR_NOATIME, unix.MS_NOATIME},
		{unix.MOUNT_ATTR_STRICTATIME, unix.MS_STRICTATIME},
		{unix.MOUNT_ATTR_NOSYMFOLLOW, unix.MS_NOSYMFOLLOW},
	} {
		if a.set&f.attr != 0 {
			flags |= f.ms
		}
	}
	return flags
}

// TypeCow is the type of a mount that shows a directory of the host through a layer of
// its own, which takes what is written to it: Source.Layer.
const TypeCow = "cow"

// IsBind says whether m shows a file or directory of the host, so that
// Facts.Sources must describe it.
func IsBind(m *specs.Mount) bool {
	o := parseOptions(m)
	return o.bind
}
