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
