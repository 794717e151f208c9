package resctrl

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Group is where a container belongs. Its methods may be called from several processes
// at once.
type Group struct {
	fs   *FS
	own  bool   // the class is the container's alone
	dir  string // of the class
	mon  string // of the container's counters; empty is none
	made []string
	old  string // schemata of a class that there was, before Create has written to it
}

// Group is that of container id, in the class closID; "" is a class of its own, "/" the
// default one. monitor asks for counters of its own. Both names must be valid ones.
func (fs *FS) Group(id, closID string, monitor bool) *Group {
	g := &Group{fs: fs, own: closID == ""}
	if g.own {
		closID = id
	}
	g.dir = filepath.Join(fs.Dir, closID)
	if monitor {
		g.mon = filepath.Join(g.dir, "mon_groups", id)
	}
	return g
}

// Tasks are the files to which a process of the container writes "0", in this order.
func (g *Group) Tasks() []string {
	files := []string{g.dir + "/tasks"}
	if g.mon != "" {
		files = append(files, g.mon+"/tasks")
	}
	return files
}

// Exists says whether a process can enter.
func (g *Group) Exists() bool {
	files := g.Tasks()
	return unix.Access(files[len(files)-1], unix.F_OK) == nil
}

// Check refuses what Create would: a class of the container's own, or counters, that
// are there already, for they are somebody else's; and a class that has to be there and
// is not. It makes nothing.
func (g *Group) Check(r *specs.LinuxIntelRdt) error {
	exists := unix.Access(g.dir, unix.F_OK) == nil
	switch {
	case exists && g.own:
		return g.taken(g.dir)
	case exists && unix.Access(g.dir+"/tasks", unix.F_OK) != nil:
		return fmt.Errorf("closID %q: %s is not a resctrl group", filepath.Base(g.dir), g.dir)
	case !exists && !g.own && len(lines(r)) == 0:
		return fmt.Errorf("closID %q: there is no such resctrl group, and no schema to make it with: %w", filepath.Base(g.dir), unix.ENOENT)
	case g.mon != "" && unix.Access(g.mon, unix.F_OK) == nil:
		return g.taken(g.mon)
	}
	return nil
}

func (g *Group) taken(dir string) error {
	return fmt.Errorf("resctrl group %s: %w", dir, unix.EEXIST)
}

// lines are what r wants to have written, in the order of the specification.
func lines(r *specs.LinuxIntelRdt) (list []string) {
	for _, s := range append([]string{r.L3CacheSchema, r.MemBwSchema}, r.Schemata...) {
		if s = strings.Trim(s, "\n"); s != "" {
			list = append(list, s)
		}
	}
	return list
}

// Create makes the class, where it is the container's or is not there, and sets its
// schemata; then it makes the container's counters. A class that is there must have
// r.L3CacheSchema and r.MemBwSchema already, as other containers are in it, while
// r.Schemata are written, as the specification has it. After an error call Undo.
func (g *Group) Create(r *specs.LinuxIntelRdt) error {
	unlock, err := g.fs.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := g.Check(r); err != nil {
		return err
	}
	want := lines(r)
	switch err := g.fs.Mkdir(g.dir); {
	case err == nil:
		g.made = append(g.made, g.dir)
	case err == unix.EEXIST && !g.own:
		if g.old, err = g.fs.read(g.dir + "/schemata"); err != nil {
			return err
		}
		if err := g.match(r); err != nil {
			return err
		}
		want = lines(&specs.LinuxIntelRdt{Schemata: r.Schemata})
	default:
		return g.fs.explain(fmt.Errorf("mkdir %s: %w", g.dir, err))
	}
	if len(want) > 0 {
		if err := g.fs.write(g.dir+"/schemata", strings.Join(want, "\n")+"\n"); err != nil {
			return err
		}
	} else {
		g.old = "" // nothing to put back
	}
	return g.monitor()
}

func (g *Group) monitor() error {
	if g.mon == "" {
		return nil
	}
	if err := g.fs.Mkdir(g.mon); err != nil {
		return g.fs.explain(fmt.Errorf("enableMonitoring: mkdir %s: %w", g.mon, err))
	}
	g.made = append(g.made, g.mon)
	return nil
}

// match compares the schemata of a class that there is with what the container asks for.
func (g *Group) match(r *specs.LinuxIntelRdt) error {
	for _, f := range []struct{ field, schema string }{{"l3CacheSchema", r.L3CacheSchema}, {"memBwSchema", r.MemBwSchema}} {
		for line := range strings.Lines(f.schema) {
			ok, err := holds(g.old, line, g.fs.granularity())
			if err != nil {
				return fmt.Errorf("%s %q: %w", f.field, f.schema, err)
			}
			if !ok {
				return fmt.Errorf("%s %q: resctrl group %s has other schemata", f.field, f.schema, g.dir)
			}
		}
	}
	return nil
}

// Undo undoes Create, once the container's processes are gone. A class that others are in
// by now stays.
func (g *Group) Undo() {
	unlock, err := g.fs.lock()
	if err != nil {
		return // Create has not got further either
	}
	defer unlock()
	if g.old != "" {
		_ = g.fs.write(g.dir+"/schemata", g.old+"\n")
	}
	for i := len(g.made) - 1; i >= 0; i-- {
		if dir := g.made[i]; dir == g.mon || g.own || g.empty() {
			_ = g.fs.Rmdir(dir) // nothing can be done about it, and the error to report is another
		}
	}
	g.made, g.old = nil, ""
}

// empty says whether there is nobody in the class.
func (g *Group) empty() bool {
	tasks, err := g.fs.read(g.dir + "/tasks")
	return err == nil && tasks == ""
}

// Remove removes what is the container's alone: its class with all in it, and its
// counters. What is gone is no error.
func (g *Group) Remove() error {
	dir := g.mon
	if g.own {
		dir = g.dir // and the counters in it
	}
	if dir == "" {
		return nil
	}
	unlock, err := g.fs.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := g.fs.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return g.fs.explain(fmt.Errorf("rmdir %s: %w", dir, err))
	}
	return nil
}

// Update writes schemata, for all who are in the class. back puts the old ones back.
func (g *Group) Update(r *specs.LinuxIntelRdt) (back func(), err error) {
	unlock, err := g.fs.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	old, err := g.fs.read(g.dir + "/schemata")
	if err != nil {
		return nil, err
	}
	back = func() { _ = g.fs.write(g.dir+"/schemata", old+"\n") }
	if err := g.fs.write(g.dir+"/schemata", strings.Join(lines(r), "\n")+"\n"); err != nil {
		back() // the kernel takes line by line
		return nil, err
	}
	return back, nil
}
