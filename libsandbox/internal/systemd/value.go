package systemd

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Property is one property of a unit, by the names of org.freedesktop.systemd1(5).
type Property struct {
	Name  string
	Value Value
}

// Value is a D-Bus value of any type that properties of units are known to have: plain
// ones, arrays of them, and a(ss). The zero value is not usable.
type Value struct {
	sig  string
	data any // the Go type of the same kind and size; []any for arrays
}

// pair is (ss).
type pair [2]string

// String is a value of type s.
func String(s string) Value { return Value{"s", s} }

// Bool is a value of type b.
func Bool(b bool) Value { return Value{"b", b} }

// Uint64 is a value of type t.
func Uint64(n uint64) Value { return Value{"t", n} }

// Uint32s is a value of type au.
func Uint32s(n ...uint32) Value { return Value{"au", items(n)} }

// Strings is a value of type as.
func Strings(s ...string) Value { return Value{"as", items(s)} }

// Bytes is a value of type ay.
func Bytes(b []byte) Value { return Value{"ay", items(b)} }

// Pairs is a value of type a(ss).
func Pairs(p [][2]string) Value {
	all := make([]any, len(p))
	for i := range p {
		all[i] = pair(p[i])
	}
	return Value{"a(ss)", all}
}

func items[T any](list []T) []any {
	all := make([]any, len(list))
	for i := range list {
		all[i] = list[i]
	}
	return all
}

