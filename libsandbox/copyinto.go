package libsandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// landing is a directory that members go to.
type landing struct {
	to  *place
	o   *CopyOptions
	dst string // as it was asked for
	at  string // the path of base
	// base is the directory that names begin at, and prefix what comes before them: it
	// is empty where the top is base itself.
	base   int
	prefix string
	onto   *int // the regular file that the top is written to, by O_PATH; nil for none
	// dir is the directory dirName below base, which the last member went to; nil for none.
	dir     *os.File
	dirName string
	made    []madeDir
	buf     []byte
}

// madeDir is a directory whose time is set when all that goes into it is there.
type madeDir struct {
	name  string
	id    fileID
	mtime unix.Timespec
}

func (t *landing) close() {
	t.dir.Close() // of nil, an error
	if t.onto != nil {
		unix.Close(*t.onto)
	}
	if t.base >= 0 {
		unix.Close(t.base)
	}
}

// land decides where a source goes.
func (t *landing) land(s *source) error {
	fd, err := t.to.open(t.dst, unix.O_PATH)
	if err == unix.ENOENT {
		return t.landNew(s)
	}
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		t.at, t.base = t.dst, fd
		if !s.isDir() || !s.content {
			t.prefix = s.name
		}
		return nil
	}
	defer func() {
		if t.onto == nil {
			unix.Close(fd)
		}
	}()
	switch {
	case s.isDir():
		return errors.New("is no directory, so none can be copied to it")
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return notRegular{st.Mode}
	case s.st.Mode&unix.S_IFMT == unix.S_IFREG:
		t.onto = &fd
	}
	return t.landNew(s)
}

// landNew is land for a name that is free, or is to be replaced.
func (t *landing) landNew(s *source) (err error) {
	above, name := splitLast(t.dst)
	if name == "" || strings.HasSuffix(t.dst, "/") && !s.isDir() {
		return fmt.Errorf("directory: %w", unix.ENOENT)
	}
	t.at, t.prefix = above, name
	t.base, err = t.to.open(above, unix.O_PATH|unix.O_DIRECTORY)
	return err
}

// below is what else is said to openat2(2) about paths below base. On the host nobody is
// to find a symlink there that the container has made.
func (t *landing) below() uint64 {
	if t.to.inside() {
		return unix.RESOLVE_BENEATH
	}
	return unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS
}

// put makes a member.
func (t *landing) put(ctx context.Context, m *member) error {
	name := path.Join(t.prefix, m.name)
	if name == "" { // base itself, which is there
		if m.mode&unix.S_IFMT != unix.S_IFDIR {
			return fmt.Errorf("%s: is a directory, which %s cannot replace", t.dst, fileType(m.mode))
		}
		return nil
	}
	if err := t.make(ctx, name, m); err != nil {
		if errors.Is(err, errSource) {
			return err
		}
		return fmt.Errorf("%s: %w", path.Join(t.at, name), err)
	}
	return nil
}

// errSource is in the chain of errors that are not the destination's.
var errSource = errors.New("source")

func (t *landing) make(ctx context.Context, name string, m *member) error {
	dir, last, err := t.parent(name)
	if err != nil {
		return err
	}
	if m.hard != "" {
		err := t.to.do(func() error { return t.hardLink(dir, last, path.Join(t.prefix, m.hard)) })
		if err == nil || m.open == nil {
			return err
		}
		// Another mount, or the file has been taken away: then a copy it is.
	}
	switch m.mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return t.to.do(func() error { return t.makeDir(dir, name, last, m) })
	case unix.S_IFLNK:
		return t.to.do(func() error { return t.symlink(dir, last, m) })
	}
	return t.regular(ctx, dir, last, m)
}

