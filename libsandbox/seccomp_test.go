package libsandbox

import (
	"bytes"
	"os"
	"path/filepath"
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
