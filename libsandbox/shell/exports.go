package shell

import (
	"bytes"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// maxExports is how many bytes of exported variables are carried over to a new shell.
const maxExports = 8 << 20

// exports collects what the shell writes of its exported variables after each command:
// nobody waits for it. A dump counts once its mark has come.
type exports struct {
	fd   int
	buf  []byte // since the last mark
	last []byte
	runs int // commands since the last drain
}

// drain reads what there is.
func (e *exports) drain() {
	e.runs = 0
	for {
		want := pending(e.fd)
		if want == 0 {
			return
		}
		at := len(e.buf)
		e.buf = append(e.buf, make([]byte, want)...)
		n, _ := kernel.Read(e.fd, e.buf[at:])
		e.buf = e.buf[:at+max(n, 0)]
		e.split()
		if n <= 0 {
			return
		}
	}
}

// split takes the newest whole dump out of buf.
func (e *exports) split() {
	mark := []byte("\n" + dumpMark)
	i := bytes.LastIndex(e.buf, mark)
	if i < 0 {
		if len(e.buf) > maxExports {
			e.buf = nil
		}
		return
	}
	end := bytes.IndexByte(e.buf[i+1:], '\n')
	if end < 0 {
		return
	}
	whole := e.buf[:i+1]
	if j := bytes.LastIndex(whole[:i], mark); j >= 0 {
		whole = whole[j+1:]
		whole = whole[bytes.IndexByte(whole, '\n')+1:]
	}
	e.last = append(e.last[:0], whole...)
	e.buf = append(e.buf[:0], e.buf[i+1+end+1:]...)
}
