package libsandbox

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// copyUp copies the content of the directory files[0] into the tmpfs files[1]
// (mount option tmpcopyup) and closes both. Names are only ever opened relative to
// descriptors and without following symlinks.
func copyUp(files []int) error {
	defer kernel.Close(files...)
	if len(files) != 2 {
		return fmt.Errorf("init sent %d descriptors", len(files))
	}
	return copyDir(files[0], files[1])
}

// copyDir copies what directory from contains, and its metadata, into directory to.
func copyDir(from, to int) error {
	fd, err := unix.Openat(from, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	dir := os.NewFile(uintptr(fd), ".")
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	dst, err := unix.Openat(to, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	for _, name := range names {
		if err := copyEntry(fd, dst, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	return copyMetadata(fd, dst, &st)
}

func copyEntry(from, to int, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(from, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return copySubdir(from, to, name)
	case unix.S_IFREG:
		return copyFile(from, to, name)
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(from, name, buf)
		if err != nil {
			return err
		}
		if err := unix.Symlinkat(string(buf[:n]), to, name); err != nil {
			return err
		}
	default:
		if err := unix.Mknodat(to, name, st.Mode, int(st.Rdev)); err != nil {
			return err
		}
		if err := unix.Fchmodat(to, name, st.Mode&0o7777, 0); err != nil {
			return err
		}
	}
	if err := unix.Fchownat(to, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return unix.UtimesNanoAt(to, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

func copySubdir(from, to int, name string) error {
	if err := unix.Mkdirat(to, name, 0o700); err != nil {
		return err
	}
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	src, err := unix.Openat(from, name, flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	dst, err := unix.Openat(to, name, flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	return copyDir(src, dst)
}

// copyFile looks at the file again once it holds it: whoever else has the directory
// may have exchanged it for a FIFO, for another user's file, or for a disk of the
// host, which the runtime may open and its container may not.
func copyFile(from, to int, name string) error {
	in, st, err := kernel.OpenRegular(from, name)
	if err != nil {
		return err
	}
	src := os.NewFile(uintptr(in), name)
	defer src.Close()
	out, err := unix.Openat(to, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	dst := os.NewFile(uintptr(out), name)
	defer dst.Close()
	if err := copyData(dst, src, st.Size, func(f func() error) error { return f() }); err != nil {
		return err
	}
	return copyMetadata(in, out, st)
}

// copyPiece is how much is copied at once.
const copyPiece = 64 << 20

// copyData copies the pieces of a file that are not holes: tmpfs is memory. What grows
// meanwhile is cut at size. What writes is called by step.
func copyData(dst, src *os.File, size int64, step func(func() error) error) error {
	fd := int(src.Fd())
	for end := int64(0); end < size; {
		start, err := unix.Seek(fd, end, unix.SEEK_DATA)
		switch {
		case err == unix.ENXIO: // a hole up to the end
			start, end, err = size, size, nil
		case err == unix.EINVAL: // the file system does not know
			start, end, err = end, size, nil
		case err == nil:
			end, err = unix.Seek(fd, start, unix.SEEK_HOLE)
		}
		end = min(end, size, start+copyPiece)
		if err == nil {
			_, err = src.Seek(start, io.SeekStart)
		}
		if err == nil {
			_, err = dst.Seek(start, io.SeekStart)
		}
		if err == nil {
			err = step(func() error { _, err := io.CopyN(dst, src, end-start); return err })
		}
		if err != nil {
			return err
		}
	}
	return step(func() error { return dst.Truncate(size) })
}

// copyMetadata copies owner, mode, extended attributes and times. Attributes that
// tmpfs does not keep are left out.
func copyMetadata(from, to int, st *unix.Stat_t) error {
	if err := unix.Fchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(to, st.Mode&0o7777); err != nil {
		return err
	}
	if err := copyXattrs(from, to); err != nil {
		return err
	}
	return unix.UtimesNanoAt(to, "", []unix.Timespec{st.Atim, st.Mtim}, unix.AT_EMPTY_PATH)
}

func copyXattrs(from, to int) error {
	list := make([]byte, 64<<10)
	n, err := unix.Flistxattr(from, list)
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list xattrs: %w", err)
	}
	value := make([]byte, 64<<10)
	for name := range splitNul(list[:n]) {
		n, err := unix.Fgetxattr(from, name, value)
		if err == nil {
			err = unix.Fsetxattr(to, name, value[:n], 0)
		}
		if err != nil && !errors.Is(err, unix.ENOTSUP) && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("xattr %s: %w", name, err)
		}
	}
	return nil
}

// splitNul yields the strings of a list that ends each with a NUL.
func splitNul(list []byte) func(func(string) bool) {
	return func(yield func(string) bool) {
		for len(list) > 0 {
			n := 0
			for n < len(list) && list[n] != 0 {
				n++
			}
			if !yield(string(list[:n])) {
				return
			}
			list = list[min(n+1, len(list)):]
		}
	}
}
