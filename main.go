// Command adl-runtime is an OCI runtime: it runs bundles as containers.
package main

// The number of threads need not follow the CPU limit of the caller's cgroup, which
// the Go runtime would find by reading /proc/self/mountinfo at every start.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

import (
	"os"

	"adl.run/adl-runtime/runtime"
)

// main is the only place that ends the process, so that everything below it can
// undo what it did. SIGPIPE keeps Go's meaning: a broken stdout or stderr ends
// the process as it would end any filter, any other broken pipe is an error.
func main() {
	os.Exit(runtime.Main(os.Args, os.Stdin, os.Stdout, os.Stderr))
}
