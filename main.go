// Command adl-runtime is an OCI runtime: it runs bundles as containers.
package main

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
