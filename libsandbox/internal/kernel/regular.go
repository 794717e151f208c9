package kernel

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// OpenRegular opens a regular file of the directory dir for reading, and tells what
// it is. EINVAL: it is none. To open anything else could already do harm: a FIFO
// blocks, a watchdog begins to count. The caller owns the descriptor.
func OpenRegular(dir int, name string) (int, *unix.Stat_t, error) {
	path, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, nil, err
	}
	defer unix.Close(path)
	return Reopen(path)
}

// Reopen is OpenRegular for the file that the O_PATH descriptor path refers to,
// which stays the caller's.
func Reopen(path int) (int, *unix.Stat_t, error) {
	var st unix.Stat_t
	if err := unix.Fstat(path, &st); err != nil {
		return -1, nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return -1, nil, unix.EINVAL
	}
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(path), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	return fd, &st, err
}
