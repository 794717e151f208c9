package libsandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/cgroup"
	"adl.run/adl-runtime/spec"
)

// Update changes limits of a container that is not stopped. What r does not mention
// stays, and so do device rules, whatever it says. An error begins with
// "linux.resources." and the field; then nothing is changed. ErrNotRunning: the
// container is stopped.
//
// The container's stored configuration follows, so that later commands know the
// limits that hold.
func (sb *Sandbox) Update(ctx context.Context, r *specs.LinuxResources) error {
	return sb.UpdateRdt(ctx, r, nil)
}

// UpdateRdt is Update that also writes the schemata of rdt, of which nothing else is
// looked at; nil is none. An error about them begins with "linux.intelRdt". They hold for
// everybody in the container's class. One that was made without linux.intelRdt has none.
func (sb *Sandbox) UpdateRdt(_ context.Context, r *specs.LinuxResources, rdt *specs.LinuxIntelRdt) error {
	asked := *r
	asked.Devices = nil // rules for devices stay what they are
	r = &asked
	if err := spec.ValidateResources(r); err != nil {
		return err
	}
	if rdt != nil {
		if err := spec.ValidateIntelRdt(rdt); err != nil {
			return err
		}
	}
	e, err := sb.refresh()
	if err != nil {
		return err
	}
	defer e.close()
	if sb.currentStatus() == specs.StateStopped {
		return fmt.Errorf("%w", ErrNotRunning)
	}
	s, err := e.config()
	if err != nil {
		return err
	}
	cg, err := cgroup.Load(sb.rec.Cgroup)
	if err != nil {
		return err
	}
	change := complete(s.Linux.Resources, r)
	s.Linux.Resources = merge(s.Linux.Resources, r)
	if err := spec.ValidateResources(s.Linux.Resources); err != nil {
		return err
	}
	back, err := sb.updateRdt(s.Linux, rdt)
	if err != nil {
		return err
	}
	if err := replaceLimits(e, s, cg, change); err != nil {
		back()
		return err
	}
	return nil
}

// replaceLimits sets the limits that change, and stores the configuration s.
func replaceLimits(e *entry, s *specs.Spec, cg *cgroup.Cgroup, change *specs.LinuxResources) error {
	raw, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("stored config: %w", err)
	}
	// The file first, under another name: of the two it is the one that can be undone.
	tmp := e.join(configFile + ".new")
	if err := writeFile(tmp, raw); err != nil {
		_ = unix.Unlink(tmp)
		return err
	}
	if err := cg.Update(change); err != nil {
		_ = unix.Unlink(tmp)
		return err
	}
	if err := moveOnto(tmp, e.join(configFile)); err != nil {
		return fmt.Errorf("stored config: %w", err)
	}
	return nil
}

// complete adds to a change what it leaves open and cannot be changed alone: in
// cgroup v2, memory.swap is the difference of two fields; systemd takes a quota and
// its period as one. Lifting the limit of memory lifts that of both, as in runc.
func complete(old, change *specs.LinuxResources) *specs.LinuxResources {
	c := *change
	if c.Memory != nil && (nonzero(c.Memory.Limit) || nonzero(c.Memory.Swap)) && old != nil && old.Memory != nil {
		m := *c.Memory
		number(&m.Limit, old.Memory.Limit, c.Memory.Limit)
		if !nonzero(m.Limit) || *m.Limit != -1 {
			number(&m.Swap, old.Memory.Swap, c.Memory.Swap)
		}
		c.Memory = &m
	}
	if c.CPU != nil && (nonzero(c.CPU.Quota) || nonzero(c.CPU.Period)) && old != nil && old.CPU != nil {
		cpu := *c.CPU
		number(&cpu.Quota, old.CPU.Quota, c.CPU.Quota)
		number(&cpu.Period, old.CPU.Period, c.CPU.Period)
		c.CPU = &cpu
	}
	return &c
}

