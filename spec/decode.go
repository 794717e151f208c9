package spec

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// The decoder below gives what encoding/json gives, and is checked against it
// by FuzzLoad. It exists for two reasons. encoding/json prepares every type it
// could meet before it reads the first byte; specs.Spec reaches more than a
// hundred, which costs most of a millisecond in a process that starts one
// container and ends. And its errors have an offset but no line, and stop at
// the outermost Go type.

// maxDepth is how deep objects and arrays may nest, as in encoding/json.
const maxDepth = 10000

// Load decodes the text of a config.json. It does not validate it. Unknown
// members are ignored, as the OCI specification demands. Errors begin with
// "config.json:LINE:COLUMN: ", both counted from 1, the column in characters;
// a value of the wrong type is named by its path (process.user.uid).
// The strings in the result share one copy of raw; raw itself is not kept.
func Load(raw []byte) (*specs.Spec, error) {
	s := new(specs.Spec)
	if err := Unmarshal(configName, raw, s); err != nil {
		return nil, err
	}
	return s, nil
}

// Unmarshal is Load for any other type made of structs, pointers, slices, maps with
// string keys and plain values: encoding/json without its start-up cost. Errors
// begin with the position in name. After an error, v is half filled.
func Unmarshal(name string, raw []byte, v any) error {
	d := decoder{src: string(raw), types: make(map[reflect.Type][]field, 16)}
	if err := d.document(reflect.ValueOf(v).Elem()); err != nil {
		return err.locate(name, d.src)
	}
	return nil
}

// decoder walks src once. Values are stored as they are met, so after an error
// the destination is half filled and must be dropped.
type decoder struct {
	src   string
	pos   int // of the next byte in src
	depth int // open objects and arrays
	types map[reflect.Type][]field
}

// field is one member that a struct type accepts.
type field struct {
	name  string
	index []int
}

// decodeError is a problem at an offset. path is filled in on the way out, by
// the callers that know what they were decoding; it is empty for syntax.
type decodeError struct {
	pos    int
	text   string
	path   string
	syntax bool
}

func (e *decodeError) locate(name, src string) error {
	before := src[:e.pos]
	line := 1 + strings.Count(before, "\n")
	column := 1 + utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:])
	if e.path == "" {
		return fmt.Errorf("%s:%d:%d: %s", name, line, column, e.text)
	}
	return fmt.Errorf("%s:%d:%d: %s: %s", name, line, column, e.path, e.text)
}

// in puts one step in front of the path of a failed value; nil stays nil.
func (e *decodeError) in(step string) *decodeError {
	if e == nil || e.syntax {
		return e
	}
	if e.path != "" && e.path[0] != '[' {
		step += "."
	}
	e.path = step + e.path
	return e
}

// unexpected is the syntax error of finding anything but want at pos.
func (d *decoder) unexpected(want string) *decodeError {
	if d.pos >= len(d.src) {
		return &decodeError{pos: len(d.src), text: "unexpected end of the file, expected " + want, syntax: true}
	}
	r, n := utf8.DecodeRuneInString(d.src[d.pos:])
	found := strconv.QuoteRune(r)
	if r == utf8.RuneError && n == 1 {
		found = fmt.Sprintf("byte 0x%02x", d.src[d.pos])
	}
	return &decodeError{pos: d.pos, text: "unexpected " + found + ", expected " + want, syntax: true}
}

func mismatch(pos int, v reflect.Value, found string) *decodeError {
	return &decodeError{pos: pos, text: "expected " + wanted(v.Kind()) + ", found " + found}
}

// wanted names the JSON type that a Go kind is decoded from.
func wanted(k reflect.Kind) string {
	switch k {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Slice:
		return "an array"
	case reflect.Struct, reflect.Map:
		return "an object"
	}
	return "a number"
}

