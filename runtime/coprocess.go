package runtime

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	goruntime "runtime"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox"
	"adl.run/adl-runtime/libsandbox/shell"
)

// coRequest is a line of standard input; docs/schema/shell.json has the schema.
type coRequest struct {
	ID          json.RawMessage `json:"id"`
	Op          string          `json:"op"`
	Session     string          `json:"session"`
	Command     *string         `json:"command"`
	Stdin       *string         `json:"stdin"`
	StdinBase64 []byte          `json:"stdin_base64"`
	Timeout     float64         `json:"timeout"` // seconds
	IdleTimeout float64         `json:"idle_timeout"`
	Isolated    bool            `json:"isolated"`
	Stream      bool            `json:"stream"`
	// Of open.
	Shell    []string `json:"shell"`
	Cwd      string   `json:"cwd"`
	Env      []string `json:"env"`
	TTY      bool     `json:"tty"`
	Limit    int      `json:"limit"`
	JobLimit int      `json:"job_limit"`
	// Of input and resize.
	Text    string `json:"text"`
	Base64  []byte `json:"base64"`
	Rows    int    `json:"rows"`
	Columns int    `json:"columns"`
	// Of jobs.
	Job    int    `json:"job"`
	Of     string `json:"of"`
	Offset int64  `json:"offset"`
	Signal string `json:"signal"`
	// Of cancel.
	Target json.RawMessage `json:"target"`
	// Of reset and snapshot.
	Mode string `json:"mode"`
	To   string `json:"to"`
	Name string `json:"name"`
}

// coprocess answers requests with sessions of its own. One goroutine at a time reads, and
// does what it has read; where that takes time, it leaves the reading to another first. So
// nothing changes threads between a request and its answer, and no other thread is woken up
// for a command that is quick.
type coprocess struct {
	sandbox *libsandbox.Sandbox
	stdin   *os.File
	in      *bufio.Reader // of stdin
	work    sync.WaitGroup
	ctx     context.Context
	eof     chan error // has what ended the requests

	out   sync.Mutex // for whole lines
	file  *os.File
	wrong error // of writing

	mu       sync.Mutex
	sessions map[string]*coSession
	running  map[string]context.CancelFunc // by id
}

// coSession is a session. Its commands run in the order of their requests: each waits for
// last, which the one before closes.
type coSession struct {
	*shell.Session
	last chan struct{}
}

func (a *app) shellJSON(c *cli.Context) error {
	if c.NArg() != 1 {
		return errors.New("--json: takes a container id and nothing else")
	}
	sandbox, err := a.load(c)
	if err != nil {
		return err
	}
	goruntime.GOMAXPROCS(goruntime.NumCPU()) // adl_entry has made it 1
	keepOutputErrors()                       // or the end of whoever reads would leave the shells behind
	signalled, stop := signal.NotifyContext(c.Context, endSignals()...)
	defer stop()
	ctx, cancel := context.WithCancelCause(signalled)
	defer cancel(nil)
	p := &coprocess{
		sandbox: sandbox, stdin: a.stdin, in: bufio.NewReaderSize(a.stdin, 64<<10), ctx: ctx, eof: make(chan error, 1), file: a.stdout,
		sessions: map[string]*coSession{}, running: map[string]context.CancelFunc{},
	}
	go p.lead()
	go func() { // whoever has asked may be gone
		awaitHangUp(a.stdout)
		cancel(fmt.Errorf("standard output: %w", unix.EPIPE))
	}()
	select {
	case err = <-p.eof:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	p.work.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sessions {
		err = errors.Join(err, s.Close())
	}
	if err == nil {
		err = p.wrong
	}
	return err
}

// awaitHangUp returns when nobody can read f any more.
func awaitHangUp(f *os.File) {
	fds := []unix.PollFd{{Fd: int32(f.Fd())}}
	for {
		if n, err := unix.Poll(fds, -1); n > 0 || err != unix.EINTR {
			return
		}
	}
}

// maxLine is how long a request can be.
const maxLine = 128 << 20

// lead reads requests until there is one that takes time.
func (p *coprocess) lead() {
	for {
		line, err := p.readLine()
		if err != nil {
			if err == io.EOF {
				err = nil
			}
			p.eof <- err
			return
		}
		q := &coRequest{}
		if err := q.decode(line); err != nil {
			p.fail(q, fmt.Errorf("request: %w", err))
			continue
		}
		led := true
		work, err := p.begin(q, func() {
			if led {
				led = false
				go p.lead()
			}
		})
		if err != nil {
			p.fail(q, err)
		}
		if work == nil {
			continue
		}
		p.work.Add(1)
		work()
		p.work.Done()
		if !led {
			return
		}
		p.linger()
	}
}

// decode reads a request, which has no field that is none of it.
func (q *coRequest) decode(line []byte) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	err := d.Decode(q)
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong) && wrong.Field == "":
		return fmt.Errorf("must be an object, is: %s", wrong.Value)
	case errors.As(err, &wrong):
		return fmt.Errorf("%s: cannot be: %s", wrong.Field, wrong.Value)
	case err == io.EOF:
		return errors.New("empty")
	case err == nil && len(bytes.TrimSpace(line[d.InputOffset():])) > 0:
		return errors.New("something follows the object")
	case err == nil && (q.Limit < 0 || q.JobLimit < 0):
		return errors.New("limit, job_limit: must not be negative")
	case err != nil:
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	return nil
}

