package layer

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

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
	k.name = ".links-" + newKey(false)
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
	for id := range k.left {
		if err := k.drop(id); err != nil {
			return fmt.Errorf("links: %w", err)
		}
	}
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
