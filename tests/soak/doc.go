// Command soak sends many commands to sandboxes for a long time, breaks what can break
// meanwhile, and checks every result: each command prints a number of its own and what the
// command before it in the same shell has left, so that nothing can be lost, be another
// command's or survive a reset unseen. At the end nothing may be left of the sandboxes.
//
// Each sandbox has three shells: its own, another of the library's, and that of the verb
// `shell`, whose holder is a process. It has one worker, which takes its steps (steps.go)
// at random; what breaks something happens beside a command, or before it. Every fourth
// sandbox has a layer of 4 MB in memory, which is filled up, and every other one bash.
package main
