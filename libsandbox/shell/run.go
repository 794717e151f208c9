package shell

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// When the shell has not answered after some time, it is asked again, and again.
const (
	firstLook = time.Millisecond
	// Asked, a shell has something to do, and bash needs it least: eval stops errors there.
	firstLookBash = 4 * time.Millisecond
	lastLook      = 100 * time.Millisecond
	// A shell that has read this many footers, for so long, and not answered one, has lost
	// its way: a command has closed its descriptors, say.
	lostFooters = 5
	lostTime    = 200 * time.Millisecond
	// patience is how long a shell is interrupted before it is killed.
	patience = time.Second
)

// run is one command on its way.
type run struct {
	s        *Session
	c        *Command
	seq      uint64
	begun    time.Time
	deadline time.Time // zero for none
	out, err sink
	idle     time.Duration
	active   time.Time // when there was output last
	ask      []byte    // what is said in place of a footer
	quiet    bool      // not to be killed process by process: nothing has been started yet
	sent     int       // bytes, to the shell
	sourced  bool      // bash reads it from a file
	external bool      // the outputs are not read: out and err are not set
	builtin  bool      // nothing but a builtin, which closes no descriptors
	late     func()    // Command.Late, until it is called
	again    bool      // there is more to read

	// look is when to look next whether the shell is still at it, pause the time after that.
	look    time.Time
	pause   time.Duration
	footers int
	asked   time.Time // the first footer
	ending  bool      // what it started is being killed
	giveUp  time.Time
	rounds  int

	recorded  bool
	status    int
	words     []string // that follow the status
	stdinName string
	pumping   chan struct{} // closed when the pump has opened stdin; nil without a pump
	job       bool          // of Start
	died      bool
	turned    bool // refused, and then sent once more
	unread    bool // the shell had died before the command was sent
	lost      bool
	timedOut  bool
	stopped   error // why it was ended otherwise
}

// wait waits for the command's end: the record, or the shell's death. An error is of this
// side. A context that has ended, or a session that is closed, ends the command and is
// told by r.stopped.
func (r *run) wait(ctx context.Context) error {
	r.pause = firstLook
	if r.s.shell.bash {
		r.pause = firstLookBash
	}
	r.look = r.begun.Add(r.pause)
	r.active = r.begun
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, r.s.wakeUp)()
	}
	if err := r.awake(); err != nil || r.recorded || r.died {
		return err
	}
	defer func() { r.s.quick = r.recorded && time.Since(r.begun) < waiting }()
	set := r.s.epoll
	timeout := 1
	for {
		if r.again {
			r.again, timeout = false, 0
			r.output(&r.out)
			r.output(&r.err)
		}
		if err := r.events(set, timeout); err != nil {
			return err
		}
		if r.recorded || r.died {
			return nil
		}
		now := time.Now()
		r.expire(ctx, now)
		if !now.Before(r.look) {
			r.tell()
			r.lookAfter(now)
		}
		set = r.s.epollAll
		timeout = r.timeout(now)
	}
}

// tell says that the command takes longer.
func (r *run) tell() {
	if r.late != nil {
		r.late()
		r.late = nil
	}
}

// To be woken up costs more than most builtins, as that goes over another processor, which
// may have to be woken up itself. So after a command that was quick the next one is waited
// for awake at first; where the shell has no other processor, it gets this one.
// One that took longer than that is nothing to wait for awake: what the shell has started
// may want the processor.
const waiting = 250 * time.Microsecond

func (r *run) awake() error {
	for (r.s.quick || r.builtin) && !r.recorded && !r.died && time.Since(r.begun) < waiting {
		if err := r.events(r.s.epoll, 0); err != nil {
			return err
		}
		kernel.Yield()
	}
	return nil
}

// events waits for something to happen, for so many milliseconds, and deals with it.
func (r *run) events(set, timeout int) error {
	var events [5]unix.EpollEvent
	n, err := unix.EpollWait(set, events[:], timeout)
	if err != nil && err != unix.EINTR {
		return fmt.Errorf("epoll: %w", err)
	}
	ended := false
	for _, e := range events[:max(n, 0)] {
		switch e.Fd {
		case tagRecord:
			r.readRecord()
		case tagShell:
			ended = true
		case tagWake:
			var b [8]byte
			_, _ = unix.Read(r.s.wake, b[:])
		case tagOut:
			r.output(&r.out)
		case tagErr:
			r.output(&r.err)
		}
	}
	if ended && !r.recorded {
		r.died = true
	}
	return nil
}

// maxRead is how much is read of an output before deadlines are looked at again.
const maxRead = 4 << 20

// output reads what has come, unless somebody else does.
func (r *run) output(k *sink) {
	if r.external {
		r.active = time.Now()
		return
	}
	n := k.read(maxRead, r.s.scratch)
	if n > 0 && r.idle > 0 {
		r.active = time.Now()
	}
	// What was left has had its edge already.
	r.again = r.again || n >= maxRead
	if k.err != nil && r.stopped == nil {
		r.stopped = fmt.Errorf("write output: %w", k.err)
	}
}

