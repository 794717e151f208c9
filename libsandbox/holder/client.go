package holder

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
	"adl.run/adl-runtime/libsandbox/shell"
)

// Errors of a Client.
var (
	// ErrStopped: what the sessions are in has ended.
	ErrStopped = errors.New("the container has stopped")
	// ErrRefused: the holder has ended without having seen the request. Another holder can
	// be asked.
	ErrRefused = errors.New("the holder of the sessions does not answer")
	// errLost: it has ended, and nobody knows how far it has come.
	errLost = errors.New("the holder of the sessions has ended")
)

// Client is a connection with a holder, for one request.
type Client struct {
	fd  int
	buf []byte
}

// NewClient takes over a connected socket.
func NewClient(fd int) *Client { return &Client{fd: fd} }

// Close closes the connection. It cancels a command that has not ended.
func (c *Client) Close() { unix.Close(c.fd) }

// ask sends the request.
func (c *Client) ask(q *Request) error {
	f, stdin, text, err := q.encode()
	if err != nil {
		return err
	}
	var files []int
	if stdin >= 0 {
		files = append(files, stdin)
	}
	if text >= 0 {
		defer unix.Close(text)
		files = append(files, text)
	}
	err = send(c.fd, f, files...)
	if err == unix.EPIPE || err == unix.ECONNRESET {
		return ErrRefused
	}
	return err
}

// answer receives a packet of a kind.
func (c *Client) answer(kind string) (fields, []int, error) {
	if c.buf == nil {
		c.buf = make([]byte, maxPacket)
	}
	f, files, err := receive(c.fd, c.buf)
	switch {
	case err == io.EOF:
		return nil, nil, errLost
	case err == unix.ECONNRESET: // the request was still in the socket
		return nil, nil, ErrRefused
	case err != nil:
		return nil, nil, fmt.Errorf("holder: %w", err)
	}
	switch is := f.take(); is {
	case kind:
		return f, files, nil
	case kindStopped:
		err = ErrStopped
	case kindRefused:
		err = ErrRefused
	case kindError:
		err = errors.New(f.take())
	default:
		err = errPacket
	}
	kernel.Close(files...)
	return nil, nil, err
}

// call is for requests with one answer.
func (c *Client) call(q *Request) (fields, error) {
	if err := c.ask(q); err != nil {
		return nil, err
	}
	f, _, err := c.answer(kindAnswer)
	return f, err
}

// Sessions lists the sessions.
func (c *Client) Sessions() ([]SessionInfo, error) {
	f, err := c.call(&Request{Op: OpList})
	return parseSessions(f), err
}

// Stop ends a session or, with an empty name, all of them and the holder.
func (c *Client) Stop(name string) error {
	_, err := c.call(&Request{Op: OpStop, Settings: Settings{Name: name}})
	return err
}

// Park sends the shells of idle sessions to the root directory, until Close.
func (c *Client) Park() error {
	_, err := c.call(&Request{Op: OpPark})
	return err
}

// Start starts the command of a request in the background and returns its job's number.
func (c *Client) Start(q *Request) (int, error) {
	q.Op = OpStart
	f, err := c.call(q)
	return int(f.number()), err
}

// Jobs lists the jobs of a session.
func (c *Client) Jobs(session string) ([]JobInfo, error) {
	f, err := c.call(&Request{Op: OpJobs, Settings: Settings{Name: session}})
	all := []JobInfo{}
	for len(f) > 0 {
		all = append(all, takeJob(&f))
	}
	return all, err
}

// Output returns what is kept of a job's output from an offset on, or some of it, and the
// offset of its first byte.
func (c *Client) Output(session string, job int, stream shell.Stream, offset int64) (first int64, data string, err error) {
	f, err := c.call(&Request{Op: OpOutput, Settings: Settings{Name: session}, Job: job, Stream: stream, Offset: offset})
	return f.number(), f.take(), err
}

// Wait waits for a job's end.
func (c *Client) Wait(session string, job int) (JobInfo, error) {
	f, err := c.call(&Request{Op: OpWait, Settings: Settings{Name: session}, Job: job})
	return takeJob(&f), err
}

// Signal sends a signal to a job's processes.
func (c *Client) Signal(session string, job int, sig unix.Signal) error {
	_, err := c.call(&Request{Op: OpSignal, Settings: Settings{Name: session}, Job: job, Signal: sig})
	return err
}

