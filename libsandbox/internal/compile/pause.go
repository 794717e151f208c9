package compile

import (
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// FilePause is the descriptor of the executable of NewPause, for Options.Pause.
const FilePause = "pause"

// NewPause compiles a process 1 that needs nothing: no file of the container, no memory
// but a page or two, no CPU time. Instead of waiting for children it ignores SIGCHLD, so
// that the kernel reaps whatever becomes its child (wait(2), NOTES). SIGTERM, SIGINT and
// SIGHUP end it; they are read, as the kernel keeps from the process 1 of a pid namespace
// each signal that it has no handler for (pid_namespaces(7)). read(2) of a signalfd goes
// on where a freeze or a stop has interrupted it, which sigwaitinfo(2) does not.
func NewPause() *program.Program {
	const (
		ignore = 1   // SIG_IGN
		set    = 8   // bytes of a signal set
		info   = 128 // bytes of a signalfd_siginfo
		bit    = uint64(1)
	)
	b := program.NewBuilder(3)
	b.Note("pause")
	b.Let(program.FaultFD, program.Num(^uint32(0))) // nobody listens
	fd, buf := b.Slot("signals"), b.Slots("info", info/8)
	mask := b.Words(bit<<(unix.SIGTERM-1) | bit<<(unix.SIGINT-1) | bit<<(unix.SIGHUP-1))
	b.Emit(unix.SYS_PRCTL, program.Num(unix.PR_SET_NAME), b.String("pause"))
	b.Emit(unix.SYS_RT_SIGACTION, program.Num(int(unix.SIGCHLD)), b.Words(ignore, 0, 0, 0), program.Num(0), program.Num(set))
	b.Emit(unix.SYS_RT_SIGPROCMASK, program.Num(unix.SIG_SETMASK), mask, program.Num(0), program.Num(set))
	b.EmitTo(fd, unix.SYS_SIGNALFD4, program.Num(^uint32(0)), mask, program.Num(set), program.Num(unix.SFD_CLOEXEC))
	b.Emit(unix.SYS_READ, program.Val(fd), program.Out(buf, info/8), program.Num(info))
	b.Emit(unix.SYS_EXIT_GROUP, program.Num(0))
	return &b.Program
}
