// Package cgroup is one container's cgroup, on hosts that mount cgroup v1, v2, or
// both (hybrid): where it lies, its limits, how a process gets in, freezing,
// killing, waiting, removing.
//
// Prepare plans and makes nothing, so that the plan (Paths) can be saved before
// Create makes the first directory; Load takes it back from there. Processes
// enter in two ways and never by a pid written to cgroup.procs, which after some
// idleness waits for an RCU grace period of 7-11 ms: the unified hierarchy by
// CLONE_INTO_CGROUP with the descriptor of OpenDir, the v1 hierarchies by the
// child writing "0" to each of TasksFiles.
//
// Hierarchies are found by reading /sys/fs/cgroup, never by parsing
// /proc/self/mountinfo, whose length grows with the containers of the host.
//
// Limits are tables from the spec's fields to files (limits_v1.go, limits_v2.go)
// and not opencontainers/cgroups, which is the oracle of the tests instead. Its
// errors do not name the spec's field; it reads devices.list twice; and every
// import of it, the root package included, links a D-Bus client with net and
// crypto: 47 package initialisers instead of 17, 40 page faults and 0.25 ms more
// for each start of each verb.
//
// With the systemd driver the cgroup is a unit's (systemd.go). Delegation to another
// user is not done here.
package cgroup