// document decodes the one value that src must consist of.
func (d *decoder) document(v reflect.Value) *decodeError {
	d.space()
	start := d.pos
	if err := d.value(v); err != nil {
		return err
	}
	if d.space(); d.pos < len(d.src) {
		return d.unexpected("the end of the file")
	}
	if d.src[start] == 'n' {
		return mismatch(start, v, "null")
	}
	return nil
}

// space moves to the next byte that is not white space.
func (d *decoder) space() {
	for d.pos < len(d.src) {
		switch d.src[d.pos] {
		case ' ', '\t', '\r', '\n':
			d.pos++
		default:
			return
		}
	}
}

// value decodes the next value into v. The zero reflect.Value means that
// nobody wants it: it is checked and dropped.
func (d *decoder) value(v reflect.Value) *decodeError {
	d.space()
	if d.pos < len(d.src) && d.src[d.pos] == 'n' {
		return d.null(v)
	}
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		v = v.Elem()
	}
	if v.Kind() == reflect.Interface {
		x, err := d.anything()
		if err == nil {
			v.Set(reflect.ValueOf(x))
		}
		return err
	}
	if d.pos == len(d.src) {
		return d.unexpected("a value")
	}
	switch c := d.src[d.pos]; {
	case c == '{':
		return d.object(v)
	case c == '[':
		return d.array(v)
	case c == '"':
		return d.text(v)
	case c == 't' || c == 'f':
		return d.boolean(v)
	case c == '-' || '0' <= c && c <= '9':
		return d.number(v)
	}
	return d.unexpected("a value")
}

// null empties what can be empty and leaves everything else as it is.
func (d *decoder) null(v reflect.Value) *decodeError {
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer, reflect.Map, reflect.Slice:
		v.SetZero()
	}
	return d.word("null")
}

func (d *decoder) boolean(v reflect.Value) *decodeError {
	start, is := d.pos, d.src[d.pos] == 't'
	if err := d.word(strconv.FormatBool(is)); err != nil {
		return err
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(is)
	case reflect.Invalid:
	default:
		return mismatch(start, v, strconv.FormatBool(is))
	}
	return nil
}

func (d *decoder) text(v reflect.Value) *decodeError {
	start := d.pos
	s, err := d.quoted()
	if err != nil {
		return err
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Invalid:
	default:
		return mismatch(start, v, "a string")
	}
	return nil
}

// number stores integers only: no type of the specification has a fraction.
func (d *decoder) number(v reflect.Value) *decodeError {
	start := d.pos
	s, err := d.digits()
	if err != nil {
		return err
	}
	ok := true
	switch {
	case v.Kind() == reflect.Invalid:
	case v.CanInt():
		n, err := strconv.ParseInt(s, 10, 64)
		if ok = err == nil && !v.OverflowInt(n); ok {
			v.SetInt(n)
		}
	case v.CanUint():
		n, err := strconv.ParseUint(s, 10, 64)
		if ok = err == nil && !v.OverflowUint(n); ok {
			v.SetUint(n)
		}
	default:
		return mismatch(start, v, "a number")
	}
	switch {
	case ok:
		return nil
	case strings.ContainsAny(s, ".eE"):
		return &decodeError{pos: start, text: "expected an integer, found " + s}
	}
	return &decodeError{pos: start, text: s + " is out of the range of " + v.Kind().String()}
}

// array decodes into a slice. A member that is given twice is decoded over
// the first one's elements, and elements past the end are dropped: this is
// what encoding/json does, down to the elements kept in the spare capacity.
func (d *decoder) array(v reflect.Value) *decodeError {
	keep := v.Kind() == reflect.Slice
	if !keep && v.IsValid() {
		return mismatch(d.pos, v, "an array")
	}
	for n := 0; ; n++ {
		more, err := d.next('[', ']', n)
		if err != nil {
			return err
		}
		if !more {
			if keep {
				finish(v, n)
			}
			return nil
		}
		var element reflect.Value
		if keep {
			element = slot(v, n)
		}
		if err := d.value(element); err != nil {
			return err.in("[" + strconv.Itoa(n) + "]")
		}
	}
}