// linger waits awake for the next request: to be woken up takes as long as a quick command,
// and whoever sends one after the other sends the next one soon.
func (p *coprocess) linger() {
	const long = 250 * time.Microsecond
	for begin := time.Now(); !p.more() && time.Since(begin) < long; {
		goruntime.Gosched()
		_, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) // the other end may have no other processor
	}
}

// more says whether there is another request already. Only who leads may ask.
func (p *coprocess) more() bool {
	return p.in.Buffered() > 0 || ready(p.stdin, unix.POLLIN)
}

// ready says whether reading or writing a little takes no waiting.
func ready(f *os.File, events int16) bool {
	fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: events}}
	n, _ := unix.Poll(fds, 0)
	return n == 1
}

// readLine returns a line without its end.
func (p *coprocess) readLine() (line []byte, err error) {
	for {
		part, err := p.in.ReadSlice('\n')
		if err == nil && line == nil {
			return part[:len(part)-1], nil
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line[:len(line)-1], nil
		case err == bufio.ErrBufferFull && len(line) <= maxLine:
		case err == bufio.ErrBufferFull:
			return nil, fmt.Errorf("a request is longer than %d bytes", maxLine)
		case err == io.EOF && len(line) > 0:
			return line, nil
		default:
			return nil, err
		}
	}
}

// begin does what a request asks for, or returns what may take time of it. That calls late
// before it does, to leave the reading to another.
func (p *coprocess) begin(q *coRequest, late func()) (work func(), err error) {
	if q.Op == "" {
		q.Op = "run"
	}
	if q.Session == "" {
		q.Session = defaultSession
	}
	switch q.Op {
	case "run", "start":
		return p.command(q, late)
	case "open":
		return nil, p.open(q)
	case "close":
		return p.close(q, late)
	case "cancel":
		p.cancel(q)
		return nil, nil
	case "sessions":
		p.list(q)
		return nil, nil
	case "input", "resize":
		return p.terminal(q)
	case "jobs", "output", "wait", "signal":
		return p.job(q, late)
	case "reset", "snapshot":
		return p.files(q, late)
	}
	return nil, fmt.Errorf("op %q: there is no such request", q.Op)
}

// session returns a session, which is made where there is none and make is set.
func (p *coprocess) session(q *coRequest, make bool) (*coSession, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.sessions[q.Session]; s != nil {
		return s, nil
	}
	if !make {
		return nil, fmt.Errorf("session %q: there is none", q.Session)
	}
	made, err := p.sandbox.Shell(p.ctx, &libsandbox.ShellOptions{
		Args: q.Shell, Env: q.Env, Dir: q.Cwd, Terminal: q.TTY, Limit: q.Limit, JobLimit: q.JobLimit,
	})
	if err != nil {
		return nil, err
	}
	s := &coSession{Session: made}
	p.sessions[q.Session] = s
	return s, nil
}

