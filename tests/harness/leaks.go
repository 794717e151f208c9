package harness

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const cgroupTop = "/sys/fs/cgroup"

// cleanup deletes the bundle's containers and reports everything that is left.
func (b *Bundle) cleanup() {
	for _, id := range b.ids {
		if _, err := os.Lstat(filepath.Join(b.Root, id)); err == nil {
			b.Do("delete", "--force", id)
		}
	}
	for _, pid := range b.pids {
		if _, ok := reap(pid, time.Second); !ok && exists("/proc/"+strconv.Itoa(pid)) {
			b.t.Errorf("left behind: process %d, the init of a deleted container", pid)
		}
	}
	b.CheckNothingLeft()
	b.sweep()
}

// sweep removes what a faulty runtime left, so that one failure does not make
// others: processes in the bundle's own cgroup, its mounts and its cgroups.
func (b *Bundle) sweep() {
	dirs := cgroupsNamed(b.Cgroup[1:])
	for _, dir := range dirs {
		for _, line := range Lines(readSoFar(filepath.Join(dir, "cgroup.procs"))) {
			if pid, err := strconv.Atoi(line); err == nil && pid > 1 {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
	}
	for _, point := range mountsUnder(filepath.Dir(b.Dir)) {
		_ = unix.Unmount(point, unix.MNT_DETACH)
	}
	for _, dir := range slices.Backward(dirs) { // children come after their parents
		for range 100 {
			if err := unix.Rmdir(dir); err != unix.EBUSY {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// CheckNothingLeft fails the test for each process, mount, cgroup directory and
// file that the bundle's containers left. A process that was just killed has half
// a second to disappear.
func (b *Bundle) CheckNothingLeft() {
	b.t.Helper()
	var left []string
	for deadline := time.Now().Add(500 * time.Millisecond); ; time.Sleep(5 * time.Millisecond) {
		left = b.left()
		if len(left) == 0 || time.Now().After(deadline) {
			break
		}
	}
	for _, l := range left {
		b.t.Errorf("left behind: %s", l)
	}
}

func (b *Bundle) left() []string {
	var left []string
	add := func(kind string, names []string) {
		for _, n := range names {
			left = append(left, kind+" "+n)
		}
	}
	base := filepath.Dir(b.Dir)
	add("process", processesOf(b.Cgroup, base))
	add("mount", mountsUnder(base))
	add("cgroup", cgroupsNamed(b.Cgroup[1:]))
	add("entry of --root", b.unexpected(b.Root, "@seccomp")) // compiled filters, for the next container
	add("entry of the bundle", b.unexpected(b.Dir, "config.json", "rootfs"))
	return left
}

// unexpected lists the entries of dir that are neither given nor declared Foreign.
func (b *Bundle) unexpected(dir string, known ...string) []string {
	entries, _ := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		if !b.foreign[e.Name()] && !contains(known, e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names
}

// processesOf lists the processes in a cgroup of that path (or below it) and those
// whose root, cwd or executable is under base. This process is left out.
func processesOf(cgroup, base string) []string {
	var found []string
	for _, pid := range pids() {
		proc := "/proc/" + strconv.Itoa(pid)
		data, _ := os.ReadFile(proc + "/cgroup")
		ours := strings.Contains(string(data), ":"+cgroup+"\n") || strings.Contains(string(data), ":"+cgroup+"/")
		for _, link := range []string{"root", "cwd", "exe"} {
			target, _ := os.Readlink(proc + "/" + link)
			ours = ours || target == base || under(target, base)
		}
		if ours && pid != os.Getpid() {
			comm, _ := os.ReadFile(proc + "/comm")
			found = append(found, fmt.Sprintf("%d (%s)", pid, strings.TrimSpace(string(comm))))
		}
	}
	return found
}

func pids() []int {
	entries, _ := os.ReadDir("/proc")
	var list []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			list = append(list, pid)
		}
	}
	return list
}

// mountsUnder lists the mount points of this mount namespace at or below base.
func mountsUnder(base string) []string {
	var found []string
	for _, line := range mounts() {
		point := strings.Fields(line)[4]
		if point == base || under(point, base) {
			found = append(found, point)
		}
	}
	return found
}

func mounts() []string {
	data, _ := os.ReadFile("/proc/self/mountinfo")
	return Lines(string(data))
}

// cgroupsNamed lists the directories of all hierarchies whose name starts with prefix.
func cgroupsNamed(prefix string) []string {
	var found []string
	for _, dir := range cgroupDirs() {
		if strings.HasPrefix(filepath.Base(dir), prefix) {
			found = append(found, dir)
		}
	}
	return found
}

func cgroupDirs() []string {
	var dirs []string
	_ = filepath.WalkDir(cgroupTop, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil
	})
	return dirs
}

// snapshot is what the whole suite may not change.
type snapshot struct {
	mounts   map[string]bool
	cgroups  map[string]bool
	children map[string]bool
	files    map[string]bool
	dev      map[string]bool
}

func takeSnapshot() snapshot {
	return snapshot{mounts: set(mounts()), cgroups: set(cgroupDirs()), children: set(children()), files: set(descriptors()), dev: set(names("/dev"))}
}

// leaks lists what after has and s has not. The comparison waits up to a second
// for killed processes to vanish.
func (s snapshot) leaks(after snapshot) []string {
	for range 20 {
		if len(s.diff(after)) == 0 {
			break
		}
		time.Sleep(50 * time.Millisecond)
		after = takeSnapshot()
	}
	return s.diff(after)
}

func (s snapshot) diff(after snapshot) []string {
	var list []string
	add := func(kind string, old, now map[string]bool) {
		for k := range now {
			if !old[k] {
				list = append(list, kind+" "+k)
			}
		}
	}
	add("mount", s.mounts, after.mounts)
	add("cgroup", onlyOurs(s.cgroups), onlyOurs(after.cgroups))
	add("child", s.children, after.children)
	add("descriptor", s.files, after.files)
	add("entry of /dev:", s.dev, after.dev)
	for k := range s.dev {
		if !after.dev[k] {
			list = append(list, "missing from /dev: "+k)
		}
	}
	sort.Strings(list)
	return list
}

// onlyOurs keeps the cgroups that tests made; others on the machine may come and go.
func onlyOurs(dirs map[string]bool) map[string]bool {
	keep := map[string]bool{}
	for d := range dirs {
		if strings.Contains(d, "/adl-test-") {
			keep[d] = true
		}
	}
	return keep
}

// children lists this process's children, zombies included: what a runtime starts
// and does not reap ends up here, because the suite is a subreaper.
func children() []string {
	var list []string
	for _, pid := range pids() {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, rest, ok := strings.Cut(string(data), ") ")
		fields := strings.Fields(rest)
		if ok && len(fields) > 1 && fields[1] == strconv.Itoa(os.Getpid()) {
			if fields[0] == "Z" && Reference() != "" {
				continue // runc (after an error) and crun leave intermediate processes for us to reap
			}
			list = append(list, string(data[:len(data)-len(rest)])+fields[0])
		}
	}
	return list
}

// descriptors lists this process's open descriptors by what they refer to, without
// those of Go's own poller.
func descriptors() []string {
	var list []string
	for _, name := range names("/proc/self/fd") {
		target, err := os.Readlink("/proc/self/fd/" + name)
		if err == nil && !strings.Contains(target, "[event") && !strings.HasSuffix(target, "/fd") && !strings.Contains(target, "[pidfd]") {
			list = append(list, name+" -> "+target)
		}
	}
	return list
}

func names(dir string) []string {
	entries, _ := os.ReadDir(dir)
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func set(list []string) map[string]bool {
	m := make(map[string]bool, len(list))
	for _, l := range list {
		m[l] = true
	}
	return m
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
