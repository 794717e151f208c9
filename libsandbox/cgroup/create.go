package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Create makes the cgroup's directories and sets its limits and device rules. A
// directory that is already there is used if it has no processes and is not
// frozen, as runtime-linux of the spec lets a runtime demand: two containers in one
// cgroup would kill and limit each other. On an error, what was made is removed;
// controllers that it enabled for a v2 parent's children stay enabled.
//
// CreateUnified may have gone before. Then the process that was born in there does
// not count, and after an error it is in the way: see Abandon.
func (c *Cgroup) Create() (err error) {
	defer func() {
		if err != nil && !c.early {
			c.made.undo()
		}
	}()
	for i := range c.dirs {
		if c.early && c.dirs[i].unified() {
			continue
		}
		existed, err := c.createIn(&c.made, &c.dirs[i])
		if err == nil && existed {
			err = c.unused(&c.dirs[i])
		}
		if err != nil {
			return fmt.Errorf("linux.cgroupsPath: %w", err)
		}
		c.dirs[i].claimed = true
	}
	if err = c.apply(c.limits); err == nil {
		err = c.applyDevices()
	}
	if err != nil {
		return fmt.Errorf("linux.resources.%w", err)
	}
	return nil
}

// CreateUnified makes the directory in the unified hierarchy, where there is one, so
// that a process can be born in it (OpenDir) while Create does the rest.
func (c *Cgroup) CreateUnified() error {
	d := c.unified()
	if d == nil || c.unit != nil {
		return nil
	}
	c.early = true
	existed, err := c.createUnified(&c.made, d)
	if err == nil && existed {
		err = c.unused(d)
	}
	if err != nil {
		c.made.undo()
		return fmt.Errorf("linux.cgroupsPath: %w", err)
	}
	d.claimed = true
	return nil
}

// Claimed is the part of the cgroup that Create and CreateUnified have taken: after
// an error the rest is, or may be, another container's, which must neither be killed
// nor thawed nor removed.
func (c *Cgroup) Claimed() *Cgroup {
	n := &Cgroup{mode: c.mode}
	if c.unit != nil && c.unit.started {
		n.unit = c.unit
	}
	for i := range c.dirs {
		if c.dirs[i].claimed {
			n.dirs = append(n.dirs, c.dirs[i])
		}
	}
	return n
}

// Abandon removes the cgroup of a container whose creation failed, and the
// directories above it that were made for it. Its processes must have been killed.
func (c *Cgroup) Abandon() error {
	err := c.Claimed().Destroy()
	c.made.undo()
	return err
}

// createIn makes the directory in one hierarchy, and reports whether it was there.
func (c *Cgroup) createIn(m *maker, d *dir) (existed bool, err error) {
	if d.unified() {
		return c.createUnified(m, d)
	}
	existed, err = m.mkdirAll(d.root, d.path)
	if err == nil && slices.Contains(d.controllers, "cpuset") {
		err = c.fillCpuset(d, !existed)
	}
	return existed, err
}

// maker remembers the directories it made.
type maker struct{ made []string }

// mkdirAll makes path and what is missing between root and it.
func (m *maker) mkdirAll(root, path string) (existed bool, err error) {
	err = unix.Mkdir(path, 0o755)
	if err == unix.ENOENT && path != root {
		if _, err := m.mkdirAll(root, filepath.Dir(path)); err != nil {
			return false, err
		}
		err = unix.Mkdir(path, 0o755)
	}
	switch err {
	case nil:
		m.made = append(m.made, path)
		return false, nil
	case unix.EEXIST:
		return true, nil
	}
	return false, &os.PathError{Op: "mkdir", Path: path, Err: err}
}

func (m *maker) undo() {
	for _, path := range slices.Backward(m.made) {
		_ = unix.Rmdir(path) // nothing can be done about it, and the error to report is another
	}
	m.made = nil
}

