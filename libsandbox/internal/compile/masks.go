package compile

import (
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// readonlyPaths binds each path over itself, read-only.
func (c *compiler) readonlyPaths() {
	for _, p := range c.spec.Linux.ReadonlyPaths {
		c.Note("linux.readonlyPaths " + p)
		var missing program.Label
		i := c.openat2(c.t, c.root, relative(p), unix.O_PATH, inRoot)
		c.OnError(i, unix.ENOENT, &missing)
		c.OnError(i, unix.ENOTDIR, &missing)
		c.openTree(c.m, c.t, true)
		c.place(attrs{set: unix.MOUNT_ATTR_RDONLY})
		c.Bind(&missing)
	}
}

// place attaches %m at %t and closes both.
func (c *compiler) place(a attrs) {
	c.attach(&mountOptions{attr: a})
	c.close(c.m)
	c.close(c.t)
}

// maskedPaths hides each path: a directory below an empty read-only tmpfs, a file
// below the container's /dev/null, which must really be it (CVE-2025-31133).
func (c *compiler) maskedPaths() {
	paths := c.spec.Linux.MaskedPaths
	if len(paths) == 0 {
		return
	}
	c.Note("/dev/null")
	null := c.Slot("null")
	c.openat2(null, c.dev, "null", unix.O_PATH|unix.O_NOFOLLOW, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	c.verifyNode(null, unix.S_IFCHR, unix.Mkdev(1, 3))
	if c.facts.CloneDetached {
		c.Note("linux.maskedPaths")
		c.maskTmpfs(c.mask)
	}
	for _, p := range paths {
		c.maskPath(p, null)
	}
	c.Note("linux.maskedPaths")
	c.close(null)
	if c.facts.CloneDetached {
		c.close(c.mask)
	}
}

// maskTmpfs makes the tmpfs that masks directories.
func (c *compiler) maskTmpfs(dst program.Slot) {
	c.EmitTo(c.fs, unix.SYS_FSOPEN, c.String("tmpfs"), program.Num(unix.FSOPEN_CLOEXEC))
	c.fsconfig(unix.FSCONFIG_SET_STRING, "source", "tmpfs")
	c.fsconfig(unix.FSCONFIG_SET_FLAG, "ro", "")
	c.mountLabel("tmpfs")
	c.fsconfig(unix.FSCONFIG_CMD_CREATE, "", "")
	c.EmitTo(dst, unix.SYS_FSMOUNT, program.Val(c.fs), program.Num(unix.FSMOUNT_CLOEXEC), program.Num(unix.MOUNT_ATTR_RDONLY))
	c.close(c.fs)
}

func (c *compiler) maskPath(p string, null program.Slot) {
	c.Note("linux.maskedPaths " + p)
	var missing, file, placed program.Label
	i := c.openat2(c.t, c.root, relative(p), unix.O_PATH, inRoot)
	c.OnError(i, unix.ENOENT, &missing)
	c.OnError(i, unix.ENOTDIR, &missing)
	c.stat(c.t)
	c.ifType(unix.S_IFDIR, &file)
	if c.facts.CloneDetached {
		c.openTree(c.m, c.mask, false)
	} else {
		c.maskTmpfs(c.m)
	}
	c.Jump(&placed)
	c.Bind(&file)
	c.openTree(c.m, null, false)
	c.Bind(&placed)
	c.moveMount(c.m)
	c.close(c.m)
	c.close(c.t)
	c.Bind(&missing)
}
