package spec

import (
	"bytes"
	"encoding"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// reference is Load by encoding/json.
func reference(raw []byte) (*specs.Spec, error) {
	var s *specs.Spec
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, err
	}
	if s == nil {
		return nil, &json.UnmarshalTypeError{Value: "null"}
	}
	return s, nil
}

// sameAsJSON fails unless Load accepts raw exactly if encoding/json does, with
// the same result.
func sameAsJSON(t *testing.T, raw []byte) {
	t.Helper()
	got, gotErr := Load(raw)
	want, wantErr := reference(raw)
	if (gotErr == nil) != (wantErr == nil) {
		t.Fatalf("Load: %v\nencoding/json: %v\nfor %.2000q", gotErr, wantErr, raw)
	}
	if gotErr == nil && !reflect.DeepEqual(got, want) {
		t.Fatalf("Load differs from encoding/json for %.2000q:\n%s", raw, cmp.Diff(want, got))
	}
	if gotErr != nil && !strings.HasPrefix(gotErr.Error(), "config.json:") {
		t.Fatalf("no position in the error: %v", gotErr)
	}
}

// samples are whole configurations: the default ones and those in testdata.
func samples(t testing.TB) [][]byte {
	t.Helper()
	var out [][]byte
	for _, rootless := range []bool{false, true} {
		raw, err := json.MarshalIndent(Default(rootless), "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, raw)
	}
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no configurations in testdata: %v", err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, raw)
	}
	return out
}

