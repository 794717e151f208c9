package layer

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Flags of chattr(1), from linux/fs.h.
const (
	lockedFlags = 0x10 | 0x20 // immutable, append-only
	noCowFlag   = 0x800000
	// userFlags are those that a user sets and that mean the same on every filesystem:
	// also synchronous, no dump, no atime, secure deletion, undeletable, compressed and
	// not, journalled data, no tail, synchronous directory, top directory.
	userFlags = lockedFlags | noCowFlag | 0x1 | 0x2 | 0x4 | 0x8 | 0x40 | 0x80 | 0x400 | 0x4000 | 0x8000 | 0x10000 | 0x20000
)

// copyFlags copies the flags of a regular file or directory. Locked flags of a file with
// more links to come wait until those are made.
func (c *copier) copyFlags(src, dst int, more bool) error {
	flags := getFlags(src) & userFlags
	if more && flags&lockedFlags != 0 {
		c.links.lock(src, flags)
		flags &^= lockedFlags
	}
	return setFlags(dst, flags, userFlags)
}

// getFlags returns no flags where the filesystem has none.
func getFlags(fd int) uint32 {
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err != nil {
		return 0
	}
	return flags
}

// setFlags makes those in mask the ones in flags.
func setFlags(fd int, flags, mask uint32) error {
	was := getFlags(fd)
	now := was&^mask | flags&mask
	if now == was {
		return nil
	}
	err := unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(now))
	if err != nil {
		return fmt.Errorf("set flags %#x: %w", now, err)
	}
	return nil
}

// clearFlags makes a file neither immutable nor append-only.
func clearFlags(fd int) {
	flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err == nil && flags&lockedFlags != 0 {
		_ = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(flags&^lockedFlags))
	}
}
