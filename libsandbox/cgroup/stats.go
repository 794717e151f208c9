package cgroup

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Stats is what the kernel has counted for a cgroup. As JSON it is the data of runc's
// stats events (runc, types/events.go), which managers read; a zero is what the host
// does not count. Times are in nanoseconds, sizes in bytes.
type Stats struct {
	CPU     CPUStats                `json:"cpu"`
	CPUSet  CPUSetStats             `json:"cpuset"`
	Memory  MemoryStats             `json:"memory"`
	Pids    PidsStats               `json:"pids"`
	BlockIO BlockIOStats            `json:"blkio"`
	Hugetlb map[string]HugetlbStats `json:"hugetlb"` // by page size: 2MB
	// Interfaces is always empty, as in runc.
	Interfaces []string `json:"network_interfaces"`
}

// CPUStats is the time that processes ran, and could not run because of a quota.
type CPUStats struct {
	Usage struct {
		Total        uint64   `json:"total,omitempty"`
		PerCPU       []uint64 `json:"percpu,omitempty"` // v1 only, as the next two
		PerCPUKernel []uint64 `json:"percpu_kernel,omitempty"`
		PerCPUUser   []uint64 `json:"percpu_user,omitempty"`
		Kernel       uint64   `json:"kernel"`
		User         uint64   `json:"user"`
	} `json:"usage"`
	Throttling struct {
		Periods          uint64 `json:"periods,omitempty"`
		ThrottledPeriods uint64 `json:"throttledPeriods,omitempty"`
		ThrottledTime    uint64 `json:"throttledTime,omitempty"`
	} `json:"throttling"`
	Pressure *Pressure `json:"psi,omitempty"`
}

// CPUSetStats are the settings of a v1 cpuset; on v2 they stay zero, as in runc.
type CPUSetStats struct {
	CPUs                  []uint16 `json:"cpus,omitempty"`
	CPUExclusive          uint64   `json:"cpu_exclusive"`
	Mems                  []uint16 `json:"mems,omitempty"`
	MemHardwall           uint64   `json:"mem_hardwall"`
	MemExclusive          uint64   `json:"mem_exclusive"`
	MemoryMigrate         uint64   `json:"memory_migrate"`
	MemorySpreadPage      uint64   `json:"memory_spread_page"`
	MemorySpreadSlab      uint64   `json:"memory_spread_slab"`
	MemoryPressure        uint64   `json:"memory_pressure"`
	SchedLoadBalance      uint64   `json:"sched_load_balance"`
	SchedRelaxDomainLevel int64    `json:"sched_relax_domain_level"`
}

// MemoryStats is the memory in use. Swap includes memory.
type MemoryStats struct {
	Cache     uint64            `json:"cache,omitempty"`
	Usage     MemoryUsage       `json:"usage"`
	Swap      MemoryUsage       `json:"swap"`
	Kernel    MemoryUsage       `json:"kernel"`    // v1 only
	KernelTCP MemoryUsage       `json:"kernelTCP"` // v1 only
	Raw       map[string]uint64 `json:"raw,omitempty"`
	Pressure  *Pressure         `json:"psi,omitempty"`
}

// MemoryUsage is one kind of memory. Without limit, Limit is the largest number that
// the kernel prints, on v2 the largest there is.
type MemoryUsage struct {
	Limit   uint64 `json:"limit"`
	Usage   uint64 `json:"usage,omitempty"`
	Max     uint64 `json:"max,omitempty"`
	Failcnt uint64 `json:"failcnt"`
}

// PidsStats is the number of tasks; a Limit of 0 is none.
type PidsStats struct {
	Current uint64 `json:"current,omitempty"`
	Limit   uint64 `json:"limit,omitempty"`
}

// BlockIOStats is what was read and written, by device.
type BlockIOStats struct {
	ServiceBytes []BlockIO `json:"ioServiceBytesRecursive,omitempty"`
	Serviced     []BlockIO `json:"ioServicedRecursive,omitempty"`
	Queued       []BlockIO `json:"ioQueueRecursive,omitempty"` // v1 only, as the next five
	ServiceTime  []BlockIO `json:"ioServiceTimeRecursive,omitempty"`
	WaitTime     []BlockIO `json:"ioWaitTimeRecursive,omitempty"`
	Merged       []BlockIO `json:"ioMergedRecursive,omitempty"`
	Time         []BlockIO `json:"ioTimeRecursive,omitempty"`
	Sectors      []BlockIO `json:"sectorsRecursive,omitempty"`
	Pressure     *Pressure `json:"psi,omitempty"`
}

// BlockIO is one counter of one device.
type BlockIO struct {
	Major uint64 `json:"major,omitempty"`
	Minor uint64 `json:"minor,omitempty"`
	Op    string `json:"op,omitempty"`
	Value uint64 `json:"value,omitempty"`
}

