// Command conformance runs the validation programs of
// github.com/opencontainers/runtime-tools against this repository's runtime,
// runc and crun in one run, and prints a table.
//
//	go -C tests/conformance run . [-run REGEXP] [-j N] [-timeout D]
//
// The runtime under test is $ADL_RUNTIME, or build/adl-runtime. It must run as
// root, on a machine with runc, crun and a static busybox. Everything it makes
// goes to build/conformance (programs, rootfs, logs) or to one temporary
// directory that is removed at the end.
//
// The rule: ours must pass every program that runc or crun passes here. Each
// program that ours does not pass must have a line in reasons.txt, and each line
// there must be true: a reason for a program that passes is an error as well.
//
//	conformance (this process: build, schedule, judge, print)
//	    └─ conformance supervise   one for each program and runtime, in a mount
//	        │                      namespace of its own: subreaper, time limit,
//	        │                      what was left behind
//	        └─ a validation program, RUNTIME=build/conformance/tools/shim
//	            └─ shim            sets --root, notes the container's id and
//	                │              cgroup
//	                └─ (exec) the runtime
//
// The mount namespace is there because a program has containers that share the
// runtime's own, and runc then changes the propagation of / and leaves mounts.
//
// What it does not prove: the suite dates from 2019 and was written against
// version 1.0.1 of the specification. Newer parts of the specification are not
// covered, and several programs cannot be passed by any runtime.
package main
