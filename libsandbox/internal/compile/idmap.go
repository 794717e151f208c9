package compile

import (
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// openSource copies what a bind mount shows, unattached, into %m.
func (c *compiler) openSource(m *specs.Mount, src *Source, o *mountOptions) {
	if src.Layer != nil {
		c.mountLayer(src.Layer, c.m)
		return
	}
	flags := unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC
	if o.recursive {
		flags |= unix.AT_RECURSIVE
	}
	i := c.EmitTo(c.m, unix.SYS_OPEN_TREE, program.Num(unix.AT_FDCWD), c.String(src.Path), program.Num(flags))
	if src.Dir && !o.recursive && c.hasNamespace(specs.UserNamespace) {
		c.explain(i, unix.EINVAL, "a user namespace must not uncover what mounts below the source hide: use rbind")
	}
	c.mapIDs(m, o)
}

// mapIDs lets the files of the unattached mount %m belong to others than they do on
// their file system (mount_setattr(2), MOUNT_ATTR_IDMAP, Linux 5.12).
func (c *compiler) mapIDs(m *specs.Mount, o *mountOptions) {
	if !idMapped(m, o) {
		return
	}
	flags := unix.AT_EMPTY_PATH
	if o.idmapTree {
		flags |= unix.AT_RECURSIVE
	}
	attr := c.Words(unix.MOUNT_ATTR_IDMAP, 0, 0, uint64(c.mapping(m)))
	i := c.Emit(unix.SYS_MOUNT_SETATTR, program.Val(c.m), c.String(""), program.Num(flags), attr, program.Num(32))
	c.explain(i, unix.EINVAL, "the source's file system cannot be mounted with mapped ids on this kernel")
}

func idMapped(m *specs.Mount, o *mountOptions) bool { return o.idmap || len(m.UIDMappings) > 0 }

// mapping returns the descriptor of a user namespace that has the mount's id maps.
func (c *compiler) mapping(m *specs.Mount) int {
	if c.mappedAsContainer(m) {
		return c.userns
	}
	key := IDMapText(m.UIDMappings) + "," + IDMapText(m.GIDMappings)
	fd, ok := c.mappings[key]
	if !ok {
		note := c.Texts[len(c.Texts)-1]
		fd = c.help(&userHelper{note: note, field: note + ": ", uids: m.UIDMappings, gids: m.GIDMappings})
		c.Note(note)
		if c.mappings == nil {
			c.mappings = make(map[string]int)
		}
		c.mappings[key] = fd
	}
	return fd
}

// mappedAsContainer says whether the mount's id maps are those of the container's user
// namespace.
func (c *compiler) mappedAsContainer(m *specs.Mount) bool {
	l := c.spec.Linux
	same := slices.Equal(m.UIDMappings, l.UIDMappings) && slices.Equal(m.GIDMappings, l.GIDMappings)
	return c.hasNamespace(specs.UserNamespace) && (len(m.UIDMappings) == 0 || same && c.newNamespace(specs.UserNamespace))
}

// openMappings makes the user namespaces for id-mapped mounts before a mount namespace
// is joined, whose /proc may be anything. Otherwise they are made when they are needed.
func (c *compiler) openMappings() {
	if !c.joinsMounts() {
		return
	}
	for i := range c.spec.Mounts {
		m := &c.spec.Mounts[i]
		if o := parseOptions(m); idMapped(m, &o) && !c.mappedAsContainer(m) {
			c.Note(mountNote(i, m))
			c.mapping(m)
		}
	}
}
