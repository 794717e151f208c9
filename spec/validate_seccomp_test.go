package spec

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// notifying is a valid section that uses every field.
func notifying() *specs.LinuxSeccomp {
	return &specs.LinuxSeccomp{
		DefaultAction:   specs.ActErrno,
		DefaultErrnoRet: new(uint(4094)),
		Architectures:   []specs.Arch{specs.ArchX86, specs.ArchX32, specs.ArchRISCV64},
		Flags: []specs.LinuxSeccompFlag{
			specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow,
			specs.LinuxSeccompFlagWaitKillableRecv, "SECCOMP_FILTER_FLAG_TSYNC",
		},
		ListenerPath:     "/run/agent.sock",
		ListenerMetadata: "x",
		Syscalls: []specs.LinuxSyscall{
			{Names: []string{"mkdir", "not a call"}, Action: specs.ActNotify},
			{Names: []string{"write"}, Action: specs.ActTrace, ErrnoRet: new(uint(65535))},
			{Names: []string{"read"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{
				{Index: 0, Op: specs.OpNotEqual},
				{Index: 1, Op: specs.OpLessThan},
				{Index: 2, Op: specs.OpLessEqual},
				{Index: 3, Op: specs.OpEqualTo},
				{Index: 4, Op: specs.OpGreaterEqual},
				{Index: 5, Op: specs.OpGreaterThan},
				{Index: 5, Op: specs.OpMaskedEqual, Value: 1, ValueTwo: 1},
			}},
		},
	}
}

func TestSeccompValid(t *testing.T) {
	for name, c := range map[string]*specs.LinuxSeccomp{
		"none":          nil,
		"empty":         {},
		"no rules":      {DefaultAction: specs.ActKillProcess, Flags: []specs.LinuxSeccompFlag{}},
		"every field":   notifying(),
		"idle listener": {DefaultAction: specs.ActLog, ListenerPath: "/x"}, // the specification says that it is ignored
	} {
		if err := checkSeccomp(&specs.Spec{Linux: &specs.Linux{Seccomp: c}}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSeccompInvalid(t *testing.T) {
	for _, c := range []struct {
		want  string
		wrong func(*specs.LinuxSeccomp)
	}{
		{`linux.seccomp.defaultAction: missing`, func(c *specs.LinuxSeccomp) { c.DefaultAction = "" }},
		{`linux.seccomp.defaultAction: missing`, func(c *specs.LinuxSeccomp) { *c = specs.LinuxSeccomp{ListenerPath: "/x"} }},
		{`linux.seccomp.defaultAction "ALLOW": unknown`, func(c *specs.LinuxSeccomp) { c.DefaultAction = "ALLOW" }},
		{`linux.seccomp.defaultAction "SCMP_ACT_NOTIFY": only rules may have it`, func(c *specs.LinuxSeccomp) { c.DefaultAction = specs.ActNotify }},
		{`linux.seccomp.defaultErrnoRet 4095: must be at most 4094`, func(c *specs.LinuxSeccomp) { c.DefaultErrnoRet = new(uint(4095)) }},
		{`linux.seccomp.defaultErrnoRet 4094: SCMP_ACT_ALLOW carries no errno`, func(c *specs.LinuxSeccomp) { c.DefaultAction = specs.ActAllow }},
		{`linux.seccomp.architectures[1] "SCMP_ARCH_PARISC": unknown`, func(c *specs.LinuxSeccomp) { c.Architectures[1] = specs.ArchPARISC }},
		{`linux.seccomp.flags[0] "SECCOMP_FILTER_FLAG_NEW_LISTENER": unknown`, func(c *specs.LinuxSeccomp) { c.Flags[0] = "SECCOMP_FILTER_FLAG_NEW_LISTENER" }},
		{`linux.seccomp.flags[2] "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": needs a rule with SCMP_ACT_NOTIFY`, func(c *specs.LinuxSeccomp) { c.Syscalls = c.Syscalls[1:] }},
		{`linux.seccomp.listenerPath: missing, SCMP_ACT_NOTIFY needs one`, func(c *specs.LinuxSeccomp) { c.ListenerPath, c.ListenerMetadata = "", "" }},
		{`linux.seccomp.listenerPath "a\x00": contains a NUL byte`, func(c *specs.LinuxSeccomp) { c.ListenerPath = "a\x00" }},
		{`linux.seccomp.listenerMetadata "x": needs listenerPath`, func(c *specs.LinuxSeccomp) { c.ListenerPath = "" }},
		{`linux.seccomp.syscalls[1].names: must not be empty`, func(c *specs.LinuxSeccomp) { c.Syscalls[1].Names = nil }},
		{`linux.seccomp.syscalls[0].names[1]: must not be empty`, func(c *specs.LinuxSeccomp) { c.Syscalls[0].Names[1] = "" }},
		{`linux.seccomp.syscalls[0].names[1] "write": must not have SCMP_ACT_NOTIFY`, func(c *specs.LinuxSeccomp) { c.Syscalls[0].Names[1] = "write" }},
		{`linux.seccomp.syscalls[2].action: missing`, func(c *specs.LinuxSeccomp) { c.Syscalls[2].Action = "" }},
		{`linux.seccomp.syscalls[2].action "X": unknown`, func(c *specs.LinuxSeccomp) { c.Syscalls[2].Action = "X" }},
		{`linux.seccomp.syscalls[2].errnoRet 0: SCMP_ACT_ALLOW carries no errno`, func(c *specs.LinuxSeccomp) { c.Syscalls[2].ErrnoRet = new(uint) }},
		{`linux.seccomp.syscalls[1].errnoRet 65536: must be at most 65535`, func(c *specs.LinuxSeccomp) { c.Syscalls[1].ErrnoRet = new(uint(65536)) }},
		{`linux.seccomp.syscalls[2].args[1].index 6: must be at most 5`, func(c *specs.LinuxSeccomp) { c.Syscalls[2].Args[1].Index = 6 }},
		{`linux.seccomp.syscalls[2].args[6].op: missing`, func(c *specs.LinuxSeccomp) { c.Syscalls[2].Args[6].Op = "" }},
		{`linux.seccomp.syscalls[2].args[6].op "==": unknown`, func(c *specs.LinuxSeccomp) { c.Syscalls[2].Args[6].Op = "==" }},
	} {
		s := notifying()
		c.wrong(s)
		err := checkSeccomp(&specs.Spec{Linux: &specs.Linux{Seccomp: s}})
		if err == nil || err.Error() != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}
