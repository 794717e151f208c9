// Package managers runs the programs that users put a runtime under — podman,
// containerd (by ctr and by its CRI) and Docker — on this project's runtime.
//
// Everything here is a test. The suite starts itself again in a mount and a network
// namespace of its own, with private copies of /etc, /run and /var/lib, so that no
// daemon, bridge, packet filter or socket of the machine is touched. Cgroups cannot
// be hidden that way: all containers are below one parent that the suite removes.
//
// After each scenario nothing of it may be left: no process, no mount, no cgroup and
// no file in the runtime's own state directory.
//
// The environment it reads:
//
//	MANAGERS_RUNTIME  the runtime to test; unset means build this repository's. A
//	                  reference ("runc") runs the same scenarios, which is how they
//	                  are known to be right.
//	MANAGERS_CGROUPS  "systemd" has podman and containerd ask systemd for cgroups;
//	                  unset means the runtime makes them
//	MANAGERS_SPEED    how often TestSpeed measures the managers' commands; unset means
//	                  that it is skipped
//	MANAGERS_SLOW     a factor for all time limits, for emulated machines
package managers
