package shell

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// Run runs a command to its end. When ctx ends before the command does, everything that
// the command has started is killed, and what there is of the Result is returned beside
// the error of ctx; so it is when writing to Command.Stdout or Stderr fails. A command that
// fails is no error.
func (s *Session) Run(ctx context.Context, c *Command) (*Result, error) {
	r, err := s.begin(ctx, c)
	if err != nil {
		return nil, err
	}
	defer s.unlock()
	r.out = sink{fd: s.stdout(), w: c.Stdout, kept: capture{limit: s.o.Limit}}
	r.err = sink{fd: s.err, w: c.Stderr, kept: capture{limit: s.o.Limit}}
	res, err := r.end(ctx)
	if err != nil {
		return nil, err
	}
	if s.o.Terminal && !r.died {
		r.settleTerminal()
	}
	r.out.read(-1, s.scratch)
	r.err.read(-1, s.scratch)
	res.Stdout, res.DroppedStdout = r.out.result()
	res.Stderr, res.DroppedStderr = r.err.result()
	res.Job = s.keepOutputs(r)
	return res, r.stopped
}

// stdout is what a command's stdout is read from.
func (s *Session) stdout() int {
	if s.o.Terminal {
		return s.tty.fd
	}
	return s.out
}

// result is what was kept of an output, and how much was not.
func (k *sink) result() ([]byte, int64) {
	if k.w != nil {
		return nil, 0
	}
	return k.kept.bytes()
}

// begin locks the session and sends it a command.
func (s *Session) begin(ctx context.Context, c *Command) (*run, error) {
	if strings.IndexByte(c.Text, 0) >= 0 {
		return nil, errNUL
	}
	r := &run{s: s, c: c, idle: c.IdleTimeout, late: c.Late}
	if len(s.busy) > 0 {
		r.tell()
	}
	if err := s.lock(ctx); err != nil {
		return nil, err
	}
	if err := r.send(ctx); err != nil {
		r.release()
		s.unlock()
		return nil, err
	}
	return r, nil
}

// send gives the shell, which is started where there is none, the command.
func (r *run) send(ctx context.Context) error {
	s := r.s
	if s.shell == nil {
		r.tell()
	}
	if err := s.ready(ctx); err != nil {
		return err
	}
	s.seq++
	r.seq = s.seq
	if s.exports.runs++; s.exports.runs >= 8 {
		s.exports.drain()
	}
	stdin, err := r.stdin()
	if err != nil {
		return err
	}
	stdout, stderr := within+outName, within+errName
	if s.o.Terminal {
		stdout, stderr = "/dev/tty", ""
	}
	if r.builtin = r.lone(); r.builtin && stdin == s.shell.null {
		stdin = "" // opening it would be a tenth of the time
	}
	s.shell.note(r.c.Text)
	t := text(s.line[:0]).status(s.last)
	s.leaving = false
	if r.sourced = r.talks(); r.sourced {
		f := s.nextScript()
		if err := f.set(text(nil).hushed(r.c.Text, s.shell.traced)); err != nil {
			return err
		}
		t = t.str(`\. `, within, f.name)
	} else {
		t = t.eval(r.c)
	}
	t = t.redirect(r.c, stdin, stdout, stderr).str("\n").record(r.seq, "")
	if s.mayExport(r.c.Text) {
		t = t.dump(r.seq)
	}
	return r.trigger(t)
}

// maxLine is how long a script may be to go through the shell's input, which saves it
// opening a file. It has to be less than PIPE_BUF, so that it is written as a whole.
const maxLine = 2000

// trigger has the shell run a script. One that returns needs a script to return from.
func (r *run) trigger(t text) error {
	s := r.s
	if err := s.statusFile(); err != nil {
		return err
	}
	s.line = t
	if len(t) > maxLine || bytes.Contains(t, []byte("return")) {
		f := s.nextScript()
		if err := f.set(t); err != nil {
			return err
		}
		if cap(t) > 1<<20 {
			s.line = nil
		}
		t = f.trigger
	}
	s.baseline()
	r.begun = time.Now()
	if r.c.Timeout > 0 {
		r.deadline = r.begun.Add(r.c.Timeout)
	}
	r.sent = len(t)
	switch err := s.send(t); err {
	case nil:
	case unix.EPIPE:
		r.unread = true
	default:
		return fmt.Errorf("write to the shell: %w", err)
	}
	return nil
}

// nextScript is the file that the shell does not stand in.
func (s *Session) nextScript() *script {
	s.turn ^= 1
	return &s.scripts[s.turn]
}

