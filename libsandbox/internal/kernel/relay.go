package kernel

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Relay receives signals through a pipe: one byte with the number of each.
//
// os/signal would do, at 20 to 50 us a signal, because a thread of its own changes
// its mask for each of them, and with two threads more; in a process that runs one
// container and ends, that was a tenth of the whole (measured on 6.18). Here the
// handler is six instructions that write to the pipe. Dispositions belong to the
// process, so there is one Relay at a time.
type Relay struct {
	r, w int
	old  [lastSignal + 1]sigaction
	set  [lastSignal + 1]bool
}

// sigaction is the kernel's struct of rt_sigaction(2).
type sigaction struct {
	handler  uintptr
	flags    uint64
	restorer uintptr
	mask     uint64
}

const (
	lastSignal = 64
	sigsetSize = 8
	sigIgnore  = 1 // SIG_IGN

	saSigInfo  = 0x4
	saRestorer = 0x4000000
	saOnStack  = 0x8000000
	saRestart  = 0x10000000
)

// relayFD is the descriptor that the handler writes to.
//
//lint:ignore U1000 the assembly reads it
var relayFD int32 = -1

// relayPC and restorerPC return the addresses of the handler and of what it returns
// to.
func relayPC() uintptr
func restorerPC() uintptr

// CatchSignals begins to receive every signal that a program may be sent and does
// not ignore now. Left out are those that the hardware raises, those of Go's
// scheduler and profiler, and SIGPIPE.
func CatchSignals() (*Relay, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, fmt.Errorf("signals: pipe: %w", err)
	}
	// Only the handler must never block.
	if _, err := unix.FcntlInt(uintptr(p[0]), unix.F_SETFL, 0); err != nil {
		return nil, fmt.Errorf("signals: pipe: %w", err)
	}
	l := &Relay{r: p[0], w: p[1]}
	relayFD = int32(l.w)
	act := sigaction{
		handler: relayPC(), restorer: restorerPC(), mask: ^uint64(0),
		flags: saSigInfo | saRestorer | saOnStack | saRestart,
	}
	for sig := 1; sig <= lastSignal; sig++ {
		if !relayed(unix.Signal(sig)) {
			continue
		}
		if errno := rtSigaction(sig, nil, &l.old[sig]); errno != 0 || l.old[sig].handler == sigIgnore && unix.Signal(sig) != unix.SIGCHLD {
			continue
		}
		l.set[sig] = rtSigaction(sig, &act, nil) == 0
	}
	return l, nil
}

func relayed(sig unix.Signal) bool {
	switch sig {
	case unix.SIGKILL, unix.SIGSTOP, // cannot be caught
		unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGTRAP, unix.SIGSYS, // this process's own faults
		unix.SIGURG, unix.SIGPROF, // Go's
		unix.SIGPIPE,
		32, 33: // the C library's (nptl(7))
		return false
	}
	return true
}

func rtSigaction(sig int, act, old *sigaction) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(act)), uintptr(unsafe.Pointer(old)), sigsetSize, 0, 0)
	return errno
}

// Next waits for a signal.
func (l *Relay) Next() (unix.Signal, error) {
	var b [1]byte
	if _, err := Read(l.r, b[:]); err != nil {
		return 0, fmt.Errorf("signals: %w", err)
	}
	return unix.Signal(b[0]), nil
}

// NextOr is Next that also comes back, with 0, when descriptor fd can be read from.
func (l *Relay) NextOr(fd int) (unix.Signal, error) {
	fds := []unix.PollFd{{Fd: int32(l.r), Events: unix.POLLIN}, {Fd: int32(fd), Events: unix.POLLIN}}
	if err := Retry(func() error { _, err := unix.Poll(fds, -1); return err }); err != nil {
		return 0, fmt.Errorf("signals: %w", err)
	}
	if fds[0].Revents != 0 {
		return l.Next()
	}
	return 0, nil
}

// Close gives the signals their former actions back.
func (l *Relay) Close() {
	for sig := range l.set {
		if l.set[sig] {
			rtSigaction(sig, &l.old[sig], nil)
		}
	}
	unix.Close(l.r)
	unix.Close(l.w)
}

// IgnoredSignals returns the signals that this process ignores.
func IgnoredSignals() (list []int) {
	for sig := 1; sig <= lastSignal; sig++ {
		var old sigaction
		if rtSigaction(sig, nil, &old) == 0 && old.handler == sigIgnore {
			list = append(list, sig)
		}
	}
	return list
}
