package cgroup

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"adl.run/adl-runtime/libsandbox/internal/systemd"
)

// With the systemd driver the cgroup is that of a transient unit:
//
//	linux.cgroupsPath         unit                    directory, in each hierarchy
//	system.slice:docker:abc   docker-abc.scope        /system.slice/docker-abc.scope
//	a-b.slice:cri:abc         cri-abc.scope           /a.slice/a-b.slice/cri-abc.scope
//	a.slice:any:a-b.slice     a-b.slice               /a.slice/a-b.slice
//	(none), id abc            adl-runtime-abc.scope   /system.slice/adl-runtime-abc.scope
//
// A scope has to be made with a process, so init is started outside and put into it
// when it asks (Enter). systemd owns what it can limit, and rewrites it whenever it
// likes, as with daemon-reload; so it is told of those limits, and all are written
// directly as well. Its hierarchies are its own, and Delegate= keeps it off what is
// below the unit.

// unit is a unit of systemd.
type unit struct {
	name, slice string
	properties  []systemd.Property // beside the limits
	resources   *specs.LinuxResources
	started     bool
}

// unitKey is the key of the unit's name in Paths.
const unitKey = "unit"

// newUnit reads linux.cgroupsPath as runc's driver does.
func newUnit(o *Options) (*unit, error) {
	u := &unit{name: "adl-runtime-" + o.ID + ".scope", slice: "system.slice", resources: o.Resources}
	if o.Path != "" {
		part := strings.Split(o.Path, ":")
		if len(part) != 3 {
			return nil, fmt.Errorf(`linux.cgroupsPath %q: expected "slice:prefix:name" for systemd cgroups`, o.Path)
		}
		if part[0] != "" {
			u.slice = part[0]
		}
		if u.name = part[2]; !u.isSlice() {
			u.name = part[1] + "-" + part[2] + ".scope"
		}
	}
	if !isUnitName(u.name) {
		return nil, fmt.Errorf("linux.cgroupsPath %q: %q is not the name of a unit", o.Path, u.name)
	}
	_, err := expandSlice(u.slice)
	if err == nil && u.isSlice() {
		_, err = expandSlice(u.name)
	}
	if err != nil {
		return nil, fmt.Errorf("linux.cgroupsPath %q: %w", o.Path, err)
	}
	u.properties, err = annotated(o.Annotations)
	return u, err
}

// annotated are the properties that annotations org.systemd.property.NAME ask for.
func annotated(annotations map[string]string) (all []systemd.Property, err error) {
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		name, ok := strings.CutPrefix(key, "org.systemd.property.")
		if !ok {
			continue
		}
		p, err := systemd.ParseProperty(name, annotations[key])
		if err != nil {
			return nil, fmt.Errorf("annotations[%q]: %w", key, err)
		}
		all = append(all, p)
	}
	return all, nil
}

func (u *unit) isSlice() bool { return strings.HasSuffix(u.name, ".slice") }

// path is the unit's directory in a hierarchy, from its root. newUnit has seen that
// there is one.
func (u *unit) path() string {
	if u.isSlice() {
		path, _ := expandSlice(u.name)
		return path
	}
	dir, _ := expandSlice(u.slice)
	return filepath.Join(dir, u.name)
}

// isUnitName: systemd.unit(5). It becomes a part of a path.
func isUnitName(name string) bool {
	const valid = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@+"
	return len(name) < 256 && strings.Trim(name, valid) == ""
}

// expandSlice returns the directory of a slice: those of the slices that its name
// consists of, one in the other. -.slice is the root (systemd.slice(5)).
func expandSlice(slice string) (string, error) {
	base, ok := strings.CutSuffix(slice, ".slice")
	if base == "-" {
		return "/", nil
	}
	path, prefix := "", ""
	for part := range strings.SplitSeq(base, "-") {
		if !ok || part == "" || strings.Contains(part, "/") || !isUnitName(slice) {
			return "", fmt.Errorf("invalid slice name: %q", slice)
		}
		prefix += part
		path += "/" + prefix + ".slice"
		prefix += "-"
	}
	return path, nil
}

