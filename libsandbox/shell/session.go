package shell

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// ErrClosed: the session has been closed.
var ErrClosed = errors.New("session is closed")

// errUnimplemented is what all of it says for now.
var errUnimplemented = errors.New("not implemented yet")

// Session is a shell that is kept between commands. Its methods may be called from
// several goroutines; commands run one after the other, in the order of the calls.
type Session struct{}

// New makes a session. The shell is started by its first command.
func New(o *Options) (*Session, error) { return &Session{}, nil }

// Run runs a command to its end. When ctx ends before the command does, everything that
// the command has started is killed, and what there is of the Result is returned beside
// the error of ctx. A command that fails is no error.
func (s *Session) Run(ctx context.Context, c *Command) (*Result, error) { return nil, errUnimplemented }

// Begin sends a command and leaves its outputs to the caller. The session is busy until
// Execution.End. Stdout, Stderr, and IdleTimeout of the command are not looked at.
func (s *Session) Begin(ctx context.Context, c *Command) (*Execution, error) {
	return nil, errUnimplemented
}

// Execution is a command whose outputs the caller reads itself, or has another process
// read.
type Execution struct {
	// Stdout and Stderr are the non-blocking read ends of the command's FIFOs. They are
	// the session's and are open until End; duplicates may be kept as long as one likes.
	// Before the command has opened its end, reading returns 0 bytes: wait with
	// edge-triggered epoll(7), or for poll(2) not to say POLLHUP.
	Stdout, Stderr *os.File
}

// Wait waits for the command's end. At its return the pipes hold all that the command has
// written and nobody has read: read what FIONREAD says, once, and not until EOF, which
// processes in the background may put off for ever.
func (x *Execution) Wait(ctx context.Context) (*Result, error) { return nil, errUnimplemented }

// End gives the outputs back: what is still written becomes Result.Job. The session is
// free again.
func (x *Execution) End() {}

// Start runs a command in the background, in a subshell. It returns when the command has
// been started.
func (s *Session) Start(ctx context.Context, c *Command) (*Job, error) { return nil, errUnimplemented }

// Jobs returns the jobs that the session remembers, oldest first.
func (s *Session) Jobs() []*Job { return nil }

// Job returns the job of a number, nil where there is none.
func (s *Session) Job(number int) *Job { return nil }

// Write types on the terminal of a session that has one.
func (s *Session) Write(p []byte) (int, error) { return 0, errUnimplemented }

// Resize sets the size of the session's terminal.
func (s *Session) Resize(rows, columns int) error { return errUnimplemented }

// Park sends an idle shell to the root directory, so that it keeps no other file system
// busy, and waits for the end of a running command first. The session is busy until
// Unpark.
func (s *Session) Park(ctx context.Context) error { return errUnimplemented }

// Unpark sends the shell back to its directory, by name. $?, PWD and OLDPWD are as they
// were. Where the directory is gone, the shell stays in the root directory.
func (s *Session) Unpark() error { return errUnimplemented }

// Pid is the shell's process as this process sees it, 0 where none runs.
func (s *Session) Pid() int { return 0 }

// Close kills the shell and whatever is below it, and removes what the session made. A
// command that runs ends.
func (s *Session) Close() error { return nil }

// Stream is one of a job's outputs.
type Stream int

// The outputs of a job.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

// Job is a command in the background, or what a command left running in it. What its
// processes write is collected without anybody's asking, so that they never block.
type Job struct {
	// Number is its handle in the session, from 1.
	Number int
	// Text is the command's.
	Text string
	// Background: it was started by Start, and has an exit status. Otherwise it is what
	// a command left behind, and ends when nobody holds its outputs any more.
	Background bool
}

// Status is where a job is.
type Status struct {
	// Ended: it has ended; for a job of Start the other fields are valid then.
	Ended bool
	// ExitStatus is as in Result.
	ExitStatus int
	// Signal is what killed the job where nobody could say its exit status.
	Signal unix.Signal
	// Stdout and Stderr are how many bytes have been written.
	Stdout, Stderr int64
}

// Status returns where the job is.
func (j *Job) Status() Status { return Status{} }

// Read copies output from offset on, in bytes since the job began, into p. It returns how
// many bytes, and the offset of the first: it is greater than the offset asked for where
// bytes in between are no longer kept. n is 0 at the end of what has been written.
func (j *Job) Read(s Stream, offset int64, p []byte) (n int, first int64) { return 0, offset }

// Wait waits for the job's end.
func (j *Job) Wait(ctx context.Context) (Status, error) { return Status{}, errUnimplemented }

// Signal sends a signal to the job's processes: for a job of Start all below its
// subshell, otherwise all that hold its outputs.
func (j *Job) Signal(sig unix.Signal) error { return errUnimplemented }
