package layer

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// maxDepth is how many lower directories overlayfs takes (OVL_MAX_STACK).
const maxDepth = 500

// Config says what layer to make.
type Config struct {
	Driver Driver
	Owner  Owner
	// Lowers are absolute paths of directories, top first; the last is the bundle's
	// root filesystem. With Parents it may be nil: they stand on the same.
	Lowers []string
	// Parents are the keys of the committed layers between this one and Lowers, top
	// first: a layer's key and what its Meta says.
	Parents []string
	// Size is the limit in bytes of what the layer can hold, 0 for none.
	Size int64
	// UserXattr: overlayfs is mounted in a user namespace, which may not write
	// trusted.* extended attributes.
	UserXattr bool
}

// Layer is one layer. It holds no descriptors, and may be copied.
type Layer struct {
	root    *Root
	meta    Meta
	pending bool // no user of its parent yet; see Above
}

// Key returns the name of the layer in its root.
func (l *Layer) Key() string { return l.meta.Key }

// Meta returns what is known of the layer. The slices in it are not to be changed.
func (l *Layer) Meta() Meta { return l.meta }

// New makes a layer: all that a container needs so that Mounts can be mounted. The
// layer is a user of its first parent from now on. After an error there is none.
//
// The root directory of the layer gets owner, mode, times and extended attributes of
// the directory below it.
func (r *Root) New(c *Config) (*Layer, error) {
	l := &Layer{root: r, meta: Meta{
		Version: metaVersion, Driver: c.Driver, Owner: c.Owner, Parents: slices.Clone(c.Parents),
		Size: c.Size, UserXattr: c.UserXattr,
	}}
	if err := l.check(c); err != nil {
		return nil, err
	}
	u, err := r.use()
	if err != nil {
		return nil, err
	}
	defer u.close()
	if err := l.suits(u.root); err != nil {
		return nil, err
	}
	if l.meta.Lowers, err = l.lowers(u.root, c); err != nil {
		return nil, err
	}
	if c.Driver == Btrfs && len(c.Parents) == 0 {
		return l.createOnBase(u.root)
	}
	return l.create(u.root, l.fill)
}

// suits refuses what the filesystem of the root cannot do.
func (l *Layer) suits(root int) error {
	if err := l.root.suitable(root, l.meta.Driver); err != nil || l.meta.Size == 0 {
		return err
	}
	return l.root.limits(root, l.meta.Driver)
}

// check refuses what no filesystem is needed to refuse.
func (l *Layer) check(c *Config) error {
	switch {
	case c.Driver != Overlay && c.Driver != Btrfs:
		return fmt.Errorf("layer driver %q: %w", c.Driver, ErrInvalidName)
	case c.Driver == Btrfs && len(c.Lowers) > 1:
		return fmt.Errorf("%d lower directories: %w, which takes one", len(c.Lowers), ErrUnsupported)
	case c.Size < 0:
		return fmt.Errorf("size of a layer: %d bytes", c.Size)
	case len(c.Lowers) == 0 && len(c.Parents) == 0:
		return errors.New("a layer needs a lower directory")
	}
	for i, path := range c.Lowers {
		if !filepath.IsAbs(path) || !utf8.ValidString(path) || strings.ContainsRune(path, 0) {
			return fmt.Errorf("lowers[%d] %q: %w: not an absolute path in UTF-8", i, path, ErrInvalidName)
		}
	}
	for _, key := range c.Parents {
		if err := checkKey(key); err != nil {
			return fmt.Errorf("parents: %w", err)
		}
	}
	return l.checkDepth(len(c.Lowers))
}

func (l *Layer) checkDepth(lowers int) error {
	if n := lowers + len(l.meta.Parents); l.meta.Driver == Overlay && n > maxDepth {
		return fmt.Errorf("a layer on %d: %w", n, ErrDepth)
	}
	return nil
}

