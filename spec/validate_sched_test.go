package spec

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestScheduler(t *testing.T) {
	sched := func(v specs.Scheduler) func(*specs.Spec) { return func(s *specs.Spec) { s.Process.Scheduler = &v } }
	io := func(class specs.IOPriorityClass, n int) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Process.IOPriority = &specs.LinuxIOPriority{Class: class, Priority: n} }
	}
	runRules(t, []rule{
		{`process.scheduler.policy "": unknown`, sched(specs.Scheduler{})},
		{`process.scheduler.policy "SCHED_X": unknown`, sched(specs.Scheduler{Policy: "SCHED_X"})},
		{`process.scheduler.nice 20: must be from -20 to 19`, sched(specs.Scheduler{Policy: "SCHED_OTHER", Nice: 20})},
		{`process.scheduler.priority 1: only SCHED_FIFO and SCHED_RR have it`, sched(specs.Scheduler{Policy: "SCHED_BATCH", Priority: 1})},
		{`process.scheduler: only SCHED_DEADLINE has runtime, deadline and period`, sched(specs.Scheduler{Policy: "SCHED_RR", Priority: 1, Period: 1})},
		{`process.scheduler.flags[1] "X": unknown`, sched(specs.Scheduler{Policy: "SCHED_IDLE", Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagReclaim, "X"}})},
		{`process.ioPriority.class "": unknown`, io("", 0)},
		{`process.ioPriority.class "IOPRIO_CLASS_NONE": unknown`, io("IOPRIO_CLASS_NONE", 0)},
		{`process.ioPriority.priority 8: must be from 0 to 7`, io("IOPRIO_CLASS_BE", 8)},
		{`process.ioPriority.priority -1: must be from 0 to 7`, io("IOPRIO_CLASS_RT", -1)},
	})
	for _, accepted := range []func(*specs.Spec){
		sched(specs.Scheduler{Policy: "SCHED_FIFO", Priority: 99, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork}}),
		sched(specs.Scheduler{Policy: "SCHED_DEADLINE", Runtime: 1, Deadline: 2, Period: 3}),
		sched(specs.Scheduler{Policy: "SCHED_OTHER", Nice: -20}),
		io("IOPRIO_CLASS_IDLE", 7),
	} {
		s := ordinary()
		accepted(s)
		if err := checkProcess(s); err != nil {
			t.Error(err)
		}
	}
}

func TestMemoryPolicy(t *testing.T) {
	policy := func(mode specs.MemoryPolicyModeType, nodes string, flags ...specs.MemoryPolicyFlagType) func(*specs.Spec) {
		return func(s *specs.Spec) {
			s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: mode, Nodes: nodes, Flags: flags}
		}
	}
	runRules(t, []rule{
		{`linux.memoryPolicy.mode "": unknown`, policy("", "")},
		{`linux.memoryPolicy.mode "MPOL_X": unknown`, policy("MPOL_X", "0")},
		{`linux.memoryPolicy.flags[0] "MPOL_F_X": unknown`, policy("MPOL_BIND", "0", "MPOL_F_X")},
		{`linux.memoryPolicy.nodes "0-": not a list of nodes`, policy("MPOL_BIND", "0-")},
		{`linux.memoryPolicy.nodes: missing, MPOL_WEIGHTED_INTERLEAVE needs some`, policy("MPOL_WEIGHTED_INTERLEAVE", "")},
		{`linux.memoryPolicy.nodes "0": MPOL_LOCAL has none`, policy("MPOL_LOCAL", "0")},
	})
	for _, accepted := range []func(*specs.Spec){
		policy("MPOL_DEFAULT", ""), policy("MPOL_PREFERRED", ""), policy("MPOL_PREFERRED", "1"),
		policy("MPOL_INTERLEAVE", "0-3,7", specs.MpolFRelativeNodes), policy("MPOL_PREFERRED_MANY", "0"),
	} {
		s := ordinary()
		accepted(s)
		if err := checkMemoryPolicy(s); err != nil {
			t.Error(err)
		}
	}
}

func TestNetDevices(t *testing.T) {
	devices := func(names map[string]string) func(*specs.Spec) {
		return func(s *specs.Spec) {
			s.Linux.NetDevices = map[string]specs.LinuxNetDevice{}
			for host, name := range names {
				s.Linux.NetDevices[host] = specs.LinuxNetDevice{Name: name}
			}
		}
	}
	runRules(t, []rule{
		{`linux.netDevices: need a network namespace in linux.namespaces`, func(s *specs.Spec) {
			devices(map[string]string{"eth0": ""})(s)
			drop(s, specs.NetworkNamespace)
			s.Linux.Sysctl = nil
		}},
		{`linux.netDevices "": not an interface's name`, devices(map[string]string{"": ""})},
		{`linux.netDevices "..": not an interface's name`, devices(map[string]string{"..": ""})},
		{`linux.netDevices "eth%d": not an interface's name`, devices(map[string]string{"eth%d": ""})},
		{`linux.netDevices "a234567890123456": not an interface's name`, devices(map[string]string{"a234567890123456": ""})},
		{`linux.netDevices "eth0": name "a/b": not an interface's name`, devices(map[string]string{"eth0": "a/b"})},
		{`linux.netDevices "eth0": name "%d%d": not an interface's name`, devices(map[string]string{"eth0": "%d%d"})},
		{`linux.netDevices "eth1": name "x": also that of "eth0"`, devices(map[string]string{"eth0": "x", "eth1": "x"})},
	})
	s := ordinary()
	devices(map[string]string{"eth0": "", "eth1": "net%d", "eth2": "net%d", "a23456789012345": "eth3"})(s)
	if err := checkNetDevices(s); err != nil {
		t.Error(err)
	}
}
