package libsandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
	"adl.run/adl-runtime/libsandbox/internal/resctrl"
	"adl.run/adl-runtime/libsandbox/internal/resctrl/resctrltest"
)

// rdtStore is a store on a host whose resctrl is a directory.
func rdtStore(t *testing.T) *Store {
	t.Helper()
	return &Store{root: t.TempDir(), resctrl: playResctrl(resctrltest.Dir(t))}
}

func playResctrl(dir string) *resctrl.FS {
	return &resctrl.FS{Dir: dir, Mkdir: resctrltest.Mkdir, Rmdir: resctrltest.Rmdir}
}

func withRdt(r *specs.LinuxIntelRdt) func(*specs.Spec) {
	return func(s *specs.Spec) { s.Linux.IntelRdt = r }
}

// rdtGroups are the groups that there are, with what was written to their tasks.
func rdtGroups(t *testing.T, s *Store) string {
	t.Helper()
	var list []string
	for _, pattern := range []string{"*/tasks", "mon_groups/*/tasks", "*/mon_groups/*/tasks"} {
		files, _ := filepath.Glob(filepath.Join(s.resctrl.Dir, pattern))
		for _, f := range files {
			raw, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			rel, _ := filepath.Rel(s.resctrl.Dir, filepath.Dir(f))
			list = append(list, rel+"="+string(raw))
		}
	}
	return strings.Join(list, " ")
}

func readText(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// The container's processes enter the group by themselves before they execute anything,
// the group goes away with the container, and what is not the container's stays.
func TestIntelRdt(t *testing.T) {
	for _, tt := range []struct {
		name         string
		r            specs.LinuxIntelRdt
		during, left string
	}{
		{"own", specs.LinuxIntelRdt{L3CacheSchema: "L3:0=f"}, "gold= one=0", "gold="},
		{"own, counted", specs.LinuxIntelRdt{EnableMonitoring: true}, "gold= one=0 one/mon_groups/one=0", "gold="},
		{"shared", specs.LinuxIntelRdt{ClosID: "gold", EnableMonitoring: true}, "gold=0 gold/mon_groups/one=0", "gold=0"},
		{"made", specs.LinuxIntelRdt{ClosID: "new", L3CacheSchema: "L3:0=f"}, "gold= new=0", "gold= new=0"},
		{"default", specs.LinuxIntelRdt{ClosID: "/", EnableMonitoring: true}, "gold= mon_groups/one=0", "gold="},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store := rdtStore(t)
			if err := store.resctrl.Mkdir(filepath.Join(store.resctrl.Dir, "gold")); err != nil {
				t.Fatal(err)
			}
			b := scripted(t, t.TempDir(), "sleep 1000", withRdt(&tt.r))
			sb, err := store.Create(t.Context(), "one", b, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := rdtGroups(t, store); got != tt.during {
				t.Errorf("groups %q, want %q", got, tt.during)
			}
			if err := sb.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			again, err := store.Load("one") // as another command finds it
			if err != nil {
				t.Fatal(err)
			}
			if err := again.Delete(context.Background(), &DeleteOptions{Force: true}); err != nil {
				t.Error(err)
			}
			reapChildren()
			if got := rdtGroups(t, store); got != tt.left {
				t.Errorf("%q is left, want %q", got, tt.left)
			}
		})
	}
}