// statusFile makes the file that sets $? to what the last command left.
func (s *Session) statusFile() error {
	if s.last == 0 || s.haveStatus[s.last] {
		return nil
	}
	n := strconv.Itoa(s.last)
	err := s.dir.write(statusName+n, text(nil).str("return ", n, "\n"))
	s.haveStatus[s.last] = err == nil
	return err
}

// stdin prepares the command's stdin, and returns its name in the shell.
func (r *run) stdin() (string, error) {
	s, c := r.s, r.c
	if c.Input == nil && c.Stdin == nil {
		if s.o.Terminal && !r.job {
			return "/dev/tty", nil
		}
		return s.shell.null, nil
	}
	if r.stdinName != "" { // for a shell that has died
		return within + r.stdinName, nil
	}
	name := stdinName + strconv.FormatUint(r.seq, 10)
	r.stdinName = name
	if c.Input != nil {
		return within + name, s.dir.write(name, c.Input)
	}
	if err := s.dir.makeFifo(name); err != nil {
		return "", err
	}
	fifo, err := unix.Openat(s.dir.fd, name, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("open fifo %s: %w", name, err)
	}
	r.pumping = make(chan struct{})
	go pump(c.Stdin, fifo, r.pumping)
	return within + name, nil
}

// pump copies a command's stdin to its FIFO, which it is given an O_PATH descriptor of: the
// session may be gone before the Reader returns. Opening it waits for the shell to open it,
// and until then nothing must close it either: the shell would wait for ever. open is
// closed when it is open.
func pump(from io.Reader, fifo int, open chan<- struct{}) {
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(fifo), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	close(open)
	unix.Close(fifo)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if kernel.WriteAll(fd, buf[:n]) != nil || err != nil {
			return // EPIPE: the command does not read any more
		}
	}
}