func (p *coprocess) open(q *coRequest) error {
	if s, _ := p.session(q, false); s != nil {
		return fmt.Errorf("session %q: exists", q.Session)
	}
	if _, err := p.session(q, true); err != nil {
		return err
	}
	p.done(q)
	return nil
}

func (p *coprocess) close(q *coRequest, late func()) (work func(), err error) {
	s, err := p.session(q, false)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	delete(p.sessions, q.Session)
	p.mu.Unlock()
	return func() {
		late()
		if err := s.Close(); err != nil {
			p.fail(q, err)
			return
		}
		p.done(q)
	}, nil
}

// turn makes a place in the order of a session's commands. wait returns when those before
// have ended, or an error when ctx has; it calls late before it waits. next is called when
// this one has.
func (s *coSession) turn(late func()) (wait func(context.Context) error, next func()) {
	before, mine := s.last, make(chan struct{})
	s.last = mine
	return func(ctx context.Context) error {
			if before == nil {
				return nil
			}
			select {
			case <-before:
				return nil
			default:
				late()
			}
			select {
			case <-before:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}, func() {
			if before != nil {
				<-before
			}
			close(mine)
		}
}

// seconds is a time of a request's.
func seconds(field string, s float64) (time.Duration, error) {
	if s < 0 || math.IsNaN(s) || s > math.MaxInt64/float64(time.Second) {
		return 0, fmt.Errorf("%s %v: must be a number of seconds", field, s)
	}
	d := time.Duration(s * float64(time.Second))
	if s > 0 {
		d = max(d, 1)
	}
	return d, nil
}

// shellCommand is the command of a request.
func (q *coRequest) shellCommand() (*shell.Command, error) {
	if q.Command == nil {
		return nil, errors.New("command: missing")
	}
	c := &shell.Command{Text: *q.Command, Isolated: q.Isolated}
	switch {
	case q.Stdin != nil && q.StdinBase64 != nil:
		return nil, errors.New("stdin, stdin_base64: one of them")
	case q.Stdin != nil:
		c.Input = []byte(*q.Stdin)
	case q.StdinBase64 != nil:
		c.Input = q.StdinBase64
	}
	var err error
	if c.Timeout, err = seconds("timeout", q.Timeout); err != nil {
		return nil, err
	}
	c.IdleTimeout, err = seconds("idle_timeout", q.IdleTimeout)
	return c, err
}

var errCancelled = errors.New("cancelled before it began")

// command runs a command, or starts it in the background.
func (p *coprocess) command(q *coRequest, late func()) (work func(), err error) {
	c, err := q.shellCommand()
	if err != nil {
		return nil, err
	}
	s, err := p.session(q, true)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(p.ctx)
	id := string(q.ID)
	p.mu.Lock()
	if id != "" {
		p.running[id] = cancel
	}
	p.mu.Unlock()
	c.Late = late
	wait, next := s.turn(late)
	return func() {
		if p.more() {
			late()
		}
		err := wait(ctx)
		if err == nil {
			err = p.runCommand(ctx, s, q, c)
		}
		p.mu.Lock()
		delete(p.running, id)
		p.mu.Unlock()
		cancel()
		if errors.Is(err, context.Canceled) {
			err = errCancelled
		}
		if err != nil {
			p.forget(q, s)
			p.fail(q, err)
		}
		next()
	}, nil
}

// forget gives up a session whose shell could not be started.
func (p *coprocess) forget(q *coRequest, s *coSession) {
	p.mu.Lock()
	void := !s.Started() && p.sessions[q.Session] == s
	if void {
		delete(p.sessions, q.Session)
	}
	p.mu.Unlock()
	if void {
		_ = s.Close()
	}
}

// runCommand is command when it is its turn.
func (p *coprocess) runCommand(ctx context.Context, s *coSession, q *coRequest, c *shell.Command) error {
	if q.Op == "start" {
		c.Late()
		j, err := s.Start(ctx, c)
		if err == nil {
			p.write(newEvent(q, "started").number("job", int64(j.Number)))
		}
		return err
	}
	var streams [2]*coStream
	if q.Stream {
		c.Late()
		streams = [2]*coStream{{p: p, q: q, name: "stdout"}, {p: p, q: q, name: "stderr"}}
		c.Stdout, c.Stderr = streams[0], streams[1]
	}
	res, err := s.Run(ctx, c)
	if res == nil {
		return err
	}
	e := newEvent(q, "result").number("status", int64(res.ExitStatus))
	if q.Stream {
		streams[0].flush()
		streams[1].flush()
	} else {
		e = e.bytes("stdout", res.Stdout).bytes("stderr", res.Stderr)
		e = e.number("stdout_dropped", res.DroppedStdout).number("stderr_dropped", res.DroppedStderr)
	}
	e = e.number("signal", int64(res.Signal)).flag("timed_out", res.TimedOut).flag("cancelled", err != nil)
	e = e.flag("restarted", res.Restarted).text("dir", res.Dir).seconds(res.Duration).number("job", int64(res.Job))
	if len(e) > pipeBuf || !ready(p.file, unix.POLLOUT) {
		c.Late() // who has asked may ask on before it reads
	}
	p.write(e)
	return nil
}

// pipeBuf is how much can be written to a pipe that is writable (PIPE_BUF, pipe(7)).
const pipeBuf = 4096

// coStream writes a command's output as events.
type coStream struct {
	p    *coprocess
	q    *coRequest
	name string
	rest []byte // the beginning of a character
}

// Write never keeps b.
func (w *coStream) Write(b []byte) (int, error) {
	n := len(b)
	if len(w.rest) > 0 {
		b = append(w.rest, b...)
		w.rest = nil
	}
	whole := len(b) - halfRune(b)
	w.rest = append([]byte(nil), b[whole:]...)
	if whole > 0 {
		w.p.write(newEvent(w.q, w.name).bytes("data", b[:whole]))
	}
	return n, nil
}

func (w *coStream) flush() {
	if len(w.rest) > 0 {
		w.p.write(newEvent(w.q, w.name).bytes("data", w.rest))
		w.rest = nil
	}
}

// halfRune is how many bytes at the end of b can be the beginning of a character.
func halfRune(b []byte) int {
	for n := 1; n <= min(3, len(b)); n++ {
		if utf8.RuneStart(b[len(b)-n]) {
			if utf8.FullRune(b[len(b)-n:]) {
				return 0
			}
			return n
		}
	}
	return 0
}

// cancel ends a request that has not been answered.
func (p *coprocess) cancel(q *coRequest) {
	p.mu.Lock()
	cancel := p.running[string(q.Target)]
	p.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	p.done(q)
}

func (p *coprocess) list(q *coRequest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := newEvent(q, "sessions").key("sessions").raw("[")
	first := true
	for name, s := range p.sessions {
		if !first {
			e = e.raw(",")
		}
		first = false
		e = e.raw("{").text("session", name).number("pid", int64(s.Pid())).raw("}")
	}
	p.write(e.raw("]"))
}

// terminal types on a session's terminal, or changes its size.
func (p *coprocess) terminal(q *coRequest) (work func(), err error) {
	s, err := p.session(q, false)
	if err != nil {
		return nil, err
	}
	if q.Op == "resize" {
		if err := s.Resize(q.Rows, q.Columns); err != nil {
			return nil, err
		}
		p.done(q)
		return nil, nil
	}
	typed := q.Base64
	if q.Text != "" {
		typed = []byte(q.Text)
	}
	if _, err := s.Write(typed); err != nil {
		return nil, err
	}
	p.done(q)
	return nil, nil
}

// files goes back to a state of the container's files, or keeps one.
func (p *coprocess) files(q *coRequest, late func()) (work func(), err error) {
	return func() {
		late()
		if q.Op == "reset" {
			o := &libsandbox.ResetOptions{Mode: libsandbox.ResetMode(q.Mode), To: q.To}
			if err := p.sandbox.RequestReset(p.ctx, o); err != nil {
				p.fail(q, err)
				return
			}
			p.done(q)
			return
		}
		s, err := p.sandbox.Snapshot(p.ctx, q.Name)
		if err != nil {
			p.fail(q, err)
			return
		}
		p.write(newEvent(q, "snapshot").text("name", s.Name).text("method", string(s.Method)))
	}, nil
}
