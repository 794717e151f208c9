package layer

import (
	"fmt"
	"io"
	"strconv"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// regular copies a regular file.
func (c *copier) regular(name string) error {
	src, st, err := kernel.OpenRegular(c.src, name)
	if err != nil {
		return err
	}
	defer unix.Close(src)
	dst, err := unix.Openat(c.dst, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	if getFlags(src)&noCowFlag != 0 { // only an empty file takes it
		if err := setFlags(dst, noCowFlag, noCowFlag); err != nil {
			return err
		}
	}
	if st.Size > 0 {
		if err := c.data(src, dst, st.Size); err != nil {
			return err
		}
	}
	if err := c.dress(name, st); err != nil {
		return err
	}
	return c.copyFlags(src, dst, st.Nlink > 1)
}

// data copies or shares what is in a file.
func (c *copier) data(src, dst int, size int64) error {
	if !c.noShare {
		err := unix.IoctlFileClone(dst, src)
		if err == nil {
			c.stats.Shared += size
			return nil
		}
		if err == unix.ENOSPC || err == unix.EDQUOT || err == unix.EIO {
			return err
		}
		c.noShare = true
	}
	for end := int64(0); end < size; {
		start, err := unix.Seek(src, end, unix.SEEK_DATA)
		if err == unix.ENXIO { // a hole up to the end
			break
		}
		if err == nil {
			end, err = unix.Seek(src, start, unix.SEEK_HOLE)
		}
		if err == nil {
			err = c.piece(src, dst, start, min(end, size)-start)
		}
		if err != nil {
			return err
		}
	}
	return unix.Ftruncate(dst, size)
}

// piece copies n bytes at an offset.
func (c *copier) piece(src, dst int, at, n int64) error {
	for n > 0 {
		done, err := c.some(src, dst, at, int(min(n, 1<<30)))
		if err == nil && done == 0 {
			err = io.ErrUnexpectedEOF // somebody writes meanwhile
		}
		if err != nil {
			return err
		}
		at, n = at+int64(done), n-int64(done)
		c.stats.Bytes += int64(done)
	}
	return nil
}

// some copies up to n bytes at an offset.
func (c *copier) some(src, dst int, at int64, n int) (int, error) {
	if c.buf == nil {
		in, out := at, at
		done, err := unix.CopyFileRange(src, &in, dst, &out, n, 0)
		switch err {
		case unix.EXDEV, unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP:
			c.buf = make([]byte, 1<<20)
		default:
			return done, err
		}
	}
	got, err := unix.Pread(src, c.buf[:min(n, len(c.buf))], at)
	for done := 0; err == nil && done < got; {
		var put int
		put, err = unix.Pwrite(dst, c.buf[done:got], at+int64(done))
		done += max(put, 0)
	}
	return got, err
}

// dress gives the copy of name what st and the original say of it. The order matters: to
// change the owner takes set-user-ID bits and capabilities away.
func (c *copier) dress(name string, st *unix.Stat_t) error {
	if err := chown(c.dst, name, st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Fchmodat(c.dst, name, st.Mode&0o7777, 0); err != nil {
			return fmt.Errorf("chmod: %w", err)
		}
	}
	to := pathOf(c.dst, name)
	err := eachXattr(pathOf(c.src, name), func(key string, value []byte) error {
		return unix.Lsetxattr(to, key, value, 0)
	})
	if err != nil {
		return err
	}
	if err := setTimes(c.dst, name, st); err != nil {
		return fmt.Errorf("times: %w", err)
	}
	return nil
}

// dressDir does so for the directory at hand, once all that is in it is copied.
func (c *copier) dressDir(st *unix.Stat_t) error {
	if err := c.dress(".", st); err != nil {
		return err
	}
	return c.copyFlags(c.src, c.dst, false)
}

// pathOf is a path to name in the directory dir, which is followed up to name.
func pathOf(dir int, name string) string { return "/proc/self/fd/" + strconv.Itoa(dir) + "/" + name }
