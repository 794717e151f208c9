// Command shell measures commands in a sandbox's shell: by library, by co-process and by
// command line, beside crun, runc and podman, whose exec starts a shell for each command,
// and beside the floor: a bash without a sandbox that is fed by a pipe and says the end of
// each command in its output.
//
// All of them run the programs of this machine: its /usr is mounted into the sandboxes.
// Rounds are interleaved in changing order, the first is not recorded, and only the
// command is timed. Every command's status and the length of its output are checked; the
// first failure stops the bench.
//
// It works in a mount namespace of its own, so that a mount cannot outlive it. crun 1.8
// refuses a hybrid cgroup layout, so the cgroup v2 mount beside v1 is taken away there, for
// all alike.
package main
