package spec

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func checkScheduler(p *specs.Process) error {
	s := p.Scheduler
	if s == nil {
		return nil
	}
	switch s.Policy {
	case specs.SchedOther, specs.SchedFIFO, specs.SchedRR, specs.SchedBatch, specs.SchedISO, specs.SchedIdle, specs.SchedDeadline:
	default:
		return fmt.Errorf("process.scheduler.policy %q: unknown", s.Policy)
	}
	switch {
	case s.Nice < -20 || s.Nice > 19:
		return fmt.Errorf("process.scheduler.nice %d: must be from -20 to 19", s.Nice)
	case s.Priority != 0 && s.Policy != specs.SchedFIFO && s.Policy != specs.SchedRR:
		return fmt.Errorf("process.scheduler.priority %d: only SCHED_FIFO and SCHED_RR have it", s.Priority)
	case s.Runtime|s.Deadline|s.Period != 0 && s.Policy != specs.SchedDeadline:
		return errors.New("process.scheduler: only SCHED_DEADLINE has runtime, deadline and period")
	}
	for i, f := range s.Flags {
		switch f {
		case specs.SchedFlagResetOnFork, specs.SchedFlagReclaim, specs.SchedFlagDLOverrun, specs.SchedFlagKeepPolicy,
			specs.SchedFlagKeepParams, specs.SchedFlagUtilClampMin, specs.SchedFlagUtilClampMax:
		default:
			return fmt.Errorf("process.scheduler.flags[%d] %q: unknown", i, f)
		}
	}
	return nil
}

func checkIOPriority(p *specs.Process) error {
	io := p.IOPriority
	if io == nil {
		return nil
	}
	switch io.Class {
	case specs.IOPRIO_CLASS_RT, specs.IOPRIO_CLASS_BE, specs.IOPRIO_CLASS_IDLE:
	default:
		return fmt.Errorf("process.ioPriority.class %q: unknown", io.Class)
	}
	if io.Priority < 0 || io.Priority > 7 {
		return fmt.Errorf("process.ioPriority.priority %d: must be from 0 to 7", io.Priority)
	}
	return nil
}

func checkMemoryPolicy(s *specs.Spec) error {
	m := s.Linux.MemoryPolicy
	if m == nil {
		return nil
	}
	needs := true // nodes
	switch m.Mode {
	case specs.MpolDefault, specs.MpolLocal:
		if m.Nodes != "" {
			return fmt.Errorf("linux.memoryPolicy.nodes %q: %s has none", m.Nodes, m.Mode)
		}
		needs = false
	case specs.MpolPreferred:
		needs = false
	case specs.MpolBind, specs.MpolInterleave, specs.MpolWeightedInterleave, specs.MpolPreferredMany:
	default:
		return fmt.Errorf("linux.memoryPolicy.mode %q: unknown", m.Mode)
	}
	if needs && m.Nodes == "" {
		return fmt.Errorf("linux.memoryPolicy.nodes: missing, %s needs some", m.Mode)
	}
	if _, err := ParseCPUs(m.Nodes); err != nil {
		return fmt.Errorf("linux.memoryPolicy.nodes %q: not a list of nodes", m.Nodes)
	}
	for i, f := range m.Flags {
		switch f {
		case specs.MpolFNumaBalancing, specs.MpolFRelativeNodes, specs.MpolFStaticNodes:
		default:
			return fmt.Errorf("linux.memoryPolicy.flags[%d] %q: unknown", i, f)
		}
	}
	return nil
}

// checkNetDevices: names as the kernel takes them (dev_valid_name in net/core/dev.c).
// A new one may hold one %d, which becomes a number.
func checkNetDevices(s *specs.Spec) error {
	devices := s.Linux.NetDevices
	if len(devices) == 0 {
		return nil
	}
	if namespace(s, specs.NetworkNamespace) == nil {
		return errors.New("linux.netDevices: need a network namespace in linux.namespaces")
	}
	names := make(map[string]string, len(devices))
	for host, d := range devices {
		if !interfaceName(host) {
			return fmt.Errorf("linux.netDevices %q: not an interface's name", host)
		}
		if d.Name != "" && !interfaceName(strings.Replace(d.Name, "%d", "0", 1)) {
			return fmt.Errorf("linux.netDevices %q: name %q: not an interface's name", host, d.Name)
		}
		name := d.Name
		if name == "" {
			name = host
		}
		if other, ok := names[name]; ok && !strings.Contains(name, "%d") {
			return fmt.Errorf("linux.netDevices %q: name %q: also that of %q", max(host, other), name, min(host, other))
		}
		names[name] = host
	}
	return nil
}

func interfaceName(s string) bool {
	const most = 15 // IFNAMSIZ, less the NUL
	return s != "" && s != "." && s != ".." && len(s) <= most && !strings.ContainsAny(s, "/:% \t\n\v\f\r\x00")
}