// ParseProperty reads a property whose value is in GVariant's text format
// (docs.gtk.org/glib/gvariant-text-format.html), as in the annotations
// org.systemd.property.NAME: true, 5, uint64 5, 'text', ['a', 'b'], @as []. Without a
// type, a number is an int32. Dictionaries, tuples and variants are refused.
//
// A name that ends in Sec is taken for the property with USec, in microseconds: the
// first is how unit files spell what D-Bus has as the second.
func ParseProperty(name, text string) (Property, error) {
	if len(name) < 3 || strings.Trim(name, letters) != "" {
		return Property{}, fmt.Errorf("%q is not the name of a property", name)
	}
	p := parser{rest: text}
	v, err := p.value("")
	if p.space(); err == nil && p.rest != "" {
		err = fmt.Errorf("unexpected %q", p.rest)
	}
	if err == nil {
		name, v, err = microseconds(name, v)
	}
	if err != nil {
		return Property{}, fmt.Errorf("%q: %w", text, err)
	}
	return Property{name, v}, nil
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

func microseconds(name string, v Value) (string, Value, error) {
	base, ok := strings.CutSuffix(name, "Sec")
	if !ok || base == "" || base[len(base)-1] < 'a' {
		return name, v, nil
	}
	var n float64
	switch d := v.data.(type) {
	case byte:
		n = float64(d)
	case int16:
		n = float64(d)
	case uint16:
		n = float64(d)
	case int32:
		n = float64(d)
	case uint32:
		n = float64(d)
	case int64:
		n = float64(d)
	case uint64:
		n = float64(d)
	case float64:
		n = d
	default:
		n = -1
	}
	if n *= 1e6; !(n >= 0 && n < 1<<53) {
		return name, v, errors.New("not a number of seconds")
	}
	return base + "USec", Uint64(uint64(n)), nil
}

// parser reads the text format from the front of rest.
type parser struct{ rest string }

func (p *parser) space() { p.rest = strings.TrimLeft(p.rest, " \t\n") }

// token takes the longest run of characters that belong to a word or a number.
func (p *parser) token() string {
	n := len(p.rest) - len(strings.TrimLeft(p.rest, letters+"0123456789+-._"))
	t := p.rest[:n]
	p.rest = p.rest[n:]
	return t
}

// value reads a value of type sig; "" means that the text has to say.
func (p *parser) value(sig string) (Value, error) {
	p.space()
	switch {
	case p.rest == "":
		return Value{}, errors.New("a value is missing")
	case p.rest[0] == '@':
		n := strings.IndexAny(p.rest+" ", " \t\n")
		sig, p.rest = p.rest[1:n], p.rest[n:]
		if base := strings.TrimLeft(sig, "a"); len(base) != 1 || !strings.Contains("ybnqiuxtdsog", base) {
			return Value{}, fmt.Errorf("type %q is not supported", sig)
		}
		return p.value(sig)
	case p.rest[0] == '[':
		return p.array(sig)
	case p.rest[0] == '\'' || p.rest[0] == '"':
		return p.quoted(sig)
	}
	t := p.token()
	if s := typeNamed(t); s != "" {
		return p.value(s)
	}
	return plain(sig, t)
}

// typeNamed is the signature of a type that the text names.
func typeNamed(t string) string {
	switch t {
	case "boolean":
		return "b"
	case "byte":
		return "y"
	case "int16":
		return "n"
	case "uint16":
		return "q"
	case "int32":
		return "i"
	case "uint32":
		return "u"
	case "int64":
		return "x"
	case "uint64":
		return "t"
	case "double":
		return "d"
	case "string":
		return "s"
	case "objectpath":
		return "o"
	case "signature":
		return "g"
	}
	return ""
}

// plain is a truth value or a number.
func plain(sig, t string) (Value, error) {
	switch {
	case (t == "true" || t == "false") && (sig == "" || sig == "b"):
		return Bool(t == "true"), nil
	case sig == "" && strings.ContainsAny(t, ".") && !strings.HasPrefix(t, "0x"):
		sig = "d"
	case sig == "":
		sig = "i"
	}
	var data any
	var err error
	switch sig {
	case "d":
		data, err = strconv.ParseFloat(t, 64)
	case "n", "i", "x":
		var n int64
		n, err = strconv.ParseInt(t, 0, bits(sig))
		data = signed(sig, n)
	case "y", "q", "u", "t":
		var n uint64
		n, err = strconv.ParseUint(t, 0, bits(sig))
		data = unsigned(sig, n)
	default:
		err = strconv.ErrSyntax
	}
	if err != nil {
		return Value{}, fmt.Errorf("%q is not a value of type %s", t, sig)
	}
	return Value{sig, data}, nil
}

func bits(sig string) int {
	switch sig {
	case "y":
		return 8
	case "n", "q":
		return 16
	case "i", "u":
		return 32
	}
	return 64
}

func signed(sig string, n int64) any {
	switch sig {
	case "n":
		return int16(n)
	case "i":
		return int32(n)
	}
	return n
}

func unsigned(sig string, n uint64) any {
	switch sig {
	case "y":
		return byte(n)
	case "q":
		return uint16(n)
	case "u":
		return uint32(n)
	}
	return n
}

// quoted is a string between two of the quotes that it begins with, in which a
// backslash takes away the meaning of what follows.
func (p *parser) quoted(sig string) (Value, error) {
	quote := p.rest[0]
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == 0:
			return Value{}, errors.New("a string with a NUL byte")
		case c == quote:
			p.rest = p.rest[i+1:]
			if sig == "" {
				sig = "s"
			}
			if sig != "s" && sig != "o" && sig != "g" {
				return Value{}, fmt.Errorf("a string is not a value of type %s", sig)
			}
			return Value{sig, b.String()}, nil
		case c == '\\' && i+1 < len(p.rest):
			i++
			b.WriteByte(unescaped(p.rest[i]))
		default:
			b.WriteByte(c)
		}
	}
	return Value{}, errors.New("a string without an end")
}

func unescaped(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 't':
		return '\t'
	}
	return c
}

// array reads items of one type, which the first of them says where sig does not.
func (p *parser) array(sig string) (Value, error) {
	p.rest = p.rest[1:]
	item := ""
	if sig != "" {
		if sig[0] != 'a' {
			return Value{}, fmt.Errorf("an array is not a value of type %s", sig)
		}
		item = sig[1:]
	}
	all := []any{}
	for p.space(); !strings.HasPrefix(p.rest, "]"); p.space() {
		if len(all) > 0 {
			if p.rest == "" || p.rest[0] != ',' {
				return Value{}, errors.New("an array without an end")
			}
			p.rest = p.rest[1:]
		}
		v, err := p.value(item)
		if err != nil {
			return Value{}, err
		}
		if item == "" {
			item = v.sig
		}
		if v.sig != item {
			return Value{}, fmt.Errorf("an array with values of types %s and %s", item, v.sig)
		}
		all = append(all, v.data)
	}
	p.rest = p.rest[1:]
	if item == "" {
		return Value{}, errors.New("an empty array needs a type: @as []")
	}
	return Value{"a" + item, all}, nil
}