// lowers finds out which directories the lowers are. Those of a layer with parents
// are theirs, and the parents have to be a chain.
func (l *Layer) lowers(root int, c *Config) ([]Lower, error) {
	if len(c.Parents) == 0 {
		all := make([]Lower, len(c.Lowers))
		for i, path := range c.Lowers {
			all[i] = Lower{Path: path}
			if err := all[i].find(); err != nil {
				return nil, fmt.Errorf("lowers[%d] %w", i, err)
			}
		}
		return all, nil
	}
	top, err := parentMeta(root, c.Parents)
	if err != nil {
		return nil, err
	}
	if top.Driver != c.Driver || top.UserXattr != c.UserXattr {
		return nil, fmt.Errorf("layer %s: %w: it is of another driver", top.Key, ErrInvalidName)
	}
	for i, path := range c.Lowers {
		if len(c.Lowers) != len(top.Lowers) || path != top.Lowers[i].Path {
			return nil, fmt.Errorf("lowers: %w: layer %s stands on others", ErrLowerChanged, top.Key)
		}
	}
	if err := l.checkDepth(len(top.Lowers)); err != nil {
		return nil, err
	}
	return top.Lowers, same(top.Lowers)
}

// parentMeta reads the first of parents and makes sure that it stands on the others.
func parentMeta(root int, parents []string) (*Meta, error) {
	top, err := readMeta(root, layersDir+"/"+parents[0], parents[0])
	if errors.Is(err, errRemains) {
		return nil, fmt.Errorf("layer %s: %w", parents[0], ErrGone)
	}
	if err != nil {
		return nil, err
	}
	if !slices.Equal(top.Parents, parents[1:]) {
		return nil, fmt.Errorf("parents: %w: layer %s does not stand on the others", ErrInvalidName, parents[0])
	}
	return top, nil
}

// find fills in which directory it is.
func (lo *Lower) find() error {
	var st unix.Stat_t
	err := unix.Stat(lo.Path, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		err = unix.ENOTDIR
	}
	if err != nil {
		return fmt.Errorf("%s: %w", lo.Path, err)
	}
	lo.Dev, lo.Ino = uint64(st.Dev), st.Ino
	return nil
}

// same makes sure that the lowers are the directories that they were.
func same(lowers []Lower) error {
	for i := range lowers {
		now := Lower{Path: lowers[i].Path}
		if err := now.find(); err != nil {
			return fmt.Errorf("lowers[%d] %w", i, err)
		}
		if now != lowers[i] {
			return fmt.Errorf("lowers[%d] %s: %w", i, now.Path, ErrLowerChanged)
		}
	}
	return nil
}

// Next makes a fresh layer of the same kind, for the same owner and on the same lower
// directories, which must still be the ones they were (ErrLowerChanged). It stands on
// parents: those of l for a layer as l was at first, or l's key and its parents once
// l is committed. l itself need not exist any more.
func (l *Layer) Next(parents []string) (*Layer, error) {
	return l.next(slices.Clone(parents), false)
}

// Above makes the layer that is to stand on l once that is committed, so that it can be
// mounted by then. Until Settle it keeps nobody from freeing l, and can only be discarded,
// which l does not notice.
func (l *Layer) Above() (*Layer, error) {
	return l.next(l.meta.chain(), true)
}

// next is Next or, where the layer is to be pending, Above.
func (l *Layer) next(parents []string, pending bool) (*Layer, error) {
	n := l.sibling(parents)
	n.meta.Size, n.pending = l.meta.Size, pending
	for _, key := range parents {
		if err := checkKey(key); err != nil {
			return nil, fmt.Errorf("parents: %w", err)
		}
	}
	if err := n.checkDepth(len(l.meta.Lowers)); err != nil {
		return nil, err
	}
	if err := same(l.meta.Lowers); err != nil {
		return nil, err
	}
	u, err := l.root.use()
	if err != nil {
		return nil, err
	}
	defer u.close()
	if len(parents) > 0 && !l.knows(parents) {
		top, err := parentMeta(u.root, parents)
		if err != nil {
			return nil, err
		}
		if top.Driver != l.meta.Driver || top.UserXattr != l.meta.UserXattr || !slices.Equal(top.Lowers, l.meta.Lowers) {
			return nil, fmt.Errorf("parents: %w: layer %s stands on other lower directories", ErrInvalidName, top.Key)
		}
	}
	return n.create(u.root, n.fill)
}

