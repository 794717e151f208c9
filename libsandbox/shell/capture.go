package shell

import (
	"io"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// capture keeps the first and the last half of limit bytes.
type capture struct {
	limit int
	// buf grows up to limit; then its second half is a ring, with the oldest byte at next.
	buf   []byte
	next  int
	total int64
}

// room is where the next bytes go, want of them if that can be.
func (c *capture) room(want int) []byte {
	if len(c.buf) < c.limit {
		want = min(want, c.limit-len(c.buf))
		if cap(c.buf)-len(c.buf) < want {
			c.grow(want)
		}
		return c.buf[len(c.buf) : len(c.buf)+want]
	}
	if c.next == 0 {
		c.next = c.limit / 2
	}
	return c.buf[c.next:c.limit]
}

// grow makes room for want bytes: those alone at first, for most outputs are short
// and come at once.
func (c *capture) grow(want int) {
	size := len(c.buf) + want
	if len(c.buf) > 0 {
		size = max(size, 2*cap(c.buf))
	}
	buf := make([]byte, len(c.buf), min(size, c.limit))
	copy(buf, c.buf)
	c.buf = buf
}

// wrote says that n bytes of the room are filled.
func (c *capture) wrote(n int) {
	c.total += int64(n)
	if len(c.buf) < c.limit {
		c.buf = c.buf[:len(c.buf)+n]
		return
	}
	if c.next += n; c.next == c.limit {
		c.next = c.limit / 2
	}
}

// bytes is what was kept, in order, and how much is missing after its first half.
func (c *capture) bytes() (kept []byte, dropped int64) {
	if c.next == 0 || c.next == c.limit/2 {
		return c.buf, c.total - int64(len(c.buf))
	}
	half := c.limit / 2
	kept = make([]byte, 0, c.limit)
	kept = append(kept, c.buf[:half]...)
	kept = append(kept, c.buf[c.next:]...)
	return append(kept, c.buf[half:c.next]...), c.total - int64(c.limit)
}

// sink is where one output of a command goes.
type sink struct {
	fd   int // to read from, -1 for none
	w    io.Writer
	kept capture
	err  error // of w
}

// pending is how many bytes can be read from a pipe.
func pending(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	if err != nil {
		return 0
	}
	return n
}

// read reads at most limit bytes of what is there, a negative limit for all there is at
// this moment. It says how many.
func (k *sink) read(limit int, scratch func() []byte) (total int) {
	if k.fd < 0 {
		return 0
	}
	for want := pending(k.fd); want > 0 && limit != 0; want = pending(k.fd) {
		if limit < 0 {
			limit = want
		}
		n := k.once(min(want, limit), scratch)
		if n <= 0 {
			break
		}
		total += n
		limit -= n
	}
	return total
}

// once reads up to want bytes.
func (k *sink) once(want int, scratch func() []byte) int {
	if k.w == nil && k.kept.limit > 0 {
		n, _ := kernel.Read(k.fd, k.kept.room(want))
		if n > 0 {
			k.kept.wrote(n)
		}
		return n
	}
	buf := scratch()
	n, _ := kernel.Read(k.fd, buf[:min(want, len(buf))])
	if n <= 0 {
		return n
	}
	k.kept.total += int64(n)
	if k.w != nil && k.err == nil {
		_, k.err = k.w.Write(buf[:n])
	}
	return n
}
