package compile

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"adl.run/adl-runtime/libsandbox/internal/program"
	"adl.run/adl-runtime/spec"
)

var update = flag.Bool("update", false, "rewrite the golden listings")

// golden is a test case: testdata/NAME.json, whose listing is testdata/NAME.listing.
type golden struct {
	Spec    *specs.Spec
	Facts   *Facts
	Options *Options
}

// modern are the facts of a current kernel; a case's own facts override them.
func modern() *Facts {
	return &Facts{
		MountSetattr:  true,
		CloneDetached: true,
		TimerSlack:    50000,
		LastCap:       40,
		Bounding:      1<<41 - 1,
		Root:          "/bundle/rootfs",
		Home:          "/root",
	}
}

func readGolden(t *testing.T, path string) *golden {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The spec of a case is what differs from a small valid one.
	g := &golden{Spec: small(), Facts: modern(), Options: &Options{}}
	if err := json.Unmarshal(raw, g); err != nil {
		t.Fatal(err)
	}
	return g
}

// small is about the smallest spec there is.
func small() *specs.Spec {
	return &specs.Spec{
		Version: "1.3.0",
		Root:    &specs.Root{Path: "rootfs"},
		Process: &specs.Process{
			Args: []string{"/bin/true"},
			Env:  []string{"PATH=/bin"},
			Cwd:  "/",
			Capabilities: &specs.LinuxCapabilities{
				Bounding: spec.Default(false).Process.Capabilities.Bounding,
			},
		},
		Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}}},
	}
}

// TestListings compares what each spec compiles to with testdata/*.listing. A
// difference is a change of what containers do: look at it, then run with -update.
func TestListings(t *testing.T) {
	compareListings(t, "testdata", func(g *golden) (*program.Program, error) {
		p, err := NewInit(g.Spec, g.Facts, g.Options)
		if err != nil {
			return nil, err
		}
		return p.Program, nil
	})
}

// compareListings compiles the cases in dir and compares them with the listings there.
func compareListings(t *testing.T, dir string, compile func(*golden) (*program.Program, error)) {
	t.Helper()
	cases, err := filepath.Glob(dir + "/*.json")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, path := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".json"), func(t *testing.T) {
			p, err := compile(readGolden(t, path))
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Verify(); err != nil {
				t.Error(err)
			}
			got := p.Listing()
			file := strings.TrimSuffix(path, "json") + "listing"
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); d != "" {
				t.Errorf("listing (-want +got):\n%s", d)
			}
		})
	}
}

// TestRefused has the specs that are valid, but not to be compiled.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		want string
		edit func(*golden)
	}{
		{`process.terminal: needs a mount of type devpts at /dev/pts`, func(g *golden) { g.Spec.Process.Terminal = true }},
		{`mounts[0] /proc/sys: "/proc/sys" cannot be mounted because it is inside /proc`, func(g *golden) {
			g.Spec.Mounts = []specs.Mount{{Destination: "/proc/sys", Type: "tmpfs"}}
		}},
		{`mounts[0] /proc: "/proc" cannot be mounted because it is not of type proc`, func(g *golden) {
			g.Spec.Mounts = []specs.Mount{{Destination: "/proc", Type: "tmpfs"}}
		}},
		{`mounts[0] /proc/../proc/self: "/proc/../proc/self" cannot be mounted because it is inside /proc`, func(g *golden) {
			g.Spec.Mounts = []specs.Mount{{Destination: "/proc/../proc/self", Type: "tmpfs"}}
		}},
		{`mounts[0] /x: option "remount": a mount of a new container cannot be remounted`, func(g *golden) {
			g.Spec.Mounts = []specs.Mount{{Destination: "/x", Type: "tmpfs", Options: []string{"remount"}}}
		}},
		{`mounts[0] /x: recursive attributes need mount_setattr(2), which came with Linux 5.12`, func(g *golden) {
			g.Facts.MountSetattr = false
			g.Facts.Sources = map[int]Source{0: {Path: "/y", Dir: true}}
			g.Spec.Mounts = []specs.Mount{{Destination: "/x", Type: "bind", Options: []string{"rbind", "rro"}}}
		}},
		{`mounts[0] /x: id-mapped mounts need mount_setattr(2), which came with Linux 5.12`, func(g *golden) {
			g.Facts.MountSetattr = false
			g.Facts.Sources = map[int]Source{0: {Path: "/y", Dir: true}}
			ids := []specs.LinuxIDMapping{{Size: 1}}
			g.Spec.Mounts = []specs.Mount{{Destination: "/x", Type: "bind", UIDMappings: ids, GIDMappings: ids}}
		}},
		{`mounts[0] /x: option "upperdir": a value of 300 bytes, fsconfig(2) takes 255`, func(g *golden) {
			g.Spec.Mounts = []specs.Mount{{Destination: "/x", Type: "overlay", Options: []string{"upperdir=" + strings.Repeat("u", 300)}}}
		}},
		{`process.rlimits[0] RLIMIT_X: unknown resource limit`, func(g *golden) {
			g.Spec.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_X"}}
		}},
	} {
		g := &golden{Spec: small(), Facts: modern(), Options: &Options{}}
		c.edit(g)
		_, err := NewInit(g.Spec, g.Facts, g.Options)
		if err == nil || err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
}

