package cgroup

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// v1Settings is the table for v1 and hybrid hosts (Documentation/admin-guide/cgroup-v1).
func v1Settings(r *specs.LinuxResources) ([]setting, error) {
	var l list
	if len(r.Unified) > 0 {
		return nil, errors.New("unified: cgroup v1 has no such files; it needs a host with cgroup v2 only")
	}
	if err := v1Memory(&l, r.Memory); err != nil {
		return nil, err
	}
	v1CPU(&l, r.CPU)
	pids(&l, r.Pids)
	v1BlockIO(&l, r.BlockIO)
	if err := hugepages(&l, r.HugepageLimits, ".limit_in_bytes"); err != nil {
		return nil, err
	}
	v1Network(&l, r.Network)
	rdma(&l, r.Rdma)
	return l, nil
}

func v1Memory(l *list, m *specs.LinuxMemory) error {
	if m == nil {
		return nil
	}
	number(l, "memory.limit", m.Limit, "memory", "memory.limit_in_bytes")
	number(l, "memory.swap", m.Swap, "memory", "memory.memsw.limit_in_bytes")
	if m.Limit != nil && *m.Limit == -1 && (m.Swap == nil || *m.Swap == 0) {
		// Without limit of memory there is none of memory+swap; the kernel wants it
		// said, where it accounts swap at all.
		l.add("memory.limit", "-1", "memory", "memory.memsw.limit_in_bytes").optional = true
	}
	number(l, "memory.reservation", m.Reservation, "memory", "memory.soft_limit_in_bytes")
	if set(m.DisableOOMKiller) {
		l.add("memory.disableOOMKiller", "true", "memory", "memory.oom_control").data = "1"
	}
	if set(m.UseHierarchy) {
		// Every cgroup has been hierarchical since Linux 5.11, which lets this file
		// only be told so.
		s := l.add("memory.useHierarchy", "true", "memory", "memory.use_hierarchy")
		s.data, s.optional = "1", true
	}
	return swappiness(m, func(v string) { l.add("memory.swappiness", v, "memory", "memory.swappiness") })
}

// swappiness: Docker writes -1, which arrives as the largest number, for unset.
func swappiness(m *specs.LinuxMemory, add func(string)) error {
	switch v := m.Swappiness; {
	case v == nil || *v == math.MaxUint64:
	case *v > 100:
		return fmt.Errorf("memory.swappiness: %d: must be from 0 to 100", *v)
	default:
		add(strconv.FormatUint(*v, 10))
	}
	return nil
}

func v1CPU(l *list, c *specs.LinuxCPU) {
	if c == nil {
		return
	}
	if s := number(l, "cpu.shares", c.Shares, "cpu", "cpu.shares"); s != nil {
		s.exact = true
	}
	number(l, "cpu.period", c.Period, "cpu", "cpu.cfs_period_us")
	number(l, "cpu.quota", c.Quota, "cpu", "cpu.cfs_quota_us")
	if c.Burst != nil {
		l.add("cpu.burst", strconv.FormatUint(*c.Burst, 10), "cpu", "cpu.cfs_burst_us").optional = *c.Burst == 0
	}
	number(l, "cpu.realtimePeriod", c.RealtimePeriod, "cpu", "cpu.rt_period_us")
	number(l, "cpu.realtimeRuntime", c.RealtimeRuntime, "cpu", "cpu.rt_runtime_us")
	if c.Idle != nil {
		l.add("cpu.idle", strconv.FormatInt(*c.Idle, 10), "cpu", "cpu.idle").optional = *c.Idle == 0
	}
	cpuset(l, c)
}

func cpuset(l *list, c *specs.LinuxCPU) {
	if c.Cpus != "" {
		l.add("cpu.cpus", c.Cpus, "cpuset", "cpuset.cpus")
	}
	if c.Mems != "" {
		l.add("cpu.mems", c.Mems, "cpuset", "cpuset.mems")
	}
}

// pids: a limit of 0 is written as 1, as runc does: the process that enters counts,
// and CLONE_INTO_CGROUP, which unlike a move is checked, would be refused.
func pids(l *list, p *specs.LinuxPids) {
	if p == nil || p.Limit == nil {
		return
	}
	s := l.add("pids.limit", strconv.FormatInt(*p.Limit, 10), "pids", "pids.max")
	switch {
	case *p.Limit < 0:
		s.data = "max"
		s.optional = true
	case *p.Limit == 0:
		s.data = "1"
	}
}

