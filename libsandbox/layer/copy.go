package layer

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// CopyStats is what a copy was.
type CopyStats struct {
	Files int   // of any type, directories among them, and each hard link
	Bytes int64 // of data that was copied, without holes
	// Shared are the sizes of files whose data the filesystem shares with the original
	// (FICLONE), so that it takes neither time nor space.
	Shared int64
}

// Copy copies what is in an overlay layer exactly to a new committed layer, which
// stands on the same parents and has no limit: names, owners, modes, times, extended
// attributes with those of overlayfs (what is deleted, what is opaque), hard links,
// holes, devices, FIFOs, sockets and the flags of chattr(1). It does not keep when files
// were made and when their attributes last changed, which cannot be set. The caller
// makes sure that nobody writes meanwhile. The result has no users yet, as after Commit.
// ErrUnsupported: the driver is another.
func (l *Layer) Copy() (*Layer, CopyStats, error) {
	if l.meta.Driver != Overlay {
		return nil, CopyStats{}, fmt.Errorf("copy of a %s layer: %w", l.meta.Driver, ErrUnsupported)
	}
	n := l.sibling(l.meta.Parents)
	u, err := l.root.use()
	if err != nil {
		return nil, CopyStats{}, err
	}
	defer u.close()
	var stats CopyStats
	_, err = n.create(u.root, func(root, dir int) error {
		src, err := openDir(root, l.path()+"/"+inLayer(l.meta.Key, upperDir))
		if err != nil {
			return fmt.Errorf("layer %s: %w", l.meta.Key, err)
		}
		defer unix.Close(src)
		if err := n.mkdirIn(dir, upperDir); err != nil {
			return err
		}
		dst, err := openDir(dir, upperDir)
		if err != nil {
			return err
		}
		defer unix.Close(dst)
		if stats, err = copyTree(src, dst, n.root.did); err != nil {
			return err
		}
		return n.commit(root)
	})
	if err != nil {
		return nil, stats, err
	}
	return n, stats, nil
}

// copier copies a tree of any depth with a handful of descriptors; see walk.
type copier struct {
	src, dst int // the directories at hand
	did      func(string)
	levels   []copyLevel
	stats    CopyStats
	links    links
	noShare  bool   // FICLONE does not work here
	buf      []byte // nor does copy_file_range where there is one
}

// copyLevel is a directory on the way to the one at hand.
type copyLevel struct {
	src, dst fileID
	st       unix.Stat_t
	names    []string
	end      bool // names are the last ones
}

// copyTree copies what is in the directory src, and its attributes, to the empty
// directory dst.
func copyTree(src, dst int, did func(string)) (CopyStats, error) {
	c := copier{src: -1, dst: -1, did: did, links: links{top: dst, dir: -1}}
	defer c.close()
	err := c.enter(src, dst, ".")
	if err == nil {
		err = c.content()
	}
	return c.stats, err
}

func (c *copier) close() {
	for _, fd := range []int{c.src, c.dst, c.links.dir} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// content copies from the first level down.
func (c *copier) content() error {
	for {
		top := &c.levels[len(c.levels)-1]
		if len(top.names) == 0 && !top.end {
			// All at once: the position is lost when the directory is left.
			names, err := namesIn(c.src, ".")
			if err != nil {
				return err
			}
			top.names, top.end = names, true
		}
		n := len(top.names)
		if n > 0 {
			name := top.names[n-1]
			top.names = top.names[:n-1]
			if err := c.entry(name); err != nil {
				return fmt.Errorf("copy %q: %w", name, err)
			}
			continue
		}
		if len(c.levels) == 1 {
			if err := c.links.finish(); err != nil {
				return err
			}
			return c.dressDir(&top.st)
		}
		if err := c.leave(); err != nil {
			return err
		}
	}
}

// entry copies a file of the directory at hand, or goes into a directory.
func (c *copier) entry(name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(c.src, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	c.stats.Files++
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := unix.Mkdirat(c.dst, name, 0o700); err != nil {
			return err
		}
		return c.enter(c.src, c.dst, name)
	}
	if st.Nlink > 1 {
		if done, err := c.links.link(&st, c.dst, name); done || err != nil {
			return err
		}
	}
	if err := c.file(name, &st); err != nil {
		return err
	}
	c.did("copy file")
	if st.Nlink > 1 {
		return c.links.keep(&st, c.dst, name)
	}
	return nil
}

// file copies what is not a directory.
func (c *copier) file(name string, st *unix.Stat_t) error {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return c.regular(name)
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(c.src, name, buf)
		if err != nil {
			return err
		}
		if err := unix.Symlinkat(string(buf[:n]), c.dst, name); err != nil {
			return err
		}
	default:
		if err := unix.Mknodat(c.dst, name, st.Mode, int(st.Rdev)); err != nil {
			return err
		}
	}
	return c.dress(name, st)
}

// enter makes the directory name, which both have, the one at hand.
func (c *copier) enter(src, dst int, name string) error {
	from, err := openDir(src, name)
	if err != nil {
		return err
	}
	var l copyLevel
	err = unix.Fstat(from, &l.st)
	l.src = fileID{uint64(l.st.Dev), l.st.Ino}
	to := -1
	if err == nil {
		to, err = openDir(dst, name)
	}
	if err == nil {
		l.dst, err = identify(to)
	}
	if err != nil {
		unix.Close(from)
		unix.Close(to)
		return err
	}
	if len(c.levels) > 0 {
		unix.Close(c.src)
		unix.Close(c.dst)
	}
	c.src, c.dst = from, to
	c.levels = append(c.levels, l)
	return nil
}

// leave completes the directory at hand and goes up.
func (c *copier) leave() error {
	n := len(c.levels)
	if err := c.dressDir(&c.levels[n-1].st); err != nil {
		return err
	}
	above := &c.levels[n-2]
	if err := up(&c.src, above.src); err != nil {
		return err
	}
	if err := up(&c.dst, above.dst); err != nil {
		return err
	}
	c.levels = c.levels[:n-1]
	return nil
}

// up replaces a directory by the one above it, which must be the one it came from.
func up(fd *int, above fileID) error {
	parent, err := openDir(*fd, "..")
	if err != nil {
		return err
	}
	unix.Close(*fd)
	*fd = parent
	if id, err := identify(parent); err != nil || id != above {
		return errMoved
	}
	return nil
}
