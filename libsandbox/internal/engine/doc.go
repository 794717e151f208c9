// Package engine turns a [program.Program] into a running process.
//
// The program is written, behind an interpreter of some three hundred bytes, as a
// complete static ELF executable into a sealed memfd, which is then started like
// any other program. So the child never runs a copy of this process: no second
// start of a Go runtime, no code in a forked copy of a multi-threaded process, and
// /proc/PID/exe is the memfd, not the runtime on the host (CVE-2019-5736).
//
//	0x400000  ELF header, two program headers
//	0x4000b0  interpreter        interp_GOARCH.s
//	0x400400  ops, 64 bytes each
//	          data               paths, structures, argv, envp
//
// All of it is one read-and-execute segment. The slots are on the child's stack.
//
// # Records
//
// The child and its parent talk over one socket pair. The child writes records of
// eight bytes, two native 32-bit words; the parent writes single bytes:
//
//	child -> parent   {op, errno}          that op failed; the child has exited
//	                  {Ready, n}           barrier n reached; waits for a byte
//	                  {Forked, pid}        goes on as process pid
//	parent -> child   one byte             go on
//	end of file       to the parent: execve succeeded
//	                  to the child: the parent died; the child exits
//
// A program that starts nothing can also run on a thread of this process, without any of
// the above: see [RunAside].
package engine
