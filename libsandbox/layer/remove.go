package layer

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// remove deletes the layer key, which is in the trash. Others may be at it, too.
func (r *Root) remove(root int, key string) error {
	dir, err := openDir(root, trashDir)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	w := walk{}
	if err := w.removeAll(dir, key); err != nil {
		return fmt.Errorf("delete layer %s: %w", key, err)
	}
	r.did("delete layer")
	return nil
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
			return nil, err
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
	w.buf = make([]byte, 16<<10)
	w.levels = w.levels[:0]
	if err := w.enter(dir, name); err != nil {
		return gone(err)
	}
	err = w.removeContent()
	unix.Close(w.fd)
	if err == nil {
		err = gone(unix.Unlinkat(dir, name, unix.AT_REMOVEDIR))
	}
	return err
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
		w.fd = above
		return gone(err)
	}
	unix.Close(above)
	return nil
}

// unlink deletes what is not a directory.
func (w *walk) unlink(dir int, name string) (isDir bool, err error) {
	err = unix.Unlinkat(dir, name, 0)
	if err == unix.EISDIR {
		return true, nil
	}
	return false, gone(err)
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
	return gone(unix.Unlinkat(up, name, unix.AT_REMOVEDIR))
}
