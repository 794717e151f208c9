package libsandbox

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// place is where paths begin: the root directory of a container, in which whoever runs
// there can exchange anything at any time, or the host.
type place struct {
	root int // an O_PATH descriptor of the container's root; -1 on the host
	// uids and gids are those of the container's user namespace; nil on the host.
	uids, gids kernel.IDMap
}

// hostPlace is the host, as this process sees it.
func hostPlace() *place { return &place{root: -1} }

func (p *place) inside() bool { return p.root >= 0 }

func (p *place) close() {
	if p.root >= 0 {
		unix.Close(p.root)
	}
}

// enter finds the root directory of the container's init, as it is now: a reset may have
// exchanged it. With ids it also reads how the container's ids are mapped. The caller
// closes the place. ErrNotRunning: there is no init.
func (sb *Sandbox) enter(ids bool) (*place, error) {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	if err := sb.reload(); err != nil {
		return nil, err
	}
	pidfd, err := sb.rec.Init.Open()
	if errors.Is(err, unix.ESRCH) {
		return nil, errNoFiles()
	}
	if err != nil {
		return nil, fmt.Errorf("pidfd of init: %w", err)
	}
	defer unix.Close(pidfd)
	p, err := sb.openRoot()
	if err != nil {
		return nil, err
	}
	if ids {
		err = p.readIDs(sb.rec.Init.Pid)
	}
	if ended, _ := kernel.WaitExit(pidfd, 0); ended { // and the number may be another's
		err = errNoFiles()
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func errNoFiles() error {
	return kindError{errors.New("the container is stopped: its files are not to be reached"), ErrNotRunning}
}

// openRoot opens init's root directory. That of an init which is still being made may be
// the host's: what executes something else than the program that was compiled for it has
// left that behind, and what waits for its start, once nobody works on the container.
func (sb *Sandbox) openRoot() (*place, error) {
	waits := sb.waiting()
	if waits {
		e, err := sb.refresh()
		if err != nil {
			return nil, err
		}
		defer e.close()
		waits = sb.waiting()
	}
	fd, err := unix.Open("/proc/"+strconv.Itoa(sb.rec.Init.Pid)+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT || err == unix.ESRCH {
		return nil, errNoFiles()
	}
	if err != nil {
		return nil, fmt.Errorf("root directory of init: %w", err)
	}
	if waits && sameFile(fd, "/") { // whoever was making it has died before the end
		unix.Close(fd)
		return nil, kindError{errors.New("the container is not made"), ErrNotRunning}
	}
	return &place{root: fd}, nil
}

func (p *place) readIDs(pid int) (err error) {
	if p.uids, err = kernel.ReadIDMap(pid, "uid_map"); err != nil {
		return err
	}
	p.gids, err = kernel.ReadIDMap(pid, "gid_map")
	return err
}

// do runs f, which makes or changes files here. In a container they belong to its root
// at first: in a file system of its user namespace nobody else can have any. And f has
// none of this process's privileges but those about files.
func (p *place) do(f func() error) error {
	if !p.inside() {
		return f()
	}
	uid, gid, err := p.host(nil)
	if err != nil {
		return err
	}
	if int(uid) == unix.Geteuid() && int(gid) == unix.Getegid() {
		return kernel.WithFileCaps(f)
	}
	return kernel.WithFileIDs(uid, gid, func() error { return kernel.WithFileCaps(f) })
}

// Owner is the owner of a file.
type Owner struct {
	UID, GID uint32 // as the container sees them
}

// host returns what an owner's ids are on the host; nil is the container's root.
func (p *place) host(o *Owner) (uid, gid uint32, err error) {
	if o == nil {
		o = &Owner{p.uids.Root(), p.gids.Root()}
	}
	if !p.inside() {
		return o.UID, o.GID, nil
	}
	if uid, err = p.uids.Host(o.UID); err != nil {
		return 0, 0, fmt.Errorf("user %w", err)
	}
	if gid, err = p.gids.Host(o.GID); err != nil {
		return 0, 0, fmt.Errorf("group %w", err)
	}
	return uid, gid, nil
}

// owner returns the ids of a file here, as the container sees them.
func (p *place) owner(st *unix.Stat_t) Owner {
	if !p.inside() {
		return Owner{st.Uid, st.Gid}
	}
	return Owner{p.uids.Inside(st.Uid), p.gids.Inside(st.Gid)}
}

// open opens a path. In a container it is looked up as the container sees it, by the
// kernel and never beyond the root, and a relative one begins there.
func (p *place) open(path string, flags int) (fd int, err error) {
	if p.inside() {
		return kernel.OpenAtRoot(p.root, path, flags)
	}
	err = kernel.Retry(func() error { fd, err = unix.Open(path, flags|unix.O_CLOEXEC, 0); return err })
	return fd, err
}

// openRegular opens a file that has to be a regular one. To open anything else could
// already do harm, so it is looked at before.
func (p *place) openRegular(path string, flags int) (int, *unix.Stat_t, error) {
	fd, err := p.open(path, unix.O_PATH)
	if err != nil {
		return -1, nil, err
	}
	defer unix.Close(fd)
	return p.reopen(fd, flags)
}

// reopen is openRegular for the file that an O_PATH descriptor refers to.
func (p *place) reopen(path, flags int) (int, *unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstat(path, &st); err != nil {
		return -1, nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return -1, nil, notRegular{st.Mode}
	}
	if err := p.checkFS(path); err != nil {
		return -1, nil, err
	}
	// O_NONBLOCK: no waiting for who has a lease on it (fcntl(2)).
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(path), flags|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	return fd, &st, err
}

// checkFS refuses a file that is the kernel's state. A container's root has fewer rights
// there than this process, which a symlink could lead to it.
func (p *place) checkFS(fd int) error {
	if !p.inside() {
		return nil
	}
	name, err := kernel.KernelFS(fd)
	if err == nil && name != "" {
		err = fmt.Errorf("it is on a file system of the kernel (%s)", name)
	}
	return err
}

// notRegular is a file of another type.
type notRegular struct{ mode uint32 }

func (e notRegular) Error() string { return "is " + fileType(e.mode) }

// Is says that it is EISDIR of a directory, EINVAL otherwise.
func (e notRegular) Is(err error) bool {
	if e.mode&unix.S_IFMT == unix.S_IFDIR {
		return err == unix.EISDIR
	}
	return err == unix.EINVAL
}

// fileType is what a file is, in words.
func fileType(mode uint32) string {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return "a regular file"
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFLNK:
		return "a symlink"
	case unix.S_IFIFO:
		return "a FIFO"
	case unix.S_IFSOCK:
		return "a socket"
	case unix.S_IFCHR, unix.S_IFBLK:
		return "a device"
	}
	return "a file of an unknown type"
}

// splitLast cuts a path behind its last directory. Slashes at the end do not count. There
// is no name where the last component is "." or "..".
func splitLast(path string) (dir, name string) {
	path = strings.TrimRight(path, "/")
	dir, name = path[:strings.LastIndexByte(path, '/')+1], path[strings.LastIndexByte(path, '/')+1:]
	if name == "." || name == ".." {
		name = ""
	}
	if dir == "" {
		dir = "."
	}
	return dir, name
}

// openDirAt opens the directory path below dir, which symlinks lead out of in no case;
// resolve are further RESOLVE_* flags. The descriptor is one for reading.
func openDirAt(dir int, path string, resolve uint64) (fd int, err error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_NO_MAGICLINKS | resolve,
	}
	for range 1000 { // the kernel gives up at ".." while anything is renamed or mounted
		err = kernel.Retry(func() (err error) { fd, err = unix.Openat2(dir, path, &how); return err })
		if err != unix.EAGAIN {
			break
		}
	}
	return fd, err
}

// makeDirs makes the directory path below dir and those above it, as far as they are
// missing, and opens it. They are the container's root's, with mode 0755 less the umask.
// It runs in do.
func (p *place) makeDirs(dir int, path string, resolve uint64) (int, error) {
	parent, err := unix.Openat(dir, ".", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	done := "."
	for name := range strings.SplitSeq(path, "/") {
		if name == "" || name == "." {
			continue
		}
		done += "/" + name
		fd, err := openDirAt(dir, done, resolve)
		if err == unix.ENOENT && name != ".." {
			fd, err = p.makeDir(parent, name)
		}
		unix.Close(parent)
		if err != nil {
			return -1, fmt.Errorf("mkdir %s: %w", done[2:], err)
		}
		parent = fd
	}
	return parent, nil
}

// makeDir makes one directory and opens it for reading.
func (p *place) makeDir(parent int, name string) (int, error) {
	if err := p.checkFS(parent); err != nil {
		return -1, err
	}
	if err := unix.Mkdirat(parent, name, 0o755); err != nil && err != unix.EEXIST {
		return -1, err
	}
	return openDirAt(parent, name, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_BENEATH)
}
