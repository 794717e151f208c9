package seccomp

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestRunc: the verdicts of the filters that runc was seen to load for the default
// profiles of Docker and podman.
func TestRunc(t *testing.T) {
	for _, name := range []string{"docker", "podman"} {
		raw, err := os.ReadFile(filepath.Join("testdata", name+".runc.bpf"))
		if err != nil {
			t.Fatal(err)
		}
		s := load(t, name+".json")
		theirs, ours := parse(raw), parse(compile(t, s).Program)
		if len(ours) > len(theirs)/2 {
			t.Errorf("%s: %d instructions, runc has %d", name, len(ours), len(theirs))
		}
		for _, d := range calls(s, specs.ArchX86_64, rand.New(rand.NewPCG(2, 2))) {
			got, _ := run(ours, &d)
			if want, _ := run(theirs, &d); got != want {
				t.Fatalf("%s: arch %#x nr %#x args %#x: %#x, runc has %#x", name, d.arch, d.nr, d.args, got, want)
			}
		}
	}
}
