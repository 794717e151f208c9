package systemd

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// limit bounds a whole conversation. systemd answers within milliseconds, but is one
// process with one thread, and may be busy.
const limit = 30 * time.Second

// Conn is a connection to the systemd of the system. It is for one goroutine.
type Conn struct {
	fd     int
	bus    bool // in between is a bus
	end    time.Time
	serial uint32
	in     []byte            // received, not yet parsed
	jobs   map[string]string // results of jobs that have ended, by path
}

// Error is systemd's answer to a call that failed.
type Error struct {
	Name string // org.freedesktop.systemd1.NoSuchUnit
	Text string
}

func (e *Error) Error() string {
	if e.Text == "" {
		return e.Name
	}
	return e.Text
}

// is says whether err is systemd's error of that name.
func is(err error, name string) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Name == "org.freedesktop.systemd1."+name
}

// Running says whether the system was booted with systemd (sd_booted(3)).
func Running() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}

// Dial connects to systemd: over its own socket, as systemctl does, or over the system
// bus, which is all that a container with a manager of its own in it may have. The
// caller closes the connection; it is of no use after 30 seconds.
func Dial() (*Conn, error) {
	c, err := dial("/run/systemd/private", false)
	if err != nil {
		var busErr error
		if c, busErr = dial("/run/dbus/system_bus_socket", true); busErr == nil {
			return c, nil
		}
		return nil, fmt.Errorf("connect to systemd: %w", err)
	}
	return c, nil
}

func dial(path string, bus bool) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	c := &Conn{fd: fd, bus: bus, end: time.Now().Add(limit), jobs: map[string]string{}}
	if err := c.open(path); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *Conn) open(path string) error {
	// Also for connect(2), where the queue of those who wait is full (unix(7)).
	bound := unix.Timeval{Sec: int64(limit.Seconds())}
	if err := unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &bound); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Connect(c.fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return &os.PathError{Op: "connect", Path: path, Err: err}
	}
	err := c.authenticate()
	if err == nil && c.bus {
		err = c.join()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// Close closes the connection.
func (c *Conn) Close() { unix.Close(c.fd) }

// authenticate names the user that the socket's credentials show, in the way that all
// servers take ("Authentication Protocol", EXTERNAL).
//
// BEGIN goes with it and not after the answer: systemd (252) does not look at a message
// that it receives together with BEGIN before the next one comes. After the answer it
// has read BEGIN.
func (c *Conn) authenticate() error {
	uid := hex.EncodeToString([]byte(strconv.Itoa(os.Geteuid())))
	if err := c.write([]byte("\x00AUTH EXTERNAL " + uid + "\r\nBEGIN\r\n")); err != nil {
		return err
	}
	for !bytes.Contains(c.in, []byte("\r\n")) {
		if err := c.read(); err != nil {
			return err
		}
	}
	line, rest, _ := bytes.Cut(c.in, []byte("\r\n"))
	if !bytes.HasPrefix(line, []byte("OK ")) {
		return fmt.Errorf("not authenticated: %q", line)
	}
	c.in = rest
	return nil
}

// join makes the connection a member of the bus, and has it told of jobs that end.
// Over its own socket systemd tells everybody.
func (c *Conn) join() error {
	const bus, name = "/org/freedesktop/DBus", "org.freedesktop.DBus"
	if _, err := c.call(name, bus, name, "Hello"); err != nil {
		return err
	}
	match := "type='signal',sender='org.freedesktop.systemd1',member='JobRemoved'"
	if _, err := c.call(name, bus, name, "AddMatch", arg{"s", match}); err != nil {
		return err
	}
	_, err := c.manager("Subscribe")
	return err
}

// manager calls a method of systemd's manager.
func (c *Conn) manager(method string, args ...arg) (message, error) {
	destination := ""
	if c.bus {
		destination = "org.freedesktop.systemd1"
	}
	return c.call(destination, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", method, args...)
}

// call calls a method and waits for its answer.
func (c *Conn) call(destination, path, iface, method string, args ...arg) (message, error) {
	c.serial++
	if err := c.write(call(c.serial, destination, path, iface, method, args...)); err != nil {
		return message{}, fmt.Errorf("systemd: %s: %w", method, err)
	}
	for {
		m, err := c.receive()
		switch {
		case err != nil:
			return m, fmt.Errorf("systemd: %s: %w", method, err)
		case m.reply != c.serial:
		case m.kind == methodErr:
			return m, m.failure()
		case m.kind == methodOK:
			return m, nil
		}
	}
}

func (m *message) failure() error {
	e := &Error{Name: m.err}
	if strings.HasPrefix(m.sig, "s") {
		d := decoder{b: m.body}
		e.Text = d.string()
	}
	return e
}

// receive returns the next message. It keeps the results of jobs.
func (c *Conn) receive() (message, error) {
	need := 16
	for {
		if len(c.in) >= 16 {
			header, body, err := headerLength(c.in)
			if err != nil {
				return message{}, err
			}
			if need = header + body; len(c.in) >= need {
				m, err := parse(c.in[:need], header)
				c.in = c.in[need:]
				c.keepJob(&m)
				return m, err
			}
		}
		if err := c.read(); err != nil {
			return message{}, err
		}
	}
}

// keepJob: JobRemoved has a number, the job's path, its unit and its result.
func (c *Conn) keepJob(m *message) {
	if m.kind != signal || m.member != "JobRemoved" || m.sig != "uoss" {
		return
	}
	d := decoder{b: m.body}
	d.uint32()
	path, _, result := d.string(), d.string(), d.string()
	if d.err == nil {
		c.jobs[path] = result
	}
}

// wait returns the result of the job that a call has begun.
func (c *Conn) wait(m message) (string, error) {
	d := decoder{b: m.body}
	path := d.string()
	if m.sig != "o" || d.err != nil {
		return "", errors.New("systemd: an answer without a job")
	}
	for {
		if result, ok := c.jobs[path]; ok {
			return result, nil
		}
		if _, err := c.receive(); err != nil {
			return "", fmt.Errorf("systemd: wait for job: %w", err)
		}
	}
}

func (c *Conn) write(b []byte) error {
	for len(b) > 0 {
		n, err := unix.SendmsgN(c.fd, b, nil, nil, unix.MSG_NOSIGNAL)
		if err != nil && err != unix.EINTR {
			return os.NewSyscallError("send", err)
		}
		b = b[max(n, 0):]
	}
	return nil
}

// read waits for more to come.
func (c *Conn) read() error {
	left := time.Until(c.end)
	if left <= 0 {
		return errors.New("no answer within " + limit.String())
	}
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}, int(left.Milliseconds()+1))
	if err == unix.EINTR || err == nil && n == 0 {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("poll", err)
	}
	buf := make([]byte, 4096)
	n, err = unix.Read(c.fd, buf)
	switch {
	case err == unix.EINTR:
		return nil
	case err != nil:
		return os.NewSyscallError("read", err)
	case n == 0:
		return errors.New("systemd closed the connection")
	}
	c.in = append(c.in, buf[:n]...)
	return nil
}
