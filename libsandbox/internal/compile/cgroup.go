package compile

import (
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// mountHierarchies shows cgroup v1 as a tmpfs with the container's directory of
// each hierarchy below it. They are bind mounts of the host's directories: in a
// cgroup namespace they look like mounts of their own, and without one nothing
// above the container's cgroup shows.
func (c *compiler) mountHierarchies(m *specs.Mount, o *mountOptions) {
	const base = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	c.target(m, false)
	tmpfs := &mountOptions{attr: attrs{set: base}, data: []string{"mode=755"}}
	_ = c.fsmount("tmpfs", &specs.Mount{Source: "tmpfs"}, tmpfs, "") // "mode=755" is short enough
	if !c.filling {
		c.attach(&mountOptions{propagation: o.propagation})
		c.close(c.t)
	}
	c.EmitTo(c.fs, unix.SYS_DUP3, program.Val(c.m), program.Num(c.scratch+1), program.Num(unix.O_CLOEXEC))
	c.close(c.m)
	place := 0
	if c.filling { // it becomes read-only, and only what is attached nowhere can
		place = c.hold(c.t)
	}
	for _, h := range c.facts.Hierarchies {
		c.mountHierarchy(h, o.attr.set|base)
	}
	if o.attr.set&unix.MOUNT_ATTR_RDONLY != 0 {
		c.setattr(c.fs, attrs{set: unix.MOUNT_ATTR_RDONLY})
	}
	if c.filling {
		c.Let(c.t, program.Num(place))
		c.moveMount(c.fs)
		c.close(c.t)
	}
	c.close(c.fs)
}

// mountHierarchy shows one hierarchy in the tmpfs %fs.
func (c *compiler) mountHierarchy(h Hierarchy, set uint64) {
	c.Emit(unix.SYS_MKDIRAT, program.Val(c.fs), c.String(h.Name), program.Num(0o755))
	c.openat2(c.t, c.fs, h.Name, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	c.hostTree(h.Dir)
	c.attach(&mountOptions{attr: attrs{set: set}})
	c.close(c.m)
	c.close(c.t)
	for _, a := range h.Aliases {
		if a != h.Name {
			c.Emit(unix.SYS_SYMLINKAT, c.String(h.Name), program.Val(c.fs), c.String(a))
		}
	}
}

// bindUnified shows cgroup v2 to a container that is in the host's cgroup namespace:
// the host's mount, not a new one. A new one would set the options of the hierarchy,
// nsdelegate and the like, for the host too (cgroup-v2.rst, "Mounting").
func (c *compiler) bindUnified(m *specs.Mount, o *mountOptions) {
	c.target(m, false)
	c.hostTree(unifiedDir)
	c.attach(o)
	c.close(c.m)
	c.close(c.t)
}

// unifiedDir is where a host with cgroup v2 only has it.
const unifiedDir = "/sys/fs/cgroup"

// hostTree copies the mount of a directory of the host, unattached, into %m, unless
// openHostTree has done that.
func (c *compiler) hostTree(dir string) {
	if fds := c.trees[dir]; len(fds) > 0 {
		c.Let(c.m, program.Num(fds[0]))
		c.trees[dir] = fds[1:]
		return
	}
	c.EmitTo(c.m, unix.SYS_OPEN_TREE, program.Num(unix.AT_FDCWD), c.String(dir), program.Num(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC))
}

// openHostTrees does it early, while the host's directories can be reached, for every
// mount that shows them.
func (c *compiler) openHostTrees() {
	held := make(map[string][]int)
	open := func(dir string) {
		c.hostTree(dir)
		held[dir] = append(held[dir], c.hold(c.m))
	}
	for i := range c.spec.Mounts {
		m := &c.spec.Mounts[i]
		if !strings.HasPrefix(m.Type, "cgroup") || IsBind(m) {
			continue
		}
		c.Note(mountNote(i, m))
		switch {
		case !c.facts.CgroupUnified && m.Type == "cgroup":
			for _, h := range c.facts.Hierarchies {
				open(h.Dir)
			}
		case c.facts.CgroupUnified && !c.hasNamespace(specs.CgroupNamespace):
			open(unifiedDir)
		}
	}
	c.trees = held
}
