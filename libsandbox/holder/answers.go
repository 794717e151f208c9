package holder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/shell"
)

// do does what a request asks for.
func (s *server) do(c *conn, q *Request) error {
	switch q.Op {
	case OpRun:
		return s.run(c, q)
	case OpStart:
		return s.start(c, q)
	case OpAttach:
		return s.attach(c, q)
	case OpList:
		return s.list(c)
	case OpStop:
		return s.stop(c, q)
	case OpJobs:
		return s.jobs(c, q)
	case OpOutput, OpWait, OpSignal:
		j, err := s.job(q)
		if err != nil {
			return err
		}
		return answerJob(c, q, j)
	case OpPark:
		return s.park(c)
	}
	return fmt.Errorf("unknown request %q", q.Op)
}

// fits says whether a session is what a request has asked for.
func (h *held) fits(q *Settings) error {
	switch {
	case len(q.Args) > 0 && !slices.Equal(q.Args, h.Args):
		return fmt.Errorf("session %q exists, with another shell", q.Name)
	case len(q.Env) > 0 && !slices.Equal(q.Env, h.Env):
		return fmt.Errorf("session %q exists, with another environment", q.Name)
	case q.Dir != "" && q.Dir != h.Dir:
		return fmt.Errorf("session %q exists, with another first directory", q.Name)
	case q.Terminal != h.Terminal:
		return fmt.Errorf("session %q exists, and a terminal is what only one of the two has", q.Name)
	}
	return nil
}

func (q *Request) command() *shell.Command {
	c := &shell.Command{Text: q.Text, Timeout: q.Timeout, IdleTimeout: q.IdleTimeout, Isolated: q.Isolated}
	if q.Stdin != nil {
		c.Stdin = q.Stdin
	}
	return c
}

// run runs a command, whose outputs the client reads.
func (s *server) run(c *conn, q *Request) error {
	h, err := s.session(c.ctx, &q.Settings)
	if err != nil {
		return err
	}
	if h.Terminal && q.Rows > 0 {
		_ = h.Resize(q.Rows, q.Columns)
	}
	x, err := h.Begin(c.ctx, q.command())
	if err != nil {
		s.leave(h)
		return err
	}
	s.mu.Lock()
	c.finish = func(read bool) {
		if !read && !h.Terminal { // a terminal may be gone
			drain(x.Stdout)
			drain(x.Stderr)
		}
		x.End()
	}
	s.mu.Unlock()
	// Where the client has gone, c.ctx ends the command.
	_ = send(c.fd, fields{kindBegun}, x.Stdout, x.Stderr)
	res, err := x.Wait(c.ctx)
	s.leave(h) // before the client can ask for a snapshot
	if err != nil {
		return err
	}
	return send(c.fd, encodeResult(res))
}

// start starts a command in the background.
func (s *server) start(c *conn, q *Request) error {
	h, err := s.session(c.ctx, &q.Settings)
	if err != nil {
		return err
	}
	j, err := h.Start(c.ctx, q.command())
	s.leave(h)
	if err != nil {
		return err
	}
	return send(c.fd, fields{kindAnswer, number(int64(j.Number))})
}

// SessionInfo is what is told of a session.
type SessionInfo struct {
	Name     string   `json:"name"`
	Pid      int      `json:"pid"` // of the shell, 0 for none
	Busy     bool     `json:"busy"`
	Jobs     int      `json:"jobs"` // that have not ended
	Shell    []string `json:"shell"`
	Terminal bool     `json:"terminal"`
}

func (s *server) list(c *conn) error {
	f := fields{kindAnswer}
	s.mu.Lock()
	names := make([]string, 0, len(s.sessions))
	for name := range s.sessions {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		h := s.sessions[name]
		running := 0
		for _, j := range h.Jobs() {
			if !j.Status().Ended {
				running++
			}
		}
		f = append(f, shorten(name, 200), number(int64(h.Pid())), flag(h.users > 0), number(int64(running)), flag(h.Terminal))
		f = append(f, list(h.Args)...)
	}
	for _, t := range s.sortedConsoles() {
		f = append(f, shorten(t.Name, 200), number(int64(t.process.Pid)), flag(t.attached), "0", "1")
		f = append(f, list(t.Args)...)
	}
	s.mu.Unlock()
	return send(c.fd, f)
}

