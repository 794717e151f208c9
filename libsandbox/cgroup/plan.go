package cgroup

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/systemd"
)

// Options say where the cgroup lies and what limits it has.
type Options struct {
	// ID is the container's, the name of its cgroup where Path is "".
	ID string
	// Path is linux.cgroupsPath, read as runc's cgroupfs driver reads it: absolute
	// means below each hierarchy's root; relative (or "", which stands for ID) means
	// below the runtime's own cgroup, on a pure v2 host beside it, because there a
	// cgroup that has processes cannot give controllers to its children. A relative
	// path cannot climb: its leading ".." are dropped.
	Path string
	// Resources is linux.resources; nil means no limits. The default device rules
	// hold in any case.
	Resources *specs.LinuxResources
	// Systemd has systemd make the cgroup; see systemd.go for what Path is then.
	Systemd bool
	// Annotations are the spec's: properties of the unit are among them.
	Annotations map[string]string
	// Host is what Discover returned; nil means that Prepare calls it.
	Host *Host
}

// Cgroup is one container's cgroup: a directory in each hierarchy. Its methods may
// be called from several processes at once; it keeps nothing open.
type Cgroup struct {
	mode Mode
	dirs []dir // v1 in the order of their names, then the unified one

	// For Create only, and empty after Load:
	limits  []setting
	devices devicePolicy

	unit  *unit // with the systemd driver
	made  maker // what Create can undo
	early bool  // CreateUnified has been called
}

// dir is the cgroup's directory in one hierarchy.
type dir struct {
	controllers []string // as in Hierarchy
	root        string   // where the hierarchy is mounted
	path        string   // strictly below root
	aliases     []string // as in Hierarchy; nil after Load
	claimed     bool     // Create found it unused, or made it
}

func (d *dir) unified() bool { return len(d.controllers) == 0 }

// Prepare works out which directories the cgroup consists of. It makes nothing.
func Prepare(o *Options) (*Cgroup, error) {
	host := o.Host
	if host == nil {
		var err error
		if host, err = Discover(); err != nil {
			return nil, err
		}
	}
	inner := o.Path
	if inner == "" {
		inner = o.ID
	}
	own := ""
	if !filepath.IsAbs(inner) && !o.Systemd {
		var err error
		if own, err = readFile("/proc/self", "cgroup"); err != nil {
			return nil, err
		}
	}
	c := &Cgroup{mode: host.Mode}
	if o.Systemd {
		if !systemd.Running() {
			return nil, errors.New("systemd cgroups: this host does not run systemd: there is no /run/systemd/system")
		}
		var err error
		if c.unit, err = newUnit(o); err != nil {
			return nil, err
		}
		inner = c.unit.path()
	}
	if err := c.plan(c.rounded(o.Resources)); err != nil {
		return nil, fmt.Errorf("linux.resources.%w", err)
	}
	for i := range host.Hierarchies {
		h := &host.Hierarchies[i]
		path, err := place(host.Mode, h, inner, own)
		if err != nil {
			return nil, fmt.Errorf("linux.cgroupsPath: %q: %w", o.Path, err)
		}
		c.dirs = append(c.dirs, dir{controllers: h.Controllers, root: h.Dir, path: path, aliases: h.Aliases})
	}
	return c, nil
}

// plan turns linux.resources into what Create will write.
func (c *Cgroup) plan(r *specs.LinuxResources) (err error) {
	if r == nil {
		r = &specs.LinuxResources{}
	}
	if c.limits, err = settings(c.mode, r); err == nil {
		c.devices, err = newDevicePolicy(r.Devices)
	}
	return err
}

// place is the cgroup's directory in hierarchy h. own is /proc/self/cgroup where
// inner is relative.
func place(mode Mode, h *Hierarchy, inner, own string) (string, error) {
	below := "/"
	if !filepath.IsAbs(inner) {
		p, err := ownPath(own, h)
		if err != nil {
			return "", err
		}
		if mode == V2 {
			p = filepath.Dir(p)
		}
		// A mount that shows only part of the hierarchy (a container without a cgroup
		// namespace) has the own cgroup at its root, under which the path of
		// /proc/self/cgroup does not exist. So it is where the own cgroup lies outside
		// of the namespace's root and the path begins with "/..".
		if p == "/" || filepath.Clean(p) == p && isDir(filepath.Join(h.Dir, p)) {
			below = p
		}
	}
	inner = filepath.Clean("/" + inner)
	if inner == "/" {
		return "", fmt.Errorf("is the hierarchy's root")
	}
	return filepath.Join(h.Dir, below, inner), nil
}

