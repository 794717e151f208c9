package libsandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// ReadLimit is the size of the largest file that ReadFile reads: 256 MiB. Whoever runs
// in the container decides how large its files are.
const ReadLimit = 256 << 20

// ErrTooLarge is a file of more than ReadLimit bytes.
var ErrTooLarge = errors.New("file too large")

// ReadFile returns what is in a regular file of a running, paused or created container,
// volumes included. The path is the container's, as its first process sees it, and begins
// at its root also without a slash; symlinks are followed, and lead nowhere but to where
// they lead in the container. Directories, FIFOs, sockets, devices and files of the
// kernel's own file systems (proc, sysfs, cgroup and the like) are refused without being
// opened.
//
// ErrNotRunning: the container is stopped. ErrTooLarge: Open reads files of any size. A
// file system that does not answer, as one by FUSE, blocks ReadFile.
func (sb *Sandbox) ReadFile(path string) ([]byte, error) {
	fd, size, err := sb.openToRead(path)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	raw, err := readLimited(fd, size)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return raw, nil
}

// Open opens a file for reading that ReadFile would read, whatever its size. The caller
// closes it.
func (sb *Sandbox) Open(path string) (*os.File, error) {
	fd, _, err := sb.openToRead(path)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

func (sb *Sandbox) openToRead(path string) (fd int, size int64, err error) {
	p, err := sb.enter()
	if err != nil {
		return -1, 0, err
	}
	defer p.close()
	fd, st, err := p.openRegular(path, unix.O_RDONLY)
	if err != nil {
		return -1, 0, fmt.Errorf("open %s: %w", path, err)
	}
	return fd, st.Size, nil
}

// readLimited reads a file that says it has size bytes.
func readLimited(fd int, size int64) ([]byte, error) {
	if size > ReadLimit {
		return nil, ErrTooLarge
	}
	buf := make([]byte, 0, max(size, 511)+1)
	for {
		n, err := kernel.Read(fd, buf[len(buf):cap(buf)])
		if err != nil || n <= 0 {
			return buf, err
		}
		if buf = buf[:len(buf)+n]; len(buf) > ReadLimit {
			return nil, ErrTooLarge
		}
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
	}
}

// WriteOptions are the choices of WriteFile; nil is the zero value.
type WriteOptions struct {
	// Mode is permissions and the bits setuid, setgid and sticky; 0 is 0644 for a new
	// file, and leaves that of an existing one alone. The umask does not count.
	Mode fs.FileMode
	// Owner of the file; nil is the container's root for a new one, and leaves that of an
	// existing one alone.
	Owner *Owner
	// Parents has missing directories of the path made, as root's with mode 0755
	// less the umask.
	Parents bool
}

// WriteFile writes data to a regular file of a running, paused or created container,
// which it makes where there is none. Paths and what is refused are as with ReadFile.
//
// It writes in place, as a shell's redirection does: an existing file stays the same
// file, with its links and mounts, and whoever reads it meanwhile may see a part. After an
// error a part may be written. A symlink that leads to nothing is refused. ErrNotRunning:
// the container is stopped. EROFS, ENOSPC and EDQUOT are in the chain of errors: the
// limits of the file system hold.
func (sb *Sandbox) WriteFile(path string, data []byte, o *WriteOptions) (err error) {
	if o == nil {
		o = &WriteOptions{}
	}
	for range 10 { // a reset may come between, and nothing is written then
		var p *place
		if p, err = sb.enter(); err != nil {
			return err
		}
		err = p.do(func() error { return p.write(path, data, o) })
		p.close()
		if !errors.Is(err, errRenewed) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func (p *place) write(path string, data []byte, o *WriteOptions) error {
	fd, made, err := p.openToWrite(path, o.Parents)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := kernel.WriteAll(fd, data); err != nil {
		return err
	}
	if made || o.Owner != nil {
		uid, gid, err := p.host(o.Owner)
		if err == nil {
			err = unix.Fchown(fd, int(uid), int(gid))
		}
		if err != nil {
			return fmt.Errorf("chown: %w", err)
		}
	}
	// Behind chown, which takes setuid away.
	if mode := unixMode(o.Mode); mode != 0 {
		err = unix.Fchmod(fd, mode)
	} else if made {
		err = unix.Fchmod(fd, 0o644)
	}
	if err != nil {
		return fmt.Errorf("chmod: %w", err)
	}
	return nil
}

// unixMode is the mode as chmod(2) takes it.
func unixMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	for _, bit := range [...]struct {
		have fs.FileMode
		is   uint32
	}{{fs.ModeSetuid, unix.S_ISUID}, {fs.ModeSetgid, unix.S_ISGID}, {fs.ModeSticky, unix.S_ISVTX}} {
		if m&bit.have != 0 {
			mode |= bit.is
		}
	}
	return mode
}

// openToWrite opens an empty file: an existing one, which is emptied, or a new one.
func (p *place) openToWrite(path string, parents bool) (fd int, made bool, err error) {
	for range 10 { // somebody may make and remove it all the time
		fd, _, err = p.openRegular(path, unix.O_WRONLY|unix.O_TRUNC)
		if err != unix.ENOENT {
			return fd, false, err
		}
		fd, err = p.create(path, parents)
		if err != unix.EEXIST {
			return fd, err == nil, err
		}
	}
	return -1, false, errors.New("is a symlink that leads to nothing")
}

// create makes a file for root alone.
func (p *place) create(path string, parents bool) (int, error) {
	above, name := splitLast(path)
	if name == "" || path[len(path)-1] == '/' {
		return -1, unix.EISDIR
	}
	dir, err := p.open(above, unix.O_PATH|unix.O_DIRECTORY)
	if err == unix.ENOENT && parents {
		dir, err = p.makeDirs(p.root, above, unix.RESOLVE_IN_ROOT)
	}
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	if err := p.checkDir(dir); err != nil {
		return -1, err
	}
	return unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
}
