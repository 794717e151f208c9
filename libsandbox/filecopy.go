package libsandbox

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// CopyOptions are the choices of whoever copies files into a container or out of one; nil
// is the zero value.
type CopyOptions struct {
	// Archive keeps owners, as the container sees them, the bits setuid and setgid, file
	// capabilities and user.* attributes. Without it, files in the container are its
	// root's, files on the host this process's, and a tar stream names the owners all the
	// same.
	Archive bool
	// FollowLink follows a source that is a symlink, instead of copying that.
	FollowLink bool
	// Skipped is told of each file below the source that cannot be copied, and what it
	// is: a FIFO, a socket, a device, a directory of the kernel's own file systems. nil
	// makes the first one an error.
	Skipped func(path, what string)
}

// CopyTo copies a file, symlink or directory of the host, with all that is below it, to a
// path in a running, paused or created container. What paths mean there is as with
// ReadFile. Where it goes is the rule of cp(1):
//
//   - dst is a directory: into it, under the source's name. What is in a source that ends
//     in "/." goes into it without that name.
//   - dst does not exist, but the directory above it: it becomes the copy's name. If it
//     ends in a slash, the source has to be a directory.
//   - dst is a file: it is written in place, and has the source's mode then.
//
// Below dst, directories that are there are merged with and keep their attributes; what
// else is there is replaced, never written through; but a directory does not replace a
// file, nor a file a directory. Modes, times of modification, holes and hard links are
// kept. Symlinks are copied as they are; nothing is written through one that leads out
// of dst. Nothing that is not a regular file is opened.
//
// After an error or the end of ctx a part may be copied. ErrNotRunning: the container is
// stopped. EROFS, ENOSPC and EDQUOT are in the chain of errors.
func (sb *Sandbox) CopyTo(ctx context.Context, src, dst string, o *CopyOptions) error {
	to, err := sb.enter()
	if err != nil {
		return err
	}
	defer to.close()
	return transfer(ctx, hostPlace(), src, to, dst, o)
}

// CopyFrom copies a file, symlink or directory of a container to a path on the host, by
// the rules of CopyTo. Below dst no symlink is followed. With Archive, what is setuid in
// the container is setuid on the host.
func (sb *Sandbox) CopyFrom(ctx context.Context, src, dst string, o *CopyOptions) error {
	from, err := sb.enter()
	if err != nil {
		return err
	}
	defer from.close()
	return transfer(ctx, from, src, hostPlace(), dst, o)
}

// CopyTarTo unpacks a tar stream in the directory dst of a container, by the rules of
// CopyTo. Directories that the stream does not have are made. Names begin at dst, also
// with a slash; one with ".." in it is an error. r is read by the calling goroutine, up
// to the stream's end.
func (sb *Sandbox) CopyTarTo(ctx context.Context, r io.Reader, dst string, o *CopyOptions) error {
	to, err := sb.enter()
	if err != nil {
		return err
	}
	defer to.close()
	t := &landing{to: to, dst: dst, at: dst, o: o.orDefault()}
	defer t.close()
	if t.base, err = to.open(dst, unix.O_PATH|unix.O_DIRECTORY); err != nil {
		return fmt.Errorf("%s: %w", dst, err)
	}
	if err := eachInTar(ctx, r, t.o, t.put); err != nil {
		return err
	}
	return t.finish()
}

// CopyTarFrom writes a file, symlink or directory of a container to a tar stream, under
// its own name, or "." where the path ends in "/.". Owners are as the container sees
// them; holes become zeros. w is written to by the calling goroutine.
func (sb *Sandbox) CopyTarFrom(ctx context.Context, src string, w io.Writer, o *CopyOptions) error {
	from, err := sb.enter()
	if err != nil {
		return err
	}
	defer from.close()
	s, err := openSource(ctx, from, src, o.orDefault())
	if err != nil {
		return err
	}
	defer s.close()
	t := &tarStream{w: tar.NewWriter(w), top: s.name}
	if s.content {
		t.top = "."
	}
	if err := s.each(t.put); err != nil {
		return err
	}
	return t.w.Close()
}

