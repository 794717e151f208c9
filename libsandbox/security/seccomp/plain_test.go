package seccomp

import (
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// plain is a profile as it stands: names with what is said of them.
type plain struct {
	s        *specs.LinuxSeccomp
	native   specs.Arch
	stub     stub
	fallback uint32
	rules    []plainRule
}

type plainRule struct {
	entry  *entry
	action uint32
	args   []specs.LinuxSeccompArg
}

func readPlain(s *specs.LinuxSeccomp, native specs.Arch, st stub) *plain {
	p := &plain{s: s, native: native, stub: st}
	p.fallback, _ = verdict(s.DefaultAction, s.DefaultErrnoRet)
	for _, sys := range s.Syscalls {
		action, _ := verdict(sys.Action, sys.ErrnoRet)
		for _, name := range sys.Names {
			if i := find(name); i >= 0 && action != p.fallback {
				p.rules = append(p.rules, plainRule{&table[i], action, sys.Args})
			}
		}
	}
	return p
}

// verdicts returns those that fit a call. If there are several, the specification
// does not say which one counts.
func (p *plain) verdicts(d *data) (fit []uint32) {
	a, ok := abi(p.s, p.native, d)
	switch {
	case p.stub.refuses(d):
		return []uint32{retErrno | enosys}
	case !ok:
		return []uint32{retKillThread}
	}
	for i := range p.rules {
		r := &p.rules[i]
		switch always, fits := r.fits(a, d); {
		case always:
			return []uint32{r.action}
		case fits && !slices.Contains(fit, r.action):
			fit = append(fit, r.action)
		}
	}
	if len(fit) == 0 {
		return []uint32{p.fallback}
	}
	return fit
}

// abi is how the call is made; ok is false if the profile kills such calls.
func abi(s *specs.LinuxSeccomp, native specs.Arch, d *data) (a arch, ok bool) {
	listed := append([]specs.Arch{native}, s.Architectures...)
	hasX32 := slices.Contains(listed, specs.ArchX32)
	for _, name := range listed {
		a = scmpArch(name)
		switch {
		case a.audit() != d.arch:
		case a != x86_64 && a != x32:
			return a, true
		case a == x32 && d.nr&x32Bit != 0:
			return a, true
		case a == x86_64 && (d.nr < x32Bit || d.nr == 1<<32-1 && !hasX32 || d.nr&x32Bit == 0 && hasX32):
			return a, true
		}
	}
	return 0, false
}

// fits reports whether the rule fits a call, and whether it has no conditions.
func (r *plainRule) fits(a arch, d *data) (always, fits bool) {
	if nr, ok := r.entry.number(a); ok && nr == d.nr {
		return unconditional(r.args, a), fitsArgs(r.args, a, d, false)
	}
	var mux uint16
	switch {
	case a == x86 && d.nr == nrSocketcall:
		mux = muxSocketcall
	case a == x86 && d.nr == nrIPC:
		mux = muxIPC
	}
	if mux == 0 || r.entry.mux/100 != mux/100 {
		return false, false
	}
	return false, uint32(d.args[0]) == uint32(r.entry.mux-mux) && fitsArgs(r.args, a, d, true)
}

// unconditional reports whether a rule fits whatever the arguments are.
func unconditional(args []specs.LinuxSeccompArg, a arch) bool {
	all, any := true, false
	for _, c := range args {
		all, any = all && trivial(c, a), any || trivial(c, a)
	}
	return all || any && alternatives(args)
}

// alternatives reports whether the conditions are tried one by one.
func alternatives(args []specs.LinuxSeccompArg) bool {
	seen := map[uint]bool{}
	for _, c := range args {
		if seen[c.Index] {
			return true
		}
		seen[c.Index] = true
	}
	return false
}

func trivial(c specs.LinuxSeccompArg, a arch) bool {
	return c.Op == specs.OpMaskedEqual && (c.Value == 0 || !a.wide() && uint32(c.Value) == 0)
}

func fitsArgs(args []specs.LinuxSeccompArg, a arch, d *data, muxed bool) bool {
	all, any := true, false
	for _, c := range args {
		v := d.args[c.Index]
		if !a.wide() {
			v, c.Value, c.ValueTwo = v&(1<<32-1), c.Value&(1<<32-1), c.ValueTwo&(1<<32-1)
		}
		fits := muxed && c.Index == 0 || map[specs.LinuxSeccompOperator]bool{
			specs.OpNotEqual: v != c.Value, specs.OpLessThan: v < c.Value, specs.OpLessEqual: v <= c.Value,
			specs.OpEqualTo: v == c.Value, specs.OpGreaterEqual: v >= c.Value, specs.OpGreaterThan: v > c.Value,
			specs.OpMaskedEqual: v&c.Value == c.ValueTwo&c.Value,
		}[c.Op]
		all, any = all && fits, any || fits
	}
	return all || any && alternatives(args)
}
