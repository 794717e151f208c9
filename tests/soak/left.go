package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// sight is what this process has.
type sight struct{ descriptors, goroutines, threads int }

func look() sight {
	return sight{entries("/proc/self/fd"), runtime.NumGoroutine(), entries("/proc/self/task")}
}

func entries(dir string) int {
	names, _ := os.ReadDir(dir)
	return len(names)
}

// nothingLeft waits until nothing is left of the sandboxes, and says what is.
func (s *soak) nothingLeft(before sight) error {
	var left []string
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if left = s.left(before); len(left) == 0 {
			return nil
		}
	}
	return errors.New("left: " + strings.Join(left, "; "))
}

func (s *soak) left(before sight) (left []string) {
	note := func(what string, names []string) {
		if len(names) > 0 {
			left = append(left, fmt.Sprintf("%d %s: %.300s", len(names), what, strings.Join(names, " ")))
		}
	}
	if s.base == "" {
		return nil
	}
	note("processes", s.ours())
	note("mounts", s.mounts())
	note("cgroups", cgroups(s.cgroup))
	note("entries of the store", entriesOf(filepath.Join(s.base, "store")))
	for _, dir := range []string{"layers", "trash", "memory/layers", "memory/trash"} {
		note(dir, entriesOf(filepath.Join(s.base, "layers", dir)))
	}
	now := look()
	if now.descriptors > before.descriptors || now.goroutines > before.goroutines || now.threads > before.threads+64 {
		left = append(left, fmt.Sprintf("before %+v, now %+v", before, now))
	}
	return left
}

// entriesOf are those of a directory that is to be empty. What all containers share, locks
// and filters, stays.
func entriesOf(dir string) (all []string) {
	list, _ := os.ReadDir(dir)
	for _, e := range list {
		if e.Name() != "lock" && !strings.HasPrefix(e.Name(), ".") && !strings.HasPrefix(e.Name(), "@") {
			all = append(all, e.Name())
		}
	}
	return all
}

// ours are processes of the sandboxes: children, what has their folder in its command line
// or mounts, what is in their cgroups.
func (s *soak) ours() (all []string) {
	self := os.Getpid()
	for _, pid := range processes() {
		dir := "/proc/" + strconv.Itoa(pid)
		cmdline, _ := os.ReadFile(dir + "/cmdline")
		cgroup, _ := os.ReadFile(dir + "/cgroup")
		stat, _ := os.ReadFile(dir + "/stat")
		if pid != self && (bytes.Contains(cmdline, []byte(s.base)) || bytes.Contains(cgroup, []byte("/"+s.cgroup+"/")) || parentOf(stat) == self) {
			all = append(all, fmt.Sprintf("%d %q", pid, cmdline))
		}
	}
	return all
}

// parentOf takes the parent's pid from the text of /proc/PID/stat; see proc_pid_stat(5).
func parentOf(stat []byte) int {
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(f) < 2 {
		return 0
	}
	pid, _ := strconv.Atoi(f[1])
	return pid
}

func processes() (pids []int) {
	list, _ := os.ReadDir("/proc")
	for _, e := range list {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// mounts are those below the scratch folder. A layer root in memory stays mounted: one.
func (s *soak) mounts() (all []string) {
	raw, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], s.base+"/") {
			all = append(all, f[4])
		}
	}
	return all
}

// cgroups are those below the parent of all, which is removed when there are none.
func cgroups(parent string) (all []string) {
	for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		dirs, _ := filepath.Glob(pattern + parent)
		for _, dir := range dirs {
			list, _ := os.ReadDir(dir)
			for _, e := range list {
				if e.IsDir() {
					all = append(all, filepath.Join(dir, e.Name()))
				}
			}
			_ = unix.Rmdir(dir)
		}
	}
	return all
}

// memory is what this process needs, in bytes, without garbage.
func memory() int64 {
	debug.FreeOSMemory()
	raw, _ := os.ReadFile("/proc/self/statm")
	f := strings.Fields(string(raw))
	if len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(f[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// sorted are the keys of a map.
func sorted[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
