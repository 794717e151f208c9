package bundle_test

import (
	"os/exec"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	h "adl.run/adl-runtime/tests/harness"
)

// command is what an h.Option changes.
type command = exec.Cmd

// lastArg is the container id of a command started by Bundle.StartRun.
func lastArg(c *h.Cmd) string { return c.Args[len(c.Args)-1] }

// setPids sets linux.resources.pids.limit.
func setPids(n int64) h.Mutate {
	return h.Resources(func(r *specs.LinuxResources) { r.Pids = &specs.LinuxPids{Limit: &n} })
}
