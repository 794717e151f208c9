package libsandbox

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// place is where paths begin: the root directory of a container, in which whoever runs
// there can exchange anything at any time, or the host.
type place struct {
	root int // an O_PATH descriptor of the container's root; -1 on the host
	// uids and gids are those of the container's user namespace; nil on the host.
	uids, gids kernel.IDMap

	// sb, entry and seen are of a container with a layer that is written to: it must not
	// be reset meanwhile, nor the layer become a snapshot's. entry is its open directory;
	// -1 for none.
	sb    *Sandbox
	entry int
	seen  stamp
}

// hostPlace is the host, as this process sees it.
func hostPlace() *place { return &place{root: -1, entry: -1} }

func (p *place) inside() bool { return p.root >= 0 }

func (p *place) close() {
	for _, fd := range []int{p.root, p.entry} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// enter finds the root directory of the container's init, as it is now: a reset may have
// exchanged it. The caller closes the place. ErrNotRunning: there is no init.
//
// That of an init which is still being made may be the host's. What executes something
// else than the program that was compiled for it has left that behind; what waits for its
// start has, too, when nobody works on the container any more.
func (sb *Sandbox) enter() (*place, error) {
	sb.touch()
	p, err := sb.enterNow(nil)
	if !errors.Is(err, errWaits) {
		return p, err
	}
	e, err := sb.store.lock(sb.id)
	if err != nil {
		return nil, err
	}
	defer e.close()
	return sb.enterNow(e)
}

// errWaits is an init that executes the program that was compiled for it.
var errWaits = errors.New("the container is being made")

// enterNow is enter where locked is the container's lock, or nil.
func (sb *Sandbox) enterNow(locked *entry) (*place, error) {
	reload := sb.reload
	if locked != nil {
		reload = func() error { return sb.refreshIn(locked) }
	}
	if err := reload(); err != nil {
		return nil, err
	}
	sb.mu.Lock()
	defer sb.mu.Unlock()
	pidfd, err := sb.rec.Init.Open()
	if errors.Is(err, unix.ESRCH) {
		return nil, errNoFiles()
	}
	if err != nil {
		return nil, fmt.Errorf("pidfd of init: %w", err)
	}
	defer unix.Close(pidfd)
	waits := sb.waiting()
	if waits && locked == nil {
		return nil, errWaits
	}
	p, err := sb.openRoot()
	if err != nil {
		return nil, err
	}
	if ended, _ := kernel.WaitExit(pidfd, 0); ended { // and the number may be another's
		err = errNoFiles()
	} else if waits && sameFile(p.root, "/") { // whoever was making it has died before the end
		err = kindError{errWaits, ErrNotRunning}
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

// openRoot opens init's root directory, and what else a place needs.
func (sb *Sandbox) openRoot() (*place, error) {
	fd, err := unix.Open("/proc/"+strconv.Itoa(sb.rec.Init.Pid)+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT || err == unix.ESRCH {
		return nil, errNoFiles()
	}
	if err != nil {
		return nil, fmt.Errorf("root directory of init: %w", err)
	}
	p := &place{root: fd, entry: -1, sb: sb, seen: sb.read}
	err = sb.readIDs()
	p.uids, p.gids = sb.ids.uids, sb.ids.gids
	if err == nil && sb.rec.Layer != nil {
		p.entry, err = unix.Open(filepath.Join(sb.store.root, sb.id), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// idMaps are the maps of a process's user namespace, which never change.
type idMaps struct {
	of         kernel.ProcessID
	uids, gids kernel.IDMap
}

// readIDs reads them for the init of now.
func (sb *Sandbox) readIDs() (err error) {
	m := idMaps{of: sb.rec.Init.ProcessID}
	if sb.ids.of == m.of {
		return nil
	}
	if m.uids, err = kernel.ReadIDMap(m.of.Pid, "uid_map"); err != nil {
		return err
	}
	if m.gids, err = kernel.ReadIDMap(m.of.Pid, "gid_map"); err != nil {
		return err
	}
	sb.ids = m
	return nil
}

// do runs f, which makes or changes files here. In a container they belong to its root
// at first: in a file system of its user namespace nobody else can have any. And f has
// none of this process's privileges but those about files. errRenewed: the container has
// another root filesystem by now.
func (p *place) do(f func() error) error {
	if !p.inside() {
		return f()
	}
	p.sb.touch()
	if p.entry >= 0 {
		if err := p.share(); err != nil {
			return err
		}
		defer func() { _ = unix.Flock(p.entry, unix.LOCK_UN) }()
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

// errRenewed: what is written now would be lost, or get into a snapshot.
var errRenewed = errors.New("the container was reset or a snapshot was made of it meanwhile")

// share waits until nobody works on the container, and keeps it so.
func (p *place) share() error {
	end := time.Now().Add(lockTimeout)
	for wait := 50 * time.Microsecond; ; wait = min(2*wait, time.Millisecond) {
		err := kernel.Retry(func() error { return unix.Flock(p.entry, unix.LOCK_SH|unix.LOCK_NB) })
		switch {
		case err == nil:
			if now := stampOf(filepath.Join(p.sb.store.root, p.sb.id)); now.state != p.seen.state || now.init != p.seen.init {
				_ = unix.Flock(p.entry, unix.LOCK_UN)
				return errRenewed
			}
			return nil
		case err != unix.EWOULDBLOCK:
			return fmt.Errorf("lock: %w", err)
		case time.Now().After(end):
			return errBusy
		}
		time.Sleep(wait)
	}
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
	if flags&unix.O_ACCMODE != unix.O_RDONLY && !p.owns(&st) || !p.may(&st, unix.S_IROTH) {
		return -1, nil, unix.EACCES
	}
	// O_NONBLOCK: no waiting for who has a lease on it (fcntl(2)).
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(path), flags|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err == nil {
		_ = unix.SetNonblock(fd, false)
	}
	return fd, &st, err
}

// owns says whether a file's owner is somebody in the container, so that its root is
// above the file's permissions. Of what others have in there, as in a volume, it may do
// no more than the file lets everybody do: a symlink must not make this process do it.
func (p *place) owns(st *unix.Stat_t) bool {
	return !p.inside() || p.uids.Maps(st.Uid) && p.gids.Maps(st.Gid)
}

// may says whether the container's root has the permission bit of others, or is above it.
func (p *place) may(st *unix.Stat_t, bit uint32) bool { return p.owns(st) || st.Mode&bit != 0 }

// checkDir refuses a directory that the container's root may not write to.
func (p *place) checkDir(fd int) error {
	if !p.inside() {
		return nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if !p.may(&st, unix.S_IWOTH) {
		return unix.EACCES
	}
	return p.checkFS(fd)
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
	if err := p.checkDir(parent); err != nil {
		return -1, err
	}
	if err := unix.Mkdirat(parent, name, 0o755); err != nil && err != unix.EEXIST {
		return -1, err
	}
	return openDirAt(parent, name, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_BENEATH)
}
