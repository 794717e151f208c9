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

// root is where every distribution mounts the hierarchies.
const root = "/sys/fs/cgroup"

// Mode is what the host mounts below /sys/fs/cgroup.
type Mode int

const (
	// V1 is one hierarchy for each controller, in directories of a tmpfs.
	V1 Mode = iota
	// Hybrid is V1 with a unified hierarchy beside it, usually without controllers.
	Hybrid
	// V2 is the unified hierarchy alone.
	V2
)

func (m Mode) String() string {
	return [...]string{"v1", "hybrid", "v2"}[m]
}

// Host is the hierarchies that are mounted.
type Host struct {
	Mode        Mode
	Hierarchies []Hierarchy // v1 in the order of their names, then the unified one
}

// Hierarchy is one mounted hierarchy.
type Hierarchy struct {
	// Controllers are those of a v1 hierarchy, "name=systemd" for the one that has
	// none; joined by commas they are the options of its mount. Empty for the
	// unified hierarchy.
	Controllers []string
	// Dir is where it is mounted.
	Dir string
	// Aliases are the names of symlinks beside Dir that lead to it: cpu and cpuacct
	// for cpu,cpuacct.
	Aliases []string
}

// Unified reports whether h is the cgroup v2 hierarchy.
func (h *Hierarchy) Unified() bool { return len(h.Controllers) == 0 }

// Discover reads /sys/fs/cgroup. It costs one statfs for each hierarchy.
func Discover() (*Host, error) {
	h, err := discover(root, fsType)
	if err != nil {
		return nil, fmt.Errorf("cgroup hierarchies: %w", err)
	}
	return h, nil
}

// fsType is statfs(2)'s f_type.
func fsType(path string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	return int64(st.Type), nil
}

func discover(dir string, fsType func(string) (int64, error)) (*Host, error) {
	t, err := fsType(dir)
	if err != nil {
		return nil, err
	}
	if t == unix.CGROUP2_SUPER_MAGIC {
		return &Host{Mode: V2, Hierarchies: []Hierarchy{{Dir: dir}}}, nil
	}
	entries, err := readDir(dir)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	h := &Host{}
	var unified []Hierarchy
	for _, e := range entries {
		path := dir + "/" + e.name
		if e.kind != unix.DT_DIR {
			continue
		}
		t, err := fsType(path)
		if err != nil {
			return nil, err
		}
		if t == unix.CGROUP2_SUPER_MAGIC {
			unified = append(unified, Hierarchy{Dir: path})
		} else if c := controllersOf(e.name); t == unix.CGROUP_SUPER_MAGIC && c != nil {
			h.Hierarchies = append(h.Hierarchies, Hierarchy{Controllers: c, Dir: path})
		}
	}
	if len(h.Hierarchies)+len(unified) == 0 {
		return nil, fmt.Errorf("none is mounted below %s", dir)
	}
	h.addAliases(dir, entries)
	if len(unified) > 0 {
		h.Mode = Hybrid
		h.Hierarchies = append(h.Hierarchies, unified[0])
	}
	return h, nil
}

// controllersOf takes a v1 hierarchy's directory apart, by the convention that
// systemd and cgroupfs-mount share: cpu,cpuacct. nil means a hierarchy of somebody
// else's (elogind, openrc), which containers have no business in.
func controllersOf(name string) []string {
	if name == "systemd" {
		return []string{"name=systemd"}
	}
	c := strings.Split(name, ",")
	for _, c := range c {
		switch c {
		case "cpuset", "cpu", "cpuacct", "blkio", "memory", "devices", "freezer", "net_cls",
			"perf_event", "net_prio", "hugetlb", "pids", "rdma", "misc", "dmem", "debug":
		default:
			return nil
		}
	}
	return c
}

func (h *Host) addAliases(dir string, entries []entry) {
	for _, e := range entries {
		if e.kind != unix.DT_LNK {
			continue
		}
		target, err := os.Readlink(filepath.Join(dir, e.name))
		if err != nil {
			continue
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(dir, target)
		}
		i := slices.IndexFunc(h.Hierarchies, func(h Hierarchy) bool { return h.Dir == filepath.Clean(target) })
		if i >= 0 {
			h.Hierarchies[i].Aliases = append(h.Hierarchies[i].Aliases, e.name)
		}
	}
}

// ownPath finds, in the text of /proc/self/cgroup (cgroups(7)), the caller's
// directory in a hierarchy, relative to that hierarchy's root.
func ownPath(text string, h *Hierarchy) (string, error) {
	for line := range strings.Lines(text) {
		_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		controllers, path, ok := strings.Cut(rest, ":")
		if !ok {
			continue
		}
		if h.Unified() && controllers == "" || !h.Unified() && slices.Contains(strings.Split(controllers, ","), h.Controllers[0]) {
			return path, nil
		}
	}
	return "", fmt.Errorf("/proc/self/cgroup has no line for %s", h.Dir)
}

// isDir is false for everything that cannot be looked at.
func isDir(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// gone reports whether err says that a cgroup does not exist, or ceased to while
// one of its files was open (ENODEV).
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV)
}
