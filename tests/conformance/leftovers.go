package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// clean removes what the program and the runtime left behind and returns a
// description of each thing. What supervise found is gone already; it adds the
// containers and cgroups. Bundles do not count: several programs forget theirs.
func (p *place) clean() []string {
	left := append(p.cleanState(), p.cleanCgroups()...)
	if err := os.RemoveAll(p.dir); err != nil {
		left = append(left, "files: "+err.Error())
	}
	return left
}

// cleanState reports the containers that the runtime still knows, and deletes
// their files.
func (p *place) cleanState() []string {
	dir := p.job.target.state
	if dir == "" {
		dir = p.state
	}
	var left []string
	for id := range p.containers() {
		path := filepath.Join(dir, id)
		if _, err := os.Lstat(path); err != nil {
			continue
		}
		left = append(left, "container "+id)
		if err := os.RemoveAll(path); err != nil {
			left = append(left, "files: "+err.Error())
		}
	}
	return left
}

// containers returns the cgroups path by id of each container that the program
// asked for.
func (p *place) containers() map[string]string {
	ids := make(map[string]string)
	data, _ := os.ReadFile(p.list)
	for line := range strings.Lines(string(data)) {
		id, path, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		ids[id] = path
	}
	return ids
}

// cleanCgroups removes the cgroups that belong to the program's containers, in
// every hierarchy: those named after a container, and those of the two paths
// that the suite uses. No program that uses these runs at the same time.
func (p *place) cleanCgroups() []string {
	ids := p.containers()
	mine := func(name string) bool {
		for id, path := range ids {
			top, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
			if name == top || strings.Contains(name, id) {
				return true
			}
		}
		return false
	}
	var found []string
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fs.SkipDir // went away meanwhile
		case !e.IsDir():
			return nil
		case mine(e.Name()):
			found = append(found, path)
			return fs.SkipDir
		}
		return nil
	})
	var left []string
	for _, path := range found {
		rel, _ := filepath.Rel("/sys/fs/cgroup", path)
		left = append(left, "cgroup "+rel)
		if err := removeCgroup(path); err != nil {
			left = append(left, err.Error())
		}
	}
	return left
}

// removeCgroup removes a cgroup that has no processes, and those below it.
func removeCgroup(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if err := removeCgroup(filepath.Join(path, e.Name())); err != nil {
			return err
		}
	}
	return unix.Rmdir(path)
}
