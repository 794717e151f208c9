package resctrl

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/resctrl/resctrltest"
)

type rdt = specs.LinuxIntelRdt

func fake(t *testing.T) *FS {
	return &FS{Dir: resctrltest.Dir(t), Mkdir: resctrltest.Mkdir, Rmdir: resctrltest.Rmdir}
}

func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	if err := resctrltest.Put(dir, files); err != nil {
		t.Fatal(err)
	}
}

func groups(t *testing.T, fs *FS) string {
	t.Helper()
	var list []string
	for _, pattern := range []string{"*/tasks", "mon_groups/*/tasks", "*/mon_groups/*/tasks"} {
		found, _ := filepath.Glob(filepath.Join(fs.Dir, pattern))
		for _, f := range found {
			rel, _ := filepath.Rel(fs.Dir, filepath.Dir(f))
			list = append(list, rel)
		}
	}
	return strings.Join(list, " ")
}

func TestFindMount(t *testing.T) {
	const cgroup = "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n"
	for info, want := range map[string]string{
		cgroup: "",
		cgroup + "40 24 0:35 / /sys/fs/resctrl rw,relatime shared:12 - resctrl resctrl rw,mba_MBps\n":                       "/sys/fs/resctrl",
		"40 24 0:35 / /mnt/with\\040space rw - resctrl none rw\n":                                                           "/mnt/with space",
		"40 24 0:35 /class /bind rw - resctrl none rw\n41 24 0:35 / /all rw - resctrl none rw\n":                            "/all", // only part of it shows in the first
		"40 24 0:35 / /sys/fs/resctrl rw - tmpfs resctrl rw\n41 24 0:35 / /odd\n\n":                                         "",
		"40 24 0:35 / /a rw master:1 propagate_from:2 - resctrl resctrl rw\n" + "41 24 0:35 / /b rw - resctrl resctrl rw\n": "/a",
		strings.Repeat(cgroup, 100) + "40 24 0:35 / /sys/fs/resctrl rw,relatime shared:12 - resctrl resctrl rw\n":           "/sys/fs/resctrl",
	} {
		got, err := findMount(info)
		if got != want || want == "" != errors.Is(err, ErrNone) {
			t.Errorf("%q, %v in\n%s, want %q", got, err, info, want)
		}
	}
}

func TestHolds(t *testing.T) {
	const have = "    L2:0=ff;1=ff\n    L3:0=0f0;1=fffff\n    MB:0=  30;1= 100\nL3CODE:0=1\n"
	for line, want := range map[string]bool{
		"L3:0=f0;1=fffff":   true,
		" L3 : 0 = 00f0 ;;": false, // the name is "L3 "
		"L3:1=FFFFF;0=f0":   true,
		"L3:0=f0":           true, // leaves the other alone
		"L3:0=ff":           false,
		"L3:2=f0":           false,
		"MB:0=30;1=100":     true,
		"MB:0=25":           true, // which the kernel makes 30
		"MB:0=20":           false,
		"MB:0=31":           false,
		"L2:0=ff":           true,
		"L2:0=fb":           false, // masks are not rounded
		"L3CODE:0=1":        true,
		"L4:0=1":            false,
	} {
		if got, err := holds(have, line, 10); got != want || err != nil {
			t.Errorf("%q: %v, %v", line, got, err)
		}
	}
	for _, line := range []string{"", "L3", "L3:0", "L3:0=", "L3:0=xyz", "MB:0=f", "L3:0=1=2", "L3:0=-1"} {
		if _, err := holds(have, line, 10); err == nil {
			t.Errorf("%q is taken for a schema", line)
		}
	}
}

