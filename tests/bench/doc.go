// Command bench compares adl-runtime with crun and runc: the time of run,
// create, start, delete, exec, shell and --version, and the memory of the init that waits
// between create and start.
//
// What it does to compare like with like:
//
//   - Interleaved. Every round measures each runtime in turn, in an order that
//     walks through all permutations, so slow drift of the machine and the
//     kernel's deferred teardown of the previous container hit all alike.
//   - Idle gaps. Some costs (a write to cgroup.procs waits for an RCU grace
//     period) show only after tens of milliseconds of idleness, so every cell is
//     measured back to back and again with a gap before each measured command.
//   - N at once. N processes, one for each container, are released at one
//     instant of CLOCK_MONOTONIC. They are processes and not goroutines of one,
//     because syscall.ForkExec holds a process-wide lock until the child's
//     execve and would line the N commands up.
//   - Nothing but the command is timed. A worker (this program again, one for
//     each runtime and slot) has argv, environment and /dev/null ready and does
//     ForkExec and wait4 between two readings of the clock.
//   - The same surroundings. Each worker has a private mount namespace of the
//     same kind. crun 1.8 refuses a hybrid cgroup layout, so in its namespace
//     the cgroup v2 mount below /sys/fs/cgroup is taken away, once, untimed.
//
// Every command's success is checked beyond its exit status, untimed: the init
// lives after create, executes the program after start, and state, cgroup and
// processes are gone after delete. The first failure stops the bench.
//
// With -rate N it measures exec alone instead, N times a second in one container,
// and shows whether that gets slower.
//
// What it does not measure: image handling, networking, systemd cgroups. A busy machine
// makes the numbers noise; the report carries the load average so that a reader can tell.
package main
