package libsandbox

import (
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel/rtnl"
)

// netDevices moves network devices of the host into the container (config-linux.md,
// "Network Devices"). They go with the network namespace: back to the host or, where
// they are virtual, away.
func (c *creation) netDevices() error {
	devices := c.bundle.Spec.Linux.NetDevices
	if len(devices) == 0 {
		return nil
	}
	netns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", c.child.Pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("linux.netDevices: network namespace: %w", err)
	}
	defer unix.Close(netns)
	for _, name := range slices.Sorted(maps.Keys(devices)) {
		newName := devices[name].Name
		if newName == "" {
			newName = name
		}
		if err := rtnl.Move(name, newName, netns); err != nil {
			return fmt.Errorf("linux.netDevices %q: %w", name, err)
		}
	}
	return nil
}