func parseSessions(f fields) []SessionInfo {
	all := []SessionInfo{}
	for len(f) > 0 {
		i := SessionInfo{Name: f.take(), Pid: int(f.number()), Busy: f.take() == "1", Jobs: int(f.number()), Terminal: f.take() == "1"}
		i.Shell = f.list()
		all = append(all, i)
	}
	return all
}

// stop ends a session or, without a name, all of them and the holder, as it does with the
// last.
func (s *server) stop(c *conn, q *Request) error {
	s.mu.Lock()
	var sessions []*held
	var consoles []*console
	for name, h := range s.sessions {
		if q.Name == "" || q.Name == name {
			sessions = append(sessions, h)
			delete(s.sessions, name)
		}
	}
	for name, t := range s.consoles {
		if q.Name == "" || q.Name == name {
			consoles = append(consoles, t)
			delete(s.consoles, name)
		}
	}
	last := len(s.sessions)+len(s.consoles) == 0 && (q.Name == "" || len(sessions)+len(consoles) > 0)
	if last {
		s.refuse() // a session that is begun now would end at once
	}
	s.mu.Unlock()
	if q.Name != "" && len(sessions)+len(consoles) == 0 {
		return errNoSession(q.Name)
	}
	for _, h := range sessions {
		_ = h.Close()
	}
	for _, t := range consoles {
		t.close()
	}
	err := send(c.fd, fields{kindAnswer})
	if last {
		s.end(false)
	}
	return err
}

func errNoSession(name string) error { return fmt.Errorf("there is no session %q", name) }

// existing is the session of a name.
func (s *server) existing(name string) (*held, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.sessions[name]; h != nil {
		return h, nil
	}
	return nil, errNoSession(name)
}

// JobInfo is what is told of a job.
type JobInfo struct {
	Number     int    `json:"job"`
	Background bool   `json:"background"`
	Ended      bool   `json:"ended"`
	ExitStatus int    `json:"status"`
	Stdout     int64  `json:"stdout"` // bytes written
	Stderr     int64  `json:"stderr"`
	Command    string `json:"command"`
}

func jobFields(j *shell.Job) fields {
	st := j.Status()
	return fields{
		number(int64(j.Number)), flag(j.Background), flag(st.Ended), number(int64(st.ExitStatus)),
		number(st.Stdout), number(st.Stderr), shorten(j.Text, 200),
	}
}

func takeJob(f *fields) JobInfo {
	return JobInfo{int(f.number()), f.take() == "1", f.take() == "1", int(f.number()), f.number(), f.number(), f.take()}
}

func (s *server) jobs(c *conn, q *Request) error {
	h, err := s.existing(q.Name)
	if err != nil {
		return err
	}
	f := fields{kindAnswer}
	for _, j := range h.Jobs() {
		f = append(f, jobFields(j)...)
	}
	return send(c.fd, f)
}

func (s *server) job(q *Request) (*shell.Job, error) {
	h, err := s.existing(q.Name)
	if err != nil {
		return nil, err
	}
	j := h.Job(q.Job)
	if j == nil {
		return nil, fmt.Errorf("session %q has no job %d", q.Name, q.Job)
	}
	return j, nil
}

// maxOutput is how much of a job's output there is in an answer.
const maxOutput = 64 << 10

func answerJob(c *conn, q *Request, j *shell.Job) error {
	switch q.Op {
	case OpOutput:
		if q.Stream != shell.Stdout && q.Stream != shell.Stderr {
			return errPacket
		}
		buf := make([]byte, maxOutput)
		n, first := j.Read(q.Stream, q.Offset, buf)
		return send(c.fd, fields{kindAnswer, number(first), string(buf[:n])})
	case OpWait:
		if _, err := j.Wait(c.ctx); err != nil {
			return err
		}
		return send(c.fd, append(fields{kindAnswer}, jobFields(j)...))
	}
	if err := j.Signal(q.Signal); err != nil {
		return fmt.Errorf("job %s: %w", strconv.Itoa(j.Number), err)
	}
	return send(c.fd, fields{kindAnswer})
}

