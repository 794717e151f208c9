// Package compile translates a spec into the program of a container's init.
//
// It is a pure function: everything that depends on the host comes in as [Facts],
// so the same spec and facts give the same program on any machine, and golden
// listings test it without privileges. It neither makes nor checks anything; what
// the kernel refuses comes back from the running program as a fault that carries
// the note written here.
//
// The order of a container's set-up, which is the order of the ops:
//
//	join and make namespaces       host's view of the file system
//	mounts                         targets by descriptor below %root
//	barrier: cgroup                no later than the first mount that shows it
//	devices, terminal
//	barrier: hooks
//	pivot_root                     container's view
//	sysctl, read-only and masked paths
//	rlimits, user, capabilities, cwd
//	barrier: created; wait for the start
//	execve
package compile
