package runtime

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// keepOutputErrors makes a write to a stdout that went away an error instead of this
// process's end, which would leave the caller's terminal in raw mode and the
// container behind.
func keepOutputErrors() { signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE) }

// endSignals are those that ask a process to end, but for what its caller has it ignore
// (nohup(1)).
func endSignals() (all []os.Signal) {
	for _, sig := range []os.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP} {
		if !signal.Ignored(sig) {
			all = append(all, sig)
		}
	}
	return all
}