func (o *CopyOptions) orDefault() *CopyOptions {
	if o == nil {
		return &CopyOptions{}
	}
	return o
}

// skip is called with what is not copied.
func (o *CopyOptions) skip(path, what string) error {
	if o.Skipped == nil {
		return fmt.Errorf("%s: is %s", path, what)
	}
	o.Skipped(path, what)
	return nil
}

// transfer copies from one place to another.
func transfer(ctx context.Context, from *place, src string, to *place, dst string, o *CopyOptions) error {
	s, err := openSource(ctx, from, src, o.orDefault())
	if err != nil {
		return err
	}
	defer s.close()
	t := &landing{to: to, dst: dst, o: s.o, base: -1}
	defer t.close()
	if err := t.land(s); err != nil {
		return fmt.Errorf("%s: %w", dst, err)
	}
	if s.avoid = identify([]uintptr{uintptr(t.base)})[0]; s.avoid == s.id() {
		return fmt.Errorf("%s: %w", src, errInItself)
	}
	if err := s.each(t.put); err != nil {
		return err
	}
	return t.finish()
}

// errInItself is a copy that would never end.
var errInItself = errors.New("a directory cannot be copied into itself")

// member is a file on its way.
type member struct {
	name  string // below the top, which is ""
	mode  uint32 // type and permissions, as in stat(2)
	owner Owner
	mtime unix.Timespec
	link  string // what a symlink says
	// hard is the name of an earlier member that is the same file; empty for none.
	hard   string
	xattrs []xattr
	// open opens the content of a regular file, which the caller closes; nil where data
	// has it.
	open func() (*os.File, int64, error)
	data io.Reader
	size int64 // of data
}

type xattr struct {
	name  string
	value []byte
}

// kept says whether an extended attribute goes along with a file: those with ids in them
// would have to be mapped, others are not the container's business.
func kept(name string) bool {
	return strings.HasPrefix(name, "user.") || name == "security.capability"
}

// source is a file or a tree that is read.
type source struct {
	ctx     context.Context
	from    *place
	o       *CopyOptions
	path    string // as it was asked for
	name    string // its last component; empty for a root directory
	content bool   // only what is in the directory is meant
	top     int    // an O_PATH descriptor
	st      unix.Stat_t
	avoid   fileID // the directory that is copied to
	links   map[fileID]string
	put     func(context.Context, *member) error
}

// openSource finds what is to be copied.
func openSource(ctx context.Context, from *place, src string, o *CopyOptions) (*source, error) {
	s := &source{ctx: ctx, from: from, o: o, path: src}
	abs := path.Clean("/" + src)
	if !from.inside() {
		var err error
		if abs, err = filepath.Abs(src); err != nil {
			return nil, err
		}
	}
	s.name = strings.TrimPrefix(path.Base(abs), "/")
	s.content = s.name == "" || src == "." || strings.HasSuffix(src, "/.")
	flags := unix.O_PATH
	if !o.FollowLink && !s.content {
		flags |= unix.O_NOFOLLOW
	}
	var err error
	if s.top, err = from.open(src, flags); err != nil {
		return nil, fmt.Errorf("%s: %w", src, err)
	}
	if err = unix.Fstat(s.top, &s.st); err == nil {
		err = from.checkFS(s.top)
	}
	if err == nil && !copyable(s.st.Mode) {
		err = notRegular{s.st.Mode}
	}
	if err != nil {
		s.close()
		return nil, fmt.Errorf("%s: %w", src, err)
	}
	return s, nil
}

func (s *source) close() { unix.Close(s.top) }

func (s *source) id() fileID { return fileID{uint64(s.st.Dev), s.st.Ino} }

func (s *source) isDir() bool { return s.st.Mode&unix.S_IFMT == unix.S_IFDIR }

// copyable says whether a file of that type is copied.
func copyable(mode uint32) bool {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG, unix.S_IFDIR, unix.S_IFLNK:
		return true
	}
	return false
}

