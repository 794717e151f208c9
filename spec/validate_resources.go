package spec

import (
	"fmt"
	"math"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func checkResources(s *specs.Spec) error { return ValidateResources(s.Linux.Resources) }

// ValidateResources refuses what no kernel could accept and what would lead outside
// a cgroup's directory. Whether this kernel accepts the rest is seen when it is
// written. nil has nothing to refuse. Errors begin with "linux.resources.".
func ValidateResources(r *specs.LinuxResources) error {
	if r == nil {
		return nil
	}
	for _, check := range [...]func(*specs.LinuxResources) error{
		checkDeviceRules, checkMemory, checkCPU, checkBlockIO, checkHugepages, checkNetwork, checkRdma, checkUnified,
	} {
		if err := check(r); err != nil {
			return fmt.Errorf("linux.resources.%w", err)
		}
	}
	return nil
}

func checkDeviceRules(r *specs.LinuxResources) error {
	number := func(p *int64) int64 {
		if p == nil {
			return -1
		}
		return *p
	}
	for i := range r.Devices {
		d := &r.Devices[i]
		switch d.Type {
		case "", "a", "b", "c":
		default:
			return fmt.Errorf("devices[%d].type %q: must be a, b or c", i, d.Type)
		}
		switch {
		case d.Access == "":
			return fmt.Errorf("devices[%d].access: must not be empty", i)
		case strings.Trim(d.Access, "rwm") != "":
			return fmt.Errorf("devices[%d].access %q: must consist of r, w and m", i, d.Access)
		}
		if err := deviceNumber(number(d.Major), number(d.Minor), -1); err != nil {
			return fmt.Errorf("devices[%d].%w", i, err)
		}
	}
	return nil
}

// checkMemory: -1 is unlimited, 0 is not set. Docker writes -1 for swappiness
// too, which arrives as the largest number and means not set.
func checkMemory(r *specs.LinuxResources) error {
	m := r.Memory
	if m == nil {
		return nil
	}
	for _, v := range [...]struct {
		name  string
		value *int64
	}{{"limit", m.Limit}, {"reservation", m.Reservation}, {"swap", m.Swap}} {
		if v.value != nil && *v.value < -1 {
			return fmt.Errorf("memory.%s %d: must be -1 or more", v.name, *v.value)
		}
	}
	if m.Limit != nil && m.Swap != nil && *m.Swap > 0 && *m.Swap < *m.Limit {
		return fmt.Errorf("memory.swap %d: must not be less than memory.limit %d, which it includes", *m.Swap, *m.Limit)
	}
	if m.Swappiness != nil && *m.Swappiness > 100 && *m.Swappiness != math.MaxUint64 {
		return fmt.Errorf("memory.swappiness %d: must be from 0 to 100", *m.Swappiness)
	}
	return nil
}

func checkCPU(r *specs.LinuxResources) error {
	c := r.CPU
	switch {
	case c == nil:
		return nil
	case !isCPUList(c.Cpus):
		return fmt.Errorf("cpu.cpus %q: not a list such as 0-3,7", c.Cpus)
	case !isCPUList(c.Mems):
		return fmt.Errorf("cpu.mems %q: not a list such as 0-3,7", c.Mems)
	case c.Idle != nil && *c.Idle != 0 && *c.Idle != 1:
		return fmt.Errorf("cpu.idle %d: must be 0 or 1", *c.Idle)
	case c.Quota != nil && *c.Quota < -1:
		return fmt.Errorf("cpu.quota %d: must be -1 or more", *c.Quota)
	}
	return nil
}

// isCPUList allows the characters of the kernel's list format (cpuset(7)):
// numbers, ranges, and ranges with a stride (0-31:2/8).
func isCPUList(s string) bool {
	return strings.Trim(s, "0123456789,-:/ ") == ""
}

func checkBlockIO(r *specs.LinuxResources) error {
	b := r.BlockIO
	if b == nil {
		return nil
	}
	if err := firstError(checkWeight("", "weight", b.Weight), checkWeight("", "leafWeight", b.LeafWeight)); err != nil {
		return err
	}
	for i, d := range b.WeightDevice {
		at := fmt.Sprintf("weightDevice[%d].", i)
		if err := firstError(checkWeight(at, "weight", d.Weight), checkWeight(at, "leafWeight", d.LeafWeight)); err != nil {
			return err
		}
		if err := deviceNumber(d.Major, d.Minor, 0); err != nil {
			return fmt.Errorf("blockIO.%s%w", at, err)
		}
	}
	for _, l := range [...]struct {
		name    string
		devices []specs.LinuxThrottleDevice
	}{
		{"throttleReadBpsDevice", b.ThrottleReadBpsDevice},
		{"throttleWriteBpsDevice", b.ThrottleWriteBpsDevice},
		{"throttleReadIOPSDevice", b.ThrottleReadIOPSDevice},
		{"throttleWriteIOPSDevice", b.ThrottleWriteIOPSDevice},
	} {
		for i, d := range l.devices {
			if err := deviceNumber(d.Major, d.Minor, 0); err != nil {
				return fmt.Errorf("blockIO.%s[%d].%w", l.name, i, err)
			}
		}
	}
	return nil
}

// checkWeight: managers write 0 for a weight that is not set.
func checkWeight(at, name string, w *uint16) error {
	if w == nil || *w == 0 || *w >= 10 && *w <= 1000 {
		return nil
	}
	return fmt.Errorf("blockIO.%s%s %d: must be from 10 to 1000", at, name, *w)
}

// checkHugepages is strict because the page size becomes part of the name of a
// file (hugetlb.2MB.max).
func checkHugepages(r *specs.LinuxResources) error {
	for i, h := range r.HugepageLimits {
		n, ok := strings.CutSuffix(h.Pagesize, "B")
		if ok {
			n = strings.TrimRight(n, "KMG")
			ok = len(n) == len(h.Pagesize)-2 && n != "" && n[0] != '0' && strings.Trim(n, "0123456789") == ""
		}
		if !ok {
			return fmt.Errorf("hugepageLimits[%d].pageSize %q: must be a number and KB, MB or GB", i, h.Pagesize)
		}
	}
	return nil
}

func checkNetwork(r *specs.LinuxResources) error {
	if r.Network == nil {
		return nil
	}
	for i, p := range r.Network.Priorities {
		if !interfaceName(p.Name) {
			return fmt.Errorf("network.priorities[%d].name %q: not an interface's name", i, p.Name)
		}
	}
	return nil
}

func checkRdma(r *specs.LinuxResources) error {
	for name := range r.Rdma {
		if name == "" || strings.ContainsAny(name, "/ \t\n\x00") {
			return fmt.Errorf("rdma[%q]: not a device's name", name)
		}
	}
	return nil
}

// checkUnified: the keys are names of files in the cgroup's directory, each
// with its controller in front (memory.high).
func checkUnified(r *specs.LinuxResources) error {
	for name, value := range r.Unified {
		controller, file, _ := strings.Cut(name, ".")
		switch {
		case controller == "" || file == "" || strings.ContainsAny(name, "/\x00"):
			return fmt.Errorf("unified[%q]: not a file of a cgroup, such as memory.high", name)
		case strings.IndexByte(value, 0) >= 0:
			return fmt.Errorf("unified[%q] %q: contains a NUL byte", name, value)
		}
	}
	return nil
}
