// Package btrfs makes, lists and destroys subvolumes (linux/btrfs.h, btrfs-ioctl(2)).
// It knows no layers: names and descriptors in, errnos out.
package btrfs

import (
	"bytes"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The requests, on amd64 and arm64.
const (
	subvolCreate   = 0x5000940e // BTRFS_IOC_SUBVOL_CREATE
	snapDestroy    = 0x5000940f // BTRFS_IOC_SNAP_DESTROY
	snapCreateV2   = 0x50009417 // BTRFS_IOC_SNAP_CREATE_V2
	subvolGetFlags = 0x80089419 // BTRFS_IOC_SUBVOL_GETFLAGS
	subvolSetFlags = 0x4008941a // BTRFS_IOC_SUBVOL_SETFLAGS
	fsInfo         = 0x8400941f // BTRFS_IOC_FS_INFO
	subvolRootref  = 0xd000943d // BTRFS_IOC_GET_SUBVOL_ROOTREF, Linux 4.18
	inoLookupUser  = 0xd000943e // BTRFS_IOC_INO_LOOKUP_USER, Linux 4.18

	readOnly = 2 // BTRFS_SUBVOL_RDONLY
	rootIno  = 256
)

// volArgs is struct btrfs_ioctl_vol_args.
type volArgs struct {
	fd   int64
	name [4088]byte
}

// volArgsV2 is struct btrfs_ioctl_vol_args_v2.
type volArgsV2 struct {
	fd      int64
	transid uint64
	flags   uint64
	unused  [4]uint64
	name    [4040]byte
}

// rootrefs is struct btrfs_ioctl_get_subvol_rootref_args.
type rootrefs struct {
	minTree uint64
	refs    [255]struct{ tree, dir uint64 }
	items   uint8
	align   [7]uint8
}

// lookup is struct btrfs_ioctl_ino_lookup_user_args.
type lookup struct {
	dir, tree uint64
	name      [256]byte
	path      [4080 - 256]byte
}

// info is the beginning of struct btrfs_ioctl_fs_info_args.
type info struct {
	maxID, devices uint64
	fsid           [16]byte
	rest           [1024 - 32]byte
}

func ioctl(fd int, request uint, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
			continue
		}
		return errno
	}
}

// IsSubvolume says whether a directory is the root of a subvolume.
func IsSubvolume(fd int) bool {
	var st unix.Stat_t
	var fs unix.Statfs_t
	return unix.Fstat(fd, &st) == nil && st.Ino == rootIno && st.Mode&unix.S_IFMT == unix.S_IFDIR &&
		unix.Fstatfs(fd, &fs) == nil && uint32(fs.Type) == unix.BTRFS_SUPER_MAGIC
}

// SameFilesystem says whether two files are on one btrfs, whatever their subvolumes:
// each of those has a device number of its own.
func SameFilesystem(a, b int) bool {
	var x, y info
	return ioctl(a, fsInfo, unsafe.Pointer(&x)) == nil && ioctl(b, fsInfo, unsafe.Pointer(&y)) == nil && x.fsid == y.fsid
}

// Create makes an empty subvolume in the directory dir.
func Create(dir int, name string) error {
	var a volArgs
	if len(name) >= len(a.name) {
		return unix.ENAMETOOLONG
	}
	copy(a.name[:], name)
	return ioctl(dir, subvolCreate, unsafe.Pointer(&a))
}

// Snapshot makes a copy of subvolume src in the directory dir. Subvolumes in src are
// empty directories in the copy. It waits for the filesystem's transaction to be
// written: milliseconds.
func Snapshot(src, dir int, name string, ro bool) error {
	a := volArgsV2{fd: int64(src)}
	if len(name) >= len(a.name) {
		return unix.ENAMETOOLONG
	}
	copy(a.name[:], name)
	if ro {
		a.flags = readOnly
	}
	return ioctl(dir, snapCreateV2, unsafe.Pointer(&a))
}

// Destroy removes a subvolume, read-only or not, from the directory dir, whatever is
// in it but other subvolumes: ENOTEMPTY. EROFS: dir is in a read-only one. The space
// is freed later.
func Destroy(dir int, name string) error {
	var a volArgs
	if len(name) >= len(a.name) {
		return unix.ENAMETOOLONG
	}
	copy(a.name[:], name)
	return ioctl(dir, snapDestroy, unsafe.Pointer(&a))
}

// SetReadOnly makes a subvolume, given by its root directory, read-only or writable.
func SetReadOnly(fd int, ro bool) error {
	var flags uint64
	if err := ioctl(fd, subvolGetFlags, unsafe.Pointer(&flags)); err != nil {
		return err
	}
	was := flags&readOnly != 0
	if was == ro {
		return nil
	}
	flags ^= readOnly
	return ioctl(fd, subvolSetFlags, unsafe.Pointer(&flags))
}

// Child is a subvolume directly in another.
type Child struct {
	Dir  string // the directory that it is in, below the subvolume's root; "" is the root
	Name string
}

// Children lists the subvolumes in the one whose root directory fd is, but not those
// in them. One whose directory is being deleted is left out. Directories deeper than
// 3823 bytes are ENAMETOOLONG.
func Children(fd int) ([]Child, error) {
	var all []Child
	refs := rootrefs{}
	for {
		err := ioctl(fd, subvolRootref, unsafe.Pointer(&refs))
		if err != nil && err != unix.EOVERFLOW {
			return nil, err
		}
		for _, ref := range refs.refs[:refs.items] {
			c, lerr := find(fd, ref.dir, ref.tree)
			if lerr == unix.ENOENT {
				continue
			}
			if lerr != nil {
				return nil, lerr
			}
			all = append(all, c)
		}
		if err == nil { // otherwise minTree says where to go on
			return all, nil
		}
	}
}

func find(fd int, dir, tree uint64) (Child, error) {
	a := lookup{dir: dir, tree: tree}
	if err := ioctl(fd, inoLookupUser, unsafe.Pointer(&a)); err != nil {
		return Child{}, err
	}
	return Child{Dir: string(bytes.TrimSuffix(text(a.path[:]), []byte("/"))), Name: string(text(a.name[:]))}, nil
}

// text is what is before the first NUL.
func text(b []byte) []byte {
	before, _, _ := bytes.Cut(b, []byte{0})
	return before
}