// What a container leaves when it has been made and removed, and when that failed.
func TestGroup(t *testing.T) {
	for _, tt := range []struct {
		name, clos string
		before     string // a class that is there, with these schemata; empty is none
		r          rdt
		schemata   string // of the class then
		groups     string // that there are
		left       string // after Remove
		err        string
	}{
		{name: "own", r: rdt{L3CacheSchema: "L3:0=f", MemBwSchema: "MB:0=20", Schemata: []string{"L2:0=1", ""}}, schemata: "L3:0=f\nMB:0=20\nL2:0=1\n", groups: "id"},
		{name: "own, nothing set", schemata: "    L3:0=fffff;1=fffff\n    MB:0= 100;1= 100\n", groups: "id"},
		{name: "own, counted", r: rdt{L3CacheSchema: "L3CODE:0=f\nL3DATA:0=f\n", EnableMonitoring: true}, schemata: "L3CODE:0=f\nL3DATA:0=f\n", groups: "id id/mon_groups/id"},
		{name: "made class", clos: "gold", r: rdt{L3CacheSchema: "L3:0=f"}, schemata: "L3:0=f\n", groups: "gold", left: "gold"},
		{name: "shared class", clos: "gold", before: " L3:0=0f\n MB:0= 30\n", r: rdt{L3CacheSchema: "L3:0=f", MemBwSchema: "MB:0=25", EnableMonitoring: true}, schemata: " L3:0=0f\n MB:0= 30\n", groups: "gold gold/mon_groups/id", left: "gold"},
		{name: "joined class", clos: "gold", before: "L3:0=f\n", schemata: "L3:0=f\n", groups: "gold", left: "gold"},
		{name: "changed class", clos: "gold", before: "L3:0=f\n", r: rdt{L3CacheSchema: "L3:0=f", Schemata: []string{"L2:0=1"}}, schemata: "L2:0=1\n", groups: "gold", left: "gold"},
		{name: "default class", clos: "/", before: "L3:0=fffff\n", r: rdt{EnableMonitoring: true}, schemata: "L3:0=fffff\n", groups: "mon_groups/id"},

		{name: "no class", clos: "gold", err: `closID "gold": there is no such resctrl group`},
		{name: "no class, empty schemata", clos: "gold", r: rdt{L3CacheSchema: "\n", Schemata: []string{""}}, err: `closID "gold": there is no such resctrl group`},
		{name: "no group", clos: "info", err: `closID "info": `},
		{name: "another cache schema", clos: "gold", before: "L3:0=f\nMB:0=10\n", r: rdt{L3CacheSchema: "L3:0=ff", EnableMonitoring: true}, err: `l3CacheSchema "L3:0=ff": resctrl group `, groups: "gold", left: "gold", schemata: "L3:0=f\nMB:0=10\n"},
		{name: "another bandwidth", clos: "gold", before: "L3:0=f\nMB:0=10\n", r: rdt{MemBwSchema: "MB:0=20"}, err: `memBwSchema "MB:0=20": resctrl group `, groups: "gold", left: "gold", schemata: "L3:0=f\nMB:0=10\n"},
		{name: "no schema", clos: "gold", before: "L3:0=f\n", r: rdt{L3CacheSchema: "nonsense"}, err: `l3CacheSchema "nonsense": "nonsense": not a line`, groups: "gold", left: "gold", schemata: "L3:0=f\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fs := fake(t)
			class := filepath.Join(fs.Dir, tt.clos)
			if tt.clos == "" {
				class = filepath.Join(fs.Dir, "id")
			}
			if tt.before != "" {
				if tt.clos != "/" {
					_ = fs.Mkdir(class)
				}
				put(t, class, map[string]string{"schemata": tt.before})
			}
			g := fs.Group("id", tt.clos, tt.r.EnableMonitoring)
			err := g.Create(&tt.r)
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.err)) {
				t.Fatalf("%v, want %s", err, tt.err)
			}
			if raw, _ := os.ReadFile(class + "/schemata"); string(raw) != tt.schemata {
				t.Errorf("schemata %q, want %q", raw, tt.schemata)
			}
			if got := groups(t, fs); got != tt.groups {
				t.Errorf("groups %q, want %q", got, tt.groups)
			}
			if tt.err != "" {
				g.Undo()
			} else if err := g.Remove(); err != nil || g.Remove() != nil {
				t.Error(err)
			}
			if got := groups(t, fs); got != tt.left {
				t.Errorf("%q is left, want %q", got, tt.left)
			}
		})
	}
}

// What is somebody else's is neither used nor removed.
func TestForeignGroups(t *testing.T) {
	fs := fake(t)
	_ = fs.Mkdir(filepath.Join(fs.Dir, "id"))
	_ = fs.Mkdir(filepath.Join(fs.Dir, "gold"))
	_ = fs.Mkdir(filepath.Join(fs.Dir, "gold/mon_groups/id"))
	for _, g := range []*Group{fs.Group("id", "", false), fs.Group("id", "gold", true)} {
		if err := g.Check(&rdt{}); !errors.Is(err, unix.EEXIST) {
			t.Errorf("%+v: %v", g, err)
		}
		if err := g.Create(&rdt{}); !errors.Is(err, unix.EEXIST) {
			t.Errorf("%+v: %v", g, err)
		}
		g.Undo()
	}
	if got := groups(t, fs); got != "gold id gold/mon_groups/id" {
		t.Errorf("groups %q", got)
	}
}

