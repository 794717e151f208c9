package kernel

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// MountPoint returns the mount point that path is on, by /proc/self/mountinfo
// (proc_pid_mountinfo(5)). Its cost grows with the number of mounts: not for hot
// paths.
func MountPoint(path string) (string, error) {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	best := ""
	for line := range strings.Lines(string(info)) {
		f := strings.Fields(line)
		if len(f) < 5 {
			continue
		}
		p := unescape(f[4])
		if (p == "/" || p == path || strings.HasPrefix(path, p+"/")) && len(p) >= len(best) {
			best = p
		}
	}
	if best == "" {
		return "", fmt.Errorf("%s is on no mount point", path)
	}
	return best, nil
}

// unescape undoes the octal escapes of space, tab, newline and backslash.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
