package layer

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
	"adl.run/adl-runtime/libsandbox/internal/kernel/btrfs"
)

// remove deletes the layer key, which is in the trash. Others may be at it, too.
func (r *Root) remove(root int, key string, w *walk) error {
	dir, err := openDir(root, trashDir+"/"+key)
	if err != nil {
		return gone(err)
	}
	defer unix.Close(dir)
	m, err := readMeta(root, trashDir+"/"+key, key)
	if err != nil { // whatever it was a user of, a collection finds out
		m = &Meta{Key: key}
	}
	// Who moved it here may not have got so far.
	if err := r.release(root, m.Parents, layerUser+key); err != nil {
		return err
	}
	if r.memory {
		err := unix.Unmount(r.dir+"/"+trashDir+"/"+key+"/"+dataDir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if err != nil && err != unix.EINVAL && err != unix.ENOENT {
			return fmt.Errorf("unmount: %w", err)
		}
		r.did("unmount data")
	}
	w.did = r.did
	if err := r.removeData(dir, w); err != nil {
		return err
	}
	if err := r.unlimit(root, m); err != nil {
		return err
	}
	trash, err := openDir(root, trashDir)
	if err != nil {
		return err
	}
	defer unix.Close(trash)
	return w.removeAll(trash, key)
}

// removeData deletes what is in the directory of a layer but its layer.json.
func (r *Root) removeData(dir int, w *walk) error {
	for {
		names, err := namesIn(dir, ".")
		if err != nil {
			return err
		}
		again := false
		for _, name := range names {
			if name == metaFile {
				continue
			}
			var err error
			if r.destroy(dir, name) {
				again = true // subvolumes in it are here now
				err = w.deleted(nil)
			} else {
				err = w.removeAll(dir, name)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		if !again {
			return nil
		}
	}
}

func openDir(dir int, name string) (int, error) {
	return unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
}

// namesIn lists the directory path below dir. One that does not exist is empty.
func namesIn(dir int, path string) (names []string, err error) {
	fd, err := openDir(dir, path)
	if err == unix.ENOENT {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", path, err)
	}
	defer unix.Close(fd)
	buf := make([]byte, 16<<10)
	for {
		more, err := readNames(fd, buf)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", path, err)
		}
		if len(more) == 0 {
			return names, nil
		}
		names = append(names, more...)
	}
}

// readNames reads some of the names in a directory, none at its end.
func readNames(fd int, buf []byte) ([]string, error) {
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return nil, gone(err) // a directory that is deleted has no names
		}
		// A block of nothing but . and .. is not the end.
		if _, _, names := unix.ParseDirent(buf[:n], -1, nil); len(names) > 0 {
			return names, nil
		}
	}
}

// fileID is which file something is.
type fileID struct{ dev, ino uint64 }

func identify(fd int) (fileID, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return fileID{uint64(st.Dev), st.Ino}, err
}

// walk deletes trees of any depth with two descriptors at a time: a container can nest
// directories deeper than a process can have descriptors. It goes up by "..", and only
// to the directory that it came from, as a process that has kept hold of a directory
// could still move others about.
type walk struct {
	fd     int // the directory at hand
	levels []level
	buf    []byte
	did    func(string)
	// pause, where it is set, is called after each file. Its error ends the walk.
	pause func() error
}

// level is a directory on the way to the one at hand.
type level struct {
	id    fileID
	name  string   // in the directory above
	names []string // read and not yet deleted
}

// errMoved: somebody moves directories in a tree that is being deleted.
var errMoved = errors.New("directory was moved meanwhile")

// removeAll deletes name in dir and all below it. What is gone already is fine.
func (w *walk) removeAll(dir int, name string) error {
	isDir, err := w.unlink(dir, name)
	if !isDir || err != nil {
		return err
	}
	if w.buf == nil {
		w.buf = make([]byte, 16<<10)
	}
	w.levels = w.levels[:0]
	if err := w.enter(dir, name); err != nil {
		return gone(err)
	}
	defer func() { unix.Close(w.fd) }()
	if err := w.removeContent(); err != nil {
		return err
	}
	return w.rmdir(dir, name)
}

// gone is nil where err says that there is no such file.
func gone(err error) error {
	if err == unix.ENOENT {
		return nil
	}
	return err
}

// removeContent deletes what is below the first level, and leaves w.fd there.
func (w *walk) removeContent() (err error) {
	for {
		top := &w.levels[len(w.levels)-1]
		if len(top.names) == 0 {
			if top.names, err = readNames(w.fd, w.buf); err != nil {
				return err
			}
		}
		switch n := len(top.names); {
		case n > 0:
			name := top.names[n-1]
			top.names = top.names[:n-1]
			err = w.removeEntry(name)
		case len(w.levels) > 1:
			err = w.leave()
		default:
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// removeEntry deletes a file of the directory at hand, or goes into a directory.
func (w *walk) removeEntry(name string) error {
	isDir, err := w.unlink(w.fd, name)
	if !isDir || err != nil {
		return err
	}
	above := w.fd
	if err := w.enter(above, name); err != nil {
		return gone(err)
	}
	unix.Close(above)
	return nil
}

// enter makes the directory name in dir the one at hand.
func (w *walk) enter(dir int, name string) error {
	fd, err := openDir(dir, name)
	if err != nil {
		return err
	}
	id, err := identify(fd)
	if err != nil {
		unix.Close(fd)
		return err
	}
	if btrfs.IsSubvolume(fd) {
		_ = btrfs.SetReadOnly(fd, false)
	}
	w.fd = fd
	w.levels = append(w.levels, level{id: id, name: name})
	return nil
}

// leave goes up and deletes the directory that was at hand.
func (w *walk) leave() error {
	n := len(w.levels)
	name, above := w.levels[n-1].name, w.levels[n-2].id
	up, err := openDir(w.fd, "..")
	if err != nil {
		return err
	}
	if id, err := identify(up); err != nil || id != above {
		unix.Close(up)
		return errMoved
	}
	unix.Close(w.fd)
	w.fd = up
	w.levels = w.levels[:n-1]
	return w.rmdir(up, name)
}

// unlink deletes what is not a directory.
func (w *walk) unlink(dir int, name string) (isDir bool, err error) {
	err = w.force(dir, name, 0)
	if err == unix.EISDIR {
		return true, nil
	}
	return false, w.deleted(err)
}

func (w *walk) rmdir(dir int, name string) error {
	return w.deleted(w.force(dir, name, unix.AT_REMOVEDIR))
}

func (w *walk) deleted(err error) error {
	w.did("delete")
	if err == nil && w.pause != nil {
		return w.pause()
	}
	return gone(err)
}

// force is unlinkat(2) that takes the flags of chattr(1) away where they forbid it.
func (w *walk) force(dir int, name string, flags int) error {
	err := unix.Unlinkat(dir, name, flags)
	if err != unix.EPERM {
		return err
	}
	clearFlags(dir)
	// A regular file or a directory. To open a device could do harm.
	fd, err := openDir(dir, name)
	if err != nil {
		fd, _, err = kernel.OpenRegular(dir, name)
	}
	if err == nil {
		clearFlags(fd)
		unix.Close(fd)
	}
	return unix.Unlinkat(dir, name, flags)
}
