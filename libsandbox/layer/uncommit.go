package layer

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Uncommit undoes Commit, for a layer that has no user but one, whom Hold has made: it is
// its container's again. ErrInUse: it has others.
func (l *Layer) Uncommit(user string) error {
	if err := checkUser(user); err != nil {
		return err
	}
	root, err := l.root.open()
	if err != nil {
		return fmt.Errorf("uncommit: %w", err)
	}
	defer unix.Close(root)
	if err := unix.Unlinkat(root, l.path()+"/"+usersDir+"/"+user, 0); err != nil && err != unix.ENOENT {
		return fmt.Errorf("uncommit layer %s: %w", l.meta.Key, err)
	}
	err = unix.Unlinkat(root, l.path()+"/"+usersDir, unix.AT_REMOVEDIR)
	switch err {
	case nil:
		l.meta.Committed = false
		return nil
	case unix.ENOTEMPTY:
		if err := l.root.addUser(root, l.meta.Key, user); err != nil {
			return err
		}
		err = ErrInUse
	}
	return fmt.Errorf("uncommit layer %s: %w", l.meta.Key, err)
}

// CheckLowers makes sure that the lower directories are the ones that the layer was made
// for. ErrLowerChanged: one is not.
func (l *Layer) CheckLowers() error { return same(l.meta.Lowers) }

// Unchanged says that the layer, of an overlay, holds nothing that the one below it does not
// hold. Nobody may write to it meanwhile.
func (l *Layer) Unchanged() bool {
	if l.meta.Driver != Overlay || len(l.meta.Parents) == 0 {
		return false
	}
	root, err := l.root.open()
	if err != nil {
		return false
	}
	defer unix.Close(root)
	own, below := l.root.upper(l.meta.Key), l.root.upper(l.meta.Parents[0])
	var a, b unix.Stat_t
	if unix.Lstat(own, &a) != nil || unix.Lstat(below, &b) != nil || a.Mode != b.Mode || a.Uid != b.Uid || a.Gid != b.Gid || a.Mtim != b.Mtim {
		return false
	}
	names, err := namesIn(root, l.path()+"/"+inLayer(l.meta.Key, upperDir))
	return err == nil && len(names) == 0
}
