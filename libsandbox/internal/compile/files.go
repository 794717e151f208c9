package compile

import (
	"path"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// File is a regular file with mode 0644 that a container begins with.
type File struct {
	Path string // absolute
	Text string
}

// files makes Facts.Files in the root filesystem, whatever has their names there: a
// symlink is replaced and not followed, so nothing outside of the root is written to. A
// directory on a mount is refused: it may be the host's.
func (c *compiler) files() {
	for _, f := range c.facts.Files {
		dir, name := path.Split(path.Clean(f.Path))
		c.Note("file " + f.Path)
		c.ensure(dir, false)
		c.close(c.t)
		i := c.openat2(c.t, c.root, relative(dir), unix.O_PATH|unix.O_DIRECTORY, inRoot|unix.RESOLVE_NO_XDEV)
		c.explain(i, unix.EXDEV, "its directory is on a mount")
		c.Tolerate(c.Emit(unix.SYS_UNLINKAT, program.Val(c.t), c.String(name), program.Num(0)), unix.ENOENT)
		c.EmitTo(c.fs, unix.SYS_OPENAT, program.Val(c.t), c.String(name),
			program.Num(unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC), program.Num(0o644))
		c.EmitTo(c.st, unix.SYS_WRITE, program.Val(c.fs), c.String(f.Text), program.Num(len(f.Text)))
		c.Check(c.st, ^uint64(0), uint64(len(f.Text)), unix.ENOSPC)
		c.close(c.fs)
		c.close(c.t)
	}
}
