package kernel

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// IgnoredSignals returns the signals that this process ignores (sigaction(2)).
func IgnoredSignals() (list []int) {
	const (
		last    = 64
		setSize = 8
		ignore  = 1 // SIG_IGN
	)
	var act [4]uintptr // struct sigaction; the handler comes first
	for sig := 1; sig <= last; sig++ {
		_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), 0, uintptr(unsafe.Pointer(&act)), setSize, 0, 0)
		if errno == 0 && act[0] == ignore {
			list = append(list, sig)
		}
	}
	return list
}
