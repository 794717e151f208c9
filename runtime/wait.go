package runtime

import (
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox"
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

// wait waits for the container's init, which is a child of this process, and
// reaps whatever else ends meanwhile. It looks before it reaps, because init's
// status belongs to the library.
func wait(c *cli.Context, sandbox *libsandbox.Sandbox) (unix.WaitStatus, error) {
	s, err := sandbox.State()
	if err != nil || s.Pid == 0 || c.Bool("no-subreaper") {
		return sandbox.Wait(c.Context)
	}
	for {
		if !ended(unix.P_ALL, 0, 0) || ended(unix.P_PID, s.Pid, unix.WNOHANG) {
			return sandbox.Wait(c.Context)
		}
		var status unix.WaitStatus
		pid, _ := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if pid == s.Pid { // it ended since the last look
			return status, nil
		}
	}
}

// ended reports whether a child has ended, and leaves it to be reaped. It waits
// for one unless flags has WNOHANG; without any child the answer is no.
func ended(kind, id, flags int) bool {
	for {
		var info unix.Siginfo
		err := unix.Waitid(kind, id, &info, unix.WEXITED|unix.WNOWAIT|flags, nil)
		if err != unix.EINTR {
			return err == nil && info.Signo != 0
		}
	}
}
