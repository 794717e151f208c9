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

// setting is one limit: a line to write to a file.
type setting struct {
	field      string // below linux.resources
	value      string // as the spec has it, for errors
	controller string
	file       string
	data       string

	// other is the file, with its own data, to write where file does not exist.
	other, otherData string
	// optional: nothing is lost where neither file exists.
	optional bool
	// exact: the kernel rounds instead of refusing, so read the value back.
	exact bool
	// keepFirst: data follows the first word of what the file says now.
	keepFirst bool
	// usage is a file whose value the new limit must exceed.
	usage string
}

// settings translates linux.resources, device rules aside, and refuses what the
// mode cannot do. It is where a limit that has no effect would have to be dropped,
// so it drops none but those the spec itself calls obsolete: memory.kernel and
// memory.kernelTCP.
func settings(mode Mode, r *specs.LinuxResources) ([]setting, error) {
	if mode == V2 {
		return v2Settings(r)
	}
	return v1Settings(r)
}

// list collects settings; its methods leave out what is not set.
type list []setting

// number adds a limit that is unset when nil or zero.
func number[T int64 | uint64 | uint32 | uint16](l *list, field string, v *T, controller, file string) *setting {
	if v == nil || *v == 0 {
		return nil
	}
	return l.add(field, fmt.Sprint(*v), controller, file)
}

func (l *list) add(field, value, controller, file string) *setting {
	*l = append(*l, setting{field: field, value: value, controller: controller, file: file, data: value})
	return &(*l)[len(*l)-1]
}

// apply writes the settings. Some are only valid together (memory and memory+swap;
// a quota with its period and burst; both realtime values), in an order that
// depends on what was set before. So those that the kernel refuses are tried again
// after the others, for as long as that gets further.
func (c *Cgroup) apply(pending []setting) error {
	for len(pending) > 0 {
		var refused []setting
		var first error
		for i := range pending {
			err := c.write(&pending[i])
			if err == nil {
				continue
			}
			if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EBUSY) {
				return err
			}
			if first == nil {
				first = err
			}
			refused = append(refused, pending[i])
		}
		if len(refused) == len(pending) {
			return first
		}
		pending = refused
	}
	return nil
}

func (c *Cgroup) write(s *setting) error {
	d := c.controller(s.controller)
	if d == nil {
		if s.optional {
			return nil
		}
		return s.missing()
	}
	if err := s.check(d.path); err != nil {
		return err
	}
	data := s.data
	if s.keepFirst {
		now, err := readFile(d.path, s.file)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", s.field, s.value, err)
		}
		first, _, _ := strings.Cut(now, " ")
		data = first + " " + data
	}
	err := writeFile(d.path, s.file, data)
	if s.other != "" && errors.Is(err, unix.ENOENT) {
		err = writeFile(d.path, s.other, s.otherData)
	}
	switch {
	case s.optional && errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.ENOENT) && d.unified() && !hasController(d.root, s.controller):
		return s.missing()
	case errors.Is(err, unix.ENOENT) && d.unified() && !hasController(d.path, s.controller):
		return fmt.Errorf("%s: %s: the %s controller could not be enabled for cgroup %s", s.field, s.value, s.controller, d.path)
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%s: %s: this kernel cannot limit it: %w", s.field, s.value, err)
	case err != nil:
		return fmt.Errorf("%s: %s: %w", s.field, s.value, err)
	case s.exact:
		return s.readBack(d.path)
	}
	return nil
}

// readBack finds out whether the kernel took a limit as it was meant: cpu.shares
// are silently moved into the range 2 to 262144.
func (s *setting) readBack(path string) error {
	now, err := readFile(path, s.file)
	if err == nil && now != s.data {
		err = fmt.Errorf("out of range, the kernel makes it %s", now)
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w", s.field, s.value, err)
	}
	return nil
}

// check refuses a limit below what is in use (memory.checkBeforeUpdate): memory.max
// would take it and start killing. Usage that cannot be read does not stand in the
// way, as in runc.
func (s *setting) check(path string) error {
	if s.usage == "" {
		return nil
	}
	text, err := readFile(path, s.usage)
	if err != nil {
		return nil
	}
	limit, err := strconv.ParseUint(s.value, 10, 64)
	usage, err2 := strconv.ParseUint(text, 10, 64)
	if err == nil && err2 == nil && limit <= usage {
		return fmt.Errorf("%s: %s: not more than the %d bytes in use", s.field, s.value, usage)
	}
	return nil
}

func (s *setting) missing() error {
	return fmt.Errorf("%s: %s: the host has no %s cgroup controller", s.field, s.value, s.controller)
}

// hasController reports whether a directory of the unified hierarchy has a
// controller; every one has the pseudo-controller cgroup.
func hasController(path, controller string) bool {
	text, _ := readFile(path, "cgroup.controllers")
	return controller == "cgroup" || slices.Contains(strings.Fields(text), controller)
}
