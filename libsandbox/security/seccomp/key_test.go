package seccomp

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestVersion: a filter that is kept must not outlive the compiler that made it.
func TestVersion(t *testing.T) {
	const want = "v1 9859c1e591659dfc"
	h := sha256.New()
	for _, c := range []struct {
		file   string
		native specs.Arch
	}{{"docker.json", specs.ArchX86_64}, {"docker-arm64.json", specs.ArchAARCH64}, {"podman.json", specs.ArchX86_64}} {
		f, err := Compile(load(t, c.file), c.native)
		if err != nil {
			t.Fatal(err)
		}
		h.Write(f.Program)
	}
	if got := "v" + string(rune('0'+version)) + " " + hex.EncodeToString(h.Sum(nil)[:8]); got != want {
		t.Errorf("the filters have changed: raise version, and write %q here", got)
	}
}

func TestKey(t *testing.T) {
	base := func() *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{
			DefaultAction: specs.ActErrno, DefaultErrnoRet: new(uint(1)), Architectures: []specs.Arch{"a"},
			Flags: []specs.LinuxSeccompFlag{"f"}, ListenerPath: "p", ListenerMetadata: "m",
			Syscalls: []specs.LinuxSyscall{{
				Names: []string{"ab", "c"}, Action: specs.ActAllow, ErrnoRet: new(uint(300)),
				Args: []specs.LinuxSeccompArg{{Index: 1, Value: 1 << 40, ValueTwo: 3, Op: specs.OpEqualTo}},
			}},
		}
	}
	keys := map[string]string{string(Key(base(), "x")): "unchanged", string(Key(nil, "x")): "nil", string(Key(base(), "y")): "native"}
	for name, change := range map[string]func(*specs.LinuxSeccomp){
		"action":          func(s *specs.LinuxSeccomp) { s.DefaultAction = specs.ActKill },
		"errno":           func(s *specs.LinuxSeccomp) { *s.DefaultErrnoRet = 2 },
		"no errno":        func(s *specs.LinuxSeccomp) { s.DefaultErrnoRet = nil },
		"architecture":    func(s *specs.LinuxSeccomp) { s.Architectures = nil },
		"no flags":        func(s *specs.LinuxSeccomp) { s.Flags = []specs.LinuxSeccompFlag{} },
		"default flags":   func(s *specs.LinuxSeccomp) { s.Flags = nil },
		"flag":            func(s *specs.LinuxSeccomp) { s.Flags[0] = "g" },
		"path":            func(s *specs.LinuxSeccomp) { s.ListenerPath, s.ListenerMetadata = "pm", "" },
		"metadata":        func(s *specs.LinuxSeccomp) { s.ListenerMetadata = "n" },
		"entries":         func(s *specs.LinuxSeccomp) { s.Syscalls = nil },
		"names":           func(s *specs.LinuxSeccomp) { s.Syscalls[0].Names = []string{"a", "bc"} },
		"rule's action":   func(s *specs.LinuxSeccomp) { s.Syscalls[0].Action = specs.ActLog },
		"rule's errno":    func(s *specs.LinuxSeccomp) { *s.Syscalls[0].ErrnoRet = 301 },
		"rule's no errno": func(s *specs.LinuxSeccomp) { s.Syscalls[0].ErrnoRet = nil },
		"index":           func(s *specs.LinuxSeccomp) { s.Syscalls[0].Args[0].Index = 2 },
		"value":           func(s *specs.LinuxSeccomp) { s.Syscalls[0].Args[0].Value++ },
		"value two":       func(s *specs.LinuxSeccomp) { s.Syscalls[0].Args[0].ValueTwo++ },
		"operator":        func(s *specs.LinuxSeccomp) { s.Syscalls[0].Args[0].Op = specs.OpNotEqual },
		"no conditions":   func(s *specs.LinuxSeccomp) { s.Syscalls[0].Args = nil },
	} {
		s := base()
		change(s)
		k := string(Key(s, "x"))
		if other, found := keys[k]; found {
			t.Errorf("%s has the key of %s", name, other)
		}
		keys[k] = name
	}
	if keys[string(Key(base(), "x"))] != "unchanged" {
		t.Error("the key is not stable")
	}
}
