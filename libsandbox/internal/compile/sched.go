package compile

import (
	"slices"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// scheduling sets how the process, and what it starts, gets processor time and I/O.
func (c *compiler) scheduling(p *specs.Process) {
	if p.Scheduler != nil {
		c.scheduler(p.Scheduler)
	}
	if p.IOPriority != nil {
		c.ioPriority(p.IOPriority)
	}
}

// scheduler calls sched_setattr(2).
func (c *compiler) scheduler(s *specs.Scheduler) {
	c.Note("process.scheduler " + string(s.Policy))
	var flags uint64
	for _, f := range s.Flags {
		flags |= 1 << index(f, specs.SchedFlagResetOnFork, specs.SchedFlagReclaim, specs.SchedFlagDLOverrun, specs.SchedFlagKeepPolicy,
			specs.SchedFlagKeepParams, specs.SchedFlagUtilClampMin, specs.SchedFlagUtilClampMax)
	}
	// The kernel has never had SCHED_ISO.
	policy := index(s.Policy, specs.SchedOther, specs.SchedFIFO, specs.SchedRR, specs.SchedBatch, specs.SchedISO, specs.SchedIdle, specs.SchedDeadline)
	const size = 56 // struct sched_attr, with the two members about utilization clamping
	attr := c.Words(size|uint64(policy)<<32, flags, uint64(uint32(s.Nice))|uint64(uint32(s.Priority))<<32, s.Runtime, s.Deadline, s.Period, 0)
	c.Emit(unix.SYS_SCHED_SETATTR, program.Num(0), attr, program.Num(0))
}

// ioPriority calls ioprio_set(2).
func (c *compiler) ioPriority(p *specs.LinuxIOPriority) {
	const (
		process = 1  // IOPRIO_WHO_PROCESS
		shift   = 13 // IOPRIO_CLASS_SHIFT
	)
	c.Note("process.ioPriority " + string(p.Class) + " " + strconv.Itoa(p.Priority))
	class := 1 + index(p.Class, specs.IOPRIO_CLASS_RT, specs.IOPRIO_CLASS_BE, specs.IOPRIO_CLASS_IDLE)
	c.Emit(unix.SYS_IOPRIO_SET, program.Num(process), program.Num(0), program.Num(class<<shift|p.Priority))
}

// memoryPolicy calls set_mempolicy(2).
func (c *compiler) memoryPolicy() {
	m := c.spec.Linux.MemoryPolicy
	if m == nil {
		return
	}
	c.Note("linux.memoryPolicy " + string(m.Mode))
	mode := index(m.Mode, specs.MpolDefault, specs.MpolPreferred, specs.MpolBind, specs.MpolInterleave,
		specs.MpolLocal, specs.MpolPreferredMany, specs.MpolWeightedInterleave)
	for _, f := range m.Flags {
		mode |= 1 << (13 + index(f, specs.MpolFNumaBalancing, specs.MpolFRelativeNodes, specs.MpolFStaticNodes))
	}
	mask, bits := program.Num(0), 0
	if nodes := c.facts.MemoryNodes; len(nodes) > 0 {
		mask, bits = c.Words(nodes...), 64*len(nodes)+1 // the kernel reads one bit less
	}
	c.Emit(unix.SYS_SET_MEMPOLICY, program.Num(mode), mask, program.Num(bits))
}

// index is the place of v among the names of an enumeration of the kernel's. The spec
// is valid, so it is one of them.
func index[T comparable](v T, names ...T) int { return max(slices.Index(names, v), 0) }
