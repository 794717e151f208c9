package shell

import (
	"context"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// DirFD is the number that the session's directory has in the shell and in whatever
// the shell starts. dash cannot name descriptors above 9, and bash takes those from 10
// up for itself, one by one.
const DirFD = 100

// DefaultLimit is how many bytes of each of a command's outputs are kept.
const DefaultLimit = 16 << 20

// DefaultJobLimit is how many bytes of each of a job's outputs are kept.
const DefaultJobLimit = 64 << 10

// DefaultJobs is how many jobs, ended ones among them, a session remembers.
const DefaultJobs = 256

// Options say what New makes a session of.
type Options struct {
	// Args start the shell; empty means "/bin/sh". bash, dash and the ash of busybox are
	// known; a program with one argument alone gets the options that it needs to be
	// interactive without a terminal, more arguments are left as they are.
	Args []string
	// Env is the shell's environment. Nil is an empty one.
	Env []string
	// Home is the directory that the shell begins in, empty for "/".
	Home string
	// Start starts the shell. It is called for the first time by the first command, and
	// again whenever the shell has died.
	Start func(context.Context, *StartOptions) (*Process, error)
	// Dir is a directory that only this session writes to, and where it makes its FIFOs;
	// ShellDir is the same directory as the shell is given it, which should be a
	// read-only mount without symlinks, devices and programs. Nil for ShellDir means Dir.
	// The session owns both, and closes them. What it made, it removes.
	Dir, ShellDir *os.File
	// Limit is how many bytes of each output a Result keeps, the first and the last half
	// of it; 0 means DefaultLimit, a negative number none.
	Limit int
	// JobLimit is how many bytes of each output a Job keeps, the last of them; 0 means
	// DefaultJobLimit.
	JobLimit int
	// Jobs is how many jobs the session remembers, and how many Start lets run at once; 0
	// means DefaultJobs. Beyond it, the
	// oldest that has ended is forgotten; where none has, the oldest that a command left
	// behind, whose processes then get SIGPIPE when they write.
	Jobs int
	// Freeze stops and continues every process that the shell may have started, the shell
	// too. Nil means that processes are stopped one by one before they are killed.
	Freeze func(frozen bool) error
	// Generation changes when everything that the shell stood on was replaced. A shell
	// that is dead then was not lost: the next begins in Home, and nothing is carried
	// over. Nil means that it never changes.
	Generation func() string
	// Terminal gives commands a pseudo terminal: their stdin, stdout and stderr. What
	// processes in the background print is among the output of whichever command runs then,
	// and is no Job's. The container needs /dev/tty and /dev/null.
	Terminal bool
}

// StartOptions are what Options.Start has to give the shell.
type StartOptions struct {
	// Args is the command line. Args[0] is looked up in the PATH of Env where it has no
	// slash.
	Args []string
	// Env is the whole environment.
	Env []string
	// Cwd is the working directory. Where it cannot be entered, starting fails.
	Cwd string
	// Stdin becomes descriptor 0; Stdout becomes 1 and 2. Both are nil with Terminal. They
	// stay the session's.
	Stdin, Stdout *os.File
	// Dir becomes descriptor DirFD. It stays the session's.
	Dir *os.File
	// Terminal asks for a new session with a pseudo terminal as descriptors 0, 1, 2 and
	// controlling terminal.
	Terminal bool
}

// Process is a shell that has been started: a child of this process, with
// PR_SET_CHILD_SUBREAPER set, so that what it starts stays below it. Its signal
// dispositions are the defaults, its signal mask is empty.
type Process struct {
	// Pid is its id as this process sees it.
	Pid int
	// Wait reaps it. It is called once, when it has ended.
	Wait func() (unix.WaitStatus, error)
	// Console is the master of its terminal, nil without. The session owns it.
	Console *os.File
}

// Command is one command.
type Command struct {
	// Text is shell text of any length: lines, here-documents, function definitions. It
	// cannot contain NUL bytes.
	Text string
	// Input is what stdin has, Stdin where it comes from instead: it is read until it
	// ends, also ahead of what the command reads, and a Read that has begun is not waited
	// for. With neither, stdin is /dev/null.
	Input []byte
	Stdin io.Reader
	// Stdout and Stderr are written to as output comes, and nothing is then kept of it in
	// the Result. An error of theirs ends the command as the end of the context does.
	Stdout, Stderr io.Writer
	// Merge gives the command one pipe for both outputs, in the order of their writing:
	// Stdout.
	Merge bool
	// Timeout is the time after which the command is ended, IdleTimeout the time without
	// output. 0 is never.
	Timeout, IdleTimeout time.Duration
	// Isolated runs the command in a subshell: it leaves the session's state as it was.
	Isolated bool
	// Late, unless nil, is called by the goroutine that runs the command, at most once and
	// only where that waits for a shell or a session that is busy, or the command does not
	// end within some 4 ms: a caller may put off until then what would take another thread.
	Late func()
}

// Result is how a command ended.
type Result struct {
	// ExitStatus is what the shell says in $?, or what the shell itself exited with. A
	// program that was killed by signal n has 128+n here.
	ExitStatus int
	// Signal is what killed the shell, 0 where it was not.
	Signal unix.Signal
	// Stdout and Stderr are the outputs, byte for byte. DroppedStdout and DroppedStderr
	// are how many bytes are missing in the middle, after len/2 of them.
	Stdout, Stderr               []byte
	DroppedStdout, DroppedStderr int64
	// TimedOut: Timeout or IdleTimeout passed, and the command's processes were killed.
	TimedOut bool
	// Duration is the time from the command's being sent to its end.
	Duration time.Duration
	// Dir is the shell's working directory afterwards, without symlinks.
	Dir string
	// Restarted: the shell ended before the command did, or was found dead before it
	// began. A new one has the working directory and the exported variables; functions,
	// other variables, options, traps and the umask are lost.
	Restarted bool
	// Job is the number of the job under which output goes on being collected that
	// processes in the background still may write, 0 where there are none.
	Job int
}
