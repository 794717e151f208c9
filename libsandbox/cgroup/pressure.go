package cgroup

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// PressureStats are those of a cgroup's three resources.
type PressureStats struct {
	CPU    Pressure `json:"cpu"`
	Memory Pressure `json:"memory"`
	IO     Pressure `json:"io"`
}

// Pressure reads the pressure files, which only the directory in the unified hierarchy has
// (Documentation/admin-guide/cgroup-v2.rst).
func (c *Cgroup) Pressure() (*PressureStats, error) {
	d := c.unified()
	if d == nil {
		return nil, errors.New("pressure: the container has no cgroup in a cgroup v2 hierarchy")
	}
	p := &PressureStats{}
	for _, f := range []struct {
		file string
		to   *Pressure
	}{{"cpu.pressure", &p.CPU}, {"memory.pressure", &p.Memory}, {"io.pressure", &p.IO}} {
		text, err := readFile(d.path, f.file)
		switch {
		case errors.Is(err, unix.ENOENT):
			return nil, fmt.Errorf("pressure: there is no %s in %s: the kernel has no pressure stall information (CONFIG_PSI, psi=1)", f.file, d.path)
		case errors.Is(err, unix.ENOTSUP), errors.Is(err, unix.EOPNOTSUPP):
			return nil, fmt.Errorf("pressure: %s: pressure stall information is switched off (psi=1, cgroup.pressure): %w", f.file, err)
		case err != nil:
			return nil, fmt.Errorf("pressure: %w", err)
		}
		r := reader{}
		*f.to = *r.parsePressure(d.path, f.file, text)
		if r.err != nil {
			return nil, fmt.Errorf("pressure: %w", r.err)
		}
	}
	return p, nil
}