// Enters says that the cgroup is made by Enter, and not by Create.
func (c *Cgroup) Enters() bool { return c.unit != nil }

// Enter is Create for a cgroup of systemd's: it has systemd make the unit with process
// pid in it, then sees to what systemd does not do.
func (c *Cgroup) Enter(pid int) error {
	conn, err := systemd.Dial()
	if err != nil {
		return fmt.Errorf("linux.cgroupsPath: %w", err)
	}
	defer conn.Close()
	limits, err := c.unitLimits(c.unit.resources)
	if err != nil {
		return fmt.Errorf("linux.resources.%w", err)
	}
	properties := slices.Concat(c.unit.head(c.mode, pid), limits, c.deviceProperties(), c.unit.properties)
	if err := conn.Start(c.unit.name, properties); err != nil {
		return fmt.Errorf("linux.cgroupsPath: %w", err)
	}
	c.unit.started = true
	for i := range c.dirs {
		if err := c.enterIn(&c.dirs[i], pid); err != nil {
			return fmt.Errorf("linux.cgroupsPath: %w", err)
		}
	}
	if err = c.apply(c.limits); err == nil {
		err = c.applyDevices()
	}
	if err != nil {
		return fmt.Errorf("linux.resources.%w", err)
	}
	return nil
}

// head are the properties that every unit gets. A scope is put into its slice; a slice
// lies where its name says, and only pulls the other in, as with runc.
func (u *unit) head(mode Mode, pid int) []systemd.Property {
	io := "IOAccounting"
	if mode != V2 {
		io = "BlockIOAccounting"
	}
	p := []systemd.Property{{Name: "Description", Value: systemd.String("container " + u.name)}}
	if u.isSlice() {
		p = append(p, systemd.Property{Name: "Wants", Value: systemd.Strings(u.slice)})
	} else {
		p = append(
			p,
			systemd.Property{Name: "Slice", Value: systemd.String(u.slice)},
			systemd.Property{Name: "Delegate", Value: systemd.Bool(true)},
			systemd.Property{Name: "PIDs", Value: systemd.Uint32s(uint32(pid))},
		)
	}
	for _, name := range [...]string{"MemoryAccounting", "CPUAccounting", io, "TasksAccounting"} {
		p = append(p, systemd.Property{Name: name, Value: systemd.Bool(true)})
	}
	return append(p, systemd.Property{Name: "DefaultDependencies", Value: systemd.Bool(false)})
}

// enterIn makes the directory in a hierarchy where systemd has not, as it knows not all
// controllers, and sees that the process gets there: into v1 hierarchies it goes by
// itself.
func (c *Cgroup) enterIn(d *dir, pid int) error {
	existed, err := c.createIn(&c.made, d)
	if err != nil {
		return err
	}
	pids, err := procs(nil, d.path)
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(slices.Clone(pids), func(p int) bool { return p == pid })
	if existed && len(others) > 0 {
		return fmt.Errorf("cgroup %s is not empty: %d other process(es) found", d.path, len(others))
	}
	d.claimed = true
	if d.unified() && !slices.Contains(pids, pid) {
		return writeFile(d.path, "cgroup.procs", strconv.Itoa(pid))
	}
	return nil
}

// stop has systemd let go of the unit. It would do that by itself when it sees that
// the cgroup is gone, but until then the name is taken.
func (u *unit) stop() error {
	conn, err := systemd.Dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Stop(u.name)
}

// tell changes the limits that systemd knows of.
func (c *Cgroup) tell(r *specs.LinuxResources) error {
	if c.unit == nil {
		return nil
	}
	limits, err := c.unitLimits(r)
	if err != nil {
		return fmt.Errorf("linux.resources.%w", err)
	}
	conn, err := systemd.Dial()
	if err != nil {
		return fmt.Errorf("linux.resources: %w", err)
	}
	defer conn.Close()
	if err := conn.Set(c.unit.name, limits); err != nil {
		return fmt.Errorf("linux.resources: %w", err)
	}
	return nil
}