// each calls put with the files, a directory before what is in it.
func (s *source) each(put func(context.Context, *member) error) error {
	s.put = put
	s.links = map[fileID]string{}
	return s.file(s.top, "", &s.st)
}

// where is the path of a member, for messages.
func (s *source) where(name string) string { return path.Join(s.path, name) }

// file hands on the file that an O_PATH descriptor refers to, and what is below it.
func (s *source) file(fd int, name string, st *unix.Stat_t) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	if len(name) >= unix.PathMax {
		return fmt.Errorf("%.60s…: %w", s.where(name), unix.ENAMETOOLONG)
	}
	m := &member{name: name, mode: st.Mode, owner: s.from.owner(st), mtime: st.Mtim}
	err := s.read(fd, st, m)
	if err != nil {
		return fmt.Errorf("%s: %w", s.where(name), err)
	}
	if err := s.put(s.ctx, m); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return s.dir(fd, name, st)
	}
	return nil
}

// read completes what is known of a file.
func (s *source) read(fd int, st *unix.Stat_t, m *member) (err error) {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(fd, "", buf)
		m.link = string(buf[:max(n, 0)])
		return err
	case unix.S_IFREG:
		if st.Nlink > 1 {
			id := fileID{uint64(st.Dev), st.Ino}
			if m.hard = s.links[id]; m.hard == "" && m.name != "" {
				s.links[id] = m.name
			}
		}
		m.open = func() (*os.File, int64, error) {
			in, now, err := s.from.reopen(fd, unix.O_RDONLY)
			if err != nil {
				return nil, 0, fmt.Errorf("%s: %w", s.where(m.name), err)
			}
			return os.NewFile(uintptr(in), m.name), now.Size, nil
		}
	}
	if s.o.Archive {
		m.xattrs, err = readXattrs(fd)
	}
	return err
}

// readXattrs reads what is kept of a file's attributes. It is named by its descriptor.
func readXattrs(fd int) (all []xattr, err error) {
	file := fmt.Sprintf("/proc/self/fd/%d", fd)
	n, err := unix.Listxattr(file, nil)
	if err == unix.ENOTSUP || err == nil && n == 0 {
		return nil, nil
	}
	list := make([]byte, 64<<10) // XATTR_LIST_MAX
	if err == nil {
		n, err = unix.Listxattr(file, list)
	}
	if err != nil {
		return nil, fmt.Errorf("list xattrs: %w", err)
	}
	for name := range splitNul(list[:n]) {
		if !kept(name) {
			continue
		}
		value := make([]byte, 64<<10) // XATTR_SIZE_MAX
		n, err := unix.Getxattr(file, name, value)
		switch {
		case err == unix.ENODATA: // removed meanwhile
		case err != nil:
			return nil, fmt.Errorf("xattr %s: %w", name, err)
		default:
			all = append(all, xattr{name, value[:n:n]})
		}
	}
	return all, nil
}

// dir hands on what is in a directory.
func (s *source) dir(fd int, name string, st *unix.Stat_t) error {
	d, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil && !s.from.may(st, unix.S_IROTH) {
		unix.Close(d)
		err = unix.EACCES
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.where(name), err)
	}
	dir := os.NewFile(uintptr(d), name)
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(256)
		for _, n := range names {
			if err := s.entry(d, n, path.Join(name, n), st); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.where(name), err)
		}
	}
}

// entry hands on the file n of a directory. What is gone when it is its turn is left out.
func (s *source) entry(dir int, n, name string, above *unix.Stat_t) error {
	fd, err := unix.Openat(dir, n, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.where(name), err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("%s: %w", s.where(name), err)
	}
	switch {
	case !copyable(st.Mode):
		return s.o.skip(s.where(name), fileType(st.Mode))
	case st.Dev != above.Dev && s.from.checkFS(fd) != nil:
		return s.o.skip(s.where(name), "on a file system of the kernel")
	case s.avoid == fileID{uint64(st.Dev), st.Ino}:
		return fmt.Errorf("%s: %w", s.where(name), errInItself)
	}
	return s.file(fd, name, &st)
}
