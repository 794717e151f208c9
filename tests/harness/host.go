package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Helper is a host process in new namespaces, for containers that join one by path.
type Helper struct {
	Pid int
}

// StartHelper starts a sleeping process with these CLONE_NEW flags; the cleanup
// kills it.
func StartHelper(t testing.TB, flags uintptr) Helper {
	t.Helper()
	cmd := exec.Command(filepath.Join(os.Getenv(envStore), "busybox"), "sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	Must(t, cmd.Start())
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return Helper{Pid: cmd.Process.Pid}
}

// Ns is the path of one of the helper's namespaces: "net", "ipc", …
func (h Helper) Ns(name string) string { return fmt.Sprintf("/proc/%d/ns/%s", h.Pid, name) }

// NsLink identifies a process's namespace, for example "net:[4026531840]".
func NsLink(t testing.TB, pid int, name string) string {
	t.Helper()
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, name))
	Must(t, err)
	return link
}

// HostMount mounts on the host and has the cleanup detach it. Like mount(8), an
// fstype of "" with MS_BIND in flags is a bind mount.
func HostMount(t testing.TB, source, target, fstype string, flags uintptr, data string) {
	t.Helper()
	Must(t, os.MkdirAll(target, 0o755))
	Must(t, unix.Mount(source, target, fstype, flags, data))
	t.Cleanup(func() { unix.Unmount(target, unix.MNT_DETACH) })
}

// Propagation changes a host mount's propagation type.
func Propagation(t testing.TB, target string, flags uintptr) {
	t.Helper()
	Must(t, unix.Mount("", target, "", flags, ""))
}

// CgroupV1 returns the directory of the bundle's cgroup in a v1 hierarchy, or
// skips when this host does not mount that controller as v1.
func (b *Bundle) CgroupV1(controller string) string {
	b.t.Helper()
	top := filepath.Join(cgroupTop, controller)
	var st unix.Statfs_t
	if err := unix.Statfs(top, &st); err != nil || st.Type != unix.CGROUP_SUPER_MAGIC {
		b.t.Skipf("no cgroup v1 hierarchy at %s", top)
	}
	return filepath.Join(top, b.Cgroup)
}

// MountEntry is one line of mountinfo.
type MountEntry struct {
	Root, Point, Options, Optional, Type, Source, Super string
}

// Has reports whether the mount has that per-mount option.
func (m MountEntry) Has(option string) bool {
	return contains(strings.Split(m.Options, ","), option)
}

// ParseMounts reads mountinfo text (proc_pid_mountinfo(5)) and returns the topmost
// mount of each mount point.
func ParseMounts(t testing.TB, text string) map[string]MountEntry {
	t.Helper()
	entries := map[string]MountEntry{}
	for _, line := range Lines(text) {
		left, right, ok := strings.Cut(line, " - ")
		f, g := strings.Fields(left), strings.Fields(right)
		if !ok || len(f) < 6 || len(g) < 2 {
			t.Fatalf("not a mountinfo line: %q", line)
		}
		e := MountEntry{Root: f[3], Point: f[4], Options: f[5], Optional: strings.Join(f[6:], " "), Type: g[0], Source: g[1]}
		if len(g) > 2 {
			e.Super = g[2]
		}
		entries[e.Point] = e
	}
	return entries
}

// Mounts runs the bundle with a command that prints its mountinfo.
func (b *Bundle) Mounts() map[string]MountEntry {
	b.t.Helper()
	b.Set(Args("cat", "/proc/self/mountinfo"))
	return ParseMounts(b.t, b.Out())
}

// StatusField returns one field of /proc/PID/status text, for example "CapEff".
func StatusField(t testing.TB, status, field string) string {
	t.Helper()
	for _, line := range Lines(status) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("no %s in %q", field, status)
	return ""
}

// Alive reports whether a process exists and is no zombie.
func Alive(pid int) bool {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, rest, _ := strings.Cut(string(data), ") ")
	return err == nil && !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// Victim is a host folder that hostile bundles point at, with one file in it.
type Victim struct {
	Dir, File string
	before    string
}

// NewVictim makes the folder and has the cleanup fail the test if its listing or
// content changed.
func (b *Bundle) NewVictim() Victim {
	b.t.Helper()
	v := Victim{Dir: filepath.Join(filepath.Dir(b.Dir), "victim")}
	v.File = filepath.Join(v.Dir, "file")
	Must(b.t, os.MkdirAll(v.Dir, 0o755))
	WriteFile(b.t, v.File, "untouched\n", 0o640)
	v.before = v.listing(b.t)
	b.t.Cleanup(func() {
		if now := v.listing(b.t); now != v.before {
			b.t.Errorf("host files changed:\nbefore:\n%safter:\n%s", v.before, now)
		}
	})
	return v
}

func (v Victim) listing(t testing.TB) string {
	var out strings.Builder
	Must(t, filepath.Walk(v.Dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		fmt.Fprintf(&out, "%s %v %d:%d", path, info.Mode(), st.Uid, st.Gid)
		if info.Mode().IsRegular() {
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " %q", data)
		}
		out.WriteByte('\n')
		return nil
	}))
	return out.String()
}

// PidOfPidfd returns the process a pidfd refers to (the Pid line of its fdinfo).
func PidOfPidfd(t testing.TB, f *os.File) int {
	t.Helper()
	var pid int
	withFD(t, f, func(fd int) {
		info := ReadFile(t, fmt.Sprintf("/proc/self/fdinfo/%d", fd))
		n, err := strconv.Atoi(StatusField(t, info, "Pid"))
		Must(t, err)
		pid = n
	})
	return pid
}
