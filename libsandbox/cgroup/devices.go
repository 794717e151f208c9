package cgroup

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// access is a set of device accesses, in the bits of struct bpf_cgroup_dev_ctx.
type access uint8

const (
	mknod access = 1 << iota
	read
	write
	allAccess = mknod | read | write
)

func (a access) String() string {
	s := ""
	for i, c := range [...]string{"m", "r", "w"} {
		if a&(1<<i) != 0 {
			s += c
		}
	}
	return s
}

const anyNumber = -1

// device is one device, or all of a major or minor number.
type device struct {
	kind         byte // 'b' or 'c'
	major, minor int64
}

// covers reports whether every device that o stands for is one of d.
func (d device) covers(o device) bool {
	return d.kind == o.kind && (d.major == anyNumber || d.major == o.major) && (d.minor == anyNumber || d.minor == o.minor)
}

// overlaps reports whether there is a device that both stand for.
func (d device) overlaps(o device) bool {
	meet := func(a, b int64) bool { return a == anyNumber || b == anyNumber || a == b }
	return d.kind == o.kind && meet(d.major, o.major) && meet(d.minor, o.minor)
}

func (d device) String() string {
	n := func(v int64) string {
		if v == anyNumber {
			return "*"
		}
		return strconv.FormatInt(v, 10)
	}
	return string(d.kind) + " " + n(d.major) + ":" + n(d.minor)
}

// devicePolicy is a list of device rules brought into the only form that v1 knows:
// a default and exceptions to it, none of which contradict each other. v2 uses the
// same form, so that a spec means the same on both.
type devicePolicy struct {
	allow      bool // what holds for devices without exception
	exceptions []exception
}

type exception struct {
	device
	access access
	// source is the rule's index in linux.resources.devices, or -1 for a default.
	source int
}

// newDevicePolicy takes linux.resources.devices in order, later rules over earlier
// ones, from a state in which nothing is allowed; then come the devices that every
// container may use, which no rule can take away, as in runc.
func newDevicePolicy(rules []specs.LinuxDeviceCgroup) (devicePolicy, error) {
	var p devicePolicy
	for i := range rules {
		if err := p.add(i, &rules[i]); err != nil {
			return p, fmt.Errorf("devices[%d]: %w", i, err)
		}
	}
	for _, d := range [...]struct {
		device
		access
	}{
		{device{'c', anyNumber, anyNumber}, mknod},
		{device{'b', anyNumber, anyNumber}, mknod},
		{device{'c', 1, 3}, allAccess},           // null
		{device{'c', 1, 5}, allAccess},           // zero
		{device{'c', 1, 7}, allAccess},           // full
		{device{'c', 1, 8}, allAccess},           // random
		{device{'c', 1, 9}, allAccess},           // urandom
		{device{'c', 5, 0}, allAccess},           // tty
		{device{'c', 5, 2}, allAccess},           // ptmx
		{device{'c', 136, anyNumber}, allAccess}, // pts
		{device{'c', 10, 200}, allAccess},        // net/tun: not in runc 1.2.0 to 1.2.3, which broke people
	} {
		// They can only widen what is allowed, which always can be expressed, but for
		// a denied wildcard that one of them would have to be cut out of.
		if err := p.apply(true, exception{d.device, d.access, -1}); err != nil {
			return p, fmt.Errorf("devices: default device %v: %w", d.device, err)
		}
	}
	return p, nil
}

func (p *devicePolicy) add(i int, r *specs.LinuxDeviceCgroup) error {
	e, err := parseDevice(r)
	if err != nil {
		return err
	}
	e.source = i
	if e.kind == 'a' {
		*p = devicePolicy{allow: r.Allow}
		return nil
	}
	return p.apply(r.Allow, e)
}

func parseDevice(r *specs.LinuxDeviceCgroup) (exception, error) {
	e := exception{device: device{kind: 'a', major: anyNumber, minor: anyNumber}}
	for _, n := range [...]struct {
		from *int64
		to   *int64
	}{{r.Major, &e.major}, {r.Minor, &e.minor}} {
		if n.from != nil {
			*n.to = *n.from
		}
		if *n.to < anyNumber || *n.to > 1<<32-1 {
			return e, fmt.Errorf("%d is not a device number", *n.to)
		}
	}
	for _, c := range r.Access {
		i := strings.IndexRune("mrw", c)
		if i < 0 {
			return e, fmt.Errorf("access: %q: must consist of r, w and m", r.Access)
		}
		e.access |= 1 << i
	}
	if e.access == 0 {
		return e, errors.New("access: empty")
	}
	switch r.Type {
	case "b", "c":
		e.kind = r.Type[0]
		return e, nil
	case "", "a":
		// The kernel ignores the rest of such a rule and takes it for all devices
		// with all accesses: nobody who wrote less means that.
		if e.device != (device{'a', anyNumber, anyNumber}) || e.access != allAccess {
			return e, errors.New("type: a means every device with access rwm")
		}
		return e, nil
	}
	return e, fmt.Errorf("type: %q: must be a, b or c", r.Type)
}

// apply makes a rule hold over those before it.
func (p *devicePolicy) apply(allow bool, e exception) error {
	if allow != p.allow {
		p.merge(e)
		return nil
	}
	// The rule restores the default, so exceptions have to go. Those that reach
	// beyond it would have to be split, which the kernel cannot: v1 ignores such a
	// rule without a word and leaves the device allowed (runc refuses it, too).
	for i := range p.exceptions {
		x := &p.exceptions[i]
		if x.access&e.access == 0 || !x.overlaps(e.device) {
			continue
		}
		if !e.covers(x.device) {
			return fmt.Errorf("%v %v cannot be taken out of %v %v of an earlier rule", e.device, e.access, x.device, x.access)
		}
		x.access &^= e.access
	}
	p.exceptions = slices.DeleteFunc(p.exceptions, func(x exception) bool { return x.access == 0 })
	return nil
}

func (p *devicePolicy) merge(e exception) {
	for i := range p.exceptions {
		if x := &p.exceptions[i]; x.device == e.device {
			x.access |= e.access
			return
		}
	}
	p.exceptions = append(p.exceptions, e)
}

// applyDevices puts the policy into force for a cgroup without processes.
func (c *Cgroup) applyDevices() error {
	d := c.controller("devices")
	if d == nil {
		return errors.New("devices: the host has no devices cgroup controller")
	}
	if d.unified() {
		return attachDevices(d.path, &c.devices)
	}
	return c.devices.writeV1(d.path)
}

// writeV1 sets the default, which also drops what was inherited from the parent,
// and then writes the exceptions. The cgroup's list is not read: new, its state is
// the parent's, and the first write forgets it.
//
// A default exception that the parent does not have is left out (EPERM): nobody
// asked for it, and it cannot be had.
func (p *devicePolicy) writeV1(path string) error {
	base, file := "devices.deny", "devices.allow"
	if p.allow {
		base, file = file, base
	}
	if err := writeFile(path, base, "a"); err != nil {
		return fmt.Errorf("devices: %w", err)
	}
	if len(p.exceptions) == 0 {
		return nil
	}
	lines := make([]string, len(p.exceptions))
	for i, e := range p.exceptions {
		lines[i] = e.device.String() + " " + e.access.String()
	}
	failed := 0
	err := writeLines(path, file, lines, func(i int, err error) bool {
		failed = i
		return err == unix.EPERM && p.exceptions[i].source < 0
	})
	if err != nil {
		return fmt.Errorf("devices[%d]: %s: %w", p.exceptions[failed].source, lines[failed], err)
	}
	return nil
}
