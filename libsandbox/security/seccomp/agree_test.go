package seccomp

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func load(t testing.TB, name string) *specs.LinuxSeccomp {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	s := new(specs.LinuxSeccomp)
	if err := json.Unmarshal(text, s); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestTableAgrees: every number is libseccomp's, as far as it knows the name.
func TestTableAgrees(t *testing.T) {
	o := startOracle(t)
	known := 0
	for i := range table {
		name := nameOf(i)
		if o.resolve(x86_64, name) == -1 {
			continue
		}
		known++
		for a := range arches {
			want := o.resolve(a, name)
			got, ok := table[i].number(a)
			if a == x86 && table[i].mux != 0 {
				if want != -int(table[i].mux) {
					t.Errorf("%s on x86: sub-call %d, libseccomp has %d", name, table[i].mux, want)
				}
				continue
			}
			if ok != (want >= 0) || ok && int(got) != want {
				t.Errorf("%s on %s: %d %v, libseccomp has %d", name, scmpName(a), got, ok, want)
			}
		}
	}
	if known < 400 {
		t.Errorf("libseccomp knows only %d names", known)
	}
}

// TestDefaultsAgree: the default profiles of Docker and podman, with the filter
// that libseccomp makes.
func TestDefaultsAgree(t *testing.T) {
	o := startOracle(t)
	for _, c := range []struct {
		file   string
		native specs.Arch
	}{
		{"docker.json", specs.ArchX86_64},
		{"docker-arm64.json", specs.ArchAARCH64},
		{"podman.json", specs.ArchX86_64},
	} {
		s := load(t, c.file)
		o.dropUnknown(s)
		for _, archs := range [][]specs.Arch{s.Architectures, nil} {
			s.Architectures = archs
			if got := o.compare(s, c.native, rand.New(rand.NewPCG(1, 1))); got != (tally{calls: got.calls}) {
				t.Errorf("%s: %+v", c.file, got)
			}
		}
	}
}

// TestGeneratedAgree: profiles made at random, the same ones in every run.
func TestGeneratedAgree(t *testing.T) {
	o := startOracle(t)
	names := o.names()
	for _, g := range []struct {
		name  string
		n     uint64
		mixed bool
	}{
		{"one action for each call", 300, false},
		{"several actions for a call", 300, true},
	} {
		var sum tally
		for seed := range g.n {
			r := rand.New(rand.NewPCG(seed, 7))
			s, native := generate(r, names, g.mixed)
			sum.add(o.compare(s, native, r))
			if t.Failed() {
				text, _ := json.Marshal(s)
				t.Fatalf("%s: seed %d: native %s, %s", g.name, seed, native, text)
			}
		}
		t.Logf("%s, %d profiles: %+v", g.name, g.n, sum)
		if sum.refused+sum.hung > int(g.n)/2 || sum.wrongCode > sum.calls/100 || sum.wrongRules+sum.otherRule > sum.calls/10000 {
			t.Errorf("too little agrees: %+v", sum)
		}
	}
}

func (o *oracle) names() (names []string) {
	for i := range table {
		if o.resolve(x86_64, nameOf(i)) != -1 {
			names = append(names, nameOf(i))
		}
	}
	return names
}

// tally counts what was compared, and where libseccomp itself is at fault.
type tally struct {
	calls      int
	refused    int // profiles that libseccomp and we refuse
	hung       int // profiles that send libseccomp into an endless loop
	wrongCode  int // calls for which its BPF is not what its pseudo code says
	wrongRules int // calls for which its pseudo code is not what the profile says
	otherRule  int // calls that fit several rules, of which it takes another one
}

func (t *tally) add(u tally) {
	t.calls += u.calls
	t.refused += u.refused
	t.hung += u.hung
	t.wrongCode += u.wrongCode
	t.wrongRules += u.wrongRules
	t.otherRule += u.otherRule
}

// compare takes the verdicts of three for every number and a sample of arguments:
// of our filter, of libseccomp's with runc's addition, and of the profile read
// plainly. Ours must be one that the profile asks for, so that it can differ from
// libseccomp's in two ways only: libseccomp errs, or several rules with different
// actions fit the call, and it has dropped the one that its own order puts first.
// Both are counted.
func (o *oracle) compare(s *specs.LinuxSeccomp, native specs.Arch, r *rand.Rand) (n tally) {
	o.t.Helper()
	theirs, answer := o.compile(s, native)
	f, err := Compile(s, native)
	switch {
	case answer == hung:
		return tally{hung: 1}
	case answer == accepted != (err == nil):
		o.t.Errorf("libseccomp: %s, we: %v", answer, err)
		return n
	case err != nil:
		return tally{refused: 1}
	}
	if err := verify(f.Program); err != nil {
		o.t.Error(err)
		return n
	}
	pseudo := o.pfc()
	profile := readPlain(s, native, findStub(s, native, o.resolve))
	ours := parse(f.Program)
	for _, d := range calls(s, native, r) {
		n.calls++
		got, _ := run(ours, &d)
		want, _ := run(theirs, &d)
		if profile.stub.refuses(&d) {
			want = retErrno | enosys
		} else if got != want {
			if meant, ok := pseudo.run(o.t, &d); ok && meant != want {
				n.wrongCode++
				want = meant
			}
		}
		fit := profile.verdicts(&d)
		switch {
		case got == want:
		case !slices.Contains(fit, want):
			n.wrongRules++
		case len(fit) > 1:
			n.otherRule++
		}
		if !slices.Contains(fit, got) {
			o.t.Errorf("arch %#x nr %#x args %#x: %#x, libseccomp has %#x, the profile says %#x", d.arch, d.nr, d.args, got, want, fit)
			return n
		}
	}
	return n
}

// calls are system calls to try: all numbers, and many arguments for those that
// have conditions.
func calls(s *specs.LinuxSeccomp, native specs.Arch, r *rand.Rand) (all []data) {
	family := []arch{x86_64, x86, x32}
	if native == specs.ArchAARCH64 {
		family = []arch{aarch64, arm}
	}
	pool := values(s)
	interesting := conditional(s)
	for _, a := range family {
		bit := uint32(0)
		if a == x32 {
			bit = x32Bit
		}
		for nr := range uint32(620) {
			all = append(all, data{nr: nr | bit, arch: a.audit()})
		}
		for _, nr := range interesting[a] {
			for range 60 {
				d := data{nr: nr, arch: a.audit()}
				for i := range d.args {
					d.args[i] = pool[r.IntN(len(pool))]
				}
				all = append(all, d)
			}
		}
	}
	for _, a := range []uint32{x86_64.audit(), x86.audit(), aarch64.audit(), arm.audit(), 0, 0xc00000f3, 1<<32 - 1} {
		for _, nr := range []uint32{
			0, 1, 5, 620, 0xefff, 0xf000, 0xf0000, 0xf0001, 0xf0002, 0xf0005, 0xf0006, 0xf0007, 0xfffff,
			1<<30 - 1, 1 << 30, 1<<30 + 600, 1<<31 - 1, 1 << 31, 1<<31 + 1, 1<<31 + 600, 3<<30 - 1, 3 << 30,
			3<<30 + 5, 3<<30 + 600, 1<<32 - 2, 1<<32 - 1,
		} {
			all = append(all, data{nr: nr, arch: a})
		}
	}
	return all
}

// values are those that conditions compare with, and their neighbours.
func values(s *specs.LinuxSeccomp) []uint64 {
	pool := []uint64{0, 1, 5, 16, 1<<32 - 1, 1 << 32, 1<<64 - 1}
	for _, sys := range s.Syscalls {
		for _, a := range sys.Args {
			for _, v := range []uint64{a.Value, a.ValueTwo, a.ValueTwo & a.Value, a.ValueTwo | ^a.Value} {
				pool = append(pool, v, v-1, v+1, v^1<<32, v+1<<32, v-1<<32, v&(1<<32-1), v|0xffffffff, v&^(1<<32-1), ^v)
			}
		}
	}
	for sub := range uint64(25) {
		pool = append(pool, sub)
	}
	return pool
}

// conditional are the numbers whose verdict depends on arguments.
func conditional(s *specs.LinuxSeccomp) (nrs [arches][]uint32) {
	nrs[x86] = []uint32{nrSocketcall, nrIPC}
	for _, sys := range s.Syscalls {
		for _, name := range sys.Names {
			if i := find(name); i >= 0 && len(sys.Args) > 0 {
				for a := range arches {
					if nr, ok := table[i].number(a); ok && !slices.Contains(nrs[a], nr) {
						nrs[a] = append(nrs[a], nr)
					}
				}
			}
		}
	}
	return nrs
}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// generate makes a profile. If not mixed, no call has two actions.
func generate(r *rand.Rand, names []string, mixed bool) (*specs.LinuxSeccomp, specs.Arch) {
	actions := []specs.LinuxSeccompAction{
		specs.ActErrno, specs.ActAllow, specs.ActKill, specs.ActKillThread, specs.ActKillProcess,
		specs.ActTrap, specs.ActTrace, specs.ActLog,
	}
	native := pick(r, specs.ArchX86_64, specs.ArchX86_64, specs.ArchAARCH64)
	s := &specs.LinuxSeccomp{DefaultAction: pick(r, actions...)}
	s.DefaultErrnoRet = generateErrno(r, s.DefaultAction)
	if native == specs.ArchX86_64 {
		s.Architectures = pick(r, nil, []specs.Arch{specs.ArchX86}, []specs.Arch{specs.ArchX32},
			[]specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32})
	} else {
		s.Architectures = pick(r, nil, []specs.Arch{specs.ArchARM}, []specs.Arch{specs.ArchAARCH64, specs.ArchARM})
	}
	pool := make([]string, 1+r.IntN(pick(r, 3, 20, 300)))
	for i := range pool {
		pool[i] = pick(r, pick(r, names...), pick(r, "socket", "bind", "semop", "read", "write", "clone", "set_tls"))
		if mixed && !everywhere(s, native, pool[i]) {
			pool[i] = "read"
		}
	}
	fixed := make(map[string]specs.LinuxSeccompAction)
	for range 1 + r.IntN(pick(r, 3, 12, 40)) {
		sys := specs.LinuxSyscall{Action: pick(r, append(actions, specs.ActNotify)...), Args: generateArgs(r)}
		for range 1 + r.IntN(pick(r, 2, 8, 60)) {
			name := pick(r, pool...)
			if fixed[name] == "" {
				fixed[name] = sys.Action
			}
			if !mixed && fixed[name] != sys.Action {
				continue
			}
			sys.Names = append(sys.Names, name)
		}
		if mixed {
			sys.ErrnoRet = generateErrno(r, sys.Action)
		}
		s.Syscalls = append(s.Syscalls, sys)
	}
	return s, native
}

