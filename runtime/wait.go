package runtime

import (
	"fmt"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

// subreap makes this process inherit what the container's processes leave
// behind (PR_SET_CHILD_SUBREAPER, prctl(2)): without a pid namespace of its own
// a container's daemons would become children of the host's init. It fails on
// no supported kernel, and is not passed on to children.
func subreap(c *cli.Context) {
	if !c.Bool("no-subreaper") {
		unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	}
}

// wait waits for the container's init, a child of this process, and reaps
// whatever other child ends meanwhile. It stands in for Sandbox.Wait, which
// knows nothing of other children.
func wait(init int) (unix.WaitStatus, error) {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, fmt.Errorf("wait for process %d: %w", init, err)
		case pid == init:
			return status, nil
		}
	}
}
