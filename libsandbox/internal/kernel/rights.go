package kernel

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// fileCaps are the capabilities that overrule the permissions and owners of files, and
// no others: not CAP_SYS_RESOURCE, which takes no notice of quotas (capabilities(7)).
const fileCaps = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH |
	1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID | 1<<unix.CAP_SETFCAP

// WithFileCaps runs f, on one thread, with those capabilities of this process alone that
// are about files.
func WithFileCaps(f func() error) error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var old, few [2]unix.CapUserData
	runtime.LockOSThread()
	if err := unix.Capget(&hdr, &old[0]); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("capget: %w", err)
	}
	few = old
	few[0].Effective &= fileCaps & (1<<32 - 1)
	few[1].Effective &= fileCaps >> 32
	err := unix.Capset(&hdr, &few[0])
	if err != nil {
		err = fmt.Errorf("capset: %w", err)
	} else {
		err = f()
	}
	if unix.Capset(&hdr, &old[0]) == nil {
		runtime.UnlockOSThread()
	} // otherwise the thread ends with its goroutine
	return err
}
