package compile

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
	"adl.run/adl-runtime/spec"
)

// TestExecListings is TestListings for what joins a container.
func TestExecListings(t *testing.T) {
	compareListings(t, "testdata/exec", func(g *golden) (*program.Program, error) {
		x, err := NewExec(g.Spec, g.Facts, g.Options)
		if err != nil {
			return nil, err
		}
		return x.Program, nil
	})
}

// TestExecOrder holds what security and the end of containers rest on: the cgroup
// before setns, and nothing that takes privileges away behind the clone, with which the
// process appears in the container.
func TestExecOrder(t *testing.T) {
	g := readGolden(t, "testdata/exec/cgroup-v1.json")
	x, err := NewExec(g.Spec, g.Facts, g.Options)
	if err != nil {
		t.Fatal(err)
	}
	at := func(last bool, calls ...program.Call) int {
		found := -1
		for i := range x.Ops {
			if slices.Contains(calls, x.Ops[i].Call) && (found < 0 || last) {
				found = i
			}
		}
		if found < 0 {
			t.Fatalf("none of the calls %v in\n%s", calls, x.Listing())
		}
		return found
	}
	order := []int{at(true, unix.SYS_OPENAT) /* args[0] */, at(false, unix.SYS_CLONE), at(true, unix.SYS_CAPSET), at(false, unix.SYS_SETRESUID), at(false, unix.SYS_SETNS)}
	slices.Reverse(order)
	if !slices.IsSorted(order) {
		t.Errorf("setns, setresuid, capset, clone and the look at args[0] are ops %v", order)
	}
	for i := at(false, unix.SYS_SETNS); i < len(x.Ops); i++ {
		if strings.HasPrefix(x.Texts[x.Ops[i].Note], "linux.cgroupsPath") {
			t.Errorf("op %d joins a cgroup behind setns", i)
		}
	}
}

// FuzzExec is FuzzCompile for NewExec.
func FuzzExec(f *testing.F) {
	cases, _ := filepath.Glob("testdata/exec/*.json")
	for _, path := range cases {
		raw, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		var g struct{ Spec json.RawMessage }
		if err := json.Unmarshal(raw, &g); err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(g.Spec), true)
	}
	f.Fuzz(func(t *testing.T, raw []byte, tasks bool) {
		s := small()
		loaded, err := spec.Load(raw)
		if err != nil {
			return
		}
		merge(s, loaded)
		if s.Linux == nil || spec.ValidateProcess(s.Process) != nil {
			return
		}
		facts := modern()
		if tasks {
			facts.Tasks, facts.ResctrlTasks = []string{"/sys/fs/cgroup/pids/c/tasks"}, []string{"/sys/fs/resctrl/c/tasks"}
		}
		x, err := NewExec(s, facts, &Options{ExtraFiles: len(raw) % 4, Keyring: "k"})
		if err != nil {
			return
		}
		if err := x.Verify(); err != nil {
			t.Fatalf("%v\n%s", err, x.Listing())
		}
	})
}

// TestExecRefused has what cannot be executed, whatever the container.
func TestExecRefused(t *testing.T) {
	for want, edit := range map[string]func(*specs.Process){
		`process.args[0]: exec: "tool": executable file not found in $PATH`: func(p *specs.Process) { p.Args, p.Env = []string{"tool"}, nil },
		`process.rlimits[0] RLIMIT_X: unknown resource limit`: func(p *specs.Process) {
			p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_X"}}
		},
	} {
		s := small()
		edit(s.Process)
		if _, err := NewExec(s, modern(), &Options{}); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}
