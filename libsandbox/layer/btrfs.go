package layer

import (
	"errors"
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel/btrfs"
)

// fillBtrfs makes the subvolume of a layer: a copy of the one that it stands on.
func (l *Layer) fillBtrfs(root, dir int) error {
	src, err := l.belowBtrfs(root)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	return l.root.snapshot(src, dir, volumeDir, false)
}

// belowBtrfs opens the subvolume that the layer lies on.
func (l *Layer) belowBtrfs(root int) (int, error) {
	if len(l.meta.Parents) > 0 {
		return openDir(root, layersDir+"/"+l.meta.Parents[0]+"/"+volumeDir)
	}
	fd, err := unix.Open(l.meta.Lowers[0].Path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("lowers[0] %s: %w", l.meta.Lowers[0].Path, err)
	}
	return fd, nil
}

// snapshot copies the subvolume src, and all those in it, to the directory name in
// dir. Each is copied as it is at one moment, but not all at the same.
func (r *Root) snapshot(src, dir int, name string, ro bool) error {
	if err := btrfs.Snapshot(src, dir, name, ro); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	r.did("snapshot")
	children, err := btrfs.Children(src)
	if err != nil || len(children) == 0 {
		return err
	}
	dst, err := openDir(dir, name)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	if err := btrfs.SetReadOnly(dst, false); err != nil {
		return err
	}
	for _, c := range children {
		if err := r.snapshotChild(src, dst, c, ro); err != nil {
			return fmt.Errorf("subvolume %q in %q: %w", c.Name, c.Dir, err)
		}
	}
	if !ro {
		return nil
	}
	return btrfs.SetReadOnly(dst, true)
}

// snapshotChild copies a subvolume in src to where the copy dst of src has an empty
// directory in its place.
func (r *Root) snapshotChild(src, dst int, c btrfs.Child, ro bool) error {
	from, err := openBelow(src, c.Dir+"/"+c.Name)
	if err == unix.ENOENT { // deleted meanwhile
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(from)
	to, err := openBelow(dst, c.Dir)
	if err == unix.ENOENT || err == nil && !btrfs.IsSubvolume(from) { // moved or replaced meanwhile
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(to)
	var st unix.Stat_t
	if err := unix.Fstat(to, &st); err != nil {
		return err
	}
	err = unix.Unlinkat(to, c.Name, unix.AT_REMOVEDIR)
	if err != nil {
		return gone(err)
	}
	if err := r.snapshot(from, to, c.Name, ro); err != nil {
		return err
	}
	return setTimes(to, "", &st)
}

// setTimes gives the times in st to name in dir; "" is dir itself.
func setTimes(dir int, name string, st *unix.Stat_t) error {
	flags := unix.AT_SYMLINK_NOFOLLOW
	if name == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	return unix.UtimesNanoAt(dir, name, []unix.Timespec{st.Atim, st.Mtim}, flags)
}

// openBelow opens the directory path, which a container may be changing, below dir.
func openBelow(dir int, path string) (int, error) {
	if path == "" {
		path = "."
	}
	for len(path) > 1 && path[0] == '/' {
		path = path[1:]
	}
	return unix.Openat2(dir, path, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	})
}

// Snapshot copies a btrfs layer, as it is now, with the subvolumes in it, to a new
// committed one that stands on nothing. The layer may be in use meanwhile. The result
// has no users yet, as after Commit. ErrUnsupported: the driver is another.
func (l *Layer) Snapshot() (*Layer, error) {
	if l.meta.Driver != Btrfs {
		return nil, fmt.Errorf("snapshot of an %s layer: %w", l.meta.Driver, ErrUnsupported)
	}
	n := l.sibling(nil)
	u, err := l.root.use()
	if err != nil {
		return nil, err
	}
	defer u.close()
	return n.create(u.root, func(root, dir int) error {
		src, err := openDir(root, l.path()+"/"+volumeDir)
		if err != nil {
			return fmt.Errorf("layer %s: %w", l.meta.Key, err)
		}
		defer unix.Close(src)
		if err := l.root.snapshot(src, dir, volumeDir, true); err != nil {
			return err
		}
		return n.commit(root)
	})
}

// createOnBase makes a layer that stands on a subvolume, or on a copy of a directory.
func (l *Layer) createOnBase(root int) (*Layer, error) {
	base, err := l.base(root)
	if err != nil {
		return nil, err
	}
	if base == "" {
		return l.create(root, l.fill)
	}
	l.meta.Parents = []string{base}
	n, err := l.create(root, l.fill)
	if err != nil { // unless it was the base's last user, and has freed it
		b := Layer{root: l.root, meta: Meta{Key: base}}
		err = errors.Join(err, b.undo(root))
	}
	return n, err
}

// base copies a directory, which is not a subvolume but on the same btrfs, to a
// committed layer that others can stand on, and returns its key. For a subvolume that
// is not needed: "".
func (l *Layer) base(root int) (string, error) {
	path := l.meta.Lowers[0].Path
	// Without the mounts below it, which nobody else sees either.
	src, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return "", fmt.Errorf("lowers[0] %s: %w", path, err)
	}
	defer unix.Close(src)
	quiet := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOATIME, Attr_clr: unix.MOUNT_ATTR__ATIME}
	if err := unix.MountSetattr(src, "", unix.AT_EMPTY_PATH, &quiet); err != nil {
		return "", fmt.Errorf("lowers[0] %s: mount_setattr: %w", path, err)
	}
	from, err := openDir(src, ".")
	if err != nil {
		return "", fmt.Errorf("lowers[0] %s: %w", path, err)
	}
	defer unix.Close(from)
	if !btrfs.SameFilesystem(from, root) {
		return "", fmt.Errorf("lowers[0] %s: %w: it is not on the same btrfs as %s", path, ErrUnsuitable, l.root.dir)
	}
	if btrfs.IsSubvolume(from) {
		return "", nil
	}
	b := l.sibling(nil)
	_, err = b.create(root, func(root, dir int) error {
		if err := l.root.fillBase(from, dir); err != nil {
			return err
		}
		return b.commit(root)
	})
	return b.meta.Key, err
}

