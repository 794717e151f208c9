package holder

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
	"adl.run/adl-runtime/libsandbox/shell"
)

// Options are what a holder is made of.
type Options struct {
	// Listener is a listening socket (SOCK_SEQPACKET). Serve owns it.
	Listener int
	// New makes a session.
	New func(context.Context, *Settings) (*shell.Session, error)
	// Attach starts an interactive shell with a terminal.
	Attach func(context.Context, *Settings) (*shell.Process, error)
	// Watch returns a pidfd of what the sessions are in, which the holder closes. It is
	// called again when that has ended; an error ends the holder.
	Watch func() (int, error)
	// Done ends the holder, and what runs, when it is closed; nil never is.
	Done <-chan struct{}
}

// maxSessions is how many sessions a holder keeps.
const maxSessions = 256

// endTime is how long a holder that is to end waits for what it still has to answer.
const endTime = 2 * time.Second

// server is a holder. One goroutine at a time, the leader, waits for packets; the one that
// has found a request leaves the lead to another and answers it. So a request does not
// change threads on a process that has but one processor for Go.
type server struct {
	o     *Options
	epoll int
	buf   []byte // the leader's
	ended chan struct{}
	led   chan struct{} // closed when there is no leader any more

	mu       sync.Mutex
	watched  int // Watch's pidfd
	conns    map[int]*conn
	sessions map[string]*held
	consoles map[string]*console
	active   int  // requests that are being answered
	ending   bool // no request is begun any more
	gone     bool // what the sessions are in has ended
}

// held is a session.
type held struct {
	*shell.Session
	Settings
	users int // commands that run or wait
}

// conn is a connection.
type conn struct {
	fd     int
	ctx    context.Context
	cancel context.CancelFunc

	// Below, with the server's lock.
	asked  bool       // the request has come
	active bool       // it is being answered
	read   bool       // the client has read the outputs
	closed bool       // by the client
	finish func(bool) // gives the outputs back, of which all has been read or not; nil for nothing
}

// Serve answers requests until the container ends, or a client ends the holder.
func Serve(o *Options) error {
	s := &server{
		o: o, watched: -1, buf: make([]byte, maxPacket), ended: make(chan struct{}), led: make(chan struct{}),
		conns: map[int]*conn{}, sessions: map[string]*held{}, consoles: map[string]*console{},
	}
	defer unix.Close(o.Listener)
	var err error
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("holder: epoll: %w", err)
	}
	defer unix.Close(s.epoll)
	if err := unix.SetNonblock(o.Listener, true); err != nil {
		return fmt.Errorf("holder: %w", err)
	}
	if err := s.add(o.Listener); err != nil {
		return fmt.Errorf("holder: %w", err)
	}
	if err := s.watch(); err != nil {
		return fmt.Errorf("holder: %w", err)
	}
	go s.lead()
	select {
	case <-o.Done:
		s.end(false)
		s.cancelAll()
		<-s.ended
	case <-s.ended:
	}
	<-s.led // so that a request is either answered or still in its socket
	s.close()
	return nil
}