// readRecord looks for the record of this command among what has been written to the
// FIFO of records. Anybody can write there; records of other commands, and nonsense, are
// nothing.
func (r *run) readRecord() {
	var buf [4096]byte
	n, _ := kernel.Read(r.s.record, buf[:])
	rest := buf[:max(n, 0)]
	for len(rest) > 0 {
		var line []byte
		line, rest, _ = bytes.Cut(rest, []byte("\n"))
		r.parse(line)
	}
}

// parse takes a record: the command's number, $?, and what its script has added.
func (r *run) parse(line []byte) {
	if r.recorded || len(line) < 3 || line[0] < '0' || line[0] > '9' {
		return
	}
	number, more, _ := strings.Cut(string(line), " ")
	if n, err := strconv.ParseUint(number, 10, 64); err != nil || n != r.seq {
		return
	}
	status, more, _ := strings.Cut(more, " ")
	n, err := strconv.ParseUint(status, 10, 8)
	if err != nil {
		return
	}
	r.recorded, r.status = true, int(n)
	if more != "" {
		r.words = strings.Fields(more)
	}
}

// timeout is the milliseconds until something has to be done.
func (r *run) timeout(now time.Time) int {
	next := r.look
	if !r.ending {
		if !r.deadline.IsZero() && r.deadline.Before(next) {
			next = r.deadline
		}
		if r.idle > 0 && r.active.Add(r.idle).Before(next) {
			next = r.active.Add(r.idle)
		}
	}
	return int(max(0, next.Sub(now)+time.Millisecond-1) / time.Millisecond)
}

// expire begins to end the command where it is time to.
func (r *run) expire(ctx context.Context, now time.Time) {
	if r.ending {
		return
	}
	switch {
	case r.s.closed.Load():
		r.stopped = ErrClosed
	case ctx.Err() != nil:
		r.stopped = context.Cause(ctx)
	case r.stopped != nil:
	case !r.deadline.IsZero() && !now.Before(r.deadline), r.idle > 0 && now.Sub(r.active) >= r.idle:
		r.timedOut = true
	default:
		return
	}
	r.ending = true
	r.giveUp = now.Add(patience)
	r.look, r.pause = now, 2*time.Millisecond
	if r.quiet {
		r.giveUp = now
	}
}

// lookAfter sees to a shell that has not answered for a while.
func (r *run) lookAfter(now time.Time) {
	s := r.s
	s.exports.drain()
	s.shell.refill()
	if r.ending {
		if now.After(r.giveUp) || r.quiet || s.shell.trapsInt && !s.shell.bash {
			r.abandon()
			return
		}
		r.interrupt()
	}
	if r.pause == lastLook && s.shell.deaf(s.record) {
		r.abandon()
		return
	}
	if pending(s.shell.input) == 0 {
		if r.footers >= lostFooters && now.Sub(r.asked) > lostTime {
			r.abandon()
			return
		}
		if r.footers == 0 {
			r.asked = now
		}
		// Where nobody can read it, the shell has become another program, or is about to end.
		if s.send(r.footer()) == nil {
			r.footers++
		}
	}
	r.look = now.Add(r.pause)
	if !r.ending || r.rounds%2 == 0 {
		r.pause = min(2*r.pause, lastLook)
	}
}

// footer is a record on a line of its own: dash and ash leave a script that an error has
// aborted, and SIGINT has every shell leave it. It stays in the pipe until the shell is
// back, and does nothing where the script has reported the end. It opens the FIFO by name,
// in case that the shell has lost its stdout.
func (r *run) footer() []byte {
	if r.ask != nil {
		return r.ask
	}
	r.s.line = text(r.s.line[:0]).str("\\command \\echo \"\n").num(r.seq).str(` $? `, byFooter, `" >`, within, recordName, "\n")
	return r.s.line
}

// byFooter is in a record that a footer has written.
const byFooter = "again"

// abandon kills a shell that does not come back. It is stopped first, or it would go on
// with what follows the programs that are killed.
func (r *run) abandon() {
	r.lost = true
	if r.ending {
		r.s.shell.signal(unix.SIGSTOP)
	}
	switch {
	case r.s.closed.Load(): // later it could not be found
		r.s.killBelow()
	case r.ending && !r.quiet:
		r.s.strike()
	}
	r.s.shell.signal(unix.SIGKILL)
	_, _ = kernel.WaitExit(r.s.shell.pidfd, -1)
	r.died = true
}

// how says why there is no record.
func (r *run) how() string {
	switch {
	case r.timedOut:
		return "it took too long"
	case r.stopped != nil:
		return r.stopped.Error()
	case r.lost:
		return "it does not answer"
	}
	return "it ended"
}

var errNUL = errors.New("text: contains a NUL byte")