func (r *Root) fillBase(from, dir int) error {
	if err := btrfs.Create(dir, volumeDir); err != nil {
		return fmt.Errorf("create subvolume: %w", err)
	}
	r.did("create subvolume")
	to, err := openDir(dir, volumeDir)
	if err != nil {
		return err
	}
	defer unix.Close(to)
	if _, err := copyTree(from, to, r.did); err != nil {
		return err
	}
	return btrfs.SetReadOnly(to, true)
}

func (l *Layer) btrfsMounts() []specs.Mount {
	return []specs.Mount{{Destination: "/", Type: "bind", Source: l.full() + "/" + volumeDir, Options: []string{"bind"}}}
}

// destroy deletes the subvolume name in the directory dir, which holds nothing else
// but what is to be deleted: subvolumes in it are moved there first, because a
// container can nest them deeper than a process can have descriptors. It says false
// where name is no subvolume, or one that has to be deleted file by file.
func (r *Root) destroy(dir int, name string) bool {
	fd, err := openDir(dir, name)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	if !btrfs.IsSubvolume(fd) {
		return false
	}
	children, err := btrfs.Children(fd)
	if err != nil || len(children) > 0 && btrfs.SetReadOnly(fd, false) != nil {
		return false
	}
	for _, c := range children {
		if r.moveUp(fd, c, dir) != nil {
			return false
		}
	}
	err = btrfs.Destroy(dir, name)
	r.did("destroy subvolume")
	return err == nil
}

// moveUp moves a subvolume in fd to the directory dir.
func (r *Root) moveUp(fd int, c btrfs.Child, dir int) error {
	in, err := openBelow(fd, c.Dir)
	if err != nil {
		return err
	}
	defer unix.Close(in)
	sub, err := openDir(in, c.Name)
	if err != nil {
		return err
	}
	defer unix.Close(sub)
	if err := btrfs.SetReadOnly(sub, false); err != nil {
		return err
	}
	err = unix.Renameat(in, c.Name, dir, newKey(false))
	r.did("move subvolume")
	return err
}