func TestWarnings(t *testing.T) {
	g := &golden{Spec: small(), Facts: modern(), Options: &Options{}}
	g.Facts.Bounding &^= 1 << 24
	g.Spec.Process.Capabilities = &specs.LinuxCapabilities{
		Bounding: []string{"CAP_CHOWN", "CAP_SYS_RESOURCE", "CAP_TEST"}, Effective: []string{"CAP_TEST"},
	}
	p, err := NewInit(g.Spec, g.Facts, g.Options)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"process.capabilities CAP_TEST: unknown to the kernel, ignored",
		"process.capabilities CAP_SYS_RESOURCE: not in the runtime's own bounding set, ignored",
	}
	if d := cmp.Diff(want, p.Warnings); d != "" {
		t.Errorf("warnings (-want +got):\n%s", d)
	}
}

// FuzzCompile: whatever spec is valid compiles to a program that Verify accepts, or
// is refused with an error that names a field.
func FuzzCompile(f *testing.F) {
	cases, _ := filepath.Glob("testdata/*.json")
	for _, path := range cases {
		raw, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		var g struct{ Spec json.RawMessage }
		if err := json.Unmarshal(raw, &g); err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(g.Spec), true, true, false)
	}
	raw, _ := json.Marshal(spec.Default(false))
	f.Add(raw, true, true, true)
	f.Add(raw, false, false, false)
	dir := f.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "rootfs"), 0o755); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, raw []byte, setattr, detached, listen bool) {
		s := small()
		loaded, err := spec.Load(raw)
		if err != nil {
			return
		}
		merge(s, loaded)
		if spec.Validate(&spec.Bundle{Dir: dir, Spec: s}) != nil {
			return
		}
		facts := modern()
		facts.MountSetattr, facts.CloneDetached = setattr, detached
		facts.Sources = map[int]Source{}
		for i := range s.Mounts {
			facts.Sources[i] = Source{Path: s.Mounts[i].Source, Dir: i%2 == 0}
		}
		p, err := NewInit(s, facts, &Options{Listen: listen})
		if err != nil {
			return
		}
		if err := p.Verify(); err != nil {
			t.Fatalf("%v\n%s", err, p.Listing())
		}
		_ = p.Listing()
	})
}

// merge lets the parts that a fuzzed spec has replace those of a small one, so that
// more of what the fuzzer tries is valid.
func merge(s, from *specs.Spec) {
	s.Hostname, s.Domainname, s.Annotations = from.Hostname, from.Domainname, from.Annotations
	if from.Process != nil && len(from.Process.Args) > 0 {
		s.Process = from.Process
	}
	if from.Linux != nil {
		s.Linux = from.Linux
	}
	if from.Mounts != nil {
		s.Mounts = from.Mounts
	}
	if from.Hooks != nil {
		s.Hooks = from.Hooks
	}
}

// TestPauseListing holds what the pause program does: whoever changes it changes process 1
// of every sandbox.
func TestPauseListing(t *testing.T) {
	compareListings(t, "testdata/pause", func(*golden) (*program.Program, error) { return NewPause(), nil })
}
