package compile

import (
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// FileExecutable is the descriptor of what NewLater executes.
const FileExecutable = "executable"

// NewLater compiles a process that executes FileExecutable with args, in an empty
// environment and a session of its own, when the runtime has ended or after so long. Until
// then it also holds so many descriptors from number 3 on.
func NewLater(args []string, held int, latest time.Duration) *program.Program {
	const set = 8 // bytes of a signal set
	b := program.NewBuilder(3 + held)
	b.Note("later")
	b.Let(program.FaultFD, b.File(FileSync))
	executable := b.File(FileExecutable)
	b.Emit(unix.SYS_SETSID)
	b.Emit(unix.SYS_CHDIR, b.String("/"))
	ended := b.Slot("ended") // struct pollfd of FileSync, which is the first one
	b.Let(ended, program.Num(uint64(b.FirstFile)|unix.POLLIN<<32))
	b.Emit(unix.SYS_PPOLL, program.In(ended, 1), program.Num(1), b.Words(uint64(latest/time.Second), uint64(latest%time.Second)), program.Num(0), program.Num(set))
	if held > 0 {
		b.Emit(unix.SYS_CLOSE_RANGE, program.Num(3), program.Num(3+held-1), program.Num(0))
	}
	seal(b, 2)
	b.Emit(unix.SYS_EXECVEAT, executable, b.String(""), b.Strings(args), b.Strings(nil), program.Num(unix.AT_EMPTY_PATH))
	return &b.Program
}