// merge is the configuration old with what change mentions. Neither is modified.
func merge(old, change *specs.LinuxResources) *specs.LinuxResources {
	n := specs.LinuxResources{}
	if old != nil {
		n = *old
	}
	n.Memory = mergeMemory(n.Memory, change.Memory)
	n.CPU = mergeCPU(n.CPU, change.CPU)
	n.BlockIO = mergeBlockIO(n.BlockIO, change.BlockIO)
	if change.Pids != nil && change.Pids.Limit != nil {
		n.Pids = change.Pids
	}
	if change.Network != nil {
		n.Network = change.Network
	}
	n.HugepageLimits = override(n.HugepageLimits, change.HugepageLimits, func(h specs.LinuxHugepageLimit) string { return h.Pagesize })
	n.Rdma = overrideMap(n.Rdma, change.Rdma)
	n.Unified = overrideMap(n.Unified, change.Unified)
	return &n
}

func mergeMemory(old, change *specs.LinuxMemory) *specs.LinuxMemory {
	if old == nil || change == nil {
		return first(change, old)
	}
	n := *old
	if nonzero(change.Limit) && *change.Limit == -1 {
		n.Swap = nil // see complete
	}
	number(&n.Limit, n.Limit, change.Limit)
	number(&n.Reservation, n.Reservation, change.Reservation)
	number(&n.Swap, n.Swap, change.Swap)
	set(&n.Swappiness, change.Swappiness)
	set(&n.DisableOOMKiller, change.DisableOOMKiller)
	set(&n.UseHierarchy, change.UseHierarchy)
	set(&n.CheckBeforeUpdate, change.CheckBeforeUpdate)
	return &n
}

func mergeCPU(old, change *specs.LinuxCPU) *specs.LinuxCPU {
	if old == nil || change == nil {
		return first(change, old)
	}
	n := *old
	number(&n.Shares, n.Shares, change.Shares)
	number(&n.Quota, n.Quota, change.Quota)
	number(&n.Period, n.Period, change.Period)
	number(&n.RealtimeRuntime, n.RealtimeRuntime, change.RealtimeRuntime)
	number(&n.RealtimePeriod, n.RealtimePeriod, change.RealtimePeriod)
	set(&n.Burst, change.Burst)
	set(&n.Idle, change.Idle)
	if change.Cpus != "" {
		n.Cpus = change.Cpus
	}
	if change.Mems != "" {
		n.Mems = change.Mems
	}
	return &n
}

func mergeBlockIO(old, change *specs.LinuxBlockIO) *specs.LinuxBlockIO {
	if old == nil || change == nil {
		return first(change, old)
	}
	n := *old
	number(&n.Weight, n.Weight, change.Weight)
	number(&n.LeafWeight, n.LeafWeight, change.LeafWeight)
	n.WeightDevice = override(n.WeightDevice, change.WeightDevice, func(d specs.LinuxWeightDevice) [2]int64 { return [2]int64{d.Major, d.Minor} })
	for _, t := range [...]struct{ old, change *[]specs.LinuxThrottleDevice }{
		{&n.ThrottleReadBpsDevice, &change.ThrottleReadBpsDevice},
		{&n.ThrottleWriteBpsDevice, &change.ThrottleWriteBpsDevice},
		{&n.ThrottleReadIOPSDevice, &change.ThrottleReadIOPSDevice},
		{&n.ThrottleWriteIOPSDevice, &change.ThrottleWriteIOPSDevice},
	} {
		*t.old = override(*t.old, *t.change, func(d specs.LinuxThrottleDevice) [2]int64 { return [2]int64{d.Major, d.Minor} })
	}
	return &n
}

// first is a, or b where a is nil.
func first[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}

// nonzero says whether a number is set: managers write 0 for one that is not.
func nonzero[T int64 | uint64 | uint16](v *T) bool { return v != nil && *v != 0 }

// number sets *to to the new number, or to the old one where that is not set.
func number[T int64 | uint64 | uint16](to **T, old, new *T) {
	if *to = new; !nonzero(new) {
		*to = old
	}
}

// set replaces *to by a value that is there.
func set[T any](to **T, from *T) {
	if from != nil {
		*to = from
	}
}

// override is old without what change has under the same key, and then change.
func override[T any, K comparable](old, change []T, key func(T) K) []T {
	var n []T
	for _, o := range old {
		if !slices.ContainsFunc(change, func(c T) bool { return key(c) == key(o) }) {
			n = append(n, o)
		}
	}
	return append(n, change...)
}

func overrideMap[T any](old, change map[string]T) map[string]T {
	n := maps.Clone(old)
	if n == nil {
		n = map[string]T{}
	}
	maps.Copy(n, change)
	return n
}
