// Package program is the instruction set that a container's init is written in:
// a flat list of system calls with their arguments, and nothing else.
//
// A [Program] is pure data. Package compile writes it from a spec, package engine
// turns it into a tiny static ELF and runs it. The interpreter inside that ELF
// knows four things only: where the slots are, how to fetch an argument, what to
// do with an error, and how to skip forward. Everything else is ops.
//
//	        ┌──────────────────────── op ────────────────────────┐
//	 call   │ six arguments                    result  errors     │ note
//	openat2 │ %root, "proc", {O_PATH}, 24  =>  %t      ENOENT->+3 │ mounts[0] /proc
//
// An argument is an immediate, the address of a piece of the data block, the value
// of a slot, the address of a slot, or an inherited descriptor. A slot is eight
// bytes on the child's stack. The result goes to a slot. A negative result is a
// fault that ends the child, unless the op tolerates that errno: then execution
// goes on, possibly further down. There are no backward jumps, so every program
// ends.
//
// The package does no I/O and imports nothing that could.
package program
