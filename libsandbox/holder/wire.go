package holder

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
	"adl.run/adl-runtime/libsandbox/shell"
)

// version is the first field of a request. Holder and client may be of different versions
// of the runtime.
const version = "1"

// maxPacket is the size of a packet in bytes. It has to be below what a socket can hold
// (net.core.wmem_default).
const maxPacket = 96 << 10

// maxInline is how long a command's text can be within a packet; a longer one is a file.
const maxInline = 32 << 10

// maxText is how long a command's text can be.
const maxText = 64 << 20

// Op is what a request is about.
type Op string

// The requests.
const (
	OpRun    Op = "run"    // a command, to its end
	OpStart  Op = "start"  // a command, in the background
	OpAttach Op = "attach" // an interactive shell's terminal
	OpList   Op = "list"   // the sessions
	OpStop   Op = "stop"   // a session, or with an empty name all of them and the holder
	OpJobs   Op = "jobs"   // of a session
	OpOutput Op = "output" // of a job
	OpWait   Op = "wait"   // for a job
	OpSignal Op = "signal" // to a job
	OpPark   Op = "park"   // all idle shells, for as long as the connection is open
)

// Settings are a session's name and what it is made with where there is none of that name.
type Settings struct {
	Name string
	// Args, Env, Dir and Terminal are as in libsandbox.ShellOptions.
	Args, Env []string
	Dir       string
	Terminal  bool
}

// Request is what a client asks for.
type Request struct {
	Op
	Settings
	// Text, Timeout, IdleTimeout and Isolated are as in shell.Command.
	Text                 string
	Timeout, IdleTimeout time.Duration
	Isolated             bool
	// Stdin is the read end of a pipe, which the command's stdin is copied from; nil for an
	// empty stdin. It stays the client's.
	Stdin *os.File
	// Job and what is wanted of it.
	Job    int
	Stream shell.Stream
	Offset int64
	Signal unix.Signal
	// Rows and Columns are the size of the terminal, if there is one; 0 is unknown.
	Rows, Columns int
}

// Kinds of packets from the holder, and from a client after its request.
const (
	kindError   = "error"
	kindStopped = "stopped" // an error: what the sessions are in has ended
	kindRefused = "refused" // an error: nothing was done, as the holder ends
	kindBegun   = "begun"
	kindResult  = "result"
	kindAnswer  = "answer"
	kindEnd     = "end"
)

// fields is the content of a packet: strings, each after its length.
type fields []string

func (f fields) encode() []byte {
	var b []byte
	for _, s := range f {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return b
}

var errPacket = errors.New("the packet makes no sense")

func decode(b []byte) (f fields, err error) {
	for len(b) > 0 {
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(b)-w) {
			return nil, errPacket
		}
		f = append(f, string(b[w:w+int(n)]))
		b = b[w+int(n):]
	}
	return f, nil
}

// take removes the first field, empty where there is none.
func (f *fields) take() string {
	if len(*f) == 0 {
		return ""
	}
	s := (*f)[0]
	*f = (*f)[1:]
	return s
}

// number is take for a number, 0 where it is none.
func (f *fields) number() int64 {
	n, _ := strconv.ParseInt(f.take(), 10, 64)
	return n
}

// list is take for a list.
func (f *fields) list() []string {
	n := int(f.number())
	if n <= 0 || n > len(*f) {
		return nil
	}
	l := (*f)[:n:n]
	*f = (*f)[n:]
	return l
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func list(l []string) fields { return append(fields{number(int64(len(l)))}, l...) }

// encode returns a request as a packet and descriptors, of which the second, if it is not
// negative, is the caller's to close.
func (q *Request) encode() (f fields, stdin, text int, err error) {
	stdin, text = -1, -1
	inline := q.Text
	if len(q.Text) > maxInline {
		if text, err = textFile(q.Text); err != nil {
			return nil, -1, -1, err
		}
		inline = ""
	}
	if q.Stdin != nil {
		stdin = int(q.Stdin.Fd())
	}
	f = fields{
		version, string(q.Op), q.Name, q.Dir, flag(q.Terminal),
		inline, number(int64(q.Timeout)), number(int64(q.IdleTimeout)), flag(q.Isolated),
		flag(stdin >= 0), flag(text >= 0),
		number(int64(q.Job)), number(int64(q.Stream)), number(q.Offset), number(int64(q.Signal)),
		number(int64(q.Rows)), number(int64(q.Columns)),
	}
	f = append(append(f, list(q.Args)...), list(q.Env)...)
	return f, stdin, text, nil
}

// textFile is a file in memory with a command's text.
func textFile(text string) (int, error) {
	if len(text) > maxText {
		return -1, fmt.Errorf("command: %d bytes are more than %d", len(text), maxText)
	}
	fd, err := unix.MemfdCreate("command", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("command: memfd: %w", err)
	}
	if err := kernel.WriteAll(fd, []byte(text)); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("command: %w", err)
	}
	return fd, nil
}

