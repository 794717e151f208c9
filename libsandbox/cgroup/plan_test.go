package cgroup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The text of /proc/self/cgroup in a login session of a systemd host in hybrid mode.
const ownHybrid = `12:cpuset:/
11:cpu,cpuacct:/user.slice
4:memory:/user.slice/user-0.slice
1:name=systemd:/user.slice/user-0.slice/session-3.scope
0::/user.slice/user-0.slice/session-3.scope
`

// tree makes directories and symlinks ("a -> b") that look like /sys/fs/cgroup.
func tree(t *testing.T, entries ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, e := range entries {
		var err error
		if name, target, ok := strings.Cut(e, " -> "); ok {
			err = os.Symlink(target, filepath.Join(dir, name))
		} else {
			err = os.MkdirAll(filepath.Join(dir, e), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// fakeTypes says that dir is a tmpfs with cgroup v1 mounts, and v2 in unified.
func fakeTypes(dir string) func(string) (int64, error) {
	return func(path string) (int64, error) {
		switch path {
		case dir, filepath.Join(dir, "other"):
			return unix.TMPFS_MAGIC, nil
		case filepath.Join(dir, "unified"):
			return unix.CGROUP2_SUPER_MAGIC, nil
		}
		return unix.CGROUP_SUPER_MAGIC, nil
	}
}

func TestDiscoverHybrid(t *testing.T) {
	dir := tree(t, "cpu,cpuacct", "memory", "systemd", "elogind", "other", "unified", "cpu -> cpu,cpuacct", "cpuacct -> cpu,cpuacct", "x -> nowhere")
	h, err := discover(dir, fakeTypes(dir))
	if err != nil {
		t.Fatal(err)
	}
	want := &Host{Mode: Hybrid, Hierarchies: []Hierarchy{
		{Controllers: []string{"cpu", "cpuacct"}, Dir: dir + "/cpu,cpuacct", Aliases: []string{"cpu", "cpuacct"}},
		{Controllers: []string{"memory"}, Dir: dir + "/memory"},
		{Controllers: []string{"name=systemd"}, Dir: dir + "/systemd"},
		{Dir: dir + "/unified"},
	}}
	if d := cmp.Diff(want, h); d != "" {
		t.Error(d)
	}
}

func TestDiscoverOthers(t *testing.T) {
	dir := tree(t, "cpuset", "pids")
	h, err := discover(dir, fakeTypes(dir))
	if err != nil || h.Mode != V1 || len(h.Hierarchies) != 2 {
		t.Errorf("v1 host: %+v, %v", h, err)
	}
	h, err = discover(dir, func(string) (int64, error) { return unix.CGROUP2_SUPER_MAGIC, nil })
	if err != nil || h.Mode != V2 || len(h.Hierarchies) != 1 || h.Hierarchies[0].Dir != dir {
		t.Errorf("v2 host: %+v, %v", h, err)
	}
	if _, err = discover(t.TempDir(), fakeTypes("")); err == nil {
		t.Error("a host without cgroups is none to Discover")
	}
}

func TestPlace(t *testing.T) {
	dir := tree(t, "cpu,cpuacct/user.slice", "memory/user.slice/user-0.slice", "unified/user.slice/user-0.slice")
	cpu := &Hierarchy{Controllers: []string{"cpu", "cpuacct"}, Dir: dir + "/cpu,cpuacct"}
	memory := &Hierarchy{Controllers: []string{"memory"}, Dir: dir + "/memory"}
	unified := &Hierarchy{Dir: dir + "/unified"}
	for _, test := range []struct {
		name  string
		mode  Mode
		h     *Hierarchy
		inner string
		own   string
		want  string // below the hierarchy, or the error
	}{
		{"absolute", Hybrid, cpu, "/a/b", "", "/a/b"},
		{"absolute with dots", Hybrid, cpu, "/../a/./b/", "", "/a/b"},
		{"relative is below the own cgroup", Hybrid, cpu, "a", ownHybrid, "/user.slice/a"},
		{"each hierarchy has an own one", Hybrid, memory, "a", ownHybrid, "/user.slice/user-0.slice/a"},
		{"relative cannot climb", Hybrid, cpu, "../../a", ownHybrid, "/user.slice/a"},
		{"v2: beside the own cgroup", V2, unified, "a", "0::/user.slice/user-0.slice/session-3.scope\n", "/user.slice/user-0.slice/a"},
		{"v2: at the root", V2, unified, "a", "0::/\n", "/a"},
		{"the mount shows a part", Hybrid, cpu, "a", "3:cpu,cpuacct:/docker/123\n", "/a"},
		{"outside of the namespace", Hybrid, cpu, "a", "3:cpu,cpuacct:/../user.slice\n", "/a"},
		{"systemd's form is a name", Hybrid, cpu, "system.slice:docker:1", ownHybrid, "/user.slice/system.slice:docker:1"},
		{"root", Hybrid, cpu, "/", "", "is the hierarchy's root"},
		{"climbing to the root", Hybrid, cpu, "..", ownHybrid, "is the hierarchy's root"},
		{"no line", Hybrid, cpu, "a", "0::/\n", "/proc/self/cgroup has no line for " + cpu.Dir},
	} {
		got, err := place(test.mode, test.h, test.inner, test.own)
		got = strings.TrimPrefix(got, test.h.Dir)
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestPathsAndLoad(t *testing.T) {
	const base = "/sys/fs/cgroup/"
	paths := map[string]string{
		"cpu": base + "cpu,cpuacct/a", "cpuacct": base + "cpu,cpuacct/a", "memory": base + "memory/x/a",
		"name=systemd": base + "systemd/a", "": base + "unified/a",
	}
	c, err := load(paths, unix.TMPFS_MAGIC)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(paths, c.Paths()); d != "" {
		t.Error(d)
	}
	tasks := []string{base + "cpu,cpuacct/a/tasks", base + "memory/x/a/tasks", base + "systemd/a/tasks"}
	if d := cmp.Diff(tasks, c.TasksFiles()); d != "" || c.mode != Hybrid || c.unified() == nil {
		t.Errorf("mode %v, unified %v: %s", c.mode, c.unified(), d)
	}
	mounts := []Mount{{Name: "cpu,cpuacct", Dir: base + "cpu,cpuacct/a"}, {Name: "memory", Dir: base + "memory/x/a"}, {Name: "systemd", Dir: base + "systemd/a"}}
	if d := cmp.Diff(mounts, c.Mounts()); d != "" {
		t.Error(d)
	}
}

// What state.json says must never make the runtime kill or remove what is the host's.
func TestLoadRefuses(t *testing.T) {
	for _, test := range []struct {
		rootType         int64
		controller, path string
	}{
		{unix.TMPFS_MAGIC, "cpu", "/sys/fs/cgroup/cpu"},
		{unix.TMPFS_MAGIC, "", "/sys/fs/cgroup/unified"},
		{unix.TMPFS_MAGIC, "", "/sys/fs/cgroup/unified/"},
		{unix.TMPFS_MAGIC, "cpu", "/sys/fs/cgroup/cpu/.."},
		{unix.TMPFS_MAGIC, "cpu", "/sys/fs/cgroup/cpu/a/../../memory/b"},
		{unix.TMPFS_MAGIC, "cpu", "/tmp/a/b"},
		{unix.TMPFS_MAGIC, "cpu", "/sys/fs/cgroupx/cpu/a"},
		{unix.TMPFS_MAGIC, "cpu", "sys/fs/cgroup/cpu/a"},
		{unix.TMPFS_MAGIC, "cpu", ""},
		{unix.CGROUP2_SUPER_MAGIC, "", "/sys/fs/cgroup"},
		{unix.CGROUP2_SUPER_MAGIC, "", "/sys/fs/cgroup/"},
		{unix.CGROUP2_SUPER_MAGIC, "cpu", "/sys/fs/cgroup/cpu/a"},
	} {
		if c, err := load(map[string]string{test.controller: test.path}, test.rootType); err == nil {
			t.Errorf("%q %q is accepted as %v", test.controller, test.path, c.Paths())
		}
	}
	if _, err := load(map[string]string{"": "/sys/fs/cgroup/a"}, unix.CGROUP2_SUPER_MAGIC); err != nil {
		t.Error(err)
	}
}

func TestPrepareRefuses(t *testing.T) {
	host := &Host{Mode: Hybrid, Hierarchies: []Hierarchy{{Controllers: []string{"cpu"}, Dir: "/sys/fs/cgroup/cpu"}}}
	for want, o := range map[string]*Options{
		`linux.cgroupsPath: "/": is the hierarchy's root`: {Path: "/"},
		`linux.resources.unified: cgroup v1 has no such files; it needs a host with cgroup v2 only`: {
			Path: "/a", Resources: &specs.LinuxResources{Unified: map[string]string{"memory.high": "1"}},
		},
		`linux.resources.devices[0]: type: "p": must be a, b or c`: {
			Path: "/a", Resources: &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Type: "p", Access: "r"}}},
		},
	} {
		o.Host = host
		if _, err := Prepare(o); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