// HugetlbStats is the use of huge pages of one size.
type HugetlbStats struct {
	Usage   uint64 `json:"usage,omitempty"`
	Max     uint64 `json:"max,omitempty"`
	Failcnt uint64 `json:"failcnt"`
}

// Pressure is how long processes waited for a resource (Documentation/accounting/psi.rst):
// some of them, and all at once.
type Pressure struct {
	Some PressureData `json:"some,omitzero"`
	Full PressureData `json:"full,omitzero"`
}

// PressureData has percentages of the last 10, 60 and 300 seconds, and the total in
// microseconds.
type PressureData struct {
	Avg10  float64 `json:"avg10"`
	Avg60  float64 `json:"avg60"`
	Avg300 float64 `json:"avg300"`
	Total  uint64  `json:"total"`
}

// Stats reads the counters. A cgroup that is gone is an error, a controller that the
// host does not have is not.
func (c *Cgroup) Stats() (*Stats, error) {
	if !c.Exists() {
		return nil, fmt.Errorf("stats: %w", &os.PathError{Op: "open", Path: c.primary().path, Err: unix.ENOENT})
	}
	s := &Stats{Hugetlb: map[string]HugetlbStats{}}
	r := reader{}
	if c.mode == V2 {
		r.v2(s, c.unified().path)
	} else {
		r.v1(s, c)
	}
	if r.err != nil {
		return nil, fmt.Errorf("stats: %w", r.err)
	}
	return s, nil
}

// reader reads files of cgroups and keeps the first error. A file that is not there
// is empty, and a value that is not there is 0.
type reader struct{ err error }

func (r *reader) text(path, file string) string {
	text, err := readFile(path, file)
	// ENOTSUP: pressure that is built in but switched off.
	if err != nil && !gone(err) && err != unix.ENOTSUP && r.err == nil {
		r.err = err
	}
	return text
}

// number reads a file with one number; "max" is the largest.
func (r *reader) number(path, file string) uint64 {
	return r.parse(path, file, r.text(path, file))
}

func (r *reader) parse(path, file, text string) uint64 {
	switch text {
	case "":
		return 0
	case "max":
		return math.MaxUint64
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("%s/%s: %q is not a number", path, file, text)
	}
	return n
}

// table reads a file with a key and a number in each line; more of a line is ignored.
func (r *reader) table(path, file string) map[string]uint64 {
	m := map[string]uint64{}
	for line := range strings.Lines(r.text(path, file)) {
		if f := strings.Fields(line); len(f) >= 2 {
			m[f[0]] = r.parse(path, file, f[1])
		}
	}
	return m
}

func (r *reader) numbers(path, file string) (all []uint64) {
	for _, f := range strings.Fields(r.text(path, file)) {
		all = append(all, r.parse(path, file, f))
	}
	return all
}

// pids counts where the controller is, or else looks at the processes, as runc does.
func (r *reader) pids(path string) PidsStats {
	if text := r.text(path, "pids.current"); text == "" {
		return PidsStats{Current: uint64(strings.Count(r.text(path, "cgroup.procs")+"\n", "\n"))}
	}
	s := PidsStats{Current: r.number(path, "pids.current"), Limit: r.number(path, "pids.max")}
	if s.Limit == math.MaxUint64 {
		s.Limit = 0
	}
	return s
}

func (r *reader) v1(s *Stats, c *Cgroup) {
	for _, f := range [...]struct {
		controller string
		read       func(s *Stats, path string)
	}{
		{"cpuacct", r.cpuacct},
		{"cpu", r.cpu},
		{"cpuset", r.cpuset},
		{"memory", r.memory},
		{"pids", func(s *Stats, path string) { s.Pids = r.pids(path) }},
		{"blkio", r.blkio},
		{"hugetlb", func(s *Stats, path string) { r.hugetlb(s, path, ".usage_in_bytes") }},
	} {
		if d := c.controller(f.controller); d != nil {
			f.read(s, d.path)
		}
	}
}

// cpuacct: cpuacct.stat counts in ticks, of which every architecture has a hundred a
// second (USER_HZ).
func (r *reader) cpuacct(s *Stats, path string) {
	const tick = uint64(time.Second / 100)
	u, stat := &s.CPU.Usage, r.table(path, "cpuacct.stat")
	u.User, u.Kernel = stat["user"]*tick, stat["system"]*tick
	u.Total = r.number(path, "cpuacct.usage")
	u.PerCPU = r.numbers(path, "cpuacct.usage_percpu")
	for line := range strings.Lines(r.text(path, "cpuacct.usage_all")) {
		if f := strings.Fields(line); len(f) >= 3 && f[0] != "cpu" { // the heading is: cpu user system
			u.PerCPUUser = append(u.PerCPUUser, r.parse(path, "cpuacct.usage_all", f[1]))
			u.PerCPUKernel = append(u.PerCPUKernel, r.parse(path, "cpuacct.usage_all", f[2]))
		}
	}
}

