package layer

import (
	"bytes"
	"fmt"

	"golang.org/x/sys/unix"
)

// eachXattr calls f with each extended attribute of the file path, which may be a
// symlink. A filesystem without attributes has none.
func eachXattr(path string, f func(name string, value []byte) error) error {
	var few [1024]byte
	list := few[:]
	n, err := unix.Llistxattr(path, list)
	if err == unix.ERANGE {
		list = make([]byte, 64<<10) // XATTR_LIST_MAX
		n, err = unix.Llistxattr(path, list)
	}
	if err == unix.ENOTSUP || err == nil && n == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list xattrs: %w", err)
	}
	for name := range bytes.SplitSeq(bytes.TrimSuffix(list[:n], []byte{0}), []byte{0}) {
		value, err := getXattr(path, string(name))
		if err == nil {
			err = f(string(name), value)
		}
		if err != nil {
			return fmt.Errorf("xattr %s: %w", name, err)
		}
	}
	return nil
}

func getXattr(path, name string) ([]byte, error) {
	value := make([]byte, 256)
	n, err := unix.Lgetxattr(path, name, value)
	if err == unix.ERANGE {
		value = make([]byte, 64<<10) // XATTR_SIZE_MAX
		n, err = unix.Lgetxattr(path, name, value)
	}
	return value[:max(n, 0)], err
}
