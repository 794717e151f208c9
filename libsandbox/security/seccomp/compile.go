package seccomp

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Filter is a compiled profile.
type Filter struct {
	// Program is an array of struct sock_filter in the machine's byte order, at
	// most 4096 of 8 bytes each: what the filter member of struct sock_fprog
	// points at.
	Program []byte

	// Flags are for seccomp(2). If Listener is set, SECCOMP_FILTER_FLAG_NEW_LISTENER
	// is among them, and seccomp(2) returns the listener's descriptor.
	Flags uint32

	// Listener says where that descriptor goes; nil if no rule has
	// SCMP_ACT_NOTIFY.
	Listener *Listener

	// Warnings are about parts of the profile without effect, each a line that
	// begins with the field's name.
	Warnings []string
}

// Listener is who answers for SCMP_ACT_NOTIFY: the agent that listens on the unix
// socket Path gets the descriptor, the container's state and Metadata.
type Listener struct {
	Path     string
	Metadata string
}

// Compile makes the filter for a kernel of the native architecture, which is
// specs.ArchX86_64 or specs.ArchAARCH64. The profile should have been validated,
// but any is safe: errors name the field. An empty profile means no filter, as with
// runc: it gives nil.
func Compile(s *specs.LinuxSeccomp, native specs.Arch) (*Filter, error) {
	if empty(s) {
		return nil, nil
	}
	p, err := read(s, native)
	if err != nil {
		return nil, err
	}
	a := assembler{code: make([]insn, 0, 512)}
	if err := p.write(&a); err != nil {
		return nil, err
	}
	if a.full() {
		return nil, fmt.Errorf("linux.seccomp.syscalls: the filter has more than %d instructions, the most that the kernel takes", maxInsns)
	}
	f := &Filter{Program: a.program(), Flags: p.flags, Warnings: p.warnings}
	if p.flags&flagNewListener != 0 {
		f.Listener = &Listener{s.ListenerPath, s.ListenerMetadata}
	}
	return f, nil
}

func empty(s *specs.LinuxSeccomp) bool {
	return s == nil || s.DefaultAction == "" && len(s.Syscalls) == 0 &&
		len(s.Architectures) == 0 && len(s.Flags) == 0 && s.ListenerPath == ""
}

// profile is a spec's section with its words resolved.
type profile struct {
	defaultVerdict uint32
	flags          uint32
	archs          archSet
	rules          []rule // by their place in linux.seccomp.syscalls
	calls          []call
	warnings       []string
}

// rule is what an entry of linux.seccomp.syscalls says of each of its names.
type rule struct {
	verdict    uint32
	conditions []condition

	// each says that the conditions are alternatives.
	each bool
}

// call is a name of an entry of linux.seccomp.syscalls.
type call struct {
	entry uint16 // in table
	rule  uint16 // in profile.rules
}

// maxRules is how many entries a call can refer to.
const maxRules = 1 << 16

func read(s *specs.LinuxSeccomp, native specs.Arch) (*profile, error) {
	p := new(profile)
	var err error
	if p.defaultVerdict, err = verdict(s.DefaultAction, s.DefaultErrnoRet); err != nil {
		return nil, fmt.Errorf("linux.seccomp.defaultAction: %w", err)
	}
	if p.defaultVerdict == retNotify {
		return nil, errors.New("linux.seccomp.defaultAction: must not be SCMP_ACT_NOTIFY")
	}
	if p.archs, p.warnings, err = readArches(s.Architectures, native); err != nil {
		return nil, err
	}
	if p.flags, err = flagBits(s.Flags); err != nil {
		return nil, err
	}
	if len(s.Syscalls) > maxRules {
		return nil, fmt.Errorf("linux.seccomp.syscalls: has %d entries, more than %d", len(s.Syscalls), maxRules)
	}
	names := 0
	for i := range s.Syscalls {
		names += len(s.Syscalls[i].Names)
	}
	p.rules = make([]rule, len(s.Syscalls))
	p.calls = make([]call, 0, names)
	for i := range s.Syscalls {
		if err := p.readSyscall(i, &s.Syscalls[i]); err != nil {
			return nil, fmt.Errorf("linux.seccomp.syscalls[%d].%w", i, err)
		}
	}
	return p, nil
}

func (p *profile) readSyscall(i int, s *specs.LinuxSyscall) error {
	r := &p.rules[i]
	var err error
	if r.verdict, err = verdict(s.Action, s.ErrnoRet); err != nil {
		return fmt.Errorf("action: %w", err)
	}
	if r.verdict == retNotify {
		p.flags |= flagNewListener
	}
	if len(s.Args) > 0 {
		if err := r.readArgs(s.Args); err != nil {
			return err
		}
	}
	before := 0
	for j, name := range s.Names {
		if n := findFrom(before, name); n >= 0 {
			before = n
			p.calls = append(p.calls, call{uint16(n), uint16(i)})
			continue
		}
		p.warnings = append(p.warnings, "linux.seccomp.syscalls["+strconv.Itoa(i)+"].names["+
			strconv.Itoa(j)+"] "+strconv.Quote(name)+": unknown, ignored")
	}
	return nil
}

// readArgs reads the conditions and puts them in order of their arguments.
func (r *rule) readArgs(args []specs.LinuxSeccompArg) error {
	r.conditions = make([]condition, len(args))
	var named [maxArgs]bool
	for j := range args {
		c, err := readCondition(&args[j])
		if err != nil {
			return fmt.Errorf("args[%d]: %w", j, err)
		}
		r.conditions[j] = c
		r.each = r.each || named[c.arg]
		named[c.arg] = true
	}
	if !r.each {
		slices.SortFunc(r.conditions, func(c, d condition) int { return int(c.arg) - int(d.arg) })
	}
	return nil
}

// write writes the whole program: which architecture, then which call.
func (p *profile) write(a *assembler) error {
	next := a.ret(retKillThread) // libseccomp's answer to other architectures
	for _, native := range [...]arch{x86_64, x86, aarch64, arm} {
		if !p.archs[native] {
			continue
		}
		s, err := p.search(native)
		if err != nil {
			return err
		}
		l := a.load(offNumber, s.write(a))
		next = a.branch(opJEQ, native.audit(), l, next)
	}
	a.load(offArch, next)
	return nil
}
