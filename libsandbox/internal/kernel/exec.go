package kernel

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Executable returns a descriptor, numbered min or higher and close-on-exec, of a
// sealed file in memory that holds image and can be executed through
// /proc/self/fd. Where the system forbids executable memfds
// (vm.memfd_noexec=2, Linux 6.3), it is an unnamed file in the temporary
// directory, open read-only. The caller owns the descriptor.
func Executable(name string, image []byte, min int) (int, error) {
	// MFD_EXEC is unknown before Linux 6.3, and there not needed.
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if errors.Is(err, unix.EACCES) {
		return unnamedExecutable(os.TempDir(), image, min)
	}
	if err != nil {
		return -1, fmt.Errorf("memfd_create: %w", err)
	}
	if err = WriteAll(fd, image); err == nil {
		const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	}
	return above(fd, min, err)
}

// unnamedExecutable is Executable over O_TMPFILE. The file has no name and is
// never linked, and its only writable descriptor is closed before it returns:
// execve of a file open for writing fails with ETXTBSY.
func unnamedExecutable(dir string, image []byte, min int) (int, error) {
	w, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o500)
	if err != nil {
		return -1, fmt.Errorf("vm.memfd_noexec forbids executable memfds, and an unnamed file in %s: %w", dir, err)
	}
	defer unix.Close(w)
	if err := WriteAll(w, image); err != nil {
		return -1, err
	}
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(w), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	return above(fd, min, err)
}

// above moves fd to a number of min or higher, or closes it where err is set.
func above(fd, min int, err error) (int, error) {
	if err == nil && fd >= min {
		return fd, nil
	}
	if err == nil {
		var high int
		if high, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, min); err == nil {
			unix.Close(fd)
			return high, nil
		}
	}
	if fd >= 0 {
		unix.Close(fd)
	}
	return -1, fmt.Errorf("executable: %w", err)
}

// WriteAll is write(2) until all of p is written.
func WriteAll(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := unix.Write(fd, p)
		if err != nil && err != unix.EINTR {
			return err
		}
		p = p[max(n, 0):]
	}
	return nil
}
