package kernel

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// WithAffinity calls f on a thread that is confined to the CPUs in mask, one bit each
// (sched_setaffinity(2)); what f starts inherits that. The empty mask confines nothing.
func WithAffinity(mask []uint64, f func() error) error {
	if len(mask) == 0 {
		return f()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	old := make([]uint64, 8192/64) // NR_CPUS at most
	n, err := affinity(unix.SYS_SCHED_GETAFFINITY, old)
	if err != nil {
		return err
	}
	if _, err := affinity(unix.SYS_SCHED_SETAFFINITY, mask); err != nil {
		return err
	}
	defer func() { _, _ = affinity(unix.SYS_SCHED_SETAFFINITY, old[:n/8]) }()
	return f()
}

// affinity calls sched_getaffinity, which returns a size in bytes, or
// sched_setaffinity.
func affinity(call uintptr, mask []uint64) (int, error) {
	n, _, errno := unix.RawSyscall(call, 0, uintptr(8*len(mask)), uintptr(unsafe.Pointer(&mask[0])))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