func (r *reader) cpu(s *Stats, path string) {
	t, stat := &s.CPU.Throttling, r.table(path, "cpu.stat")
	t.Periods, t.ThrottledPeriods, t.ThrottledTime = stat["nr_periods"], stat["nr_throttled"], stat["throttled_time"]
}

func (r *reader) cpuset(s *Stats, path string) {
	c := &s.CPUSet
	c.CPUs, c.Mems = r.list(path, "cpuset.cpus"), r.list(path, "cpuset.mems")
	for _, f := range [...]struct {
		name string
		to   *uint64
	}{
		{"cpu_exclusive", &c.CPUExclusive},
		{"mem_hardwall", &c.MemHardwall},
		{"mem_exclusive", &c.MemExclusive},
		{"memory_migrate", &c.MemoryMigrate},
		{"memory_spread_page", &c.MemorySpreadPage},
		{"memory_spread_slab", &c.MemorySpreadSlab},
		{"memory_pressure", &c.MemoryPressure},
		{"sched_load_balance", &c.SchedLoadBalance},
	} {
		*f.to = r.number(path, "cpuset."+f.name)
	}
	c.SchedRelaxDomainLevel, _ = strconv.ParseInt(r.text(path, "cpuset.sched_relax_domain_level"), 10, 64) // -1 by default
}

// list reads the kernel's list format: 0-3,7 (cpuset(7)).
func (r *reader) list(path, file string) (all []uint16) {
	text := r.text(path, file)
	bits, err := listBits(text)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("%s/%s: %w", path, file, err)
	}
	for i := range 8 * len(bits) {
		if bits[i/8]&(1<<(i%8)) != 0 {
			all = append(all, uint16(i))
		}
	}
	return all
}

func (r *reader) memory(s *Stats, path string) {
	m := &s.Memory
	m.Raw = r.table(path, "memory.stat")
	m.Cache = m.Raw["cache"]
	for _, f := range [...]struct {
		prefix string
		to     *MemoryUsage
	}{{"memory.", &m.Usage}, {"memory.memsw.", &m.Swap}, {"memory.kmem.", &m.Kernel}, {"memory.kmem.tcp.", &m.KernelTCP}} {
		*f.to = MemoryUsage{
			Limit:   r.number(path, f.prefix+"limit_in_bytes"),
			Usage:   r.number(path, f.prefix+"usage_in_bytes"),
			Max:     r.number(path, f.prefix+"max_usage_in_bytes"),
			Failcnt: r.number(path, f.prefix+"failcnt"),
		}
	}
}

// blkio takes each counter from the first scheduler that has counted something: bfq,
// cfq (before Linux 5.0), and the block layer's own, which the throttle files show.
func (r *reader) blkio(s *Stats, path string) {
	b := &s.BlockIO
	for _, f := range [...]struct {
		name string
		to   *[]BlockIO
	}{
		{"io_service_bytes", &b.ServiceBytes},
		{"io_serviced", &b.Serviced},
		{"io_queued", &b.Queued},
		{"io_service_time", &b.ServiceTime},
		{"io_wait_time", &b.WaitTime},
		{"io_merged", &b.Merged},
		{"time", &b.Time},
		{"sectors", &b.Sectors},
	} {
		for _, file := range [...]string{
			"blkio.bfq." + f.name + "_recursive", "blkio." + f.name + "_recursive",
			"blkio.throttle." + f.name + "_recursive", "blkio.throttle." + f.name,
		} {
			if *f.to = r.devices(path, file); *f.to != nil {
				break
			}
		}
	}
}

// devices reads lines such as "8:0 Read 4096" or "8:0 4096". The sum at the end is
// left out.
func (r *reader) devices(path, file string) (all []BlockIO) {
	for line := range strings.Lines(r.text(path, file)) {
		f := strings.Fields(strings.Replace(line, ":", " ", 1))
		if len(f) < 3 {
			continue
		}
		e := BlockIO{Major: r.parse(path, file, f[0]), Minor: r.parse(path, file, f[1])}
		if len(f) > 3 {
			e.Op = f[2]
		}
		e.Value = r.parse(path, file, f[len(f)-1])
		all = append(all, e)
	}
	return all
}

