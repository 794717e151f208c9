package seccomp

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestNoFilter(t *testing.T) {
	for _, s := range []*specs.LinuxSeccomp{nil, {}, {Flags: []specs.LinuxSeccompFlag{}}} {
		if f, err := Compile(s, specs.ArchX86_64); f != nil || err != nil {
			t.Errorf("%+v: %v, %v", s, f, err)
		}
	}
}

func TestErrors(t *testing.T) {
	allow := specs.ActAllow
	syscalls := func(c ...specs.LinuxSyscall) specs.LinuxSeccomp {
		return specs.LinuxSeccomp{DefaultAction: specs.ActErrno, Syscalls: c}
	}
	cond := func(index uint, o specs.LinuxSeccompOperator) []specs.LinuxSeccompArg {
		return []specs.LinuxSeccompArg{{Index: 0, Op: specs.OpEqualTo}, {Index: index, Op: o}}
	}
	for _, c := range []struct {
		s    specs.LinuxSeccomp
		want string
	}{
		{specs.LinuxSeccomp{Architectures: []specs.Arch{specs.ArchX86}}, `linux.seccomp.defaultAction: unknown action ""`},
		{specs.LinuxSeccomp{DefaultAction: "X"}, `linux.seccomp.defaultAction: unknown action "X"`},
		{specs.LinuxSeccomp{DefaultAction: specs.ActNotify}, `linux.seccomp.defaultAction: must not be SCMP_ACT_NOTIFY`},
		{specs.LinuxSeccomp{DefaultAction: specs.ActErrno, DefaultErrnoRet: new(uint(4095))}, `linux.seccomp.defaultAction: errno 4095 is above 4094`},
		{specs.LinuxSeccomp{DefaultAction: specs.ActTrace, DefaultErrnoRet: new(uint(65536))}, `linux.seccomp.defaultAction: errno 65536 is above 65535`},
		{specs.LinuxSeccomp{DefaultAction: allow, Architectures: []specs.Arch{"X"}}, `linux.seccomp.architectures[0] "X": unknown`},
		{
			specs.LinuxSeccomp{DefaultAction: allow, Architectures: []specs.Arch{specs.ArchX86, specs.ArchS390X}},
			`linux.seccomp.architectures[1] "SCMP_ARCH_S390X": its byte order is not this machine's`,
		},
		{specs.LinuxSeccomp{DefaultAction: allow, Flags: []specs.LinuxSeccompFlag{"X"}}, `linux.seccomp.flags[0] "X": unknown`},
		{syscalls(specs.LinuxSyscall{Action: "X"}), `linux.seccomp.syscalls[0].action: unknown action "X"`},
		{syscalls(specs.LinuxSyscall{Action: allow}, specs.LinuxSyscall{Action: specs.ActErrno, ErrnoRet: new(uint(1 << 20))}), `linux.seccomp.syscalls[1].action: errno 1048576 is above 4094`},
		{syscalls(specs.LinuxSyscall{Action: allow, Args: cond(6, specs.OpEqualTo)}), `linux.seccomp.syscalls[0].args[1]: index 6: must be at most 5`},
		{syscalls(specs.LinuxSyscall{Action: allow, Args: cond(5, "X")}), `linux.seccomp.syscalls[0].args[1]: unknown operator "X"`},
		{
			syscalls(specs.LinuxSyscall{Names: []string{"read"}, Action: allow, Args: cond(1, specs.OpEqualTo)},
				specs.LinuxSyscall{Names: []string{"write", "read"}, Action: specs.ActLog, Args: cond(1, specs.OpEqualTo)}),
			`linux.seccomp.syscalls[1]: "read" has another action in an earlier entry, and their conditions do not tell them apart`,
		},
	} {
		_, err := Compile(&c.s, specs.ArchX86_64)
		if err == nil || err.Error() != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
	if _, err := Compile(&specs.LinuxSeccomp{DefaultAction: allow}, specs.ArchRISCV64); err == nil {
		t.Error("made a filter for an architecture that it does not know")
	}
}

func TestFlags(t *testing.T) {
	for _, c := range []struct {
		flags []specs.LinuxSeccompFlag
		want  uint32
	}{
		{nil, 4},
		{[]specs.LinuxSeccompFlag{}, 0},
		{[]specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_TSYNC"}, 0},
		{[]specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagLog}, 2},
		{[]specs.LinuxSeccompFlag{specs.LinuxSeccompFlagSpecAllow, specs.LinuxSeccompFlagWaitKillableRecv}, 36},
	} {
		s := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: c.flags}
		f := compile(t, s)
		if f.Flags != c.want || f.Listener != nil {
			t.Errorf("%q: flags %d, want %d; listener %v", c.flags, f.Flags, c.want, f.Listener)
		}
		s.Syscalls = []specs.LinuxSyscall{{Names: []string{"mkdir"}, Action: specs.ActNotify}}
		s.ListenerPath, s.ListenerMetadata = "/p", "m"
		f = compile(t, s)
		if diff := cmp.Diff(&Listener{"/p", "m"}, f.Listener); f.Flags != c.want|8 || diff != "" {
			t.Errorf("%q with a listener: flags %d, want %d\n%s", c.flags, f.Flags, c.want|8, diff)
		}
	}
}

