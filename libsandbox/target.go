package libsandbox

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/compile"
	"adl.run/adl-runtime/libsandbox/internal/engine"
	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// makeTarget makes a mount point that a dangling symlink of the image leads to.
func (c *creation) makeTarget(r engine.Record) error {
	defer kernel.Close(r.Files...)
	n := r.Barrier - compile.BarrierTarget
	if n < 0 || n >= len(c.init.Targets) || len(r.Files) != 1 {
		return fmt.Errorf("init is at barrier %d with %d descriptors", r.Barrier, len(r.Files))
	}
	t := &c.init.Targets[n]
	if err := c.asRoot(func() error { return makeInRoot(r.Files[0], t.Path, t.File) }); err != nil {
		return fmt.Errorf("make mount point %s: %w", t.Path, err)
	}
	return nil
}

// maxSymlinks is the kernel's limit for one path (path_resolution(7)).
const maxSymlinks = 40

// makeInRoot makes p and the directories above it as a process whose root directory
// is the descriptor root would see them. Every name is looked up with the kernel
// keeping the path inside root, so a symlink that is exchanged meanwhile makes this
// fail or work elsewhere in root, never outside.
func makeInRoot(root int, p string, file bool) error {
	rest := strings.Split(path.Clean("/"+p), "/")
	done := "." // exists, as a directory that no symlink leads to
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..": // from a symlink
			done = "." + path.Dir("/"+done)
			continue
		}
		link, err := makeAt(root, done, name, file && isLast(rest))
		switch {
		case err != nil:
			return err
		case link == "":
			done = path.Join(done, name)
			continue
		}
		if links++; links > maxSymlinks {
			return unix.ELOOP
		}
		if path.IsAbs(link) {
			done = "."
		}
		rest = append(strings.Split(link, "/"), rest...)
	}
	return nil
}

// isLast says that no name follows.
func isLast(rest []string) bool {
	return !slices.ContainsFunc(rest, func(name string) bool { return name != "" && name != "." })
}

// makeAt is makeName in the directory dir of root.
func makeAt(root int, dir, name string, file bool) (link string, err error) {
	fd, err := kernel.OpenAtRoot(root, dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	return makeName(fd, name, file)
}

// makeName makes name in dir unless it exists. Where it is a symlink, the target is
// returned.
func makeName(dir int, name string, file bool) (link string, err error) {
	buf := make([]byte, unix.PathMax)
	if n, err := unix.Readlinkat(dir, name, buf); err == nil {
		return string(buf[:n]), nil
	}
	if file {
		err = unix.Mknodat(dir, name, unix.S_IFREG|0o755, 0)
	} else {
		err = unix.Mkdirat(dir, name, 0o755)
	}
	if err == unix.EEXIST {
		err = nil
	}
	return "", err
}