// An operation that failed half-way leaves everything as it was.
func TestUndo(t *testing.T) {
	for name, tt := range map[string]struct{ clos, left, schemata string }{
		"own":          {"", "", ""},
		"made":         {"gold", "", ""},
		"made, in use": {"busy", "busy", "L2:0=1\n"},
		"shared":       {"old", "old", "L3:0=f\n"},
	} {
		t.Run(name, func(t *testing.T) {
			fs := fake(t)
			if tt.clos == "old" {
				_ = fs.Mkdir(fs.Dir + "/old")
				put(t, fs.Dir+"/old", map[string]string{"schemata": "L3:0=f\n"})
			}
			mkdir := fs.Mkdir
			fs.Mkdir = func(path string) error {
				if strings.Contains(path, "mon_groups") {
					put(t, fs.Dir, map[string]string{"info/last_cmd_status": "Out of RMIDs\n"})
					return unix.ENOSPC
				}
				return mkdir(path)
			}
			g := fs.Group("id", tt.clos, true)
			err := g.Create(&rdt{Schemata: []string{"L2:0=1"}})
			if !errors.Is(err, unix.ENOSPC) || !strings.HasSuffix(err.Error(), "(Out of RMIDs)") {
				t.Fatal(err)
			}
			if tt.clos == "busy" { // by another container meanwhile
				put(t, fs.Dir+"/busy", map[string]string{"tasks": "77\n"})
			}
			g.Undo()
			if got := groups(t, fs); got != tt.left {
				t.Errorf("groups %q, want %q", got, tt.left)
			}
			if raw, _ := os.ReadFile(filepath.Join(fs.Dir, tt.clos, "schemata")); tt.left != "" && string(raw) != tt.schemata {
				t.Errorf("schemata %q, want %q", raw, tt.schemata)
			}
		})
	}
}

func TestUpdate(t *testing.T) {
	fs := fake(t)
	g := fs.Group("id", "", false)
	if err := g.Create(&rdt{L3CacheSchema: "L3:0=f"}); err != nil {
		t.Fatal(err)
	}
	back, err := g.Update(&rdt{L3CacheSchema: "L3:0=ff", MemBwSchema: "MB:0=50"})
	if err != nil {
		t.Fatal(err)
	}
	if raw, _ := os.ReadFile(fs.Dir + "/id/schemata"); string(raw) != "L3:0=ff\nMB:0=50\n" {
		t.Errorf("schemata %q", raw)
	}
	back()
	if raw, _ := os.ReadFile(fs.Dir + "/id/schemata"); string(raw) != "L3:0=f\n" {
		t.Errorf("schemata %q after it was put back", raw)
	}
}

func TestStats(t *testing.T) {
	fs := fake(t)
	g := fs.Group("id", "gold", true)
	if err := g.Create(&rdt{Schemata: []string{"L2:0=1", "L3:0=f", "MB:0=20"}}); err != nil {
		t.Fatal(err)
	}
	s, err := g.Stats()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"l3_cache_info":{"cbm_mask":"fffff","min_cbm_bits":1,"num_closids":16},` +
		`"l3_cache_schema_root":"L3:0=fffff;1=fffff","l3_cache_schema":"L3:0=f",` +
		`"mem_bw_info":{"bandwidth_gran":10,"delay_linear":1,"min_bandwidth":10,"num_closids":8},` +
		`"mem_bw_schema_root":"MB:0= 100;1= 100","mem_bw_schema":"MB:0=20","schemata":["L2:0=1","L3:0=f","MB:0=20"],` +
		`"mbm_stats":[{"mbm_total_bytes":100,"mbm_local_bytes":60},{"mbm_total_bytes":7,"mbm_local_bytes":0}],` +
		`"cmt_stats":[{"llc_occupancy":4096},{"llc_occupancy":0}]}`
	if d := cmp.Diff(want, string(raw)); d != "" {
		t.Error(d)
	}
	// A machine that has nothing of it.
	if err := os.RemoveAll(fs.Dir + "/info"); err != nil {
		t.Fatal(err)
	}
	s, err = g.Stats()
	if d := cmp.Diff(&Stats{Schemata: []string{"L2:0=1", "L3:0=f", "MB:0=20"}}, s); d != "" || err != nil {
		t.Error(d, err)
	}
}

// The default class is locked against others who change groups.
func TestLock(t *testing.T) {
	fs := fake(t)
	unlock, err := fs.lock()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- fs.Group("id", "", false).Create(&rdt{}) }()
	fd, err := unix.Open(fs.Dir, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB); err != unix.EWOULDBLOCK {
		t.Errorf("flock of a locked directory: %v", err)
	}
	select {
	case err := <-done:
		t.Errorf("a group was made under the lock: %v", err)
	default:
	}
	unlock()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