// infinity is what systemd takes for no limit.
const infinity = math.MaxUint64

// limitList collects properties; its methods leave out what is not set.
type limitList []systemd.Property

func (l *limitList) add(name string, n uint64) {
	*l = append(*l, systemd.Property{Name: name, Value: systemd.Uint64(n)})
}

// number adds a limit: 0 is unset, -1 is none.
func (l *limitList) number(name string, v *int64) {
	if v != nil && *v != 0 {
		l.add(name, uint64(*v)) // -1 is infinity
	}
}

func (l *limitList) mask(name, list string) error {
	bits, err := listBits(list)
	if len(bits) > 0 && err == nil {
		*l = append(*l, systemd.Property{Name: name, Value: systemd.Bytes(bits)})
	}
	return err
}

// unitLimits are the limits that systemd has properties for (systemd.resource-control(5)).
func (c *Cgroup) unitLimits(r *specs.LinuxResources) ([]systemd.Property, error) {
	var l limitList
	if r == nil {
		return nil, nil
	}
	if m := r.Memory; m != nil {
		if err := l.memory(c.mode, m); err != nil {
			return nil, err
		}
	}
	if p := r.Pids; p != nil && p.Limit != nil {
		if n := max(*p.Limit, -1); n == 0 {
			l.add("TasksMax", 1) // see pids
		} else {
			l.add("TasksMax", uint64(n))
		}
	}
	if b := r.BlockIO; b != nil && b.Weight != nil && *b.Weight != 0 && c.mode != V2 {
		l.add("BlockIOWeight", uint64(*b.Weight))
	}
	if r.CPU != nil {
		if err := l.cpu(c.mode, r.CPU); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Unified)) {
		if err := l.unified(name, strings.TrimSpace(r.Unified[name])); err != nil {
			return nil, fmt.Errorf("unified.%s: %q: %w", name, r.Unified[name], err)
		}
	}
	return l, nil
}

func (l *limitList) memory(mode Mode, m *specs.LinuxMemory) error {
	if mode != V2 {
		l.number("MemoryLimit", m.Limit)
		return nil
	}
	l.number("MemoryMax", m.Limit)
	l.number("MemoryLow", m.Reservation)
	swap, err := v2Swap(m)
	switch {
	case err != nil || swap == "":
		return err
	case swap == "max":
		l.add("MemorySwapMax", infinity)
		return nil
	}
	n, err := strconv.ParseUint(swap, 10, 64)
	l.add("MemorySwapMax", n)
	return err
}

func (l *limitList) cpu(mode Mode, c *specs.LinuxCPU) error {
	if c.Shares != nil && *c.Shares != 0 {
		if mode == V2 {
			l.add("CPUWeight", weightOfShares(*c.Shares))
		} else {
			l.add("CPUShares", *c.Shares)
		}
	}
	period := uint64(0)
	if c.Period != nil {
		period = *c.Period
	}
	l.quota(value(c.Quota), period)
	if err := l.mask("AllowedCPUs", c.Cpus); err != nil {
		return fmt.Errorf("cpu.cpus: %w", err)
	}
	if err := l.mask("AllowedMemoryNodes", c.Mems); err != nil {
		return fmt.Errorf("cpu.mems: %w", err)
	}
	return nil
}

// quota: for systemd a quota is the time in each second, in microseconds.
func (l *limitList) quota(quota int64, period uint64) {
	if period != 0 {
		l.add("CPUQuotaPeriodUSec", period)
	}
	if quota > 0 {
		l.add("CPUQuotaPerSecUSec", perSecond(quota, period))
	} else if quota < 0 {
		l.add("CPUQuotaPerSecUSec", infinity)
	}
}

// defaultPeriod is the kernel's for quotas, in microseconds.
const defaultPeriod = 100000

