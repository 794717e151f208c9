package spec

import (
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// What follows knows JSON's grammar (RFC 8259) and nothing of Go's types.

// next enters an object or array (n is 0) or steps over the comma after its
// value n-1, and reports whether another member follows. After the last one
// the closing bracket has been read.
func (d *decoder) next(open, end byte, n int) (bool, *decodeError) {
	if n == 0 {
		d.pos++ // the open bracket, which brought us here
		if d.depth++; d.depth > maxDepth {
			return false, &decodeError{pos: d.pos - 1, text: "nested too deeply", syntax: true}
		}
	}
	d.space()
	switch {
	case d.pos < len(d.src) && d.src[d.pos] == end:
		d.pos++
		d.depth--
		return false, nil
	case n == 0:
		return true, nil
	case d.pos < len(d.src) && d.src[d.pos] == ',':
		d.pos++
		return true, nil
	case open == '{':
		return false, d.unexpected("',' or '}'")
	}
	return false, d.unexpected("',' or ']'")
}

// key reads a member's name and the colon.
func (d *decoder) key() (string, *decodeError) {
	d.space()
	if d.pos == len(d.src) || d.src[d.pos] != '"' {
		return "", d.unexpected("a name in double quotes")
	}
	s, err := d.quoted()
	if err != nil {
		return "", err
	}
	d.space()
	if d.pos == len(d.src) || d.src[d.pos] != ':' {
		return "", d.unexpected("':'")
	}
	d.pos++
	return s, nil
}

// word reads true, false or null.
func (d *decoder) word(w string) *decodeError {
	for i := range len(w) {
		if d.pos == len(d.src) || d.src[d.pos] != w[i] {
			return d.unexpected(w)
		}
		d.pos++
	}
	return nil
}

// digits reads a number and returns its text.
func (d *decoder) digits() (string, *decodeError) {
	start := d.pos
	d.skip("-")
	if !d.skip("0") && d.run() == 0 {
		return "", d.unexpected("a digit")
	}
	if d.skip(".") && d.run() == 0 {
		return "", d.unexpected("a digit")
	}
	if d.skip("eE") {
		d.skip("+-")
		if d.run() == 0 {
			return "", d.unexpected("a digit")
		}
	}
	return d.src[start:d.pos], nil
}

// skip reads one byte if it is among set.
func (d *decoder) skip(set string) bool {
	if d.pos < len(d.src) && strings.IndexByte(set, d.src[d.pos]) >= 0 {
		d.pos++
		return true
	}
	return false
}

// run reads decimal digits and returns how many.
func (d *decoder) run() int {
	start := d.pos
	for d.pos < len(d.src) && '0' <= d.src[d.pos] && d.src[d.pos] <= '9' {
		d.pos++
	}
	return d.pos - start
}

// quoted reads a string. Where nothing had to be replaced it is a part of src.
func (d *decoder) quoted() (string, *decodeError) {
	d.pos++ // the opening quote
	start, escaped, ascii := d.pos, false, true
	for d.pos < len(d.src) {
		switch c := d.src[d.pos]; {
		case c == '"':
			s := d.src[start:d.pos]
			d.pos++
			if escaped || !ascii && !utf8.ValidString(s) {
				s = unquote(s)
			}
			return s, nil
		case c == '\\':
			escaped = true
			if err := d.escape(); err != nil {
				return "", err
			}
			continue
		case c < ' ':
			return "", d.unexpected("a string without control characters")
		case c >= utf8.RuneSelf:
			ascii = false
		}
		d.pos++
	}
	return "", d.unexpected("'\"'")
}

// escape reads a backslash and what it announces.
func (d *decoder) escape() *decodeError {
	d.pos++
	if d.skip(`"\/bfnrt`) {
		return nil
	}
	if !d.skip("u") {
		return d.unexpected(`one of "\/bfnrtu after a backslash`)
	}
	for range 4 {
		if !d.skip("0123456789abcdefABCDEF") {
			return d.unexpected("a hexadecimal digit")
		}
	}
	return nil
}

// unquote replaces the escapes of a string that quoted has checked. Bytes that
// are not UTF-8, and surrogates without their other half, become U+FFFD, as in
// encoding/json.
func unquote(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for s != "" {
		r, n := utf8.DecodeRuneInString(s)
		if r == '\\' {
			r, n = unescape(s)
		}
		b.WriteRune(r)
		s = s[n:]
	}
	return b.String()
}

// unescape is the character that the escape at the start of s means, and the
// escape's length; two \u escapes may make one character.
func unescape(s string) (rune, int) {
	if i := strings.IndexByte(`bfnrt`, s[1]); i >= 0 {
		return rune("\b\f\n\r\t"[i]), 2
	}
	if s[1] != 'u' {
		return rune(s[1]), 2
	}
	r := hex(s[2:6])
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if len(s) >= 12 && s[6] == '\\' && s[7] == 'u' {
		if pair := utf16.DecodeRune(r, hex(s[8:12])); pair != utf8.RuneError {
			return pair, 12
		}
	}
	return utf8.RuneError, 6
}

// hex is the value of four hexadecimal digits, already checked.
func hex(s string) rune {
	var r rune
	for i := range len(s) {
		c := s[i] | 0x20 // lower case; digits have the bit already
		if c >= 'a' {
			c -= 'a' - 10 - '0'
		}
		r = r<<4 | rune(c-'0')
	}
	return r
}