// parent opens the directory of a member. It is open until the next one's is.
func (t *landing) parent(name string) (dir int, last string, err error) {
	above, last := path.Split(name)
	if t.dir != nil && t.dirName == above {
		return int(t.dir.Fd()), last, nil
	}
	fd := -1
	err = t.to.do(func() (err error) {
		fd, err = openDirAt(t.base, path.Clean(above), t.below())
		if err == unix.ENOENT { // a tar stream may leave directories out
			fd, err = t.to.makeDirs(t.base, above, t.below())
		}
		return err
	})
	if err != nil {
		return -1, "", err
	}
	if err := t.to.checkDir(fd); err != nil {
		unix.Close(fd)
		return -1, "", err
	}
	t.dir.Close()
	t.dir, t.dirName = os.NewFile(uintptr(fd), above), above
	return fd, last, nil
}

// replacing calls f, which makes name in dir, and once more without what is there. EBUSY:
// that is a mount point. EACCES: it is of somebody whom the container does not know.
func (t *landing) replacing(dir int, name string, f func() error) error {
	err := f()
	if err != unix.EEXIST {
		return err
	}
	// The kernel refuses to remove mount points of this mount namespace alone. Those of
	// others lose their mounts (unlink(2) since Linux 3.18).
	var st unix.Statx_t
	if err := unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, &st); err == nil {
		if st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
			return unix.EBUSY
		}
		if !t.to.owns(&unix.Stat_t{Uid: st.Uid, Gid: st.Gid}) {
			return unix.EACCES
		}
	}
	if err := unix.Unlinkat(dir, name, 0); err != nil && err != unix.ENOENT {
		return err
	}
	return f()
}

func (t *landing) hardLink(dir int, name, to string) error {
	above, last := path.Split(to)
	old, err := openDirAt(t.base, path.Clean(above), t.below())
	if err != nil {
		return err
	}
	defer unix.Close(old)
	return t.replacing(dir, name, func() error { return unix.Linkat(old, last, dir, name, 0) })
}

// makeDir makes a directory, unless there is one.
func (t *landing) makeDir(dir int, name, last string, m *member) error {
	err := unix.Mkdirat(dir, last, 0o700)
	if err != nil && err != unix.EEXIST {
		return err
	}
	fd, oerr := unix.Openat(dir, last, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if oerr != nil {
		return oerr
	}
	defer unix.Close(fd)
	if err == unix.EEXIST {
		return nil
	}
	if err := t.dress(fd, m); err != nil {
		return err
	}
	t.made = append(t.made, madeDir{name, identify([]uintptr{uintptr(fd)})[0], m.mtime})
	return nil
}

func (t *landing) symlink(dir int, name string, m *member) error {
	err := t.replacing(dir, name, func() error { return unix.Symlinkat(m.link, dir, name) })
	if err != nil {
		return err
	}
	// By descriptor: it may have been exchanged already.
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return err
	}
	if err := t.chown(fd, m); err != nil {
		return err
	}
	return setMtime(fd, m.mtime)
}

// regular makes a file with content.
func (t *landing) regular(ctx context.Context, dir int, name string, m *member) error {
	rights := func(f func() error) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return t.to.do(f)
	}
	if m.open == nil {
		return t.fill(dir, name, m, rights, func(dst *os.File) error { return t.stream(dst, m, rights) })
	}
	src, size, err := m.open()
	if err != nil {
		return kindError{err, errSource}
	}
	defer src.Close()
	if size > copyPiece {
		return t.fill(dir, name, m, rights, func(dst *os.File) error { return copyData(dst, src, size, rights) })
	}
	return rights(func() error { // once for all
		plain := func(f func() error) error { return f() }
		return t.fill(dir, name, m, plain, func(dst *os.File) error { return copyData(dst, src, size, plain) })
	})
}

