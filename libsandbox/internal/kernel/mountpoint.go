package kernel

import (
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
	var st unix.Statx_t
	err := Retry(func() error { return unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &st) })
	if err != nil {
		return 0
	}
	return st.Mnt_id
}

// findMount returns the mount point of mount id. Fields end at spaces only: names
// may contain other white space.
func findMount(info string, id uint64) (string, bool) {
	want := strconv.FormatUint(id, 10)
	for line := range strings.Lines(info) {
		if f := strings.SplitN(line, " ", 6); len(f) == 6 && f[0] == want {
			return unescape(f[4]), true
		}
	}
	return "", false
}

// unescape undoes the octal escapes of space, tab, newline and backslash.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