// everywhere reports whether all architectures of the profile have a call:
// libseccomp refuses ambiguous rules for calls that there are not, too.
func everywhere(s *specs.LinuxSeccomp, native specs.Arch, name string) bool {
	e := &table[find(name)]
	for _, n := range append([]specs.Arch{native}, s.Architectures...) {
		a := scmpArch(n)
		if _, ok := e.number(a); !ok && (a != x86 || e.mux == 0) {
			return false
		}
	}
	return true
}

func generateErrno(r *rand.Rand, action specs.LinuxSeccompAction) *uint {
	if action != specs.ActErrno && action != specs.ActTrace || r.IntN(3) == 0 {
		return nil
	}
	n := pick(r, uint(0), 1, 38, 4094)
	return &n
}

func generateArgs(r *rand.Rand) (args []specs.LinuxSeccompArg) {
	if r.IntN(3) == 0 {
		return nil
	}
	for range 1 + r.IntN(3) {
		value := func() uint64 {
			return pick(r, 0, 1, 2, 5, 16, 1<<31, 1<<32-1, 1<<32, 1<<32+5, 2<<32+5, 1<<63, 1<<64-1, uint64(r.Uint32()), r.Uint64())
		}
		a := specs.LinuxSeccompArg{Index: uint(r.IntN(pick(r, 1, 3, 6))), Value: value(), Op: pick(r, specs.OpNotEqual, specs.OpLessThan,
			specs.OpLessEqual, specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual)}
		if a.Op == specs.OpMaskedEqual {
			a.ValueTwo = pick(r, 0, a.Value, a.Value&value(), value())
		}
		args = append(args, a)
	}
	return args
}
