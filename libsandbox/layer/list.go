package layer

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Layers lists the layers of the root with their users, for whoever knows which
// owners exist: a layer that is not its owner's current one wants Discard; a committed
// layer without users too; a user that does not exist wants Release. Layers that are
// being made are not listed, or not complete. With an error, what could be read is
// returned as well.
//
// What processes have left that were killed before they had named a layer's owner goes
// to the trash.
func (r *Root) Layers() ([]Meta, error) {
	root, err := r.open()
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer unix.Close(root)
	if err := r.sweep(root); err != nil {
		return nil, err
	}
	keys, err := namesIn(root, layersDir)
	if err != nil {
		return nil, err
	}
	var all []Meta
	var errs []error
	for _, key := range keys {
		if checkKey(key) != nil {
			continue
		}
		m, err := readMeta(root, layersDir+"/"+key, key)
		if errors.Is(err, errRemains) {
			continue
		}
		if err == nil {
			err = m.readUsers(root)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, *m)
	}
	return all, errors.Join(errs...)
}

func (m *Meta) readUsers(root int) error {
	path := layersDir + "/" + m.Key + "/" + usersDir
	err := unix.Faccessat(root, path, unix.F_OK, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err == nil {
		m.Users, err = namesIn(root, path)
	}
	m.Committed = err == nil
	return err
}

// sweep moves directories without a layer.json to the trash, unless somebody is making
// a layer.
func (r *Root) sweep(root int) error {
	lock, err := r.lock(unix.LOCK_EX | unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(lock)
	keys, err := namesIn(root, layersDir)
	if err != nil {
		return err
	}
	for _, key := range keys {
		var st unix.Stat_t
		err := unix.Fstatat(root, layersDir+"/"+key+"/"+metaFile, &st, unix.AT_SYMLINK_NOFOLLOW)
		if checkKey(key) != nil || err == nil && st.Size > 0 || err != nil && err != unix.ENOENT {
			continue
		}
		if err := r.trash(root, key); err != nil {
			return err
		}
	}
	return nil
}