// Paths maps each controller to the cgroup's directory, "" to the one in the
// unified hierarchy, and "unit" to the name of systemd's unit, if there is one. It is
// what state.json keeps and Load takes.
func (c *Cgroup) Paths() map[string]string {
	paths := make(map[string]string)
	if c.unit != nil {
		paths[unitKey] = c.unit.name
	}
	for i := range c.dirs {
		d := &c.dirs[i]
		if d.unified() {
			paths[""] = d.path
		}
		for _, name := range d.controllers {
			paths[name] = d.path
		}
	}
	return paths
}

// Load is the cgroup with these Paths. Paths that are not strictly below the root
// of a hierarchy are refused: what is removed and killed is never the host's.
func Load(paths map[string]string) (*Cgroup, error) {
	t, err := fsType(root)
	if err != nil {
		return nil, err
	}
	return load(paths, t)
}

func load(paths map[string]string, rootType int64) (*Cgroup, error) {
	c := &Cgroup{mode: V1}
	_, unified := paths[""]
	switch {
	case rootType == unix.CGROUP2_SUPER_MAGIC:
		c.mode = V2
	case unified:
		c.mode = Hybrid
	}
	for _, name := range slices.Sorted(maps.Keys(paths)) {
		path := paths[name]
		if name == unitKey {
			c.unit = &unit{name: path, started: true}
			continue
		}
		mount, ok := mountOf(c.mode, path)
		if !ok || c.mode == V2 && name != "" {
			return nil, fmt.Errorf("cgroup path of %q: %q is not one of a container", name, path)
		}
		if unit, ok := paths[unitKey]; ok && filepath.Base(path) != unit {
			return nil, fmt.Errorf("cgroup path of %q: %q is not that of unit %q", name, path, unit)
		}
		c.add(name, mount, path)
	}
	slices.SortFunc(c.dirs, func(a, b dir) int {
		if a.unified() != b.unified() {
			if a.unified() {
				return 1
			}
			return -1
		}
		return strings.Compare(a.path, b.path)
	})
	return c, nil
}

// add enters the directory of one controller, which may share it with others.
func (c *Cgroup) add(name, mount, path string) {
	if name == "" {
		c.dirs = append(c.dirs, dir{root: mount, path: path})
		return
	}
	for i := range c.dirs {
		if d := &c.dirs[i]; d.path == path && !d.unified() {
			d.controllers = append(d.controllers, name)
			return
		}
	}
	c.dirs = append(c.dirs, dir{controllers: []string{name}, root: mount, path: path})
}

// mountOf is the root of the hierarchy that path lies in, if path is a clean path
// below it.
func mountOf(mode Mode, path string) (string, bool) {
	rest, ok := strings.CutPrefix(path, root+"/")
	if !ok || filepath.Clean(path) != path {
		return "", false
	}
	if mode == V2 {
		return root, true
	}
	name, inner, ok := strings.Cut(rest, "/")
	return filepath.Join(root, name), ok && inner != ""
}

// controller is the directory in which a controller's limits are set, or nil. On a
// hybrid host only v1's controllers are used: enabling one in the unified hierarchy
// would change the host's root cgroup.
func (c *Cgroup) controller(name string) *dir {
	for i := range c.dirs {
		if slices.Contains(c.dirs[i].controllers, name) {
			return &c.dirs[i]
		}
	}
	if c.mode == V2 {
		return c.unified()
	}
	return nil
}

// unified is the directory in the unified hierarchy, or nil.
func (c *Cgroup) unified() *dir {
	if n := len(c.dirs); n > 0 && c.dirs[n-1].unified() {
		return &c.dirs[n-1]
	}
	return nil
}

// Mount is what a mount of type cgroup shows of one v1 hierarchy.
type Mount struct {
	// Name is the directory's in the container's /sys/fs/cgroup, as on the host.
	Name string
	// Aliases are the symlinks to it.
	Aliases []string
	// Dir is the cgroup's directory on the host.
	Dir string
}

// Mounts are what a mount of type cgroup consists of on v1 and hybrid hosts: the v1
// hierarchies, as runc shows them; the unified one of a hybrid host is left out.
// There are none on v2 hosts. After Load the aliases are missing; see FindAliases.
func (c *Cgroup) Mounts() []Mount {
	var m []Mount
	for i := range c.dirs {
		if d := &c.dirs[i]; !d.unified() {
			m = append(m, Mount{Name: filepath.Base(d.root), Aliases: d.aliases, Dir: d.path})
		}
	}
	return m
}

// FindAliases completes what Mounts tells of a cgroup that was loaded.
func (c *Cgroup) FindAliases() error {
	host, err := Discover()
	if err != nil {
		return err
	}
	for i := range c.dirs {
		for _, h := range host.Hierarchies {
			if h.Dir == c.dirs[i].root {
				c.dirs[i].aliases = h.Aliases
			}
		}
	}
	return nil
}
