package cgroup

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel/bpf"
)

// devicesOfRunc is devices.list of a container that runc 1.1.5 started from the
// config.json of `runc spec`, sorted.
const devicesOfRunc = `b *:* m
c *:* m
c 10:200 rwm
c 136:* rwm
c 1:3 rwm
c 1:5 rwm
c 1:7 rwm
c 1:8 rwm
c 1:9 rwm
c 5:0 rwm
c 5:2 rwm`

// rule reads "+c 1:3 rwm": allow, kind, numbers, access; numbers may be absent.
func rule(t testing.TB, s string) specs.LinuxDeviceCgroup {
	t.Helper()
	f := strings.Fields(s[1:])
	r := specs.LinuxDeviceCgroup{Allow: s[0] == '+', Type: f[0], Access: f[len(f)-1]}
	number := func(s string) *int64 {
		if s == "*" {
			return nil
		}
		var n int64
		for _, c := range s {
			n = n*10 + int64(c-'0')
		}
		return &n
	}
	if len(f) == 3 {
		major, minor, _ := strings.Cut(f[1], ":")
		r.Major, r.Minor = number(major), number(minor)
	}
	return r
}

func policy(t testing.TB, rules ...string) (devicePolicy, error) {
	var l []specs.LinuxDeviceCgroup
	for _, r := range rules {
		l = append(l, rule(t, r))
	}
	return newDevicePolicy(l)
}

// own is the exceptions that do not come from the default devices, and the default.
func own(p devicePolicy) string {
	s := map[bool]string{true: "allow", false: "deny"}[p.allow]
	for _, e := range p.exceptions {
		if e.source >= 0 {
			s += ", " + e.String() + " " + e.access.String()
		}
	}
	return s
}

func (e exception) String() string { return e.device.String() }

func TestDevicePolicy(t *testing.T) {
	for _, test := range []struct {
		rules []string
		want  string
	}{
		{nil, "deny"},
		{[]string{"-a rwm"}, "deny"},
		{[]string{"+a rwm"}, "allow"},
		{[]string{"-a rwm", "+c 10:229 rwm"}, "deny, c 10:229 mrw"},
		{[]string{"-a rwm", "+c 10:229 r", "+c 10:229 w"}, "deny, c 10:229 rw"},
		{[]string{"+c 10:229 rwm", "-c 10:229 w"}, "deny, c 10:229 mr"},
		{[]string{"+c 10:229 rwm", "-c 10:229 rwm"}, "deny"},
		{[]string{"+c 10:229 rwm", "-c 10:* rwm"}, "deny"},
		{[]string{"+c 10:229 rwm", "-a rwm"}, "deny"},
		{[]string{"+c 10:229 rwm", "-b 10:229 rwm"}, "deny, c 10:229 mrw"},
		{[]string{"+a rwm", "-b 8:* rw"}, "allow, b 8:* rw"},
		{[]string{"+a rwm", "-b 8:0 rw", "+b 8:* w"}, "allow, b 8:0 r"},
		{[]string{"+c 10:* rwm", "-c 10:229 w"}, "devices[1]: c 10:229 w cannot be taken out of c 10:* mrw of an earlier rule"},
		{[]string{"+c 10:* r", "-c 10:229 w"}, "deny, c 10:* r"},
		{[]string{"+a rwm", "-c 5:* rwm"}, "devices: default device c 5:0: c 5:0 mrw cannot be taken out of c 5:* rw of an earlier rule"},
		{[]string{"+a r"}, "devices[0]: type: a means every device with access rwm"},
		{[]string{"+a 10:229 rwm"}, "devices[0]: type: a means every device with access rwm"},
		{[]string{"+c 1:3 x"}, `devices[0]: access: "x": must consist of r, w and m`},
	} {
		p, err := policy(t, test.rules...)
		got := own(p)
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%q: %s, want %s", test.rules, got, test.want)
		}
	}
}

// request is what the kernel asks the filter.
type request struct {
	device
	access
}

