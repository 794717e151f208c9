package libsandbox

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// ResourceLimits limits what a sandbox uses, all of its processes together. The zero
// value limits the number of processes only. Sizes are bytes, with a suffix k, m, g or t
// for powers of 1024. A limit that the host's cgroups cannot apply is an error of New.
type ResourceLimits struct {
	// CPUs is how many CPUs' time the sandbox gets: "0.5", "2"; empty is no limit. Three
	// digits follow the point at most, and it is at least 0.01.
	CPUs string
	// CPUSet are the CPUs that it may run on: "0-2,5"; empty is all.
	CPUSet string
	// Memory is the most memory that it uses, files in memory included: "512m". Beyond
	// that the kernel kills a process of it.
	Memory string
	// Swap is how much it may swap out beside; empty is what the host has as default. "0"
	// is none.
	Swap string
	// Pids is the most processes and threads; 0 is 2048, -1 is no limit.
	Pids int64
	// IO limits block devices.
	IO []IOLimit
}

// IOLimit limits the use of one block device of the host. What is empty or 0 is no limit.
type IOLimit struct {
	// Device is a path, such as /dev/sda: a whole disk.
	Device string
	// ReadBytes and WriteBytes are sizes a second.
	ReadBytes, WriteBytes string
	// ReadOps and WriteOps are operations a second.
	ReadOps, WriteOps uint64
}

// defaultPids is podman's.
const defaultPids = 2048

// limits sets linux.resources.
func (c *Config) limits(s *specs.Spec) error {
	r, l := s.Linux.Resources, &c.Resources
	if l.CPUs != "" || l.CPUSet != "" {
		r.CPU = &specs.LinuxCPU{Cpus: l.CPUSet}
	}
	if l.CPUs != "" {
		quota, err := cpuQuota(l.CPUs)
		if err != nil {
			return fieldError("Resources.CPUs", l.CPUs, err)
		}
		period := uint64(cpuPeriod)
		r.CPU.Quota, r.CPU.Period = &quota, &period
	}
	if err := l.memory(r); err != nil {
		return err
	}
	pids := l.Pids
	switch {
	case pids == 0:
		pids = defaultPids
	case pids < -1:
		return fieldError("Resources.Pids", pids, errors.New("must be positive, 0 for the default or -1 for no limit"))
	}
	if pids > 0 {
		r.Pids = &specs.LinuxPids{Limit: &pids}
	}
	return l.io(r)
}

// leastMemory is what init and a small program need, in bytes.
const leastMemory = 256 << 10

func (l *ResourceLimits) memory(r *specs.LinuxResources) error {
	if l.Memory == "" {
		if l.Swap != "" {
			return fieldError("Resources.Swap", l.Swap, errors.New("needs a limit on Memory"))
		}
		return nil
	}
	limit, err := ParseSize(l.Memory)
	if err != nil {
		return fieldError("Resources.Memory", l.Memory, err)
	}
	if limit < leastMemory { // most often, a unit that was forgotten
		return fieldError("Resources.Memory", l.Memory, fmt.Errorf("nothing runs in less than %d bytes", leastMemory))
	}
	r.Memory = &specs.LinuxMemory{Limit: &limit}
	if l.Swap == "" {
		return nil
	}
	swap := int64(0)
	if l.Swap != "0" {
		if swap, err = ParseSize(l.Swap); err != nil {
			return fieldError("Resources.Swap", l.Swap, err)
		}
	}
	if swap > 1<<63-1-limit {
		return fieldError("Resources.Swap", l.Swap, errors.New("too much"))
	}
	both := limit + swap // the spec's includes memory
	r.Memory.Swap = &both
	return nil
}

// cpuPeriod is the time, in microseconds, in which a quota of CPU time can be used.
const cpuPeriod = 100000

// cpuQuota is a number of CPUs as time in a period, in microseconds.
func cpuQuota(s string) (int64, error) {
	whole, part, point := strings.Cut(s, ".")
	bad := fmt.Errorf("must be a number of CPUs such as 2 or 0.5, at least 0.01, with three digits behind the point at most")
	if len(part) > 3 || point && part == "" {
		return 0, bad
	}
	n, err := strconv.ParseUint(whole, 10, 20)
	if err != nil {
		return 0, bad
	}
	thousandths, err := strconv.ParseUint((part + "000")[:3], 10, 20)
	quota := int64(n*1000+thousandths) * cpuPeriod / 1000
	if err != nil || quota < cpuPeriod/100 {
		return 0, bad
	}
	return quota, nil
}

func (l *ResourceLimits) io(r *specs.LinuxResources) error {
	if len(l.IO) == 0 {
		return nil
	}
	b := &specs.LinuxBlockIO{}
	r.BlockIO = b
	for i := range l.IO {
		limit, field := &l.IO[i], fmt.Sprintf("Resources.IO[%d].", i)
		major, minor, kind, _, err := deviceNumber(limit.Device)
		if err == nil && kind != "b" {
			err = errors.New("is no block device")
		}
		if err != nil {
			return fieldError(field+"Device", limit.Device, err)
		}
		for _, rate := range []struct {
			field, size string
			ops         uint64
			list        *[]specs.LinuxThrottleDevice
		}{
			{"ReadBytes", limit.ReadBytes, 0, &b.ThrottleReadBpsDevice},
			{"WriteBytes", limit.WriteBytes, 0, &b.ThrottleWriteBpsDevice},
			{"ReadOps", "", limit.ReadOps, &b.ThrottleReadIOPSDevice},
			{"WriteOps", "", limit.WriteOps, &b.ThrottleWriteIOPSDevice},
		} {
			if rate.size != "" {
				n, err := ParseSize(rate.size)
				if err != nil {
					return fieldError(field+rate.field, rate.size, err)
				}
				rate.ops = uint64(n)
			}
			if rate.ops > 0 {
				d := specs.LinuxThrottleDevice{Rate: rate.ops}
				d.Major, d.Minor = major, minor
				*rate.list = append(*rate.list, d)
			}
		}
	}
	return nil
}

// explain heads an error about a limit with the field of Config, and its value, that
// asked for it.
func (c *Config) explain(err error) error {
	l := &c.Resources
	pids := strconv.FormatInt(l.Pids, 10)
	if l.Pids == 0 {
		pids = strconv.Itoa(defaultPids) + " (the default)"
	}
	for _, f := range []struct{ prefix, field string }{
		{"linux.resources.cpu.cpus", "Resources.CPUSet " + strconv.Quote(l.CPUSet)},
		{"linux.resources.cpu", "Resources.CPUs " + strconv.Quote(l.CPUs)},
		{"linux.resources.memory.swap", "Resources.Swap " + strconv.Quote(l.Swap)},
		{"linux.resources.memory", "Resources.Memory " + strconv.Quote(l.Memory)},
		{"linux.resources.pids", "Resources.Pids " + pids},
		{"linux.resources.blockIO", "Resources.IO " + fmt.Sprintf("%+v", l.IO)},
		{"linux.cgroupsPath", "CgroupParent " + strconv.Quote(c.CgroupParent)},
		{"layer upper", "Layer.Upper " + strconv.Quote(c.Layer.Upper)},
	} {
		if strings.HasPrefix(err.Error(), f.prefix) && !strings.HasSuffix(f.field, ` ""`) {
			return fmt.Errorf("%s: %w", f.field, err)
		}
	}
	return err
}
