package cgroup

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// v2Settings is the table for v2 hosts (Documentation/admin-guide/cgroup-v2.rst).
// What only v1 can do is refused; runc ignores it.
func v2Settings(r *specs.LinuxResources) ([]setting, error) {
	if err := onlyV1(r); err != nil {
		return nil, err
	}
	var l list
	if err := v2Memory(&l, r.Memory); err != nil {
		return nil, err
	}
	v2CPU(&l, r.CPU)
	pids(&l, r.Pids)
	v2BlockIO(&l, r.BlockIO)
	if err := hugepages(&l, r.HugepageLimits, ".max"); err != nil {
		return nil, err
	}
	rdma(&l, r.Rdma)
	return l, unified(&l, r.Unified)
}

func onlyV1(r *specs.LinuxResources) error {
	field := ""
	if m := r.Memory; m != nil {
		if err := swappiness(m, func(v string) { field = "memory.swappiness: " + v }); err != nil {
			return err
		}
		if set(m.DisableOOMKiller) {
			field = "memory.disableOOMKiller: true"
		}
	}
	if c := r.CPU; c != nil {
		if c.RealtimeRuntime != nil && *c.RealtimeRuntime != 0 {
			field = fmt.Sprintf("cpu.realtimeRuntime: %d", *c.RealtimeRuntime)
		}
		if c.RealtimePeriod != nil && *c.RealtimePeriod != 0 {
			field = fmt.Sprintf("cpu.realtimePeriod: %d", *c.RealtimePeriod)
		}
	}
	if b := r.BlockIO; b != nil && hasLeafWeight(b) {
		field = "blockIO.leafWeight"
	}
	if n := r.Network; n != nil {
		if n.ClassID != nil && *n.ClassID != 0 {
			field = fmt.Sprintf("network.classID: %d", *n.ClassID)
		}
		if len(n.Priorities) > 0 {
			field = "network.priorities"
		}
	}
	if field != "" {
		return fmt.Errorf("%s: cgroup v2 has no such limit", field)
	}
	return nil
}

func hasLeafWeight(b *specs.LinuxBlockIO) bool {
	set := func(w *uint16) bool { return w != nil && *w != 0 }
	return set(b.LeafWeight) || slices.ContainsFunc(b.WeightDevice, func(d specs.LinuxWeightDevice) bool { return set(d.LeafWeight) })
}

func v2Memory(l *list, m *specs.LinuxMemory) error {
	if m == nil {
		return nil
	}
	swap, err := v2Swap(m)
	if err != nil {
		return err
	}
	if swap != "" {
		s := l.add("memory.swap", fmt.Sprint(value(m.Swap)), "memory", "memory.swap.max")
		// Without swap accounting there is no swap to allow or to forbid.
		s.data, s.optional = swap, swap == "max" || swap == "0"
	}
	for _, v := range [...]struct {
		field string
		v     *int64
		file  string
	}{
		{"memory.limit", m.Limit, "memory.max"},
		{"memory.reservation", m.Reservation, "memory.low"},
	} {
		if s := number(l, v.field, v.v, "memory", v.file); s != nil && s.data == "-1" {
			s.data = "max"
		}
	}
	if set(m.CheckBeforeUpdate) {
		for i := range *l {
			if s := &(*l)[i]; s.field == "memory.limit" || s.field == "memory.swap" {
				s.usage = "memory.current"
			}
		}
	}
	return nil
}

// v2Swap is memory.swap.max, swap alone, of memory.swap, which includes memory. ""
// means that it is not set.
func v2Swap(m *specs.LinuxMemory) (string, error) {
	memory, swap := value(m.Limit), value(m.Swap)
	switch {
	case swap == -1 || swap == 0 && memory == -1:
		return "max", nil
	case swap == 0:
		return "", nil
	case memory == -1:
		return strconv.FormatInt(swap, 10), nil
	case memory == 0:
		return "", fmt.Errorf("memory.swap: %d: includes memory and so needs memory.limit", swap)
	case swap < memory:
		return "", fmt.Errorf("memory.swap: %d: less than memory.limit %d, which it includes", swap, memory)
	}
	return strconv.FormatInt(swap-memory, 10), nil
}

