package layer

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
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
		src, err := openDir(root, l.path()+"/"+upperDir)
		if err != nil {
			return fmt.Errorf("layer %s: %w", l.meta.Key, err)
		}
		defer unix.Close(src)
		if err := n.mkdirIn(dir, dataDir); err != nil {
			return err
		}
		if err := n.mkdirIn(dir, upperDir); err != nil {
			return err
		}
		dst, err := openDir(dir, upperDir)
		if err != nil {
			return err
		}
		defer unix.Close(dst)
		if stats, err = copyTree(src, dst); err != nil {
			return err
		}
		n.root.did("copy upper")
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
func copyTree(src, dst int) (CopyStats, error) {
	c := copier{src: -1, dst: -1}
	c.links.init(dst)
	err := c.enter(src, dst, ".")
	if err == nil {
		err = c.content()
	}
	unix.Close(c.src)
	unix.Close(c.dst)
	return c.stats, err
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

// regular copies a regular file.
func (c *copier) regular(name string) error {
	src, st, err := kernel.OpenRegular(c.src, name)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	dst, err := unix.Openat(c.dst, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	if getFlags(src)&noCowFlag != 0 { // only an empty file takes it
		if err := setFlags(dst, noCowFlag, noCowFlag); err != nil {
			return err
		}
	}
	if st.Size > 0 {
		if err := c.data(src, dst, st.Size); err != nil {
			return err
		}
	}
	if err := c.dress(name, st); err != nil {
		return err
	}
	return c.copyFlags(src, dst, st.Nlink > 1)
}

// data copies or shares what is in a file.
func (c *copier) data(src, dst int, size int64) error {
	if !c.noShare {
		err := unix.IoctlFileClone(dst, src)
		if err == nil {
			c.stats.Shared += size
			return nil
		}
		if err == unix.ENOSPC || err == unix.EDQUOT || err == unix.EIO {
			return err
		}
		c.noShare = true
	}
	for end := int64(0); end < size; {
		start, err := unix.Seek(src, end, unix.SEEK_DATA)
		if err == unix.ENXIO { // a hole up to the end
			break
		}
		if err == nil {
			end, err = unix.Seek(src, start, unix.SEEK_HOLE)
		}
		if err == nil {
			err = c.piece(src, dst, start, min(end, size)-start)
		}
		if err != nil {
			return err
		}
	}
	return unix.Ftruncate(dst, size)
}

// piece copies n bytes at an offset.
func (c *copier) piece(src, dst int, at, n int64) error {
	for n > 0 {
		done, err := c.some(src, dst, at, int(min(n, 1<<30)))
		if err == nil && done == 0 {
			err = io.ErrUnexpectedEOF // somebody writes meanwhile
		}
		if err != nil {
			return err
		}
		at, n = at+int64(done), n-int64(done)
		c.stats.Bytes += int64(done)
	}
	return nil
}

// some copies up to n bytes at an offset.
func (c *copier) some(src, dst int, at int64, n int) (int, error) {
	if c.buf == nil {
		in, out := at, at
		done, err := unix.CopyFileRange(src, &in, dst, &out, n, 0)
		switch err {
		case unix.EXDEV, unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP:
			c.buf = make([]byte, 1<<20)
		default:
			return done, err
		}
	}
	got, err := unix.Pread(src, c.buf[:min(n, len(c.buf))], at)
	for done := 0; err == nil && done < got; {
		var put int
		put, err = unix.Pwrite(dst, c.buf[done:got], at+int64(done))
		done += max(put, 0)
	}
	return got, err
}

// dress gives the copy of name what st and the original say of it. The order matters: to
// change the owner takes set-user-ID bits and capabilities away.
func (c *copier) dress(name string, st *unix.Stat_t) error {
	if err := unix.Fchownat(c.dst, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("chown: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(c.dst, name, st.Mode&0o7777, 0); err != nil {
			return fmt.Errorf("chmod: %w", err)
		}
	}
	to := pathOf(c.dst, name)
	err := eachXattr(pathOf(c.src, name), func(key string, value []byte) error {
		return unix.Lsetxattr(to, key, value, 0)
	})
	if err != nil {
		return err
	}
	if err := setTimes(c.dst, name, st); err != nil {
		return fmt.Errorf("times: %w", err)
	}
	return nil
}

// dressDir does so for the directory at hand, once all that is in it is copied.
func (c *copier) dressDir(st *unix.Stat_t) error {
	if err := c.dress(".", st); err != nil {
		return err
	}
	return c.copyFlags(c.src, c.dst, false)
}

// pathOf is a path to name in the directory dir, which is followed up to name.
func pathOf(dir int, name string) string { return "/proc/self/fd/" + strconv.Itoa(dir) + "/" + name }

// Flags of chattr(1), from linux/fs.h.
const (
	lockedFlags = 0x10 | 0x20 // immutable, append-only
	noCowFlag   = 0x800000
	// userFlags are those that a user sets and that mean the same on every filesystem:
	// also synchronous, no dump, no atime, secure deletion, undeletable, compressed and
	// not, journalled data, no tail, synchronous directory, top directory.
	userFlags = lockedFlags | noCowFlag | 0x1 | 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x400 | 0x4000 | 0x8000 | 0x10000 | 0x20000
)

// copyFlags copies the flags of a regular file or directory. Locked flags of a file with
// more links to come wait until those are made.
func (c *copier) copyFlags(src, dst int, more bool) error {
	flags := getFlags(src) & userFlags
	if more && flags&lockedFlags != 0 {
		c.links.lock(src, flags)
		flags &^= lockedFlags
	}
	return setFlags(dst, flags, userFlags)
}

// getFlags returns no flags where the filesystem has none.
func getFlags(fd int) uint32 {
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err != nil {
		return 0
	}
	return flags
}

// setFlags makes those in mask the ones in flags.
func setFlags(fd int, flags, mask uint32) error {
	was := getFlags(fd)
	now := was&^mask | flags&mask
	if now == was {
		return nil
	}
	err := unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(now))
	if err != nil {
		return fmt.Errorf("set flags %#x: %w", now, err)
	}
	return nil
}

// links are the files with more than one link. Each has another one in a directory of
// its own until all are copied: the first copy may be at a path that is too long to
// name.
type links struct {
	top   int // the top of the copy
	dir   int // the directory, -1 while there is none
	name  string
	left  map[fileID]uint64 // links that are not copied yet
	locks map[fileID]uint32 // flags to set at the end
}

func (k *links) init(top int) { *k = links{top: top, dir: -1} }

func nameOf(id fileID) string {
	return strconv.FormatUint(id.dev, 16) + "-" + strconv.FormatUint(id.ino, 16)
}

func idOf(st *unix.Stat_t) fileID { return fileID{uint64(st.Dev), st.Ino} }

// link makes another link to a file that has been copied already.
func (k *links) link(st *unix.Stat_t, dst int, name string) (bool, error) {
	id := idOf(st)
	left, ok := k.left[id]
	if !ok {
		return false, nil
	}
	k.left[id]--
	if left == 1 && k.locks[id] == 0 {
		// The last one is moved, because one more could be too many (EMLINK).
		return true, unix.Renameat(k.dir, nameOf(id), dst, name)
	}
	return true, unix.Linkat(k.dir, nameOf(id), dst, name, 0)
}

// keep remembers a file that was copied and has more links.
func (k *links) keep(st *unix.Stat_t, dst int, name string) error {
	if k.dir < 0 {
		if err := k.make(); err != nil {
			return err
		}
	}
	id := idOf(st)
	k.left[id] = uint64(st.Nlink) - 1
	return unix.Linkat(dst, name, k.dir, nameOf(id), 0)
}

func (k *links) make() (err error) {
	k.left = make(map[fileID]uint64)
	k.name = ".links-" + newKey()
	if err = unix.Mkdirat(k.top, k.name, 0o700); err != nil {
		return err
	}
	k.dir, err = openDir(k.top, k.name)
	return err
}

// lock remembers flags that forbid further links.
func (k *links) lock(src int, flags uint32) {
	if id, err := identify(src); err == nil {
		if k.locks == nil {
			k.locks = make(map[fileID]uint32)
		}
		k.locks[id] = flags
	}
}

// finish removes the directory.
func (k *links) finish() error {
	if k.dir < 0 {
		return nil
	}
	defer unix.Close(k.dir)
	for id := range k.left {
		if err := k.drop(id); err != nil {
			return fmt.Errorf("links: %w", err)
		}
	}
	k.dir = -1
	return unix.Unlinkat(k.top, k.name, unix.AT_REMOVEDIR)
}

func (k *links) drop(id fileID) error {
	flags := k.locks[id]
	if flags == 0 {
		return gone(unix.Unlinkat(k.dir, nameOf(id), 0))
	}
	fd, _, err := kernel.OpenRegular(k.dir, nameOf(id))
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return errors.Join(unix.Unlinkat(k.dir, nameOf(id), 0), setFlags(fd, flags, userFlags))
}