var errVersion = errors.New(`the holder is of another version: end it with "shell stop"`)

// parseRequest is the inverse of encode. files are the request's then, or are closed.
func parseRequest(f fields, files []int) (*Request, error) {
	defer func() { kernel.Close(files...) }()
	if f.take() != version {
		return nil, errVersion
	}
	q := &Request{Op: Op(f.take())}
	q.Name, q.Dir, q.Terminal = f.take(), f.take(), f.take() == "1"
	q.Text, q.Timeout, q.IdleTimeout = f.take(), time.Duration(f.number()), time.Duration(f.number())
	q.Isolated = f.take() == "1"
	stdin, text := f.take() == "1", f.take() == "1"
	q.Job, q.Stream, q.Offset = int(f.number()), shell.Stream(f.number()), f.number()
	q.Signal, q.Rows, q.Columns = unix.Signal(f.number()), int(f.number()), int(f.number())
	q.Args, q.Env = f.list(), f.list()
	if text {
		if len(files) == 0 {
			return nil, errPacket
		}
		last := len(files) - 1
		raw, err := readText(files[last])
		unix.Close(files[last])
		files = files[:last]
		if err != nil {
			return nil, err
		}
		q.Text = raw
	}
	if stdin {
		if len(files) == 0 {
			return nil, errPacket
		}
		_ = unix.SetNonblock(files[0], true) // so that closing it ends a read
		q.Stdin = os.NewFile(uintptr(files[0]), "stdin")
		files = files[1:]
	}
	return q, nil
}

// readText reads a file of textFile.
func readText(fd int) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > maxText {
		return "", errPacket
	}
	b := make([]byte, st.Size)
	for done := 0; done < len(b); {
		n, err := unix.Pread(fd, b[done:], int64(done))
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			return "", errors.Join(err, errPacket)
		}
		done += n
	}
	return string(b), nil
}

// send sends a packet.
func send(fd int, f fields, files ...int) error {
	b := f.encode()
	if len(b) > maxPacket {
		return fmt.Errorf("%d bytes are too much for a request", len(b))
	}
	var oob []byte
	if len(files) > 0 {
		oob = unix.UnixRights(files...)
	}
	return kernel.Retry(func() error { return unix.Sendmsg(fd, b, oob, nil, unix.MSG_NOSIGNAL) })
}

// receive receives a packet into buf. io.EOF: the other side has closed the connection.
func receive(fd int, buf []byte) (fields, []int, error) {
	var oob [64]byte
	n, oobn, flags, _, err := kernel.Recvmsg(fd, buf, oob[:])
	if err != nil {
		return nil, nil, err
	}
	files := kernel.Rights(oob[:oobn])
	if n == 0 {
		kernel.Close(files...)
		return nil, nil, io.EOF
	}
	f, err := decode(buf[:n])
	if err == nil && flags&unix.MSG_TRUNC != 0 {
		err = errPacket
	}
	if err != nil {
		kernel.Close(files...)
		return nil, nil, err
	}
	return f, files, nil
}

// Result is shell.Result without the outputs, which the client has read.
func encodeResult(r *shell.Result) fields {
	return fields{kindResult, number(int64(r.ExitStatus)), number(int64(r.Signal)), flag(r.TimedOut), flag(r.Restarted), number(int64(r.Duration)), r.Dir}
}

func parseResult(f fields) *shell.Result {
	r := &shell.Result{ExitStatus: int(f.number()), Signal: unix.Signal(f.number())}
	r.TimedOut, r.Restarted, r.Duration, r.Dir = f.take() == "1", f.take() == "1", time.Duration(f.number()), f.take()
	return r
}