func v2CPU(l *list, c *specs.LinuxCPU) {
	if c == nil {
		return
	}
	if c.Idle != nil {
		l.add("cpu.idle", strconv.FormatInt(*c.Idle, 10), "cpu", "cpu.idle").optional = *c.Idle == 0
	}
	if s := number(l, "cpu.shares", c.Shares, "cpu", "cpu.weight"); s != nil {
		s.data = strconv.FormatUint(weightOfShares(*c.Shares), 10)
	}
	quota, period := value(c.Quota), uint64(0)
	if c.Period != nil {
		period = *c.Period
	}
	switch {
	case quota != 0:
		s := l.add("cpu.quota", fmt.Sprint(quota), "cpu", "cpu.max")
		if quota < 0 {
			s.data = "max"
		}
		if period != 0 {
			s.field, s.value = "cpu.quota and period", fmt.Sprintf("%d %d", quota, period)
			s.data = fmt.Sprintf("%s %d", s.data, period)
		}
	case period != 0:
		l.add("cpu.period", fmt.Sprint(period), "cpu", "cpu.max").keepFirst = true
	}
	if c.Burst != nil {
		l.add("cpu.burst", strconv.FormatUint(*c.Burst, 10), "cpu", "cpu.max.burst").optional = *c.Burst == 0
	}
	cpuset(l, c)
}

// weightOfShares is the curve that runc (1.3.2), crun (1.23) and the kernel's
// defaults agree on: it takes 2, 1024 and 262144 shares to a weight of 1, 100 and
// 10000.
func weightOfShares(shares uint64) uint64 {
	switch {
	case shares <= 2:
		return 1
	case shares >= 262144:
		return 10000
	}
	l := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}

func v2BlockIO(l *list, b *specs.LinuxBlockIO) {
	if b == nil {
		return
	}
	weight := func(field, dev string, w *uint16) {
		if s := number(l, field, w, "io", "io.bfq.weight"); s != nil {
			s.data = dev + s.value
			s.other, s.otherData = "io.weight", fmt.Sprintf("%s%d", dev, ioWeight(*w))
		}
	}
	weight("blockIO.weight", "", b.Weight)
	for i, d := range b.WeightDevice {
		weight(fmt.Sprintf("blockIO.weightDevice[%d].weight", i), fmt.Sprintf("%d:%d ", d.Major, d.Minor), d.Weight)
	}
	for _, t := range throttles(b) {
		for i, d := range t.devices {
			rate := "max" // v1's 0 lifts the limit, v2 refuses a 0
			if d.Rate != 0 {
				rate = strconv.FormatUint(d.Rate, 10)
			}
			s := l.add(fmt.Sprintf("blockIO.%s[%d]", t.name, i), fmt.Sprintf("%d:%d %d", d.Major, d.Minor, d.Rate), "io", "io.max")
			s.data = fmt.Sprintf("%d:%d %s=%s", d.Major, d.Minor, t.v2, rate)
		}
	}
}

// ioWeight takes v1's range of 10 to 1000 to v2's of 1 to 10000.
func ioWeight(w uint16) uint64 {
	return 1 + (uint64(max(w, 10))-10)*9999/990
}

// unified adds files of the cgroup by name, after all other limits, so that they
// win. Files that move or stop processes are not limits.
func unified(l *list, files map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		field := "unified." + name
		controller, file, _ := strings.Cut(name, ".")
		if controller == "" || file == "" || strings.Contains(name, "/") {
			return fmt.Errorf("%s: not a file of a cgroup, such as memory.high", field)
		}
		switch name {
		case "cgroup.procs", "cgroup.threads", "cgroup.kill", "cgroup.freeze", "cgroup.type":
			return fmt.Errorf("%s: not a limit", field)
		}
		if files[name] == "" {
			return errors.New(field + ": empty")
		}
		for line := range strings.Lines(files[name]) {
			l.add(field, strings.TrimSuffix(line, "\n"), controller, name)
		}
	}
	return nil
}

func value(v *int64) int64 {
	if v == nil {
		return 0
	}
	return *v
}