// Terminal begins the request's command in a session that has a terminal or, where there is
// no command, starts or finds an interactive shell. It returns the master of the terminal,
// which is the caller's to close.
func (c *Client) Terminal(q *Request) (*os.File, error) {
	q.Op, q.Settings.Terminal = OpRun, true
	if q.Text == "" {
		q.Op = OpAttach
	}
	if err := c.ask(q); err != nil {
		return nil, err
	}
	_, files, err := c.answer(kindBegun)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, errPacket
	}
	kernel.Close(files[1:]...) // nothing is written there
	return os.NewFile(uintptr(files[0]), "terminal"), nil
}

// Result waits for the end of what Terminal has begun.
func (c *Client) Result() (*shell.Result, error) {
	f, _, err := c.answer(kindResult)
	if err != nil {
		return nil, err
	}
	return parseResult(f), nil
}

// Run runs the command of a request and copies its outputs to files. The result has no
// outputs.
func (c *Client) Run(q *Request, stdout, stderr *os.File) (*shell.Result, error) {
	q.Op = OpRun
	if err := c.ask(q); err != nil {
		return nil, err
	}
	_, files, err := c.answer(kindBegun)
	if err != nil {
		return nil, err
	}
	defer kernel.Close(files...)
	if len(files) != 2 {
		return nil, errPacket
	}
	p := &copying{client: c}
	p.out[0] = output{from: files[0], to: int(stdout.Fd())}
	p.out[1] = output{from: files[1], to: int(stderr.Fd())}
	return p.run()
}

// copying is the wait for a command's end.
type copying struct {
	client *Client
	out    [2]output
	buf    []byte
}

// output is one that is copied.
type output struct {
	from, to int
	more     bool // there is some left, of which no event will tell
}

// maxCopy is how much of an output is copied before the others are looked at again.
const maxCopy = 4 << 20

func (p *copying) run() (*shell.Result, error) {
	set, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	defer unix.Close(set)
	for fd, events := range map[int]uint32{
		p.client.fd:   unix.EPOLLIN,
		p.out[0].from: unix.EPOLLIN | unix.EPOLLET&0xffffffff, // without a writer one is ready all the time
		p.out[1].from: unix.EPOLLIN | unix.EPOLLET&0xffffffff,
	} {
		if err := unix.EpollCtl(set, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
			return nil, fmt.Errorf("epoll: %w", err)
		}
	}
	for {
		ended, err := p.wait(set)
		if err != nil {
			return nil, err
		}
		if ended {
			break
		}
	}
	f, _, err := p.client.answer(kindResult)
	if err != nil {
		return nil, err
	}
	for i := range p.out {
		if err := p.rest(&p.out[i]); err != nil {
			return nil, err
		}
	}
	_ = send(p.client.fd, fields{kindEnd})
	return parseResult(f), nil
}

// wait waits for something to happen, and copies what there is. ended: there is a packet.
func (p *copying) wait(set int) (ended bool, err error) {
	timeout := -1
	if p.out[0].more || p.out[1].more {
		timeout = 0
	}
	var events [3]unix.EpollEvent
	n, err := unix.EpollWait(set, events[:], timeout)
	if err != nil && err != unix.EINTR {
		return false, fmt.Errorf("epoll: %w", err)
	}
	for _, e := range events[:max(n, 0)] {
		if int(e.Fd) == p.client.fd {
			ended = true
		}
		for i := range p.out {
			p.out[i].more = p.out[i].more || int(e.Fd) == p.out[i].from
		}
	}
	for i := range p.out {
		if o := &p.out[i]; o.more && !ended {
			done, err := p.copy(o, maxCopy)
			if err != nil {
				return false, err
			}
			o.more = done >= maxCopy
		}
	}
	return ended, nil
}

// rest copies what the command has left in the pipe, and nothing that others go on
// writing.
func (p *copying) rest(o *output) error {
	n, err := unix.IoctlGetInt(o.from, unix.TIOCINQ)
	if err != nil {
		return fmt.Errorf("output: %w", err)
	}
	_, err = p.copy(o, n)
	return err
}

// copy copies what there is, up to a limit.
func (p *copying) copy(o *output, limit int) (done int, err error) {
	if limit > 0 && p.buf == nil {
		p.buf = make([]byte, 256<<10)
	}
	for done < limit {
		n, err := kernel.Read(o.from, p.buf[:min(limit-done, len(p.buf))])
		if err == unix.EAGAIN || err == nil && n == 0 {
			break
		}
		if err == nil {
			err = writeAll(o.to, p.buf[:n])
		}
		if err != nil {
			return done, fmt.Errorf("output: %w", err)
		}
		done += n
	}
	return done, nil
}

// writeAll writes to a file that may be non-blocking, as whoever has opened it likes.
func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		switch {
		case err == unix.EAGAIN:
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, -1)
		case err != nil && err != unix.EINTR:
			return err
		}
		b = b[max(n, 0):]
	}
	return nil
}