// Settle makes a layer that Above has made a user of the one that it stands on, which must
// be committed and have another user.
func (l *Layer) Settle() error {
	root, err := l.root.open()
	if err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	defer unix.Close(root)
	if err := l.addTo(root); err != nil {
		return err
	}
	l.pending = false
	return nil
}

// sibling is a layer like l, without a limit, that stands on parents and is not made
// yet.
func (l *Layer) sibling(parents []string) *Layer {
	n := &Layer{root: l.root, meta: l.meta}
	n.meta.Key, n.meta.Parents, n.meta.Size = "", parents, 0
	n.meta.Committed, n.meta.Users = false, nil
	return n
}

// knows says that parents are a chain on l's lowers without asking the disk.
func (l *Layer) knows(parents []string) bool {
	return slices.Equal(parents, l.meta.Parents) ||
		parents[0] == l.meta.Key && slices.Equal(parents[1:], l.meta.Parents)
}

// create makes a new layer's directory with its layer.json, and lets fill make the rest.
func (l *Layer) create(root int, fill func(root, dir int) error) (*Layer, error) {
	l.meta.Created = time.Now().UTC().Format(time.RFC3339Nano)
	if err := l.mkdir(root); err != nil {
		return nil, fmt.Errorf("layer: mkdir %s: %w", l.full(), err)
	}
	if err := l.complete(root, fill); err != nil {
		return nil, errors.Join(fmt.Errorf("layer: %w", err), l.undo(root))
	}
	return l, nil
}

func (l *Layer) complete(root int, fill func(root, dir int) error) error {
	dir, err := openDir(root, l.path())
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	if err := l.meta.write(dir, l.root.did); err != nil {
		return err
	}
	if !l.pending {
		if err := l.addTo(root); err != nil {
			return err
		}
	}
	return fill(root, dir)
}

// fill makes what a container writes to.
func (l *Layer) fill(root, dir int) error {
	if l.meta.Driver == Btrfs {
		return l.fillBtrfs(root, dir)
	}
	return l.fillOverlay(root, dir)
}

// mkdir finds a key that is free and makes the directory.
func (l *Layer) mkdir(root int) error {
	for range 100 {
		l.meta.Key = newKey(l.meta.Size > 0)
		if taken, err := l.taken(root); taken || err != nil {
			if err != nil {
				return err
			}
			continue
		}
		err := unix.Mkdirat(root, l.path(), 0o700)
		if err == unix.ENOENT { // the root is new
			if err = l.root.makeDirs(root); err == nil {
				err = unix.Mkdirat(root, l.path(), 0o700)
			}
		}
		if err != unix.EEXIST {
			l.root.did("mkdir layer")
			return err
		}
	}
	return unix.EEXIST
}

// path is the layer's directory below the root, full that below /.
func (l *Layer) path() string { return layersDir + "/" + l.meta.Key }
func (l *Layer) full() string { return l.root.dir + "/" + l.path() }

// undo removes a layer that could not be made.
func (l *Layer) undo(root int) error {
	if err := l.discard(root); err != nil {
		return err
	}
	if err := l.root.remove(root, l.meta.Key, &walk{}); err != nil {
		return fmt.Errorf("delete layer %s: %w", l.meta.Key, err)
	}
	return nil
}

// Load returns a layer that was made before.
func (r *Root) Load(key string) (*Layer, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	root, err := r.open()
	if errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("layer %s: %w", key, ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	defer unix.Close(root)
	m, err := readMeta(root, layersDir+"/"+key, key)
	if errors.Is(err, errRemains) {
		return nil, fmt.Errorf("layer %s: %w", key, ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	l := &Layer{root: r, meta: *m}
	l.meta.Committed = unix.Faccessat(root, l.path()+"/"+usersDir, unix.F_OK, 0) == nil
	return l, nil
}

// Mounts says what to mount as a container's root filesystem: one mount, for "/". The
// layer must not be committed.
//
// In the values of lowerdir, upperdir and workdir a backslash, a colon and a comma
// have a backslash before them, as mount(2) and the option lowerdir of fsconfig(2)
// want it; lowerdir+ takes one directory as it is.
func (l *Layer) Mounts() []specs.Mount {
	if l.meta.Driver == Btrfs {
		return l.btrfsMounts()
	}
	return l.overlayMounts()
}
