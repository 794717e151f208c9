package kernel

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// MountPoint returns the mount point that path is on, by the mount's number
// (STATX_MNT_ID, Linux 5.8) in /proc/self/mountinfo (proc_pid_mountinfo(5)): by
// the names alone, a mount that a later one covers could not be told from it. The
// cost grows with the number of mounts: not for hot paths.
func MountPoint(path string) (string, error) {
	id := MountID(path)
	if id == 0 {
		return "", fmt.Errorf("statx %s: its mount cannot be told", path)
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	if p, ok := findMount(string(info), id); ok {
		return p, nil
	}
	return "", fmt.Errorf("%s is on no mount point", path)
}

// MountID returns the number of the mount that path is on, 0 where it cannot be told.
func MountID(path string) uint64 {
	st, err := Statx(unix.AT_FDCWD, path)
	if err != nil {
		return 0
	}
	return st.Mnt_id
}

// Statx is statx(2) for a file's number and its mount's. An empty path is dir itself.
func Statx(dir int, path string) (*unix.Statx_t, error) {
	var st unix.Statx_t
	err := Retry(func() error {
		return unix.Statx(dir, path, unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_TYPE|unix.STATX_MNT_ID, &st)
	})
	return &st, err
}

// Mount is one line of a mountinfo file.
type Mount struct {
	ID, Parent uint64
	Dev        uint64 // of the file system
	Point      string // as the process sees it
	Shared     bool   // mount events propagate to others
	line       string
}

// Shows says whether the mount is of a directory with that name, or of an overlay with
// one: the name is a component of a path in its line, which is relative to the directory
// of the layers where mount(2) was given it so.
func (m *Mount) Shows(name string) bool {
	for _, before := range [...]string{"/", "=", ":"} {
		if strings.Contains(m.line, before+name+"/") {
			return true
		}
	}
	return false
}

// Type is the type of the file system (proc_pid_mountinfo(5)).
func (m *Mount) Type() string {
	_, rest, _ := strings.Cut(m.line, " - ")
	name, _, _ := strings.Cut(rest, " ")
	return name
}

// Mounts lists what process pid has mounted, in the order of its mountinfo.
func Mounts(pid int) ([]Mount, error) {
	info, err := ReadAll("/proc/" + strconv.Itoa(pid) + "/mountinfo")
	if err != nil {
		return nil, err
	}
	var list []Mount
	for line := range strings.Lines(string(info)) {
		m, err := parseMount(line)
		m.line = line
		if err != nil {
			return nil, fmt.Errorf("mountinfo %q: %w", line, err)
		}
		list = append(list, m)
	}
	return list, nil
}

func parseMount(line string) (m Mount, err error) {
	f := strings.Split(strings.TrimSuffix(line, "\n"), " ")
	if len(f) < 7 {
		return m, errors.New("has too few fields")
	}
	major, minor, _ := strings.Cut(f[2], ":")
	var dev [2]uint64
	for _, n := range []struct {
		to   *uint64
		text string
	}{{&m.ID, f[0]}, {&m.Parent, f[1]}, {&dev[0], major}, {&dev[1], minor}} {
		if *n.to, err = strconv.ParseUint(n.text, 10, 32); err != nil {
			return m, err
		}
	}
	m.Dev, m.Point = unix.Mkdev(uint32(dev[0]), uint32(dev[1])), Unescape(f[4])
	for _, tag := range f[6:] {
		if tag == "-" {
			break
		}
		m.Shared = m.Shared || strings.HasPrefix(tag, "shared:")
	}
	return m, nil
}

// findMount returns the mount point of mount id. Fields end at spaces only: names
// may contain other white space.
func findMount(info string, id uint64) (string, bool) {
	want := strconv.FormatUint(id, 10)
	for line := range strings.Lines(info) {
		if f := strings.SplitN(line, " ", 6); len(f) == 6 && f[0] == want {
			return Unescape(f[4]), true
		}
	}
	return "", false
}

// Unescape undoes the octal escapes of space, tab, newline and backslash in a mountinfo
// file.
func Unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