func TestIntelRdtUpdateExecStats(t *testing.T) {
	store := rdtStore(t)
	b := scripted(t, t.TempDir(), "sleep 1000", withRdt(&specs.LinuxIntelRdt{L3CacheSchema: "L3:0=f", EnableMonitoring: true}))
	sb, err := store.Run(t.Context(), "one", b, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := sb.Delete(context.Background(), &DeleteOptions{Force: true}); err != nil {
			t.Error(err)
		}
		reapChildren()
	}()
	group := filepath.Join(store.resctrl.Dir, "one")
	none := &specs.LinuxResources{}
	if err := sb.UpdateRdt(t.Context(), none, &specs.LinuxIntelRdt{L3CacheSchema: "L3:0=ff"}); err != nil {
		t.Fatal(err)
	}
	if err := sb.UpdateRdt(t.Context(), none, &specs.LinuxIntelRdt{MemBwSchema: "MB:0=20"}); err != nil {
		t.Fatal(err)
	}
	if got := readText(t, group+"/schemata"); got != "MB:0=20\n" {
		t.Errorf("schemata %q", got)
	}
	bad := &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "4000"}}
	if err := sb.UpdateRdt(t.Context(), bad, &specs.LinuxIntelRdt{MemBwSchema: "MB:0=90"}); err == nil || !strings.HasPrefix(err.Error(), "linux.resources.cpu.cpus") {
		t.Errorf("an update of CPUs that there are not: %v", err)
	}
	if got := readText(t, group+"/schemata"); got != "MB:0=20\n" {
		t.Errorf("schemata %q after an update that failed", got)
	}
	s, err := sb.config()
	if err != nil {
		t.Fatal(err)
	}
	if r := s.Linux.IntelRdt; r.L3CacheSchema != "L3:0=f" && r.L3CacheSchema != "L3:0=ff" {
		t.Errorf("%+v", r)
	}
	if s, err = readConfig(filepath.Join(store.root, "one", configFile)); err != nil || s.Linux.IntelRdt.L3CacheSchema != "L3:0=ff" || s.Linux.IntelRdt.MemBwSchema != "MB:0=20" {
		t.Errorf("stored: %+v, %v", s.Linux.IntelRdt, err)
	}
	stats, err := sb.Stats()
	if err != nil || stats.IntelRdt.BandwidthSchema != "MB:0=20" || len(stats.IntelRdt.Traffic) != 2 || stats.Pids.Current == 0 {
		t.Errorf("%+v, %v", stats, err)
	}
	for _, tasks := range []string{"/tasks", "/mon_groups/one/tasks"} {
		if err := os.WriteFile(group+tasks, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := func() {
		t.Helper()
		p, err := sb.Process()
		if err != nil {
			t.Fatal(err)
		}
		p.Args = []string{"true"}
		x, err := sb.Exec(t.Context(), p, nil)
		if err != nil {
			t.Fatal(err)
		}
		if ws, err := x.Wait(t.Context()); err != nil || ws.ExitStatus() != 0 {
			t.Error(ws, err)
		}
	}
	run()
	if got := rdtGroups(t, store); got != "one=0 one/mon_groups/one=0" {
		t.Errorf("groups %q after exec", got)
	}
	if err := os.RemoveAll(group); err != nil { // by the administrator
		t.Fatal(err)
	}
	run()
}

// The next init enters the group that there is, and so does a fork's its own.
func TestIntelRdtResetFork(t *testing.T) {
	store := rdtStore(t)
	l := runLayered(t, store, "one", sleeping(t, withRdt(&specs.LinuxIntelRdt{L3CacheSchema: "L3:0=f", EnableMonitoring: true})), nil)
	group := filepath.Join(store.resctrl.Dir, "one")
	for _, tasks := range []string{"/tasks", "/mon_groups/one/tasks"} {
		if err := os.WriteFile(group+tasks, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, mode := range []ResetMode{ResetRestart, ResetKeepInit} {
		l.reset(mode)
		if got := rdtGroups(t, store); got != "one=0 one/mon_groups/one=0" {
			t.Errorf("groups %q after %s", got, mode)
		}
	}
	sb, err := l.Fork(t.Context(), "two", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := rdtGroups(t, store); got != "one=0 two=0 one/mon_groups/one=0 two/mon_groups/two=0" {
		t.Errorf("groups %q after a fork", got)
	}
	if err := sb.Delete(context.Background(), &DeleteOptions{Force: true}); err != nil {
		t.Error(err)
	}
	if got := rdtGroups(t, store); got != "one=0 one/mon_groups/one=0" {
		t.Errorf("groups %q after the fork's end", got)
	}
	l.gone()
	if got := rdtGroups(t, store); got != "" {
		t.Errorf("%q is left", got)
	}
}

// TestIntelRdtFails: what was made for a container that then could not be is gone.
func TestIntelRdtFails(t *testing.T) {
	errTaken := unix.EEXIST
	for _, tt := range []struct {
		name   string
		r      specs.LinuxIntelRdt
		tamper func(*program.Program)
		class  string // there already
		want   string
		is     error
		left   string
	}{
		{name: "no class", r: specs.LinuxIntelRdt{ClosID: "gold"}, want: `linux.intelRdt: closID "gold": there is no`, is: unix.ENOENT},
		{name: "another's", class: "one", want: "linux.intelRdt: resctrl group ", is: errTaken, left: "one="},
		{name: "other schemata", class: "gold", r: specs.LinuxIntelRdt{ClosID: "gold", L3CacheSchema: "L3:0=1", EnableMonitoring: true}, want: `linux.intelRdt: l3CacheSchema "L3:0=1": `, left: "gold="},
		{name: "init", r: specs.LinuxIntelRdt{EnableMonitoring: true, L3CacheSchema: "L3:0=f"}, tamper: func(p *program.Program) {
			failOp(t, p, "/mon_groups/one/tasks")
		}, want: "linux.intelRdt "},
		{name: "init, new class", r: specs.LinuxIntelRdt{ClosID: "gold", L3CacheSchema: "L3:0=f"}, tamper: func(p *program.Program) {
			failOp(t, p, "/gold/tasks")
		}, want: "linux.intelRdt "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store := rdtStore(t)
			if tt.class != "" {
				if err := store.resctrl.Mkdir(filepath.Join(store.resctrl.Dir, tt.class)); err != nil {
					t.Fatal(err)
				}
			}
			store.tamper = tt.tamper
			before := lookAtHost(t, store.root)
			_, err := store.Run(t.Context(), "one", scripted(t, t.TempDir(), "sleep 1000", withRdt(&tt.r)), nil)
			if err == nil || !strings.HasPrefix(err.Error(), tt.want) || tt.is != nil && !errors.Is(err, tt.is) {
				t.Errorf("%v, want %s", err, tt.want)
			}
			before.compare(t, lookAtHost(t, store.root))
			if got := rdtGroups(t, store); got != tt.left {
				t.Errorf("%q is left, want %q", got, tt.left)
			}
		})
	}
}

// failOp makes the first op with that end of a note fail.
func failOp(t *testing.T, p *program.Program, note string) {
	for i := range p.Ops {
		if strings.HasSuffix(p.Texts[p.Ops[i].Note], note) {
			p.Ops[i] = failing(p.Ops[i])
			return
		}
	}
	t.Errorf("no op for %s", note)
}

// The directory in a record is only ever a name.
func TestIntelRdtRecord(t *testing.T) {
	store := rdtStore(t)
	for _, id := range []string{"../x", "a/b", ".."} {
		if g, err := store.resctrlGroup("one", &rdtRecord{ClosID: id}); g != nil || err == nil {
			t.Errorf("%q is taken for a group's name", id)
		}
	}
	store.resctrl = nil
	if _, err := resctrl.Find(); err == nil {
		t.Skip("needs a host without resctrl")
	}
	// It has been unmounted since, with all groups.
	sb := &Sandbox{store: store, id: "one", rec: record{ID: "one", Rdt: &rdtRecord{}}}
	if err := sb.removeRdt(); err != nil {
		t.Error(err)
	}
	if tasks, err := store.resctrlTasks(&sb.rec); tasks != nil || err != nil {
		t.Error(tasks, err)
	}
}