// fill makes a file and has write write its content. The rest is called by rights.
func (t *landing) fill(dir int, name string, m *member, rights func(func() error) error, write func(*os.File) error) error {
	fd := -1
	if err := rights(func() (err error) { fd, err = t.create(dir, name, m); return err }); err != nil {
		return err
	}
	dst := os.NewFile(uintptr(fd), name)
	defer dst.Close()
	err := write(dst)
	if err == io.EOF {
		err = errors.New("the source has become shorter meanwhile")
	}
	if err != nil {
		return err
	}
	return rights(func() error {
		if err := t.dress(fd, m); err != nil {
			return err
		}
		return setMtime(fd, m.mtime)
	})
}

// create makes an empty file in place of what is there. What is a mount point can only be
// written to.
func (t *landing) create(dir int, name string, m *member) (fd int, err error) {
	if t.onto != nil && m.name == "" {
		fd, _, err = t.to.reopen(*t.onto, unix.O_WRONLY|unix.O_TRUNC)
		return fd, err
	}
	err = t.replacing(dir, name, func() (err error) {
		fd, err = unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != unix.EBUSY {
		return fd, err
	}
	at, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(at)
	fd, _, err = t.to.reopen(at, unix.O_WRONLY|unix.O_TRUNC)
	return fd, err
}

// stream copies a tar stream's content, which is read without rights: by whoever gave it.
// Long runs of zeros become holes.
func (t *landing) stream(dst *os.File, m *member, rights func(func() error) error) error {
	const block = 128 << 10
	if t.buf == nil {
		t.buf = make([]byte, 2*block)
	}
	buf, zeros := t.buf[:block], t.buf[block:]
	for done := int64(0); done < m.size; {
		n, err := io.ReadFull(m.data, buf[:min(block, m.size-done)])
		if err != nil {
			return kindError{fmt.Errorf("tar stream: %w", err), errSource}
		}
		if n < block || string(buf) != string(zeros) {
			err = rights(func() error { _, err := dst.WriteAt(buf[:n], done); return err })
		}
		if err != nil {
			return err
		}
		done += int64(n)
	}
	return rights(func() error { return dst.Truncate(m.size) })
}

// dress gives a file or directory what a member says of it, but for its time. The order
// matters: to change the owner takes setuid and capabilities away.
func (t *landing) dress(fd int, m *member) error {
	if err := t.chown(fd, m); err != nil {
		return err
	}
	mode := m.mode & 0o7777
	if !t.o.Archive && m.mode&unix.S_IFMT == unix.S_IFREG {
		mode &^= unix.S_ISUID | unix.S_ISGID
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	for _, x := range m.xattrs {
		if !t.o.Archive {
			break
		}
		if err := unix.Fsetxattr(fd, x.name, x.value, 0); err != nil && err != unix.ENOTSUP {
			return fmt.Errorf("xattr %s: %w", x.name, err)
		}
	}
	return nil
}

// chown gives a file its owner. On the host it is this process's already.
func (t *landing) chown(fd int, m *member) error {
	owner := &m.owner
	if !t.o.Archive {
		if !t.to.inside() {
			return nil
		}
		owner = nil
	}
	uid, gid, err := t.to.host(owner)
	if err == nil {
		err = unix.Fchownat(fd, "", int(uid), int(gid), unix.AT_EMPTY_PATH)
	}
	if err != nil {
		return fmt.Errorf("chown: %w", err)
	}
	return nil
}

func setMtime(fd int, t unix.Timespec) error {
	err := unix.UtimesNanoAt(fd, "", []unix.Timespec{{Nsec: unix.UTIME_OMIT}, t}, unix.AT_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("times: %w", err)
	}
	return nil
}

// finish sets the times of directories, those below before those above.
func (t *landing) finish() error {
	return t.to.do(func() error {
		for _, d := range slices.Backward(t.made) {
			fd, err := openDirAt(t.base, d.name, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
			if err != nil {
				continue // it was moved or removed, as the container likes
			}
			if identify([]uintptr{uintptr(fd)})[0] == d.id {
				_ = setMtime(fd, d.mtime)
			}
			unix.Close(fd)
		}
		return nil
	})
}