// allowed decides by the rules, without the default devices: the last one that
// matches wins. Each access is asked for by itself.
func allowed(rules []specs.LinuxDeviceCgroup, q request) bool {
	for a := mknod; a <= write; a <<= 1 {
		if q.access&a == 0 {
			continue
		}
		ok := false
		for i := range rules {
			e, err := parseDevice(&rules[i])
			if err != nil {
				panic(err)
			}
			if e.access&a != 0 && (e.kind == 'a' || e.covers(q.device)) {
				ok = rules[i].Allow
			}
		}
		if !ok {
			return false
		}
	}
	return true
}

// run interprets a filter as the kernel would.
func run(t *testing.T, prog []bpf.Insn, q request) bool {
	t.Helper()
	var r [11]uint32
	ctx := [3]uint32{uint32(q.access)<<16 | uint32(kind(q.kind)), uint32(q.major), uint32(q.minor)}
	for pc := 0; pc < len(prog); pc++ {
		in := prog[pc]
		dst, src := in.Regs&15, in.Regs>>4
		switch in.Code {
		case unix.BPF_LDX | unix.BPF_MEM | unix.BPF_W:
			r[dst] = ctx[in.Off/4]
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			r[dst] &= uint32(in.Imm)
		case unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K:
			r[dst] >>= uint32(in.Imm)
		case unix.BPF_ALU | unix.BPF_MOV | unix.BPF_X:
			r[dst] = r[src]
		case unix.BPF_ALU | unix.BPF_MOV | unix.BPF_K:
			r[dst] = uint32(in.Imm)
		case unix.BPF_JMP32 | unix.BPF_JEQ | unix.BPF_K:
			if r[dst] == uint32(in.Imm) {
				pc += int(in.Off)
			}
		case unix.BPF_JMP32 | unix.BPF_JNE | unix.BPF_K:
			if r[dst] != uint32(in.Imm) {
				pc += int(in.Off)
			}
		case unix.BPF_JMP | unix.BPF_EXIT:
			return r[0] == 1
		default:
			t.Fatalf("instruction %d: unknown code %#x", pc, in.Code)
		}
	}
	t.Fatal("the program runs past its end")
	return false
}

// The filter decides as the rules read in order do, for every list of rules that is
// not refused.
func TestDeviceProgram(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	number := func() *int64 {
		if rnd.IntN(3) == 0 {
			return nil
		}
		return new([]int64{8, 9, 1<<32 - 1}[rnd.IntN(3)])
	}
	defaults, err := newDevicePolicy(nil)
	if err != nil {
		t.Fatal(err)
	}
	accepted := 0
	for range 5000 {
		var rules []specs.LinuxDeviceCgroup
		for range rnd.IntN(6) {
			r := specs.LinuxDeviceCgroup{Allow: rnd.IntN(2) == 0, Type: "a", Access: "rwm"}
			if rnd.IntN(6) > 0 {
				r.Type, r.Major, r.Minor = []string{"b", "c"}[rnd.IntN(2)], number(), number()
				r.Access = access(1 + rnd.IntN(int(allAccess))).String()
			}
			rules = append(rules, r)
		}
		p, err := newDevicePolicy(rules)
		if err != nil {
			continue
		}
		accepted++
		for _, e := range defaults.exceptions {
			n := func(v int64) *int64 { return &v }
			rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: string(e.kind), Major: n(e.major), Minor: n(e.minor), Access: e.access.String()})
		}
		prog := p.program()
		for range 20 {
			q := request{device{"bc"[rnd.IntN(2)], []int64{8, 9, 1<<32 - 1, 1}[rnd.IntN(4)], []int64{8, 9, 1<<32 - 1, 3}[rnd.IntN(4)]}, 1 << rnd.IntN(3)}
			if got, want := run(t, prog, q), allowed(rules, q); got != want {
				t.Fatalf("rules %+v: %v %v is allowed: %v, want %v", rules, q.device, q.access, got, want)
			}
		}
	}
	if accepted < 1000 {
		t.Errorf("only %d of the lists were accepted", accepted)
	}
}

// Reading and writing is refused where only writing is denied, as in v1.
func TestDeviceProgramPartial(t *testing.T) {
	p, err := policy(t, "+a rwm", "-b 8:0 w")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, a := range []access{read, write, read | write} {
		got[a.String()] = run(t, p.program(), request{device{'b', 8, 0}, a})
	}
	if d := cmp.Diff(map[string]bool{"r": true, "w": false, "rw": false}, got); d != "" {
		t.Error(d)
	}
}
