package libsandbox

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestFilterCache(t *testing.T) {
	s := &Store{root: t.TempDir()}
	profile := func(call string) *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow,
			Syscalls:      []specs.LinuxSyscall{{Names: []string{call}, Action: specs.ActErrno}},
		}
	}
	compiled, err := (*Store)(nil).filter(profile("mkdir"))
	if err != nil {
		t.Fatal(err)
	}
	same := func(what string) {
		t.Helper()
		f, err := s.filter(profile("mkdir"))
		if err != nil || !bytes.Equal(f.Program, compiled.Program) || f.Flags != compiled.Flags {
			t.Errorf("%s: %v, %v", what, f, err)
		}
	}
	same("compiled")
	files, err := filepath.Glob(filepath.Join(s.root, filterDir, "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	same("from the file")
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	// A hash that two profiles share, and files that are damaged.
	for name, raw := range map[string][]byte{
		"another's": bytes.Replace(whole, []byte("mkdir"), []byte("rmdir"), 1),
		"short":     whole[:20], "cut": whole[:len(whole)-3], "empty": nil, "garbage": bytes.Repeat([]byte{0xff}, 4096),
	} {
		if err := os.WriteFile(files[0], raw, 0o600); err != nil {
			t.Fatal(err)
		}
		same(name)
	}
	if now, _ := os.ReadFile(files[0]); !bytes.Equal(now, whole) {
		t.Error("a damaged file was not replaced")
	}
	for i := range maxFilters + 3 {
		p := profile("rmdir")
		p.Syscalls[0].ErrnoRet = new(uint(i + 1))
		if _, err := s.filter(p); err != nil {
			t.Fatal(err)
		}
	}
	if files, _ = filepath.Glob(filepath.Join(s.root, filterDir, "*")); len(files) == 0 || len(files) > maxFilters {
		t.Errorf("%d files are kept", len(files))
	}
	if validateID(filterDir) == nil {
		t.Error("a container can have the cache's name")
	}
}

// BenchmarkFilter is what a manager's profile costs: compiled, or taken from those that
// were compiled before; each also in a new process, as every command of the runtime is
// (the middle of many).
func BenchmarkFilter(b *testing.B) {
	for _, name := range []string{"docker", "podman"} {
		kept := b.TempDir()
		if _, err := (&Store{root: kept}).filter(managersProfile(b, name)); err != nil {
			b.Fatal(err)
		}
		for _, f := range []struct{ what, store string }{{"compiled", ""}, {"kept", kept}} {
			b.Run(name+"/"+f.what, func(b *testing.B) {
				benchFilter(b, name, f.store)
				b.ReportMetric(inNewProcesses(b, name, f.store), "ns-new-process")
			})
		}
	}
}

// The variables of BenchmarkFilterOnce.
const envProfile, envStore = "ADL_BENCH_PROFILE", "ADL_BENCH_STORE"

// BenchmarkFilterOnce is for BenchmarkFilter.
func BenchmarkFilterOnce(b *testing.B) {
	name := os.Getenv(envProfile)
	if name == "" {
		b.Skip("no ", envProfile)
	}
	benchFilter(b, name, os.Getenv(envStore))
}

// benchFilter: without a root nothing is kept.
func benchFilter(b *testing.B, name, root string) {
	b.Helper()
	var store *Store
	if root != "" {
		store = &Store{root: root}
	}
	profile := managersProfile(b, name)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := store.filter(profile); err != nil {
			b.Fatal(err)
		}
	}
}

// inNewProcesses runs BenchmarkFilterOnce in one process after the other and returns
// the median of their times.
func inNewProcesses(b *testing.B, name, root string) float64 {
	b.Helper()
	var all []float64
	for range 51 {
		cmd := exec.Command("/proc/self/exe", "-test.run=^$", "-test.bench=^BenchmarkFilterOnce$", "-test.benchtime=1x")
		cmd.Env = append(os.Environ(), envProfile+"="+name, envStore+"="+root)
		out, err := cmd.CombinedOutput()
		found := regexp.MustCompile(`([0-9.]+) ns/op`).FindSubmatch(out)
		if err != nil || found == nil {
			b.Fatalf("%v\n%s", err, out)
		}
		ns, err := strconv.ParseFloat(string(found[1]), 64)
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, ns)
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func managersProfile(b *testing.B, name string) *specs.LinuxSeccomp {
	b.Helper()
	text, err := os.ReadFile(filepath.Join("security/seccomp/testdata", name+".json"))
	if err != nil {
		b.Fatal(err)
	}
	profile := new(specs.LinuxSeccomp)
	if err := json.Unmarshal(text, profile); err != nil {
		b.Fatal(err)
	}
	return profile
}