// slot is element n of the slice v, which grows if it has to.
func slot(v reflect.Value, n int) reflect.Value {
	if n >= v.Cap() {
		v.Grow(4)
	}
	if n >= v.Len() {
		v.SetLen(n + 1)
	}
	return v.Index(n)
}

func finish(v reflect.Value, n int) {
	if n == 0 {
		v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		return
	}
	v.SetLen(n)
}

func (d *decoder) object(v reflect.Value) *decodeError {
	switch v.Kind() {
	case reflect.Struct, reflect.Invalid:
	case reflect.Map:
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
	default:
		return mismatch(d.pos, v, "an object")
	}
	for n := 0; ; n++ {
		more, err := d.next('{', '}', n)
		if err != nil || !more {
			return err
		}
		key, err := d.key()
		if err != nil {
			return err
		}
		if err := d.member(v, key); err != nil {
			return err
		}
	}
}

// member decodes the value of key into the struct or map v.
func (d *decoder) member(v reflect.Value, key string) *decodeError {
	switch v.Kind() {
	case reflect.Struct:
		if f := d.find(v.Type(), key); f != nil {
			return d.value(v.FieldByIndex(f.index)).in(f.name)
		}
	case reflect.Map:
		element := reflect.New(v.Type().Elem()).Elem()
		if err := d.value(element); err != nil {
			return err.in("[" + strconv.Quote(key) + "]")
		}
		v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), element)
		return nil
	}
	return d.value(reflect.Value{})
}

// find is the field that a member's name means: the one of that name, or else
// the first that differs only in case.
func (d *decoder) find(t reflect.Type, key string) *field {
	fields, ok := d.types[t]
	if !ok {
		fields = appendFields(make([]field, 0, t.NumField()), t, nil)
		d.types[t] = fields
	}
	for i := range fields {
		if fields[i].name == key {
			return &fields[i]
		}
	}
	for i := range fields {
		if strings.EqualFold(fields[i].name, key) {
			return &fields[i]
		}
	}
	return nil
}

// appendFields lists the members of a struct type. Embedded structs lend
// theirs to the outer one. Name conflicts are not resolved and options other
// than omitempty not obeyed; TestTypes fails when the specification's types
// come to need either.
func appendFields(fields []field, t reflect.Type, outer []int) []field {
	for i := range t.NumField() {
		f := t.Field(i)
		index := f.Index
		if outer != nil {
			index = append(slices.Clone(outer), i)
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			fields = appendFields(fields, f.Type, index)
			continue
		case !f.IsExported() || name == "-":
			continue
		case name == "":
			name = f.Name
		}
		fields = append(fields, field{name, index})
	}
	return fields
}

// anything decodes the next value, which is not null, for an interface.
func (d *decoder) anything() (any, *decodeError) {
	var x struct {
		object map[string]any
		array  []any
		text   string
		truth  bool
	}
	if d.pos == len(d.src) {
		return nil, d.unexpected("a value")
	}
	switch c := d.src[d.pos]; {
	case c == '{':
		err := d.value(reflect.ValueOf(&x.object).Elem())
		return x.object, err
	case c == '[':
		err := d.value(reflect.ValueOf(&x.array).Elem())
		return x.array, err
	case c == '"':
		err := d.value(reflect.ValueOf(&x.text).Elem())
		return x.text, err
	case c == '-' || '0' <= c && c <= '9':
		return d.float()
	}
	err := d.value(reflect.ValueOf(&x.truth).Elem())
	return x.truth, err
}

func (d *decoder) float() (any, *decodeError) {
	start := d.pos
	s, err := d.digits()
	if err != nil {
		return nil, err
	}
	f, e := strconv.ParseFloat(s, 64)
	if e != nil {
		return nil, &decodeError{pos: start, text: s + " is out of the range of a number"}
	}
	return f, nil
}
