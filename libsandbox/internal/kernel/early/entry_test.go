package early

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// buildEntry builds the program in testdata.
func buildEntry(t *testing.T) (exe string) {
	t.Helper()
	exe = filepath.Join(t.TempDir(), "entry")
	build := exec.Command("go", "build", "-ldflags", "-E adl_entry", "-o", exe, "./testdata/entry")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return exe
}

// TestEntry runs a program that begins at adl_entry: it has its arguments, its
// environment and the auxiliary vector, and one processor unless its caller says
// otherwise.
func TestEntry(t *testing.T) {
	exe := buildEntry(t)
	var many []string
	for i := range 3000 {
		many = append(many, fmt.Sprintf("V%d=%s", i, strings.Repeat("x", i%40)))
	}
	all := fmt.Sprint(runtime.NumCPU())
	own, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, procs string
		args, env   []string
		added       bool
		slack       int // that a command changes, 0 for none
	}{
		{"nothing", "1", nil, nil, true, own},
		{"odd", "1", []string{"a"}, []string{"A=1"}, true, own},
		{"even", "1", []string{"a", "", "c"}, []string{"A=1", "B="}, true, own},
		{"many", "1", many, many, true, own},
		{"alike", "1", nil, []string{"GOMAXPROC=3", "GOMAXPROCX=3", "XGOMAXPROCS=3", "GOMAX", ""}, true, own},
		{"set", "3", []string{"a"}, []string{"A=1", "GOMAXPROCS=3", "B=2"}, false, own},
		{"empty", all, nil, []string{"GOMAXPROCS="}, false, own},
		{"serving", "1", []string{"--root", "/", "shell", "c1"}, nil, true, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, err := (&exec.Cmd{Path: exe, Args: append([]string{"entry"}, test.args...), Env: append([]string{}, test.env...)}).Output()
			if err != nil {
				t.Fatal(err)
			}
			want := []string{"file state.json", "procs " + test.procs, fmt.Sprintf("slack %d, now %d", test.slack, own), fmt.Sprint("page ", os.Getpagesize()), "arg entry"}
			for _, a := range test.args {
				want = append(want, "arg "+a)
			}
			for _, kv := range test.env {
				if kv != "" { // os.Environ leaves it out
					want = append(want, "env "+kv)
				}
			}
			if test.added {
				want = append(want, "env GOMAXPROCS=1")
			}
			if diff := cmp.Diff(want, strings.Split(strings.TrimRight(string(out), "\n"), "\n")); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}