// rounded is r with the quota that systemd will make of it, so that what is written
// directly is the same.
func (c *Cgroup) rounded(r *specs.LinuxResources) *specs.LinuxResources {
	if c.unit == nil || r == nil || r.CPU == nil || value(r.CPU.Quota) <= 0 {
		return r
	}
	n, cpu, period := *r, *r.CPU, uint64(defaultPeriod)
	if cpu.Period != nil && *cpu.Period != 0 {
		period = *cpu.Period
	}
	quota := int64(perSecond(*cpu.Quota, period) * period / 1000000)
	cpu.Quota, n.CPU = &quota, &cpu
	return &n
}

// perSecond rounds up to whole percents, which are what systemd keeps: after a
// daemon-reload it would be less than was asked for.
func perSecond(quota int64, period uint64) uint64 {
	const percent = 10000
	if period == 0 {
		period = defaultPeriod
	}
	us := uint64(quota) * 1000000 / period
	return (us + percent - 1) / percent * percent
}

// unified are limits by the names of their files. A file that systemd has no property
// for is only written.
func (l *limitList) unified(file, text string) error {
	name := ""
	switch file {
	case "memory.high":
		name = "MemoryHigh"
	case "memory.low":
		name = "MemoryLow"
	case "memory.min":
		name = "MemoryMin"
	case "memory.max":
		name = "MemoryMax"
	case "memory.swap.max":
		name = "MemorySwapMax"
	case "pids.max":
		name = "TasksMax"
	case "cpu.weight":
		name = "CPUWeight"
	case "cpuset.cpus":
		return l.mask("AllowedCPUs", text)
	case "cpuset.mems":
		return l.mask("AllowedMemoryNodes", text)
	case "cpu.max":
		return l.unifiedQuota(text)
	default:
		return nil
	}
	if text == "max" {
		l.add(name, infinity)
		return nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return nil // systemd does not take what the kernel may: 64M
	}
	if name == "TasksMax" {
		n = max(n, 1)
	}
	l.add(name, n)
	return nil
}

func (l *limitList) unifiedQuota(text string) error {
	first, second, _ := strings.Cut(text, " ")
	quota, err := strconv.ParseInt(first, 10, 64)
	if first == "max" {
		quota, err = -1, nil
	}
	period := uint64(0)
	if second != "" && err == nil {
		period, err = strconv.ParseUint(strings.TrimSpace(second), 10, 64)
	}
	if err != nil {
		return errors.New("not a quota and a period")
	}
	l.quota(quota, period)
	return nil
}

// deviceProperties has systemd hold the device rules of cgroup v1, because there it
// writes its own over ours with each daemon-reload: without these, access to every
// device. On v2 its filter is another one beside ours, and can open nothing.
//
// What it has no words for it denies: a policy with exceptions from allowing all, and
// rules for a minor number of every major.
func (c *Cgroup) deviceProperties() []systemd.Property {
	if d := c.controller("devices"); d == nil || d.unified() {
		return nil
	}
	if c.devices.allow && len(c.devices.exceptions) == 0 {
		return []systemd.Property{{Name: "DevicePolicy", Value: systemd.String("auto")}}
	}
	var allowed [][2]string
	for _, e := range c.devices.exceptions {
		kind, n := "char", "*"
		if e.kind == 'b' {
			kind = "block"
		}
		switch {
		case c.devices.allow, e.major == anyNumber && e.minor != anyNumber:
			continue
		case e.minor != anyNumber:
			n = fmt.Sprintf("/dev/%s/%d:%d", kind, e.major, e.minor)
		case e.major != anyNumber:
			n = fmt.Sprintf("%s-%d", kind, e.major)
		default:
			n = kind + "-*"
		}
		allowed = append(allowed, [2]string{n, e.access.String()})
	}
	return []systemd.Property{
		{Name: "DevicePolicy", Value: systemd.String("strict")},
		{Name: "DeviceAllow", Value: systemd.Pairs(allowed)},
	}
}
