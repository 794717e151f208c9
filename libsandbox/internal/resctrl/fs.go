package resctrl

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// FS is a mounted resctrl file system. Find makes one.
type FS struct {
	// Dir is where it is mounted.
	Dir string
	// Mkdir makes a group, with the files that the kernel puts in it, and Rmdir removes
	// one. They are system calls but in tests, for which a directory plays resctrl.
	Mkdir, Rmdir func(path string) error
}

// ErrNone means that the host has no resctrl file system mounted.
var ErrNone = errors.New("the host has no resctrl file system mounted")

// Find looks for a mounted resctrl in /proc/self/mountinfo, whose length grows with the
// containers of the host: only those who ask for resctrl pay for it.
func Find() (*FS, error) {
	info, err := kernel.ReadAll("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("/proc/self/mountinfo: %w", err)
	}
	dir, err := findMount(string(info))
	if err != nil {
		return nil, err
	}
	return &FS{
		Dir:   dir,
		Mkdir: func(path string) error { return unix.Mkdir(path, 0o755) },
		Rmdir: unix.Rmdir,
	}, nil
}

// findMount finds the mount of the whole file system in a mountinfo file.
func findMount(info string) (string, error) {
	for line := range strings.Lines(info) {
		left, right, _ := strings.Cut(line, " - ")
		f := strings.Split(left, " ")
		if strings.HasPrefix(right, "resctrl ") && len(f) >= 6 && f[3] == "/" {
			return kernel.Unescape(f[4]), nil
		}
	}
	return "", ErrNone
}

// lockTimeout bounds the wait for others who change groups.
const lockTimeout = 10 * time.Second

// lock keeps away whoever else makes, changes or removes groups, if they keep to what
// resctrl.rst asks of all ("Examples for working with a locked file system").
func (fs *FS) lock() (unlock func(), err error) {
	fd, err := unix.Open(fs.Dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", fs.Dir, err)
	}
	if err := kernel.Lock(fd, lockTimeout); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("lock %s: %w", fs.Dir, err)
	}
	return func() { unix.Close(fd) }, nil
}

// explain adds what the kernel says of the last operation that it refused.
func (fs *FS) explain(err error) error {
	status, rerr := kernel.ReadAll(filepath.Join(fs.Dir, "info/last_cmd_status"))
	text := strings.Join(strings.Fields(string(status)), " ")
	if rerr != nil || text == "" || text == "ok" {
		return err
	}
	return fmt.Errorf("%w (%s)", err, text)
}

// write writes lines to an existing file in one write(2). The last one must end, too.
func (fs *FS) write(path, lines string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_TRUNC|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := kernel.WriteAll(fd, []byte(lines)); err != nil {
		return fs.explain(fmt.Errorf("write %q to %s: %w", strings.TrimSuffix(lines, "\n"), path, err))
	}
	return nil
}

// read reads a file without the white space around its text.
func (fs *FS) read(path string) (string, error) {
	raw, err := kernel.ReadAll(path)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return strings.TrimSpace(string(raw)), nil
}
