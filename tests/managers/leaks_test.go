package managers

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/tests/harness"
)

// traces is what containers leave where they are not cleaned up.
type traces struct {
	processes, mounts, cgroups, state []string
}

// look lists the traces there are now. Zombies that nobody else waits for are
// reaped on the way.
func look() traces {
	return traces{processes: descendants(), mounts: mountPoints(), cgroups: containerCgroups(), state: runtimeState()}
}

// noLeaks compares with what was there before; a daemon has ten seconds to tidy up.
func (before traces) noLeaks(t *testing.T) {
	t.Helper()
	var left []string
	for deadline := time.Now().Add(limit(10 * time.Second)); ; time.Sleep(20 * time.Millisecond) {
		if left = before.added(look()); len(left) == 0 || time.Now().After(deadline) {
			break
		}
	}
	for _, l := range left {
		t.Errorf("left behind: %s", l)
	}
}

func (before traces) added(now traces) []string {
	var left []string
	add := func(kind string, old, now []string) {
		for _, n := range now {
			if !slices.Contains(old, n) {
				left = append(left, kind+" "+n)
			}
		}
	}
	add("process", before.processes, now.processes)
	add("mount", before.mounts, now.mounts)
	add("cgroup", before.cgroups, now.cgroups)
	add("state", before.state, now.state)
	return left
}

// descendants lists the processes below this one, by pid and command line.
func descendants() []string {
	parents := map[int]int{}
	for _, name := range names("/proc") {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		state, ppid := procStat(pid)
		if state == "Z" && ppid == os.Getpid() {
			// Of our own commands none runs now: this is somebody's orphan.
			if got, _ := unix.Wait4(pid, nil, unix.WNOHANG, nil); got == pid {
				continue
			}
		}
		parents[pid] = ppid
	}
	var found []string
	for pid := range parents {
		for up := parents[pid]; up > 1; up = parents[up] {
			if up == os.Getpid() {
				text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
				found = append(found, fmt.Sprintf("%d %s", pid, strings.ReplaceAll(string(text), "\x00", " ")))
				break
			}
		}
	}
	return found
}

func procStat(pid int) (state string, ppid int) {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(data), ") ")
	f := strings.Fields(rest)
	if len(f) < 2 {
		return "", 0
	}
	ppid, _ = strconv.Atoi(f[1])
	return f[0], ppid
}

func names(dir string) []string {
	entries, _ := os.ReadDir(dir)
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func mountPoints() []string {
	data, _ := os.ReadFile("/proc/self/mountinfo")
	var points []string
	for _, line := range harness.Lines(string(data)) {
		points = append(points, strings.Fields(line)[4])
	}
	return points
}

// containerCgroups lists the cgroups of containers: the parent itself, the one for
// podman's monitors and the one that a kubelet makes for a pod stay.
func containerCgroups() []string {
	return slices.DeleteFunc(cgroupDirs(env.cgroup), func(dir string) bool {
		base := strings.TrimSuffix(filepath.Base(dir), ".slice")
		return base == "conmon" || base == "pod" || base == env.cgroup+"-pod" || base == env.cgroup
	})
}

// cgroupDirs lists the directories of all hierarchies in and below a parent of that
// name.
func cgroupDirs(parent string) []string {
	var dirs []string
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(path, parent) {
			dirs = append(dirs, path)
		}
		return nil
	})
	return dirs
}

// removeCgroups removes the parent in all hierarchies, and returns what could not be.
func removeCgroups(parent string) []string {
	if systemd() {
		_ = exec.Command("systemctl", "stop", parent+".slice").Run() // and those below it
	}
	var left []string
	dirs := cgroupDirs(parent)
	for _, dir := range slices.Backward(dirs) { // children come after their parents
		if err := unix.Rmdir(dir); err != nil {
			left = append(left, fmt.Sprintf("cgroup %s: %v", dir, err))
		}
	}
	return left
}

// runtimeState lists the containers that the runtime under test still has a record
// of, wherever managers let it keep them.
func runtimeState() []string {
	var found []string
	for _, root := range []string{"/run/" + env.name, "/run/containerd/runc/*", env.dir + "/*/runtime-*/*", env.dir + "/*/runc/*", "/run/docker/runtime-*/*"} {
		dirs, _ := filepath.Glob(root)
		for _, dir := range dirs {
			for _, name := range names(dir) {
				if !strings.HasPrefix(name, "@") { // a cache; no container has such an id
					found = append(found, filepath.Join(dir, name))
				}
			}
		}
	}
	return found
}

// unmountAll detaches what is mounted at these places, if anything is.
func unmountAll(c client, points ...string) {
	for _, p := range points {
		for unix.Unmount(p, unix.MNT_DETACH) == nil {
			c.Logf("unmounted %s", p)
		}
	}
}
