package layer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// Names in a layer root and in a layer's directory.
const (
	layersDir = "layers"
	trashDir  = "trash"
	lockFile  = "lock" // earlier versions had it in the trash
	metaFile  = "layer.json"
	usersDir  = "users"
	upperDir  = "upper"
	workDir   = "work"
	dataDir   = "data" // has the two of a layer with a limit
	volumeDir = "root" // a subvolume
	memoryDir = "memory"
)

// Root is a directory that holds layers. It has no state but its path, so any number
// of goroutines and processes may use the same one.
type Root struct {
	dir    string
	memory bool // dir is a tmpfs of this package
	// step, where tests set it, is called after each system call that changes
	// something, with what it did.
	step func(did string)
}

// Open returns the layer root dir, an absolute path. The directory is made, for its
// owner only, when the first layer is.
func Open(dir string) (*Root, error) {
	if !filepath.IsAbs(dir) || strings.ContainsRune(dir, 0) {
		return nil, fmt.Errorf("layer root %q: %w: not an absolute path", dir, ErrUnsuitable)
	}
	return &Root{dir: filepath.Clean(dir)}, nil
}

// Dir returns the path of the root.
func (r *Root) Dir() string { return r.dir }

func (r *Root) did(what string) {
	if r.step != nil {
		r.step(what)
	}
}

// open opens the root, which the caller closes. ENOENT: no layer was ever made, or of
// one in memory, none is left.
func (r *Root) open() (int, error) {
	fd, err := unix.Open(r.dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("layer root %s: %w", r.dir, err)
	}
	if err = r.mine(fd); err == nil && r.memory {
		err = r.mounted(fd)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// mine refuses a directory that others can write to: they could have put anything
// in it.
func (r *Root) mine(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("layer root %s: %w", r.dir, err)
	}
	if int(st.Uid) != unix.Geteuid() || st.Mode&0o022 != 0 {
		return fmt.Errorf("layer root %s: %w: others may write to it", r.dir, ErrUnsuitable)
	}
	return nil
}

// usage is a root in use: as long as it is not closed, nobody takes a layer without a
// layer.json for remains, and no tmpfs that has no layers away.
type usage struct {
	root int
	lock int // holds the shared flock(2); often the same as root
}

func (u usage) close() {
	if u.lock != u.root {
		unix.Close(u.root)
	}
	unix.Close(u.lock)
}

// use opens the root for making a layer, and makes it where needed.
func (r *Root) use() (usage, error) {
	for range 100 { // Empty may be faster
		u, err := r.usable()
		if !errors.Is(err, unix.ENOENT) {
			return u, err
		}
		if err := r.provide(); err != nil {
			return usage{}, err
		}
	}
	return usage{}, fmt.Errorf("layer root %s: %w: it is removed as soon as it is made", r.dir, ErrUnsuitable)
}

// usable is use where the root exists; ENOENT.
func (r *Root) usable() (usage, error) {
	lock, err := r.lock(unix.LOCK_SH)
	if err != nil || !r.memory {
		return usage{lock, lock}, err
	}
	root, err := r.open()
	if err != nil {
		unix.Close(lock)
		return usage{}, err
	}
	return usage{root, lock}, nil
}

// provide makes the root.
func (r *Root) provide() error {
	if err := makeAll(r.lockDir()); err != nil || !r.memory {
		return err
	}
	return r.mount()
}

// lockDir is the directory that is locked: not a tmpfs that comes and goes.
func (r *Root) lockDir() string {
	if r.memory {
		return filepath.Dir(r.dir)
	}
	return r.dir
}

// lock opens the directory to lock and locks it, as in flock(2).
func (r *Root) lock(how int) (int, error) {
	d := Root{dir: r.lockDir()}
	fd, err := d.open()
	if err != nil {
		return -1, err
	}
	if err := kernel.Retry(func() error { return unix.Flock(fd, how) }); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("lock layer root %s: %w", d.dir, err)
	}
	return fd, nil
}

// makeAll makes the directory path for its owner only.
func makeAll(path string) error {
	if err := mkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("mkdir %s: %w", path, err)
	}
	// Uppers would inherit it, and show it to their containers.
	_ = unix.Removexattr(path, "system.posix_acl_default")
	return nil
}