// parkTime is how long an idle shell has for leaving its directory.
const parkTime = time.Second

// park sends idle shells to the root directory until the client closes the connection.
func (s *server) park(c *conn) error {
	s.mu.Lock()
	var idle []*held
	for _, h := range s.sessions {
		if h.users == 0 {
			idle = append(idle, h)
		}
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(c.ctx, parkTime)
	defer cancel()
	var parked []*held
	for _, h := range idle {
		if h.Park(ctx) == nil {
			parked = append(parked, h)
		}
	}
	s.mu.Lock()
	c.finish = func(bool) {
		go func() { // without the lock: the shells have to do something
			for _, h := range parked {
				_ = h.Unpark() // one that has ended is the next command's business
			}
		}()
	}
	s.mu.Unlock()
	return send(c.fd, fields{kindAnswer})
}

// console is an interactive shell and its terminal, which no command uses.
type console struct {
	Settings
	process  *shell.Process
	attached bool
	ended    chan struct{} // closed when it has ended
	status   unix.WaitStatus
}

func (s *server) sortedConsoles() (all []*console) {
	for _, t := range s.consoles {
		all = append(all, t)
	}
	slices.SortFunc(all, func(a, b *console) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// close ends the shell as the end of its terminal does.
func (t *console) close() {
	_ = unix.Kill(t.process.Pid, unix.SIGHUP)
	select {
	case <-t.ended:
	case <-time.After(time.Second):
		_ = unix.Kill(t.process.Pid, unix.SIGKILL)
		<-t.ended
	}
}

var errAttached = errors.New("somebody is attached to the session")

// attach gives a client the terminal of an interactive shell. The shell goes on when the
// client leaves.
func (s *server) attach(c *conn, q *Request) error {
	t, err := s.console(c.ctx, &q.Settings)
	if err != nil {
		return err
	}
	defer func() {
		s.mu.Lock()
		t.attached = false
		s.mu.Unlock()
	}()
	if q.Rows > 0 {
		size := unix.Winsize{Row: uint16(q.Rows), Col: uint16(q.Columns)}
		_ = unix.IoctlSetWinsize(int(t.process.Console.Fd()), unix.TIOCSWINSZ, &size)
	}
	if err := send(c.fd, fields{kindBegun}, int(t.process.Console.Fd())); err != nil {
		return err
	}
	select {
	case <-c.ctx.Done():
		return c.ctx.Err()
	case <-t.ended:
	}
	res := &shell.Result{ExitStatus: t.status.ExitStatus()}
	if t.status.Signaled() {
		res.Signal = t.status.Signal()
		res.ExitStatus = 128 + int(res.Signal)
	}
	return send(c.fd, encodeResult(res))
}

// console returns an interactive shell that nobody is attached to, and starts it where
// there is none of that name.
func (s *server) console(ctx context.Context, q *Settings) (*console, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.consoles == nil || s.ending {
		return nil, ErrRefused
	}
	t := s.consoles[q.Name]
	if t != nil {
		if t.attached {
			return nil, errAttached
		}
		t.attached = true
		return t, nil
	}
	if len(s.consoles) >= maxSessions {
		return nil, errSessions
	}
	p, err := s.o.Attach(ctx, q)
	if err != nil {
		return nil, err
	}
	t = &console{Settings: *q, process: p, attached: true, ended: make(chan struct{})}
	s.consoles[q.Name] = t
	go s.reap(t)
	return t, nil
}

// reap waits for the end of an interactive shell.
func (s *server) reap(t *console) {
	t.status, _ = t.process.Wait()
	s.mu.Lock()
	if s.consoles[t.Name] == t {
		delete(s.consoles, t.Name)
	}
	s.mu.Unlock()
	close(t.ended)
	t.process.Console.Close()
}