// oddities are small texts at the edges of JSON and of encoding/json.
var oddities = []string{
	``, ` `, `null`, `nul`, `nullx`, ` null `, `true`, `1`, `"a"`, `[]`, `[{}]`, `{}`, ` {} `, `{}x`, `{}{}`, `{`, `}`, `{]`, `{,}`, `{"a"}`,
	`{"a":}`, `{"a":1,}`, `{"a":1 "b":2}`, `{a:1}`, `{"a":1}/**/`, "\ufeff{}", `{"a":tru}`, `{"a":truE}`, `{"a":nul}`, `{"a":+1}`, `{"a":Infinity}`,
	`{"a":01}`, `{"a":-}`, `{"a":-01}`, `{"a":1.}`, `{"a":.5}`, `{"a":1e}`, `{"a":1e+}`, `{"a":1E-05}`, `{"a":-0}`, `{"a":1e999}`, `{"a":0x10}`,
	`{"hostname":"a`, "{\"hostname\":\"a\nb\"}", "{\"hostname\":\"a\x00b\"}", "{\"hostname\":\"\x7f\"}", `{"hostname":"\a"}`, `{"hostname":"\'"}`, `{"hostname":"\u12"}`, `{"hostname":"\u12g4"}`, `{"hostname":"\`,
	`{"hostname":"\u0000\u001f\u00e9\uFFFD\ufffe"}`, `{"hostname":"\ud83d\ude00"}`, `{"hostname":"\ud83d"}`, `{"hostname":"\ude00\ud83d"}`, `{"hostname":"\ud83d\ud83d\ude00"}`, `{"hostname":"\ud83d\u0041"}`, `{"hostname":"\ud83dx"}`, `{"hostname":"\ud83d\n"}`,
	"{\"hostname\":\"a\xffb\xc3\"}", "{\"hostname\":\"\xed\xa0\x80\\n\"}", "{\"hostname\":\"\u2028é😀\"}", "{\"annotations\":{\"\xff\":\"1\",\"\xfe\":\"2\"}}",
	`{"HOSTNAME":"a","hostname":"b","HostName":"c"}`, `{"hostname":"b","HOSTNAME":"a"}`, "{\"hoſtname\":\"long s\"}", "{\"mount\u017f\":[{}]}", "{\"lin\u212ax\":{}}", `{"ho\u0073tname":"escaped key"}`, `{"":1}`,
	`{"process":{"user":{"uid":1}},"process":{"user":{"gid":2},"args":["a"]}}`, `{"process":{"user":{"uid":1}},"process":null}`, `{"process":{"user":null}}`,
	`{"mounts":[{"type":"a"},{"type":"b"}],"mounts":[{"source":"c"}],"mounts":[{},{},{}]}`, `{"mounts":[{"type":"a"}],"mounts":[]}`, `{"mounts":[{"type":"a"}],"mounts":null,"mounts":[null]}`,
	`{"process":{"args":["a","b","c"],"args":[null,"x"]}}`, `{"process":{"args":["a","b"],"args":["c"],"args":["d",null,null]}}`,
	`{"annotations":{"a":"1","b":"2"},"annotations":{"a":null,"c":"3"}}`, `{"annotations":{}}`, `{"annotations":null}`, `{"annotations":[]}`, `{"annotations":{"a":1}}`,
	`{"linux":{"timeOffsets":{"a":{"secs":1},"a":{"nanosecs":2}}}}`, `{"linux":{"resources":{"rdma":{"a":null}}}}`,
	`{"windows":{"credentialSpec":{"a":1,"a":{"b":[]}}}}`, `{"windows":{"credentialSpec":[]}}`, `{"windows":{"credentialSpec":1,"credentialSpec":null}}`, `{"windows":{"credentialSpec":1e400}}`, `{"windows":{"credentialSpec":[-1e-400,tru]}}`, `{"windows":{"credentialSpec":"\ud800"}}`, `{"windows":{"credentialSpec":`, `{"windows":{"credentialSpec":x}}`,
	`{"linux":{"resources":{"blockIO":{"weightDevice":[{"LinuxBlockIODevice":{"major":1}}]}}}}`,
	`{"unknown":{"a":[{"b":tru}]}}`, `{"unknown":"\x"}`, `{"unknown":1e999}`, `{"unknown":-}`,
}

func TestLoadOddities(t *testing.T) {
	for _, s := range oddities {
		sameAsJSON(t, []byte(s))
	}
}

func TestLoadSamples(t *testing.T) {
	for _, raw := range samples(t) {
		sameAsJSON(t, raw)
		if _, err := Load(raw); err != nil {
			t.Error(err)
		}
		for i := 0; i < len(raw); i += 7 { // cut anywhere
			sameAsJSON(t, raw[:i])
		}
	}
}

func TestLoadDepth(t *testing.T) {
	for _, n := range []int{maxDepth - 2, maxDepth - 1, maxDepth, maxDepth + 1} {
		for _, where := range []string{`{"unknown":`, `{"windows":{"credentialSpec":`} {
			text := where + strings.Repeat("[", n) + strings.Repeat("]", n) + strings.Repeat("}", strings.Count(where, "{"))
			sameAsJSON(t, []byte(text))
			text = where + strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n+strings.Count(where, "{"))
			sameAsJSON(t, []byte(text))
		}
	}
}

// each calls f with every field of every type that t reaches, as the text
// around its value. It fails for types that the decoder has no notion of.
func each(t *testing.T, typ reflect.Type, before, after string, f func(before, after string)) {
	unmarshaler := reflect.TypeFor[json.Unmarshaler]()
	text := reflect.TypeFor[encoding.TextUnmarshaler]()
	if p := reflect.PointerTo(typ); p.Implements(unmarshaler) || p.Implements(text) {
		t.Errorf("%s decodes itself", typ)
	}
	f(before, after)
	switch typ.Kind() {
	case reflect.Pointer:
		if typ.Elem().Kind() == reflect.Pointer {
			t.Errorf("%s: pointer to a pointer", typ)
		}
		each(t, typ.Elem(), before, after, f)
	case reflect.Slice:
		if typ.Elem().Kind() == reflect.Uint8 {
			t.Errorf("%s: bytes are base64 in encoding/json", typ)
		}
		each(t, typ.Elem(), before+`[`, `]`+after, f)
	case reflect.Map:
		if typ.Key().Kind() != reflect.String {
			t.Errorf("%s: the keys are not strings", typ)
		}
		each(t, typ.Elem(), before+`{"k":`, `}`+after, f)
	case reflect.Struct:
		eachField(t, typ, before, after, f)
	case reflect.Interface:
		if typ.NumMethod() > 0 {
			t.Errorf("%s has methods", typ)
		}
	case reflect.Array, reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128, reflect.Chan, reflect.Func, reflect.Uintptr, reflect.UnsafePointer:
		t.Errorf("%s: kind not handled", typ)
	}
}

func eachField(t *testing.T, typ reflect.Type, before, after string, f func(before, after string)) {
	seen := make(map[string]bool)
	for _, field := range appendFields(nil, typ, nil) {
		sf := typ.FieldByIndex(field.index)
		if lower := strings.ToLower(field.name); seen[lower] {
			t.Errorf("%s has two members named %s", typ, field.name)
		} else {
			seen[lower] = true
		}
		if _, options, _ := strings.Cut(sf.Tag.Get("json"), ","); options != "" && options != "omitempty" {
			t.Errorf("%s.%s: option %q not handled", typ, field.name, options)
		}
		each(t, sf.Type, before+`{"`+field.name+`":`, `}`+after, f)
	}
	for i := range typ.NumField() {
		if sf := typ.Field(i); sf.Anonymous && sf.Type.Kind() != reflect.Struct {
			t.Errorf("%s embeds %s", typ, sf.Type)
		}
	}
}

// TestTypes puts every JSON type into every field of the specification, alone
// and after a value of the right type, in the field's own case and another.
func TestTypes(t *testing.T) {
	values := []string{
		`null`, `true`, `false`, `"s"`, `""`, `0`, `-0`, `1`, `-1`, `1.0`, `1e2`, `255`, `256`, `65535`, `65536`, `2147483648`, `4294967295`, `4294967296`,
		`9223372036854775807`, `9223372036854775808`, `-9223372036854775808`, `-9223372036854775809`, `18446744073709551615`, `18446744073709551616`,
		`[]`, `[null]`, `["s"]`, `[1,2]`, `[true]`, `[{}]`, `{}`, `{"k":null}`, `{"k":"s"}`, `{"k":1}`, `{"k":{}}`,
	}
	fields := 0
	each(t, reflect.TypeFor[specs.Spec](), "", "", func(before, after string) {
		fields++
		for _, v := range values {
			sameAsJSON(t, []byte(before+v+after))
			sameAsJSON(t, []byte(strings.ToUpper(before)+v+after))
		}
		if inner, ok := strings.CutPrefix(before, "{"); ok {
			outer := strings.TrimSuffix(after, "}")
			for _, v := range values {
				for _, again := range []string{`null`, `{}`, `[]`, `1`, `"s"`, `[{}]`} {
					sameAsJSON(t, []byte(`{`+inner+v+outer+`,`+inner+again+outer+`}`))
				}
			}
		}
	})
	if fields < 300 {
		t.Errorf("only %d fields visited", fields)
	}
}

func TestLoadErrors(t *testing.T) {
	for _, c := range []struct{ raw, want string }{
		{"", `1:1: unexpected end of the file, expected a value`},
		{"null", `1:1: expected an object, found null`},
		{"\n [1]", `2:2: expected an object, found an array`},
		{"{} {}", `1:4: unexpected '{', expected the end of the file`},
		{"{\n\t\"process\": {\n\t\t\"user\": {\"uid\": \"root\"}\n\t}\n}", `3:19: process.user.uid: expected a number, found a string`},
		{`{"process":{"user":{"uid":-1}}}`, `1:27: process.user.uid: -1 is out of the range of uint32`},
		{`{"process":{"user":{"uid":4294967296}}}`, `1:27: process.user.uid: 4294967296 is out of the range of uint32`},
		{`{"process":{"oomScoreAdj":0.5}}`, `1:27: process.oomScoreAdj: expected an integer, found 0.5`},
		{`{"PROCESS":{"terminal":1}}`, `1:24: process.terminal: expected true or false, found a number`},
		{`{"process":{"terminal":"x"}}`, `1:24: process.terminal: expected true or false, found a string`},
		{`{"process":{"args":"sh"}}`, `1:20: process.args: expected an array, found a string`},
		{`{"process":{"args":["sh",false]}}`, `1:26: process.args[1]: expected a string, found false`},
		{`{"process":[]}`, `1:12: process: expected an object, found an array`},
		{`{"hostname":{}}`, `1:13: hostname: expected a string, found an object`},
		{`{"mounts":[{},{"options":[["ro"]]}]}`, `1:27: mounts[1].options[0]: expected a string, found an array`},
		{`{"annotations":{"a.b":1}}`, `1:23: annotations["a.b"]: expected a string, found a number`},
		{`{"linux":{"resources":{"blockIO":{"weightDevice":[{"major":"8"}]}}}}`, `1:60: linux.resources.blockIO.weightDevice[0].major: expected a number, found a string`},
		{`{"windows":{"credentialSpec":[1e999]}}`, `1:31: windows.credentialSpec[0]: 1e999 is out of the range of a number`},
		{"{\n  \"hostname\": \"é\", \"mounts\": [,]\n}", `2:31: unexpected ',', expected a value`},
		{"{\r\n\"hostname\" \"x\"}", `2:12: unexpected '"', expected ':'`},
		{`{"hostname":"x"`, `1:16: unexpected end of the file, expected ',' or '}'`},
		{`{"mounts":[{}`, `1:14: unexpected end of the file, expected ',' or ']'`},
		{`{"mounts":[{} {}]}`, `1:15: unexpected '{', expected ',' or ']'`},
		{`{"hostname":"x",}`, `1:17: unexpected '}', expected a name in double quotes`},
		{"{\"hostname\":\"a\nb\"}", `1:15: unexpected '\n', expected a string without control characters`},
		{`{"hostname":"\q"}`, `1:15: unexpected 'q', expected one of "\/bfnrtu after a backslash`},
		{`{"hostname":"\u00g0"}`, `1:18: unexpected 'g', expected a hexadecimal digit`},
		{`{"hostname":"abc`, `1:17: unexpected end of the file, expected '"'`},
		{`{"a":tRue}`, `1:7: unexpected 'R', expected true`},
		{`{"a":-x}`, `1:7: unexpected 'x', expected a digit`},
		{"{\"a\":\xff}", `1:6: unexpected byte 0xff, expected a value`},
		{"{\"hostname\": 'x'}", `1:14: unexpected '\'', expected a value`},
		{`{"a":` + strings.Repeat("[", maxDepth), `1:10005: nested too deeply`},
	} {
		_, err := Load([]byte(c.raw))
		if err == nil {
			t.Errorf("%.60q: accepted", c.raw)
		} else if got, want := err.Error(), "config.json:"+c.want; got != want {
			t.Errorf("%.60q:\n got %s\nwant %s", c.raw, got, want)
		}
	}
}

// TestLoadKeepsNothing: the spec must not change when raw is reused.
func TestLoadKeepsNothing(t *testing.T) {
	raw := []byte(`{"hostname":"abc","annotations":{"k":"v"}}`)
	s, err := Load(raw)
	if err != nil {
		t.Fatal(err)
	}
	clear(raw)
	if s.Hostname != "abc" || s.Annotations["k"] != "v" {
		t.Errorf("the spec changed with raw: %q %q", s.Hostname, s.Annotations)
	}
}

func FuzzLoad(f *testing.F) {
	for _, raw := range samples(f) {
		f.Add(raw)
		var small bytes.Buffer
		if err := json.Compact(&small, raw); err != nil {
			f.Fatal(err)
		}
		f.Add(small.Bytes())
	}
	for _, s := range oddities {
		f.Add([]byte(s))
	}
	f.Fuzz(sameAsJSON)
}

func BenchmarkLoad(b *testing.B) {
	raw := samples(b)[0]
	b.Run("Load", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Load(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := reference(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
}
