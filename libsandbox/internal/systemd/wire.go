package systemd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// The wire format is the D-Bus specification's, little endian, which every peer must
// read ("Marshaling", "Message Protocol").

// encoder appends values, each aligned to its size from the message's beginning.
type encoder struct{ b []byte }

func (e *encoder) align(n int) {
	for len(e.b)%n != 0 {
		e.b = append(e.b, 0)
	}
}

func (e *encoder) uint32(v uint32) {
	e.align(4)
	e.b = binary.LittleEndian.AppendUint32(e.b, v)
}

func (e *encoder) string(s string) {
	e.uint32(uint32(len(s)))
	e.b = append(append(e.b, s...), 0)
}

func (e *encoder) signature(s string) { e.b = append(append(append(e.b, byte(len(s))), s...), 0) }

// array appends an array, whose items f appends, of a type aligned to n.
func (e *encoder) array(n int, f func()) {
	e.uint32(0)
	at := len(e.b) - 4
	e.align(n)
	start := len(e.b)
	f()
	binary.LittleEndian.PutUint32(e.b[at:], uint32(len(e.b)-start))
}

// value appends v, which has the Go type that a Value of this signature holds.
func (e *encoder) value(sig string, v any) {
	switch v := v.(type) {
	case byte:
		e.b = append(e.b, v)
	case bool:
		n := uint32(0)
		if v {
			n = 1
		}
		e.uint32(n)
	case int16:
		e.align(2)
		e.b = binary.LittleEndian.AppendUint16(e.b, uint16(v))
	case uint16:
		e.align(2)
		e.b = binary.LittleEndian.AppendUint16(e.b, v)
	case int32:
		e.uint32(uint32(v))
	case uint32:
		e.uint32(v)
	case int64:
		e.value(sig, uint64(v))
	case uint64:
		e.align(8)
		e.b = binary.LittleEndian.AppendUint64(e.b, v)
	case float64:
		e.value(sig, math.Float64bits(v))
	case string:
		if sig == "g" {
			e.signature(v)
		} else {
			e.string(v)
		}
	case []any:
		e.array(alignment(sig[1]), func() {
			for _, item := range v {
				e.value(sig[1:], item)
			}
		})
	case pair:
		e.align(8)
		e.string(v[0])
		e.string(v[1])
	case Value:
		e.signature(v.sig)
		e.value(v.sig, v.data)
	case []Property:
		e.array(8, func() {
			for _, p := range v {
				e.align(8)
				e.string(p.Name)
				e.value("v", p.Value)
			}
		})
	}
}

// alignment is that of the type that a signature begins with.
func alignment(c byte) int {
	switch c {
	case 'y', 'g', 'v':
		return 1
	case 'n', 'q':
		return 2
	case 'x', 't', 'd', '(', '{':
		return 8
	}
	return 4
}

// Types of messages and of header fields.
const (
	methodCall = 1
	methodOK   = 2
	methodErr  = 3
	signal     = 4

	fieldPath        = 1
	fieldInterface   = 2
	fieldMember      = 3
	fieldError       = 4
	fieldReply       = 5
	fieldDestination = 6
	fieldSignature   = 8
)

// arg is an argument of a method.
type arg struct {
	sig string
	v   any
}

// call encodes a method call.
func call(serial uint32, destination, path, iface, member string, args ...arg) []byte {
	var body encoder
	sig := ""
	for _, a := range args {
		body.value(a.sig, a.v)
		sig += a.sig
	}
	e := encoder{b: []byte{'l', methodCall, 0, 1}}
	e.uint32(uint32(len(body.b)))
	e.uint32(serial)
	e.array(8, func() {
		for _, f := range [...]struct {
			code       byte
			sig, value string
		}{
			{fieldPath, "o", path},
			{fieldInterface, "s", iface},
			{fieldMember, "s", member},
			{fieldDestination, "s", destination},
			{fieldSignature, "g", sig},
		} {
			if f.value == "" {
				continue
			}
			e.align(8)
			e.b = append(e.b, f.code)
			e.value("v", Value{f.sig, f.value})
		}
	})
	e.align(8)
	return append(e.b, body.b...)
}

// message is what came in: its header's fields as far as they matter here, and the
// strings and numbers of its body.
type message struct {
	kind   byte
	reply  uint32 // the serial that it answers
	member string
	err    string
	body   []byte
	sig    string
}

// headerLength returns the lengths of a message's header and body by its first 16
// bytes.
func headerLength(b []byte) (header, body int, err error) {
	const most = 1 << 20 // no message that is waited for is near it
	if b[0] != 'l' || b[3] != 1 {
		return 0, 0, errors.New("not a D-Bus message in little endian")
	}
	n, fields := binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint32(b[12:])
	if n > most || fields > most {
		return 0, 0, errors.New("a D-Bus message that is too long")
	}
	return (16 + int(fields) + 7) &^ 7, int(n), nil
}

// parse takes a whole message apart.
func parse(b []byte, header int) (m message, err error) {
	m.kind, m.body = b[1], b[header:]
	d := decoder{b: b[:header], pos: 16}
	end := 16 + int(binary.LittleEndian.Uint32(b[12:]))
	for d.pos < end && d.err == nil {
		d.align(8)
		code := d.byte()
		switch sig := d.signature(); sig {
		case "s", "o":
			text := d.string()
			switch code {
			case fieldMember:
				m.member = text
			case fieldError:
				m.err = text
			}
		case "g":
			m.sig = d.signature()
		case "u":
			if n := d.uint32(); code == fieldReply {
				m.reply = n
			}
		default:
			d.err = fmt.Errorf("a D-Bus header field of type %q", sig)
		}
	}
	return m, d.err
}

// decoder reads values and keeps the first error; after that all are zero.
type decoder struct {
	b   []byte
	pos int
	err error
}

func (d *decoder) take(n int) []byte {
	if d.err == nil && (n < 0 || n > len(d.b)-d.pos) {
		d.err = errors.New("a D-Bus message that ends too early")
	}
	if d.err != nil {
		return make([]byte, 8)
	}
	d.pos += n
	return d.b[d.pos-n : d.pos]
}

func (d *decoder) align(n int) { d.take((n - d.pos%n) % n) }

func (d *decoder) byte() byte { return d.take(1)[0] }

func (d *decoder) uint32() uint32 {
	d.align(4)
	return binary.LittleEndian.Uint32(d.take(4))
}

func (d *decoder) string() string { return d.text(int(d.uint32())) }

func (d *decoder) signature() string { return d.text(int(d.byte())) }

// text reads n bytes and the NUL behind them.
func (d *decoder) text(n int) string {
	if n > len(d.b) {
		n = len(d.b)
	}
	b := d.take(n + 1)
	if d.err != nil {
		return ""
	}
	return string(b[:n])
}
