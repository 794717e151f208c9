package libsandbox

import "adl.run/adl-runtime/libsandbox/cgroup"

// Pressure is how long processes of a container waited for a resource.
type Pressure = cgroup.PressureStats

// Pressure reads how long the container's processes waited for CPUs, memory and block
// devices. ErrNotRunning: it is stopped. It takes a container with a cgroup in a cgroup v2
// hierarchy, and a kernel with pressure stall information; the error says what is missing.
func (sb *Sandbox) Pressure() (*Pressure, error) {
	_, cg, err := sb.live()
	if err != nil {
		return nil, err
	}
	return cg.Pressure()
}