// hugetlb finds the page sizes by the names of the files. What is reserved is counted
// instead of what is used, where the kernel does (Linux 5.7).
func (r *reader) hugetlb(s *Stats, path, usage string) {
	entries, err := readDir(path)
	if err != nil && !gone(err) && r.err == nil {
		r.err = err
	}
	for _, e := range entries {
		size, ok := strings.CutPrefix(e.name, "hugetlb.")
		size, ok2 := strings.CutSuffix(size, usage)
		if !ok || !ok2 || strings.Contains(size, ".") {
			continue
		}
		prefix := "hugetlb." + size
		if slices.ContainsFunc(entries, func(e entry) bool { return e.name == prefix+".rsvd"+usage }) {
			prefix += ".rsvd"
		}
		h := HugetlbStats{Usage: r.number(path, prefix+usage)}
		if usage == ".current" {
			h.Failcnt = r.table(path, "hugetlb."+size+".events")["max"]
		} else {
			h.Max, h.Failcnt = r.number(path, prefix+".max_usage_in_bytes"), r.number(path, prefix+".failcnt")
		}
		s.Hugetlb[size] = h
	}
}

func (r *reader) v2(s *Stats, path string) {
	stat := r.table(path, "cpu.stat") // there without the controller, too
	u, t := &s.CPU.Usage, &s.CPU.Throttling
	u.Total, u.User, u.Kernel = 1000*stat["usage_usec"], 1000*stat["user_usec"], 1000*stat["system_usec"]
	t.Periods, t.ThrottledPeriods, t.ThrottledTime = stat["nr_periods"], stat["nr_throttled"], 1000*stat["throttled_usec"]
	r.memoryV2(&s.Memory, path)
	s.Pids = r.pids(path)
	r.io(&s.BlockIO, path)
	r.hugetlb(s, path, ".current")
	s.CPU.Pressure = r.pressure(path, "cpu.pressure")
	s.Memory.Pressure = r.pressure(path, "memory.pressure")
	s.BlockIO.Pressure = r.pressure(path, "io.pressure")
}

// memoryV2 gives the sum of memory and swap in Swap, which is what v1 has there. Its
// maximum is not known: the two need not have been reached together.
func (r *reader) memoryV2(m *MemoryStats, path string) {
	m.Raw = r.table(path, "memory.stat")
	m.Cache = m.Raw["file"]
	m.Usage = MemoryUsage{
		Limit: r.number(path, "memory.max"), Usage: r.number(path, "memory.current"), Max: r.number(path, "memory.peak"),
	}
	m.Swap = MemoryUsage{Limit: r.number(path, "memory.swap.max"), Usage: m.Usage.Usage + r.number(path, "memory.swap.current")}
	if m.Swap.Limit != math.MaxUint64 {
		m.Swap.Limit += m.Usage.Limit
	}
}

// io reads lines such as "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0".
func (r *reader) io(b *BlockIOStats, path string) {
	for line := range strings.Lines(r.text(path, "io.stat")) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		major, minor, ok := strings.Cut(f[0], ":")
		if !ok {
			continue
		}
		e := BlockIO{Major: r.parse(path, "io.stat", major), Minor: r.parse(path, "io.stat", minor)}
		for _, kv := range f[1:] {
			key, value, _ := strings.Cut(kv, "=")
			to := &b.ServiceBytes
			switch key {
			case "rbytes", "wbytes":
			case "rios", "wios":
				to = &b.Serviced
			default:
				continue
			}
			e.Op = "Read"
			if key[0] == 'w' {
				e.Op = "Write"
			}
			e.Value = r.parse(path, "io.stat", value)
			*to = append(*to, e)
		}
	}
}

// pressure reads lines such as "some avg10=0.00 avg60=0.00 avg300=0.00 total=0". nil:
// the kernel does not measure it.
func (r *reader) pressure(path, file string) *Pressure {
	text := r.text(path, file)
	if text == "" {
		return nil
	}
	return r.parsePressure(path, file, text)
}

func (r *reader) parsePressure(path, file, text string) *Pressure {
	p := &Pressure{}
	for line := range strings.Lines(text) {
		kind, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		d := &p.Some
		if kind == "full" {
			d = &p.Full
		}
		_, err := fmt.Sscanf(rest, "avg10=%g avg60=%g avg300=%g total=%d", &d.Avg10, &d.Avg60, &d.Avg300, &d.Total)
		if err != nil && r.err == nil {
			r.err = fmt.Errorf("%s/%s: %q: %w", path, file, line, err)
		}
	}
	return p
}

// listBits turns the kernel's list format (0-3,7) into a bit mask, the first byte
// having the lowest bits; nil for an empty list.
func listBits(text string) ([]byte, error) {
	var bits []byte
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		first, last, isRange := strings.Cut(item, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.ParseUint(first, 10, 16)
		to, err2 := strconv.ParseUint(last, 10, 16)
		if err != nil || err2 != nil || from > to {
			return nil, fmt.Errorf("%q is not a range", item)
		}
		for i := from; i <= to; i++ {
			for int(i/8) >= len(bits) {
				bits = append(bits, 0)
			}
			bits[i/8] |= 1 << (i % 8)
		}
	}
	return bits, nil
}