// mkdirAll makes a directory, and those above it for all to see.
func mkdirAll(path string, mode uint32) error {
	err := unix.Mkdir(path, mode)
	if err == unix.ENOENT {
		if err = mkdirAll(filepath.Dir(path), 0o755); err == nil {
			err = unix.Mkdir(path, mode)
		}
	}
	if err == unix.EEXIST {
		return nil
	}
	return err
}

// makeDirs makes the directories that every root has: where there are layers, there is
// a trash.
func (r *Root) makeDirs(root int) error {
	for _, name := range []string{trashDir, layersDir} {
		if err := unix.Mkdirat(root, name, 0o700); err != nil && err != unix.EEXIST {
			return fmt.Errorf("mkdir %s/%s: %w", r.dir, name, err)
		}
		r.did("mkdir " + name)
	}
	r.spread(root)
	return nil
}

// spread has ext4 place each layer anywhere on the disk (chattr(1), T). Otherwise it puts
// all of them close together, where it looks for a free inode among all those that were
// freed in the last minute, one by one, because it does not take these: after ten
// thousand files that makes a new directory 0.5 ms slower.
func (r *Root) spread(root int) {
	fd, err := openDir(root, layersDir)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	const topDir = 0x20000 // FS_TOPDIR_FL of linux/fs.h
	if flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS); err == nil && flags&topDir == 0 {
		_ = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags|topDir)) // others have no such flag
	}
}

// suitable refuses filesystems that overlayfs takes no upper directory from, or that
// lose what a root filesystem needs. Of what is not listed the mount will tell.
func (r *Root) suitable(root int, d Driver) error {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(root, &fs); err != nil {
		return fmt.Errorf("statfs %s: %w", r.dir, err)
	}
	name := ""
	switch uint32(fs.Type) {
	case unix.OVERLAYFS_SUPER_MAGIC:
		name = "overlay"
	case unix.NFS_SUPER_MAGIC:
		name = "nfs"
	case unix.CIFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC:
		name = "smb"
	case unix.V9FS_MAGIC:
		name = "9p"
	case unix.MSDOS_SUPER_MAGIC:
		name = "fat"
	case unix.EXFAT_SUPER_MAGIC:
		name = "exfat"
	case unix.FUSE_SUPER_MAGIC:
		name = "fuse"
	case unix.ECRYPTFS_SUPER_MAGIC:
		name = "ecryptfs"
	case unix.RAMFS_MAGIC:
		name = "ramfs"
	}
	if name != "" {
		return fmt.Errorf("layer root %s: %w: it is on %s", r.dir, ErrUnsuitable, name)
	}
	if d == Btrfs && uint32(fs.Type) != unix.BTRFS_SUPER_MAGIC {
		return fmt.Errorf("layer root %s: %w: it is not on btrfs (filesystem type %#x)", r.dir, ErrUnsuitable, uint32(fs.Type))
	}
	return nil
}

// newKey returns 16 hexadecimal digits at random. The first is 8 or higher for a layer
// with a limit: what stands on a layer has its key, and needs to know where the upper
// directory is without reading its layer.json.
func newKey(limited bool) string {
	var b [8]byte
	_, _ = unix.Getrandom(b[:], 0) // all of so few bytes, or the machine is just booting and it waits
	b[0] &^= 0x80
	if limited {
		b[0] |= 0x80
	}
	return fmt.Sprintf("%016x", binary.BigEndian.Uint64(b[:]))
}

// inLayer is where the layer key has name, its upper or work directory.
func inLayer(key, name string) string {
	if key[0] >= '8' {
		return dataDir + "/" + name
	}
	return name
}

func checkKey(key string) error {
	ok := len(key) == 16
	for _, c := range []byte(key) {
		ok = ok && ('0' <= c && c <= '9' || 'a' <= c && c <= 'f')
	}
	if !ok {
		return fmt.Errorf("layer key %q: %w", key, ErrInvalidName)
	}
	return nil
}

// checkUser accepts the name of a user of a committed layer.
func checkUser(name string) error {
	ok := name != "" && len(name) <= 255 && name[0] != '.'
	for _, c := range []byte(name) {
		ok = ok && ('0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '-' || c == '_' || c == '.')
	}
	if !ok {
		return fmt.Errorf("user %q: %w", name, ErrInvalidName)
	}
	return nil
}
