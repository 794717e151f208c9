package libsandbox

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/compile"
	"adl.run/adl-runtime/libsandbox/internal/engine"
)

// execLater has another process execute this program with args when this one has ended, or
// after so long: a Go program's start would take a processor from what somebody waits for.
// held are closed there then; they stay the caller's.
func execLater(args []string, held []*os.File, latest time.Duration) error {
	p := compile.NewLater(args, len(held), latest)
	if err := p.Verify(); err != nil {
		return err
	}
	exe, err := unix.Open("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open /proc/self/exe", err)
	}
	defer unix.Close(exe)
	var fds descriptors
	defer fds.close()
	files, err := openFiles(&fds, nil, nil, nil, held)
	if err != nil {
		return err
	}
	child, err := engine.Start(p, &engine.Options{Name: args[0], Files: files, CgroupFD: -1, Named: map[string]int{compile.FileExecutable: exe}})
	if err != nil {
		return fmt.Errorf("start %s: %w", args[0], err)
	}
	time.AfterFunc(latest, child.Close)
	return nil
}