func v1BlockIO(l *list, b *specs.LinuxBlockIO) {
	if b == nil {
		return
	}
	weight := func(field, dev string, w *uint16, file string) {
		s := number(l, field, w, "blkio", "blkio."+file)
		if s == nil {
			return
		}
		s.data = dev + s.value
		s.other, s.otherData = "blkio.bfq."+file, s.data
	}
	weight("blockIO.weight", "", b.Weight, "weight")
	weight("blockIO.leafWeight", "", b.LeafWeight, "leaf_weight")
	for i, d := range b.WeightDevice {
		at := fmt.Sprintf("blockIO.weightDevice[%d].", i)
		dev := fmt.Sprintf("%d:%d ", d.Major, d.Minor)
		weight(at+"weight", dev, d.Weight, "weight_device")
		weight(at+"leafWeight", dev, d.LeafWeight, "leaf_weight_device")
	}
	for _, t := range throttles(b) {
		for i, d := range t.devices {
			line := fmt.Sprintf("%d:%d %d", d.Major, d.Minor, d.Rate)
			l.add(fmt.Sprintf("blockIO.%s[%d]", t.name, i), line, "blkio", t.v1)
		}
	}
}

type throttle struct {
	name    string
	devices []specs.LinuxThrottleDevice
	v1, v2  string // the file of v1, the key in io.max of v2
}

func throttles(b *specs.LinuxBlockIO) []throttle {
	return []throttle{
		{"throttleReadBpsDevice", b.ThrottleReadBpsDevice, "blkio.throttle.read_bps_device", "rbps"},
		{"throttleWriteBpsDevice", b.ThrottleWriteBpsDevice, "blkio.throttle.write_bps_device", "wbps"},
		{"throttleReadIOPSDevice", b.ThrottleReadIOPSDevice, "blkio.throttle.read_iops_device", "riops"},
		{"throttleWriteIOPSDevice", b.ThrottleWriteIOPSDevice, "blkio.throttle.write_iops_device", "wiops"},
	}
}

// hugepages limits what is in use and, since Linux 5.7, what is reserved.
func hugepages(l *list, limits []specs.LinuxHugepageLimit, suffix string) error {
	for i, h := range limits {
		if !isWord(h.Pagesize) {
			return fmt.Errorf("hugepageLimits[%d].pageSize: %q: not a page size", i, h.Pagesize)
		}
		field := fmt.Sprintf("hugepageLimits[%d].limit", i)
		for _, reserved := range [...]string{"", ".rsvd"} {
			name := "hugetlb." + h.Pagesize + reserved
			s := l.add(field, strconv.FormatUint(h.Limit, 10), "hugetlb", name+suffix)
			s.optional = reserved != ""
		}
	}
	return nil
}

// isWord keeps a page size, which becomes part of a file's name, free of "/".
func isWord(s string) bool {
	for _, c := range []byte(s) {
		if !('0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z') {
			return false
		}
	}
	return s != ""
}

func v1Network(l *list, n *specs.LinuxNetwork) {
	if n == nil {
		return
	}
	number(l, "network.classID", n.ClassID, "net_cls", "net_cls.classid")
	for i, p := range n.Priorities {
		l.add(fmt.Sprintf("network.priorities[%d]", i), fmt.Sprintf("%s %d", p.Name, p.Priority), "net_prio", "net_prio.ifpriomap")
	}
}

func rdma(l *list, devices map[string]specs.LinuxRdma) {
	for _, name := range slices.Sorted(maps.Keys(devices)) {
		d, line := devices[name], name
		if d.HcaHandles != nil {
			line += fmt.Sprintf(" hca_handle=%d", *d.HcaHandles)
		}
		if d.HcaObjects != nil {
			line += fmt.Sprintf(" hca_object=%d", *d.HcaObjects)
		}
		l.add("rdma."+name, line, "rdma", "rdma.max")
	}
}

func set(b *bool) bool { return b != nil && *b }