func (s *server) add(fd int) error {
	return unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

// watch watches for the end of what the sessions are in.
func (s *server) watch() error {
	fd, err := s.o.Watch()
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.watched = fd
	s.mu.Unlock()
	return s.add(fd)
}

// lead deals with what happens until there is a request.
func (s *server) lead() {
	for {
		var ev [1]unix.EpollEvent
		n, err := unix.EpollWait(s.epoll, ev[:], -1)
		if err != nil && err != unix.EINTR {
			close(s.led)
			s.end(true)
			return
		}
		if n <= 0 {
			continue
		}
		work := s.event(int(ev[0].Fd))
		select {
		case <-s.ended:
			close(s.led)
			return
		default:
		}
		if work != nil {
			go s.lead()
			work()
			return
		}
	}
}

// event deals with a descriptor that is ready, and returns what takes longer.
func (s *server) event(fd int) (work func()) {
	s.mu.Lock()
	watched, c := s.watched, s.conns[fd]
	s.mu.Unlock()
	switch {
	case fd == s.o.Listener:
		return s.accept()
	case fd == watched:
		_ = unix.EpollCtl(s.epoll, unix.EPOLL_CTL_DEL, fd, nil)
		return s.renew
	case c != nil:
		return s.input(c)
	}
	return nil
}

// renew waits for what has taken the place of what the sessions are in, if anything has.
func (s *server) renew() {
	s.mu.Lock()
	unix.Close(s.watched)
	s.watched = -1
	s.mu.Unlock()
	if s.watch() != nil {
		s.end(true)
	}
}

// accept takes a connection and, where it is there already, its request.
func (s *server) accept() (work func()) {
	fd, _, err := unix.Accept4(s.o.Listener, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return nil
	}
	if !allowed(fd) {
		unix.Close(fd)
		return nil
	}
	c := &conn{fd: fd}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	s.mu.Lock()
	s.conns[fd] = c
	s.mu.Unlock()
	work = s.input(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.closed && s.add(fd) != nil {
		c.closed = true
		c.cancel()
		if work == nil {
			s.drop(c)
		}
	}
	return work
}

// allowed says whether the other side is of this process's user, or root.
func allowed(fd int) bool {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	return err == nil && (cred.Uid == 0 || int(cred.Uid) == unix.Geteuid())
}

// input takes a packet, or the end of a connection.
func (s *server) input(c *conn) (work func()) {
	f, files, err := receive(c.fd, s.buf)
	if err == unix.EAGAIN {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil:
		kernel.Close(files...)
		_ = unix.EpollCtl(s.epoll, unix.EPOLL_CTL_DEL, c.fd, nil)
		c.closed = true
		c.cancel()
		if !c.active {
			s.drop(c)
		}
	case !c.asked && s.ending:
		kernel.Close(files...)
		c.asked = true
		_ = send(c.fd, fields{s.refusal()})
	case !c.asked:
		c.asked, c.active = true, true
		s.active++
		return func() { s.answer(c, f, files) }
	default:
		kernel.Close(files...)
		if c.read = true; !c.active {
			c.done(true)
		}
	}
	return nil
}

// done gives the outputs back. The caller has the lock.
func (c *conn) done(read bool) {
	if c.finish != nil {
		c.finish(read)
		c.finish = nil
	}
}

// drop forgets a connection. The caller has the lock.
func (s *server) drop(c *conn) {
	if s.conns[c.fd] != c {
		return
	}
	c.cancel()
	c.done(c.read)
	delete(s.conns, c.fd)
	unix.Close(c.fd)
}

// answer answers a request.
func (s *server) answer(c *conn, f fields, files []int) {
	q, err := parseRequest(f, files)
	if err == nil {
		err = s.do(c, q)
	}
	if err != nil && c.ctx.Err() == nil {
		kind := kindError
		s.mu.Lock()
		if s.gone || errors.Is(err, ErrRefused) {
			kind = s.refusal()
		}
		s.mu.Unlock()
		_ = send(c.fd, fields{kind, shorten(err.Error(), maxInline)})
	}
	if q != nil && q.Stdin != nil {
		q.Stdin.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c.active = false
	s.active--
	switch {
	case c.closed:
		s.drop(c)
	case c.read:
		c.done(true)
	}
	if s.ending && s.active == 0 {
		s.finish()
	}
}

// shorten is for what need not be whole.
func shorten(s string, limit int) string {
	if len(s) > limit {
		return s[:limit] + "…"
	}
	return s
}

// refusal is what is said to who comes too late. The caller has the lock.
func (s *server) refusal() string {
	if s.gone {
		return kindStopped
	}
	return kindRefused
}

// refuse lets no more requests in: who comes now finds nobody, and can start another
// holder. The caller has the lock.
func (s *server) refuse() {
	if s.ending {
		return
	}
	s.ending = true
	_ = unix.EpollCtl(s.epoll, unix.EPOLL_CTL_DEL, s.o.Listener, nil) // it is ready from now on
	_ = unix.Shutdown(s.o.Listener, unix.SHUT_RDWR)
}

// cancelAll ends what all requests have begun.
func (s *server) cancelAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.cancel()
	}
}

// end ends the holder when all requests are answered, or some time later.
func (s *server) end(gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = s.gone || gone
	s.refuse()
	if s.active == 0 {
		s.finish()
		return
	}
	time.AfterFunc(endTime, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.finish()
	})
}

// finish lets Serve return. The caller has the lock.
func (s *server) finish() {
	select {
	case <-s.ended:
	default:
		close(s.ended)
		_ = s.add(s.o.Listener) // wakes the leader
	}
}

// close ends the sessions.
func (s *server) close() {
	s.mu.Lock()
	all, consoles := s.sessions, s.consoles
	s.sessions, s.consoles = nil, nil
	if s.watched >= 0 {
		unix.Close(s.watched)
		s.watched = -1
	}
	for _, c := range s.conns {
		c.closed = true
		c.cancel()
		if !c.active {
			s.drop(c)
		}
	}
	s.mu.Unlock()
	for _, h := range all {
		_ = h.Close()
	}
	for _, t := range consoles {
		t.close()
	}
}

var errSessions = fmt.Errorf("there are %d sessions: stop some", maxSessions)

// session returns the session of a request, and makes it where there is none.
func (s *server) session(ctx context.Context, q *Settings) (*held, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions == nil || s.ending {
		return nil, ErrRefused
	}
	h := s.sessions[q.Name]
	if h == nil {
		if len(s.sessions) >= maxSessions {
			return nil, errSessions
		}
		// With the lock: making one takes no time, starting its shell does.
		made, err := s.o.New(ctx, q)
		if err != nil {
			return nil, err
		}
		h = &held{Session: made, Settings: *q}
		s.sessions[q.Name] = h
	}
	if err := h.fits(q); err != nil {
		return nil, err
	}
	h.users++
	return h, nil
}

// leave is the end of what session began. A session whose shell could not be started is
// none.
func (s *server) leave(h *held) {
	s.mu.Lock()
	h.users--
	void := !h.Started() && h.users == 0 && s.sessions[h.Name] == h
	if void {
		delete(s.sessions, h.Name)
	}
	s.mu.Unlock()
	if void {
		_ = h.Close()
	}
}

// drain throws away what a client has not read.
func drain(fd int) {
	var buf [4096]byte
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	for err == nil && n > 0 {
		var got int
		got, err = kernel.Read(fd, buf[:min(n, len(buf))])
		n -= got
		if got <= 0 {
			return
		}
	}
}
