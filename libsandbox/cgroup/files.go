package cgroup

import (
	"encoding/binary"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// writeFile writes data, in the single write(2) that files of cgroups want, to a
// file of the cgroup in directory path. The error carries the path and the errno.
func writeFile(path, name, data string) error {
	return writeLines(path, name, []string{data}, nil)
}

// writeLines writes each line by itself over one descriptor. Errors of single lines
// that ignore accepts do not stop it.
func writeLines(path, name string, lines []string, ignore func(int, error) bool) error {
	path += "/" + name
	fd, err := open(path, unix.O_WRONLY)
	if err != nil {
		return &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	for i, line := range lines {
		_, err := retry(func() (int, error) { return unix.Write(fd, []byte(line)) })
		if err != nil && (ignore == nil || !ignore(i, err)) {
			return &os.PathError{Op: "write", Path: path, Err: err}
		}
	}
	return nil
}

// readFile reads a file of the cgroup in directory path, without the newline at its
// end.
func readFile(path, name string) (string, error) {
	path += "/" + name
	fd, err := open(path, unix.O_RDONLY)
	if err != nil {
		return "", &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	text, err := readAll(fd)
	if err != nil {
		return "", &os.PathError{Op: "read", Path: path, Err: err}
	}
	return strings.TrimSuffix(text, "\n"), nil
}

// readAll reads from the descriptor's beginning to its end.
func readAll(fd int) (string, error) {
	buf := make([]byte, 4096)
	for used := 0; ; {
		n, err := retry(func() (int, error) { return unix.Pread(fd, buf[used:], int64(used)) })
		if err != nil {
			return "", err
		}
		used += n
		if n == 0 {
			return string(buf[:used]), nil
		}
		if used == len(buf) {
			buf = append(buf, make([]byte, len(buf))...)
		}
	}
}

func open(path string, flags int) (int, error) {
	return retry(func() (int, error) { return unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0) })
}

// entry is a name in a directory, with its DT_ type.
type entry struct {
	name string
	kind byte
}

// readDir reads a directory, in no particular order. os.ReadDir would register the
// descriptor with the poller first, which costs as much as the reading.
func readDir(path string) ([]entry, error) {
	fd, err := open(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	var entries []entry
	buf := make([]byte, 8192)
	for {
		n, err := retry(func() (int, error) { return unix.ReadDirent(fd, buf) })
		if err != nil {
			return nil, &os.PathError{Op: "readdir", Path: path, Err: err}
		}
		if n == 0 {
			return entries, nil
		}
		entries = parseDirents(entries, buf[:n])
	}
}

// parseDirents takes struct linux_dirent64 apart (getdents64(2)): inode and offset
// of 8 bytes each, the record's length in 2, its type in 1, the name up to a NUL.
func parseDirents(entries []entry, buf []byte) []entry {
	for len(buf) > 19 {
		length := min(int(binary.NativeEndian.Uint16(buf[16:])), len(buf))
		if length <= 19 {
			break
		}
		name := unix.ByteSliceToString(buf[19:length])
		if name != "." && name != ".." {
			entries = append(entries, entry{name, buf[18]})
		}
		buf = buf[length:]
	}
	return entries
}

// retry calls f until it does not fail with EINTR.
func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}