func TestWarnings(t *testing.T) {
	f := compile(t, &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno,
		Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchARM, specs.ArchRISCV64},
		Syscalls: []specs.LinuxSyscall{
			{Names: []string{"read", "READ"}, Action: specs.ActAllow},
			{Names: []string{"", "s390_pci_mmio_read"}, Action: specs.ActAllow},
		},
	})
	want := []string{
		`linux.seccomp.architectures[1] "SCMP_ARCH_ARM": ignored, this machine has no such calls`,
		`linux.seccomp.architectures[2] "SCMP_ARCH_RISCV64": ignored, this machine has no such calls`,
		`linux.seccomp.syscalls[0].names[1] "READ": unknown, ignored`,
		`linux.seccomp.syscalls[1].names[0] "": unknown, ignored`,
		`linux.seccomp.syscalls[1].names[1] "s390_pci_mmio_read": unknown, ignored`,
	}
	if diff := cmp.Diff(want, f.Warnings); diff != "" {
		t.Error(diff)
	}
}

// TestSearch: the default profile of Docker is searched, not walked through.
func TestSearch(t *testing.T) {
	s := load(t, "docker.json")
	code := parse(compile(t, s).Program)
	if len(code) > 400 {
		t.Errorf("the filter has %d instructions", len(code))
	}
	conditions := conditional(s)[x86_64]
	worst := 0
	for nr := range uint32(600) {
		if slices.Contains(conditions, nr) {
			continue
		}
		_, steps := run(code, &data{nr: nr, arch: x86_64.audit()})
		worst = max(worst, steps)
	}
	if worst > 14 {
		t.Errorf("a call takes up to %d steps", worst)
	}
}

// TestLongJumps: rules so long that no jump reaches over them.
func TestLongJumps(t *testing.T) {
	s := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
	for i := range uint64(100) {
		for _, name := range []string{"read", "close", "mmap", "ioctl", "openat", "clone3"} {
			s.Syscalls = append(s.Syscalls, specs.LinuxSyscall{
				Names: []string{name}, Action: specs.ActAllow,
				Args: []specs.LinuxSeccompArg{{Index: uint(i % 6), Value: i << 20, Op: specs.OpEqualTo}},
			})
		}
	}
	code := parse(compile(t, s).Program)
	for _, c := range []struct {
		nr   uint32
		args [6]uint64
		want uint32
	}{
		{0, [6]uint64{96 << 20}, retAllow},
		{435, [6]uint64{5: 5 << 20}, retAllow},
		{9, [6]uint64{1, 97 << 20, 1, 1, 1, 1}, retAllow},
		{9, [6]uint64{1, 98 << 20, 1, 1, 1, 1}, retErrno | eperm},
		{1, [6]uint64{}, retErrno | eperm},
		{436, [6]uint64{}, retErrno | enosys},
	} {
		if got, _ := run(code, &data{nr: c.nr, arch: x86_64.audit(), args: c.args}); got != c.want {
			t.Errorf("%d %v: %#x, want %#x", c.nr, c.args, got, c.want)
		}
	}
	jumps := slices.ContainsFunc(code, func(i insn) bool { return i.code == opJump })
	if len(code) < 1000 || !jumps {
		t.Errorf("%d instructions, long jumps: %v: this tests too little", len(code), jumps)
	}
}

func TestTooLong(t *testing.T) {
	s := &specs.LinuxSeccomp{DefaultAction: specs.ActErrno}
	for i := range uint64(6000) {
		s.Syscalls = append(s.Syscalls, specs.LinuxSyscall{
			Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{{Value: i<<32 | i, Op: specs.OpEqualTo}},
		})
	}
	_, err := Compile(s, specs.ArchX86_64)
	if want := "linux.seccomp.syscalls: the filter has more than 4096 instructions, the most that the kernel takes"; fmt.Sprint(err) != want {
		t.Errorf("%v, want %s", err, want)
	}
}
