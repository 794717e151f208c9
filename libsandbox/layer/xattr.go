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
	value := make([]byte, 64<<10) // XATTR_SIZE_MAX
	for name := range bytes.SplitSeq(bytes.TrimSuffix(list[:n], []byte{0}), []byte{0}) {
		n, err := unix.Lgetxattr(path, string(name), value)
		if err == nil {
			err = f(string(name), value[:n])
		}
		if err != nil {
			return fmt.Errorf("xattr %s: %w", name, err)
		}
	}
	return nil
}
