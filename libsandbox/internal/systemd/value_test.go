package systemd

import (
	"reflect"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"
)

// godbus reads the same texts.
func TestParsePropertyAgainstTheOracle(t *testing.T) {
	for _, text := range []string{
		"true", "false", "5", "-5", "0x1f", "1.5", "uint64 123456789", "int64 -1", "byte 0x7", "uint16 65535", "int16 -3", "uint32 9",
		"'text'", `"te'xt"`, `'a\'b\\c'`, "['a', 'b']", "[1, 2, 3]", "[true]", "@as []", "@as ['x']", "@t 7", "objectpath '/a/b'", "@ay [0x1, 2]",
		" 5 ", "[['a'], ['b', 'c']]", "''", "signature 'as'",
	} {
		got, err := ParseProperty("Name", text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		want, err := dbus.ParseVariant(text, dbus.Signature{})
		if err != nil {
			t.Errorf("%q: the oracle: %v", text, err)
			continue
		}
		if back := decoded(t, got.Value); back.Signature() != want.Signature() || !reflect.DeepEqual(want.Value(), back.Value()) {
			t.Errorf("%q: %v, want %v", text, back, want)
		}
	}
}

// decoded is a value as the peer sees it.
func decoded(t *testing.T, v Value) dbus.Variant {
	t.Helper()
	m, err := dbus.DecodeMessage(strings.NewReader(string(call(1, "a.b", "/", "a.b", "M", arg{"v", v}))))
	if err != nil {
		t.Fatal(err)
	}
	return m.Body[0].(dbus.Variant)
}

func TestParsePropertyRefuses(t *testing.T) {
	for _, text := range []string{
		"", "x", "'open", "[1", "[1,", "[1 2]", "[]", "[1, 'a']", "@", "@(ss) []", "@a{sv} {}", "{}", "<5>", "('a', 'b')", "5 6", "byte 256", "byte -1",
		"uint64 'a'", "@as 5", "@s [1]", "int16 40000", "1.5.5", "uint64", "boolean 1", "'a'b", "'\x00'", "99999999999999999999", "@t", "nothing", "''''",
	} {
		if v, err := ParseProperty("Name", text); err == nil {
			t.Errorf("%q: %+v", text, v)
		}
	}
	for _, name := range []string{"", "ab", "Na.me", "Näme", "Name1", "A B"} {
		if v, err := ParseProperty(name, "5"); err == nil {
			t.Errorf("name %q: %+v", name, v)
		}
	}
}

func TestSeconds(t *testing.T) {
	for text, want := range map[string]Property{
		"uint64 5": {"TimeoutStopUSec", Uint64(5000000)}, "5": {"TimeoutStopUSec", Uint64(5000000)}, "1.5": {"TimeoutStopUSec", Uint64(1500000)}, "byte 2": {"TimeoutStopUSec", Uint64(2000000)},
	} {
		if got, err := ParseProperty("TimeoutStopSec", text); err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", text, got, err, want)
		}
	}
	if got, err := ParseProperty("TimeoutStopUSec", "uint64 5"); err != nil || got != (Property{"TimeoutStopUSec", Uint64(5)}) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, text := range []string{"'5'", "-5", "true", "[5]", "uint64 0xffffffffffffffff"} {
		if got, err := ParseProperty("TimeoutStopSec", text); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
}

func FuzzParseProperty(f *testing.F) {
	for _, text := range []string{"uint64 5", "['a', \"b\"]", "@as []", "@aay [[1]]", `'\'`, "1.5", "[[[["} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParseProperty("Name", text)
		if err != nil {
			return
		}
		// What is taken can be sent, and is what its signature says.
		if got := decoded(t, p.Value).Signature().String(); got != p.Value.sig {
			t.Errorf("%q: sent as %s, parsed as %s", text, got, p.Value.sig)
		}
	})
}
