package compile

import (
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// A container with a user namespace is set up by a process that leaves the host's user
// namespace as late as it can, for what only the host's root may do has to come before:
//
//	runtime's child                    helper (shares memory and descriptors)
//	  joins the namespaces with a path
//	  clone ------------------------->  makes or joins the user namespace
//	  waits for its end                 makes the mount namespace in it
//	  writes the id maps    <---------  ends
//	  enters the mount namespace
//	  attaches the root, opens the sources of bind mounts and devices
//	  enters its cgroup
//	  enters the user namespace, becomes root there
//	  makes the other namespaces
//	  clone ------------------------->  init
//
// So the mount namespace belongs to the user namespace, and the kernel locks what it
// inherits of the host's mounts: their flags, and those that hide something
// (mount_namespaces(7)). The sources are opened in it, by somebody who may pass every
// directory of the host, as the container's root may not.
func (c *compiler) userNamespace(n *newNamespaces) {
	joins := func(ns *specs.LinuxNamespace, mount bool) bool {
		return ns.Path != "" && ns.Type != specs.UserNamespace && (ns.Type == specs.MountNamespace) == mount
	}
	c.enterNamespaces(n, func(ns *specs.LinuxNamespace) bool { return joins(ns, false) })
	user := c.makeUserNamespace()
	c.enterNamespaces(n, func(ns *specs.LinuxNamespace) bool { return joins(ns, true) })
	c.openRoot()
	c.openSources()
	c.openDevices()
	c.joinCgroups()
	c.Note(user)
	c.Emit(unix.SYS_SETNS, program.Num(c.userns), program.Num(unix.CLONE_NEWUSER))
	c.becomeRoot()
	c.cgroupNamespace()
	c.enterNamespaces(n, func(ns *specs.LinuxNamespace) bool {
		return ns.Path == "" && ns.Type != specs.UserNamespace && ns.Type != specs.MountNamespace
	})
}

// makeUserNamespace leaves the container's user namespace in descriptor c.userns and
// enters its mount namespace if that is new. It returns the note of the former.
func (c *compiler) makeUserNamespace() (note string) {
	l := c.spec.Linux
	h := userHelper{mount: c.newNamespace(specs.MountNamespace)}
	for i, ns := range l.Namespaces {
		switch {
		case ns.Type == specs.UserNamespace && ns.Path != "":
			note, h.join = namespaceNote(i, ns), c.joinFile(i, &ns)
		case ns.Type == specs.UserNamespace:
			note, h.uids, h.gids = namespaceNote(i, ns), l.UIDMappings, l.GIDMappings
		}
	}
	h.note, h.field = note, "linux."
	c.userns = c.help(&h)
	if h.mount {
		for i, ns := range l.Namespaces {
			if ns.Type == specs.MountNamespace {
				c.Note(namespaceNote(i, ns))
			}
		}
		c.Emit(unix.SYS_SETNS, program.Val(c.helper.mnt), program.Num(unix.CLONE_NEWNS))
		c.close(c.helper.mnt)
	}
	return note
}

// userHelper is what a helper process does in a user namespace of its own.
type userHelper struct {
	note, field string
	join        program.Arg // a user namespace; the zero value makes a new one
	mount       bool        // make a mount namespace, too, and leave it in helper.mnt
	uids, gids  []specs.LinuxIDMapping
}

// helperSlots are what a helper leaves behind, and what is known of it.
type helperSlots struct{ pid, done, proc, user, mnt program.Slot }

// help returns the descriptor number of a user namespace, which a helper process makes
// or joins. The helper has this process's memory, so its slots are these; until it has
// ended, this process does not go on (CLONE_VFORK). What it is called in /proc holds
// until it is reaped.
func (c *compiler) help(h *userHelper) int {
	s := &c.helper
	if s.pid == 0 {
		*s = helperSlots{c.Slot("helper"), c.Slot("done"), c.Slot("self"), c.Slot("user"), c.Slot("mnt")}
	}
	c.Note(h.note)
	for _, slot := range []program.Slot{s.done, s.proc, s.user, s.mnt} {
		c.Let(slot, program.Num(0))
	}
	var child, parent, dead, on program.Label
	c.EmitTo(s.pid, unix.SYS_CLONE, program.Num(unix.CLONE_VM|unix.CLONE_VFORK|unix.CLONE_FILES|int(unix.SIGCHLD)))
	c.ifChild(s.pid, &parent, &child)
	c.Bind(&child)
	c.helperOps(h)
	c.Bind(&parent)
	c.OnError(c.Check(s.done, ^uint64(0), 1, unix.ECHILD), unix.ECHILD, &dead)
	c.idMap(h.field+"uidMappings", "uid_map", h.uids)
	c.idMap(h.field+"gidMappings", "gid_map", h.gids)
	c.Note(h.note)
	c.close(s.proc)
	c.reapHelper()
	c.Jump(&on)
	c.Bind(&dead) // it has said why
	c.reapHelper()
	c.Fault(c.fail(unix.ECHILD), "the helper process was killed")
	c.Bind(&on)
	return c.hold(s.user)
}

func (c *compiler) reapHelper() {
	c.Emit(unix.SYS_WAIT4, program.Val(c.helper.pid), program.Num(0), program.Num(0), program.Num(0))
}

// helperOps is what the helper executes. /proc has to be the host's.
func (c *compiler) helperOps(h *userHelper) {
	s := &c.helper
	open := func(dst program.Slot, path string, flags int) {
		c.EmitTo(dst, unix.SYS_OPENAT, program.Num(unix.AT_FDCWD), c.String(path), program.Num(flags|unix.O_CLOEXEC))
	}
	open(s.proc, "/proc/self", unix.O_PATH|unix.O_DIRECTORY)
	if h.join == (program.Arg{}) {
		i := c.Emit(unix.SYS_UNSHARE, program.Num(unix.CLONE_NEWUSER))
		c.explain(i, unix.ENOSPC, "user namespaces are switched off, or there are as many as /proc/sys/user/max_user_namespaces allows")
	} else {
		c.Emit(unix.SYS_SETNS, h.join, program.Num(unix.CLONE_NEWUSER))
	}
	if h.mount {
		c.Emit(unix.SYS_UNSHARE, program.Num(unix.CLONE_NEWNS))
		open(s.mnt, "/proc/self/ns/mnt", unix.O_RDONLY)
	}
	open(s.user, "/proc/self/ns/user", unix.O_RDONLY)
	c.Let(s.done, program.Num(1))
	c.Emit(unix.SYS_EXIT_GROUP, program.Num(0))
}

// idMap writes one of the helper's id maps, which the kernel takes in one write only
// (user_namespaces(7)).
func (c *compiler) idMap(note, file string, maps []specs.LinuxIDMapping) {
	if len(maps) == 0 {
		return
	}
	c.Note(note)
	text := IDMapText(maps)
	// Not %t, which may be the target of the mount that the map is for.
	c.EmitTo(c.fs, unix.SYS_OPENAT, program.Val(c.helper.proc), c.String(file), program.Num(unix.O_WRONLY|unix.O_CLOEXEC))
	c.Emit(unix.SYS_WRITE, program.Val(c.fs), c.String(text), program.Num(len(text)))
	c.close(c.fs)
}

// IDMapText is a map in the form of /proc/PID/uid_map.
func IDMapText(maps []specs.LinuxIDMapping) string {
	var b strings.Builder
	for _, m := range maps {
		b.WriteString(decimal(m.ContainerID) + " " + decimal(m.HostID) + " " + decimal(m.Size) + "\n")
	}
	return b.String()
}

// becomeRoot takes the ids of the root of the user namespace that this process is in.
func (c *compiler) becomeRoot() {
	l := c.spec.Linux
	uid, gid := RootID(l.UIDMappings), RootID(l.GIDMappings)
	c.Emit(unix.SYS_SETRESGID, program.Num(gid), program.Num(gid), program.Num(gid))
	c.Emit(unix.SYS_SETGROUPS, program.Num(0), program.Num(0))
	c.Emit(unix.SYS_SETRESUID, program.Num(uid), program.Num(uid), program.Num(uid))
	// See privileges.
	c.Emit(unix.SYS_PRCTL, program.Num(unix.PR_SET_DUMPABLE), program.Num(0))
}

// RootID is the id in the user namespace that the container is set up with: root's, or
// the lowest where root's is not mapped. With no map, that of a namespace that exists
// already is not known, and taken to have root.
func RootID(maps []specs.LinuxIDMapping) uint32 {
	if len(maps) == 0 {
		return 0
	}
	id := maps[0].ContainerID
	for _, m := range maps {
		id = min(id, m.ContainerID)
	}
	return id
}

// hold moves the descriptor in a slot to a number that the compiler knows. It stays
// there until execve, or until it is closed by its number.
func (c *compiler) hold(s program.Slot) int {
	fd := c.heldFD(c.held)
	c.held++
	c.Emit(unix.SYS_DUP3, program.Val(s), program.Num(fd), program.Num(unix.O_CLOEXEC))
	c.close(s)
	return fd
}

// heldFD is the number of the descriptor that hold has moved as the nth.
func (c *compiler) heldFD(n int) int {
	const above = 24 // the other fixed numbers
	return c.scratch + above + n
}

// openSources opens the sources of the bind mounts in a container with a user
// namespace.
func (c *compiler) openSources() {
	for i := range c.spec.Mounts {
		m := &c.spec.Mounts[i]
		o := parseOptions(m)
		if src, ok := c.facts.Sources[i]; ok && o.bind {
			c.Note(mountNote(i, m))
			c.openSource(m, &src, &o)
			if c.sources == nil {
				c.sources = make(map[int]int)
			}
			c.sources[i] = c.hold(c.m)
		}
	}
}

// openDevices opens the host's devices, which a container with a user namespace gets
// bound in: mknod(2) is for the host's root.
func (c *compiler) openDevices() {
	if bound, _ := c.devMount(); bound {
		return
	}
	for _, d := range c.deviceList() {
		mode, _ := deviceMode(&d.LinuxDevice)
		if typ := mode & unix.S_IFMT; typ == unix.S_IFCHR || typ == unix.S_IFBLK {
			c.Note(d.note)
			const flags = unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_SYMLINK_NOFOLLOW
			i := c.EmitTo(c.m, unix.SYS_OPEN_TREE, program.Num(unix.AT_FDCWD), c.String(d.Path), program.Num(flags))
			c.explain(i, unix.ENOENT, "with a user namespace it has to be the host's, which has none there")
			c.verifyNode(c.m, typ, unix.Mkdev(uint32(d.Major), uint32(d.Minor)))
			c.Fault(len(c.Ops)-1, "with a user namespace it has to be the host's, which is another device")
			if c.nodes == nil {
				c.nodes = make(map[string]int)
			}
			c.nodes[d.Path] = c.hold(c.m)
		}
	}
}

// bindDevice binds the host's device that openDevices has opened over a file.
func (c *compiler) bindDevice(dir program.Slot, name string, fd int) {
	c.makeName(dir, name, true)
	c.openat2(c.t, dir, name, unix.O_PATH|unix.O_NOFOLLOW, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	c.Let(c.m, program.Num(fd))
	c.moveMount(c.m)
	c.close(c.m)
	c.close(c.t)
}