// fillCpuset gives a v1 cpuset the CPUs and memory nodes of its parents, without
// which no process can enter it. What the spec sets is left to the spec: cpus that
// were copied from the parent first could clash with a sibling's exclusive ones.
func (c *Cgroup) fillCpuset(d *dir, isNew bool) error {
	for _, file := range [...]string{"cpuset.cpus", "cpuset.mems"} {
		fromSpec := slices.ContainsFunc(c.limits, func(s setting) bool { return s.file == file })
		from := d.path
		if fromSpec || isNew {
			from = filepath.Dir(d.path)
		}
		value, err := inheritCpuset(d.root, from, file)
		if err == nil && isNew && !fromSpec {
			err = writeFile(d.path, file, value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// inheritCpuset returns a cpuset's value, after filling it from its parent if it is
// empty.
func inheritCpuset(root, path, file string) (string, error) {
	value, err := readFile(path, file)
	if err != nil || value != "" || path == root {
		return value, err
	}
	if value, err = inheritCpuset(root, filepath.Dir(path), file); err == nil {
		err = writeFile(path, file, value)
	}
	return value, err
}

// createUnified makes the directory in the unified hierarchy. On v2 every
// controller is enabled on the way there, as runc does, so that there are
// statistics of all; on a hybrid host none is.
func (c *Cgroup) createUnified(m *maker, d *dir) (existed bool, err error) {
	parent := filepath.Dir(d.path)
	if _, err := m.mkdirParents(d.root, parent); err != nil {
		return false, err
	}
	if c.mode == V2 {
		if err := enable(d.root, parent); err != nil {
			return false, err
		}
	}
	if existed, err = m.mkdirAll(d.root, d.path); err != nil {
		return false, err
	}
	if parent != d.root {
		err = c.settleType(d.path)
	}
	return existed, err
}

func (m *maker) mkdirParents(root, path string) (bool, error) {
	if path == root {
		return true, nil
	}
	return m.mkdirAll(root, path)
}

// enable gives the controllers of the hierarchy's root to the children of every
// cgroup from there to path. A cgroup with processes of its own refuses, a realtime
// process anywhere keeps cpu from being enabled: the limits that would need such a
// controller fail later, by name.
//
// It writes only what is missing. Any write to cgroup.subtree_control, even one
// that changes nothing, first waits for the controllers of recently removed
// children to go offline (cgroup_lock_and_drain_offline), which takes an RCU grace
// period.
func enable(root, path string) error {
	text, err := readFile(root, "cgroup.controllers")
	if err != nil {
		return err
	}
	want := strings.Fields(text)
	for _, p := range between(root, path) {
		if want, err = enableIn(p, want); err != nil {
			return err
		}
	}
	return nil
}

// enableIn returns those of the controllers which are enabled in the end.
func enableIn(path string, want []string) ([]string, error) {
	text, err := readFile(path, "cgroup.subtree_control")
	if err != nil {
		return nil, err
	}
	have := strings.Fields(text)
	missing := slices.DeleteFunc(slices.Clone(want), func(c string) bool { return slices.Contains(have, c) })
	if len(missing) == 0 {
		return want, nil
	}
	if writeFile(path, "cgroup.subtree_control", "+"+strings.Join(missing, " +")) == nil {
		return want, nil
	}
	for _, name := range missing { // all or nothing did not work
		if writeFile(path, "cgroup.subtree_control", "+"+name) == nil {
			have = append(have, name)
		}
	}
	return slices.DeleteFunc(want, func(c string) bool { return !slices.Contains(have, c) }), nil
}

// between lists the directories from root down to path, both included.
func between(root, path string) []string {
	if path == root {
		return []string{root}
	}
	return append(between(root, filepath.Dir(path)), path)
}

// settleType makes a cgroup usable whose ancestor is threaded: as "domain invalid"
// it could take no process. As a threaded one it cannot limit memory or I/O, which
// is then an error of that limit (cgroup-v2.rst, "Threads").
func (c *Cgroup) settleType(path string) error {
	t, err := readFile(path, "cgroup.type")
	if err != nil || t != "domain invalid" {
		return err
	}
	return writeFile(path, "cgroup.type", "threaded")
}

// unused fails for a directory that has processes, and for a frozen cgroup.
func (c *Cgroup) unused(d *dir) error {
	pids, err := procs(nil, d.path)
	if err != nil {
		return err
	}
	if len(pids) > 0 {
		return fmt.Errorf("cgroup %s is not empty: %d process(es) found", d.path, len(pids))
	}
	frozen, err := c.Frozen()
	if err == nil && frozen {
		return fmt.Errorf("cgroup %s is frozen", c.primary().path)
	}
	if d == c.controller("freezer") { // on a hybrid host that was not asked
		state, ferr := readFile(d.path, "freezer.state")
		if ferr == nil && state != "THAWED" {
			return fmt.Errorf("cgroup %s is frozen", d.path)
		}
	}
	return err
}

// TasksFiles are the v1 files to which a process that is to enter the cgroup writes
// "0", each in a write of its own. They are absolute.
func (c *Cgroup) TasksFiles() []string {
	var files []string
	for i := range c.dirs {
		if d := &c.dirs[i]; !d.unified() {
			files = append(files, d.path+"/tasks")
		}
	}
	return files
}

// OpenDir returns a descriptor of the directory in the unified hierarchy, for
// CLONE_INTO_CGROUP. It is close-on-exec and the caller's to close; -1 means that
// the host has no unified hierarchy, or that systemd has not made the directory yet.
//
// A cgroup that was killed once (Kill) must not be entered this way: Linux 6.18
// kills such a child at birth.
func (c *Cgroup) OpenDir() (int, error) {
	d := c.unified()
	if d == nil || c.unit != nil && !c.unit.started {
		return -1, nil
	}
	fd, err := open(d.path, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: d.path, Err: err}
	}
	return fd, nil
}

// Exists reports whether the cgroup is there, in any hierarchy.
func (c *Cgroup) Exists() bool {
	return slices.ContainsFunc(c.dirs, func(d dir) bool { return isDir(d.path) })
}

// primary is the hierarchy whose processes count as the cgroup's: the unified one,
// otherwise the one that a process is least able to leave unnoticed.
func (c *Cgroup) primary() *dir {
	if d := c.unified(); d != nil {
		return d
	}
	for _, name := range [...]string{"devices", "freezer", "pids"} {
		if d := c.controller(name); d != nil {
			return d
		}
	}
	if len(c.dirs) == 0 {
		return &dir{}
	}
	return &c.dirs[0]
}

var errBusy = errors.New("cgroup is still in use")
