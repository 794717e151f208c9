package runtime

import (
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
