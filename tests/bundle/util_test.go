package bundle_test

import (
	"os/exec"

	h "adl.run/adl-runtime/tests/harness"
)

// command is what an h.Option changes.
type command = exec.Cmd

// lastArg is the container id of a command started by Bundle.StartRun.
func lastArg(c *h.Cmd) string { return c.Args[len(c.Args)-1] }
