package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Sub is a cgroup below c, for a process of the container to enter: paths maps
// controllers to paths below the container's directories, and "" stands for all. A
// hierarchy that is not mentioned keeps the container's own directory. The directories
// must exist.
func (c *Cgroup) Sub(paths map[string]string) (*Cgroup, error) {
	n := &Cgroup{mode: c.mode, dirs: slices.Clone(c.dirs)}
	taken := make([]string, len(n.dirs)) // by which controller
	for name, sub := range paths {
		if err := checkSub(sub); err != nil {
			return nil, fmt.Errorf("cgroup %q: %w", sub, err)
		}
		found := false
		for i := range n.dirs {
			d := &n.dirs[i]
			if name != "" && !slices.Contains(d.controllers, name) {
				continue
			}
			found = true
			path := filepath.Join(c.dirs[i].path, sub)
			if taken[i] != "" && d.path != path {
				return nil, fmt.Errorf("controllers %s and %s share a hierarchy: they cannot have different cgroups", taken[i], name)
			}
			if !isDir(path) {
				return nil, fmt.Errorf("cgroup %q: %w", sub, &os.PathError{Op: "open", Path: path, Err: unix.ENOENT})
			}
			d.path, taken[i] = path, name
		}
		if !found {
			return nil, fmt.Errorf("cgroup %q: unknown controller %q", sub, name)
		}
	}
	return n, nil
}

// checkSub refuses what is not the path of a cgroup below another. It looks at whole
// names: where the container is "a", its prefix is not enough to make "../ab" one of
// its own.
func checkSub(path string) error {
	switch {
	case slices.Contains(strings.Split(path, "/"), ".."):
		return errors.New(`bad sub cgroup path: must not contain ".."`)
	case path == "":
		return errors.New("bad sub cgroup path: must not be empty")
	case strings.IndexByte(path, 0) >= 0:
		return errors.New("bad sub cgroup path: contains a NUL byte")
	}
	return nil
}

// ProcsFiles is the file of the unified hierarchy to which a process that cannot be born
// in the cgroup writes "0" to enter it; none where there is no such hierarchy. It may
// take some milliseconds; see the package's comment.
func (c *Cgroup) ProcsFiles() []string {
	if d := c.unified(); d != nil {
		return []string{d.path + "/cgroup.procs"}
	}
	return nil
}

// Where is c with the unified directory that process pid is in now, which must be below
// c's: a cgroup whose controllers its children have takes no process itself
// (cgroup-v2.rst, "No Internal Process Constraint").
func (c *Cgroup) Where(pid int) (*Cgroup, error) {
	d := c.unified()
	if d == nil {
		return nil, errors.New("the host has no unified cgroup hierarchy")
	}
	text, err := readFile("/proc/"+strconv.Itoa(pid), "cgroup")
	if err != nil {
		return nil, err
	}
	own, err := ownPath(text, &Hierarchy{Dir: d.root})
	if err != nil {
		return nil, err
	}
	path := filepath.Join(d.root, own)
	if path != d.path && !strings.HasPrefix(path, d.path+"/") {
		return nil, fmt.Errorf("process %d is in cgroup %s, which is not below %s", pid, path, d.path)
	}
	n := &Cgroup{mode: c.mode, dirs: slices.Clone(c.dirs)}
	n.unified().path = path
	return n, nil
}