// release removes the command's stdin.
func (r *run) release() {
	if r.stdinName == "" {
		return
	}
	if r.pumping != nil {
		// Where the shell has never opened it, the pump waits for that.
		fd, err := unix.Openat(r.s.dir.fd, r.stdinName, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err == nil {
			<-r.pumping
			unix.Close(fd)
		}
	}
	r.s.dir.remove(r.stdinName)
	r.stdinName = ""
}

// end waits for the command's end and says how it was. A shell that had died before it
// read the command is replaced, and its successor gets it, unless the command is to end.
func (r *run) end(ctx context.Context) (*Result, error) {
	s := r.s
	res := &Result{}
	for {
		if err := r.wait(ctx); err != nil {
			return nil, err
		}
		if r.refused() {
			r.recorded, r.words = false, nil
		} else if !r.died || r.lost || r.ending || res.Restarted || !r.unseen() {
			break
		}
		if r.died {
			same := s.generation == s.o.generation()
			s.bury(false)
			res.Restarted = same
			r.died, r.unread = false, false
		}
		if err := r.send(ctx); err != nil {
			return nil, err
		}
	}
	r.finish(res)
	res.Restarted = res.Restarted || s.untold
	s.untold = false
	return res, nil
}

// refused says whether the shell has not executed the command, as it could not redirect it:
// then it has said so, itself. Without /dev/null it can go on with another file. Otherwise,
// with too few descriptors left or restricted (set -r), it is no use any more.
func (r *run) refused() bool {
	p := r.s.shell
	if !r.recorded || r.died || r.status == 0 || r.ending || r.turned || p.traps {
		return false
	}
	said := p.said()
	names := []string{p.null, within + outName, within + errName, within + r.s.scripts[0].name, within + r.s.scripts[1].name, "0", "1", "2"}
	i := slices.IndexFunc(names, func(name string) bool {
		return strings.Contains(said, ": "+name+": ") || strings.Contains(said, "open "+name+": ") || strings.Contains(said, "create "+name+": ")
	})
	if i < 0 && !strings.Contains(said, "cannot duplicate fd") {
		return false
	}
	r.turned, r.died = true, true
	var st unix.Stat_t
	if i == 0 && (unix.Fstatat(p.proc, "root/dev/null", &st, 0) != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR) {
		p.null, r.died = within+nullName, false
	}
	return true
}

// unseen says whether a shell that has died never read the command. A footer is only
// sent when everything before it has been read.
func (r *run) unseen() bool {
	return r.unread || r.footers == 0 && pending(r.s.shell.input) >= r.sent
}

// finish fills in the result, but for the outputs.
func (r *run) finish(res *Result) {
	s := r.s
	res.Duration = time.Since(r.begun)
	res.TimedOut = r.timedOut
	s.leaving = false
	if r.ending && !r.died && !s.settle() {
		r.died = true
	}
	// Redirections, and so all commands, fail without the directory. The stdout is lost
	// where a command closes what the shell has saved of it.
	if !r.died && !r.builtin && (!s.shell.intact(dirName, s.inside) || slices.Contains(r.words, byFooter) && !s.shell.intact("fd/1", inode(s.record))) {
		r.died = true
	}
	r.release()
	if r.died {
		ws := s.bury(false)
		s.killStruck()
		res.Restarted = true
		switch {
		case r.recorded: // only what came after it was lost
			res.ExitStatus = r.status
		case ws.Signaled():
			res.ExitStatus, res.Signal = 128+int(ws.Signal()), ws.Signal()
		default:
			res.ExitStatus = ws.ExitStatus()
		}
		res.Dir = s.cwd
		return
	}
	if r.ending && r.status == 0 { // leaveAction's
		r.status = 128 + int(unix.SIGINT)
	}
	s.last, res.ExitStatus = r.status, r.status
	s.cwd = s.shell.directory(s.cwd)
	res.Dir = s.cwd
}

// keepOutputs makes a job of outputs that somebody may still write to, and says its
// number. The FIFOs are then the job's, and the session gets new ones. It does so as well
// with FIFOs that somebody else may still read from.
func (s *Session) keepOutputs(r *run) int {
	if r.builtin && !r.external {
		return 0 // it has had no children
	}
	fds := [2]unix.PollFd{{Fd: int32(s.out)}, {Fd: int32(s.err)}}
	_ = kernel.Retry(func() error { _, err := unix.Poll(fds[:], 0); return err })
	held := [2]bool{fds[0].Revents&unix.POLLHUP == 0, fds[1].Revents&unix.POLLHUP == 0}
	var j *Job
	if held[0] || held[1] {
		j = s.jobs.make(r.c.Text)
	}
	s.broken = errors.Join(s.broken,
		s.renew(&s.out, j, Stdout, held[0], r.external), s.renew(&s.err, j, Stderr, held[1], r.external))
	if j == nil {
		return 0
	}
	s.jobs.add(j)
	return j.Number
}

// renew gives the session another FIFO for an output that is a job's now, or shared.
func (s *Session) renew(fd *int, j *Job, stream Stream, held, shared bool) error {
	if !held && !shared {
		return nil
	}
	// Whoever has it now watches it for himself.
	_ = unix.EpollCtl(s.epollAll, unix.EPOLL_CTL_DEL, *fd, nil)
	if held {
		j.collect(stream, *fd)
	} else {
		unix.Close(*fd)
	}
	var err error
	if stream == Stdout {
		*fd, err = s.newOutput(outName, tagOut)
	} else {
		*fd, err = s.newOutput(errName, tagErr)
	}
	return err
}

// Execution is a command whose outputs the caller reads itself, or has another process
// read.
type Execution struct {
	// Stdout and Stderr are the non-blocking read ends of the command's FIFOs. They are
	// the session's and are open until End. Who has duplicates may read on after it; what
	// he reads, Result.Job does not get, and nothing of later commands. With a terminal,
	// Stdout is its master, which stays, and Stderr is never written to.
	// Before the command has opened its end, reading returns 0 bytes: wait with
	// edge-triggered epoll(7), or for poll(2) not to say POLLHUP.
	Stdout, Stderr int

	r      *run
	waited bool
}

// Begin sends a command and leaves its outputs to the caller. The session is busy until
// Execution.End. Stdout and Stderr of the command are not looked at; for IdleTimeout, what
// counts is what is written, not what is read.
func (s *Session) Begin(ctx context.Context, c *Command) (*Execution, error) {
	r, err := s.begin(ctx, c)
	if err != nil {
		return nil, err
	}
	r.external = true
	return &Execution{Stdout: s.stdout(), Stderr: s.err, r: r}, nil
}

// Wait waits for the command's end; it is called once. At its return the pipes hold all
// that the command has written and nobody has read: read what FIONREAD says, once, and not
// until EOF, which processes in the background may put off for ever. Result.Job is 0.
func (x *Execution) Wait(ctx context.Context) (*Result, error) {
	x.waited = true
	res, err := x.r.end(ctx)
	if err != nil {
		return nil, err
	}
	return res, x.r.stopped
}

// End gives the outputs back: what is still to be read becomes the job whose number it
// returns, 0 where nobody can write any more. The session is free again. A command that
// nobody has waited for is ended first.
func (x *Execution) End() int {
	s := x.r.s
	defer s.unlock()
	if !x.waited {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, _ = x.Wait(ctx)
	}
	return s.keepOutputs(x.r)
}
