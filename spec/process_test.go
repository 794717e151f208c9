package spec

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestParseCPUs(t *testing.T) {
	for list, want := range map[string][]uint64{
		"":           nil,
		"0":          {1},
		"0-3,7":      {0x8f},
		" 1 , 3-4 ":  {0x1a},
		"64":         {0, 1},
		"63-64,0-0":  {1<<63 | 1, 1},
		"3,3,2-3":    {0xc},
		"00-1":       {3},
		"8191":       append(make([]uint64, 127), 1<<63),
		"8192":       nil,
		"70000":      nil,
		"-1":         nil,
		"1-":         nil,
		"2-1":        nil,
		"a":          nil,
		"0,,1":       nil,
		"0;1":        nil,
		"+1":         nil,
		"0x1":        nil,
		"1\n":        {2}, // as in the kernel's own files
		"1-2-3":      nil,
		"0-18446744": nil,
	} {
		got, err := ParseCPUs(list)
		if d := cmp.Diff(want, got); d != "" || (err == nil) != (want != nil || list == "") {
			t.Errorf("%q: %v\n%s", list, err, d)
		}
	}
}

func TestOpenProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.json")
	for _, c := range []struct{ text, err string }{
		{`{"args":["true"],"cwd":"/"}`, ""},
		{``, `p.json:1:1: unexpected end of the file, expected a value`},
		{`null`, `p.json:1:1: expected an object, found null`},
		{`{"args":["true"]}`, `process.cwd: missing`},
		{`{"args":["true"],"cwd":"x"}`, `process.cwd "x": must be absolute`},
		{`{"cwd":"/"}`, `process.args: must not be empty`},
		{`{"args":["true"],"cwd":"/","user":{"uid":-1}}`, `p.json:1:42: user.uid: -1 is out of the range of uint32`},
		{`{"args":["true"],"cwd":"/","user":{"uid":4294967295}}`, `process.user.uid 4294967295: not a user id`},
		{`{"args":["true"],"cwd":"/","env":["A"]}`, `process.env[0] "A": must be NAME=VALUE`},
		{`{"args":["a\u0000b"],"cwd":"/"}`, `process.args[0] "a\x00b": contains a NUL byte`},
		{`{"args":["true"],"cwd":"/","rlimits":[{"type":"X"}]}`, `process.rlimits[0].type "X": unknown`},
		{`{"args":["true"],"cwd":"/","execCPUAffinity":{"final":"x"}}`, `process.execCPUAffinity.final "x": not a list of CPUs`},
		{`{"args":["true"],"cwd":"/"} x`, `p.json:1:29: unexpected 'x', expected the end of the file`},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := OpenProcess(path)
		if c.err == "" && (err != nil || p.Args[0] != "true") || c.err != "" && (err == nil || err.Error() != c.err) {
			t.Errorf("%s: %+v, %v, want %s", c.text, p, err, c.err)
		}
	}
	if _, err := OpenProcess(path + "x"); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("missing: %v", err)
	}
}

// What a config.json is refused for, an exec is refused for too.
func TestValidateProcessIsValidates(t *testing.T) {
	for _, edit := range []func(*specs.Process){
		func(p *specs.Process) { p.Args = nil },
		func(p *specs.Process) { p.SelinuxLabel = "\x00" },
		func(p *specs.Process) { p.User.UID = ^uint32(0) },
		func(p *specs.Process) { p.User.AdditionalGids = []uint32{^uint32(0)} },
		func(p *specs.Process) { p.CommandLine = "x" },
		func(p *specs.Process) { p.ExecCPUAffinity = &specs.CPUAffinity{Initial: "x"} },
		func(p *specs.Process) { p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 2, Hard: 1}} },
	} {
		s := Default(false)
		edit(s.Process)
		one, two := Validate(&Bundle{Dir: "/", Spec: s}), ValidateProcess(s.Process)
		if one == nil || two == nil || one.Error() != two.Error() {
			t.Errorf("config.json: %v\nexec: %v", one, two)
		}
	}
}
