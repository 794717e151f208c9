package layer

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// layerUser is the beginning of the names of users that are layers.
const layerUser = "layer-"

// Commit makes the layer read-only: other layers can stand on it, and Hold can keep
// it. Whoever mounts it must not write to it any more; this is not enforced. It has
// no users yet: the caller adds one before it lets go of whatever keeps others from
// discarding the layer.
//
// A btrfs layer is not committed but copied: Snapshot.
func (l *Layer) Commit() error {
	if l.meta.Driver == Btrfs {
		return fmt.Errorf("commit of a btrfs layer: %w", ErrUnsupported)
	}
	root, err := l.root.open()
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	defer unix.Close(root)
	return l.commit(root)
}

func (l *Layer) commit(root int) error {
	err := unix.Mkdirat(root, l.path()+"/"+usersDir, 0o700)
	switch {
	case err == unix.EEXIST:
		err = ErrCommitted
	case err == unix.ENOENT:
		err = ErrNotExist
	}
	if err != nil {
		return fmt.Errorf("commit layer %s: %w", l.meta.Key, err)
	}
	l.root.did("mkdir users")
	l.meta.Committed = true
	return nil
}

// addUser makes name a user of the committed layer key.
func (r *Root) addUser(root int, key, name string) error {
	err := unix.Mknodat(root, layersDir+"/"+key+"/"+usersDir+"/"+name, unix.S_IFREG|0o600, 0)
	switch {
	case err == unix.ENOENT:
		return fmt.Errorf("layer %s: %w", key, ErrGone)
	case err != nil && err != unix.EEXIST:
		return fmt.Errorf("user %s of layer %s: %w", name, key, err)
	}
	r.did("add user")
	return nil
}

// addTo makes l a user of its first parent.
func (l *Layer) addTo(root int) error {
	if len(l.meta.Parents) == 0 {
		return nil
	}
	return l.root.addUser(root, l.meta.Parents[0], layerUser+l.meta.Key)
}

// Hold makes user one of the committed layer key, which is not freed before Release.
// A user is at most 255 letters, digits, dots, dashes and underscores, does not begin
// with a dot, and not with "layer-", which is for layers. To hold twice is to hold
// once. ErrGone: the layer is freed or not committed.
func (r *Root) Hold(key, user string) error {
	if strings.HasPrefix(user, layerUser) {
		return fmt.Errorf("user %q: %w: reserved for layers", user, ErrInvalidName)
	}
	root, err := r.openFor(key, user)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	return r.addUser(root, key, user)
}

// Release undoes Hold, and frees the layer, and those below it, where that was the
// last user: they are in the trash then. Nothing happens where user is none.
func (r *Root) Release(key, user string) error {
	root, err := r.openFor(key, user)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	m, err := readMeta(root, layersDir+"/"+key, key)
	if errors.Is(err, errRemains) {
		return nil
	}
	if err != nil {
		return err
	}
	return r.release(root, m.chain(), user)
}

// Prune takes away from a committed layer the users that are layers and are gone, and
// frees it if that was all: whoever discards a layer may be killed before it is no user
// any more. A layer that is being made is there before it is a user.
func (r *Root) Prune(m *Meta) error {
	for _, user := range m.Users {
		key, isLayer := strings.CutPrefix(user, layerUser)
		if !isLayer {
			continue
		}
		if _, err := r.Load(key); !errors.Is(err, ErrNotExist) {
			continue // it is there, or nobody knows
		}
		if err := r.Release(m.Key, user); err != nil {
			return err
		}
	}
	return nil
}

// openFor opens the root after it has looked at the names.
func (r *Root) openFor(key, user string) (int, error) {
	if err := checkKey(key); err != nil {
		return -1, err
	}
	if err := checkUser(user); err != nil {
		return -1, err
	}
	root, err := r.open()
	if errors.Is(err, unix.ENOENT) {
		return -1, fmt.Errorf("layer %s: %w", key, ErrGone)
	}
	return root, err
}

// release removes a user of the first of chain, a layer and all that it stands on. A
// layer that has no user any more goes to the trash, and was a user of the next.
//
// Who does not find the user has not been it, and leaves the layer to whoever was.
func (r *Root) release(root int, chain []string, user string) error {
	for i, key := range chain {
		users := layersDir + "/" + key + "/" + usersDir
		err := unix.Unlinkat(root, users+"/"+user, 0)
		if err == unix.ENOENT {
			return nil
		}
		if err != nil {
			return fmt.Errorf("user %s of layer %s: %w", user, key, err)
		}
		r.did("remove user")
		free, err := r.free(root, key)
		if !free || err != nil {
			return err
		}
		user = layerUser + chain[i]
	}
	return nil
}

// free moves a committed layer that has no users to the trash. It says false where
// there are users, or somebody else has freed it.
func (r *Root) free(root int, key string) (bool, error) {
	err := unix.Unlinkat(root, layersDir+"/"+key+"/"+usersDir, unix.AT_REMOVEDIR)
	switch err {
	case nil:
		r.did("rmdir users")
		return true, r.trash(root, key)
	case unix.ENOTEMPTY, unix.EEXIST, unix.ENOENT:
		return false, nil
	}
	return false, fmt.Errorf("free layer %s: %w", key, err)
}

// trash moves a layer's directory to where Empty finds it. Somebody else may have
// done so.
func (r *Root) trash(root int, key string) error {
	err := unix.Renameat(root, layersDir+"/"+key, root, trashDir+"/"+key)
	if err == unix.ENOENT && unix.Mkdirat(root, trashDir, 0o700) == nil { // it was the trash that is gone
		err = unix.Renameat(root, layersDir+"/"+key, root, trashDir+"/"+key)
	}
	if err != nil && err != unix.ENOENT {
		return fmt.Errorf("move layer %s to the trash: %w", key, err)
	}
	r.did("trash layer")
	return nil
}

// Discard gives the layer up: it goes to the trash, and is no user of its parent any
// more. This takes the same time whatever is in the layer. A container may still have
// it mounted, and will be losing files once somebody calls Empty. A committed layer
// with users is not touched: ErrInUse. A layer that is gone already is no error.
func (l *Layer) Discard() error {
	root, err := l.root.open()
	if err != nil {
		return fmt.Errorf("discard: %w", err)
	}
	defer unix.Close(root)
	return l.discard(root)
}

func (l *Layer) discard(root int) error {
	err := unix.Unlinkat(root, l.path()+"/"+usersDir, unix.AT_REMOVEDIR)
	switch err {
	case nil:
		l.root.did("rmdir users")
	case unix.ENOENT: // not committed
	case unix.ENOTEMPTY, unix.EEXIST:
		return fmt.Errorf("layer %s: %w", l.meta.Key, ErrInUse)
	default:
		return fmt.Errorf("discard layer %s: %w", l.meta.Key, err)
	}
	if err := l.root.trash(root, l.meta.Key); err != nil {
		return err
	}
	if len(l.meta.Parents) == 0 {
		return nil
	}
	return l.root.release(root, l.meta.Parents, layerUser+l.meta.Key)
}
