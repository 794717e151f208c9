package runtime

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestCoprocessSchema: the schema's requests have the fields that are looked at, and no
// others.
func TestCoprocessSchema(t *testing.T) {
	raw, err := os.ReadFile("../docs/schema/shell.json")
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Defs struct {
			Request struct {
				OneOf []struct {
					Properties map[string]json.RawMessage
				}
			}
		} `json:"$defs"`
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, r := range s.Defs.Request.OneOf {
		for name := range r.Properties {
			seen[name] = true
		}
	}
	var said, have []string
	for name := range seen {
		said = append(said, name)
	}
	for f := range reflect.TypeFor[coRequest]().Fields() {
		have = append(have, f.Tag.Get("json"))
	}
	slices.Sort(said)
	slices.Sort(have)
	if d := cmp.Diff(have, said); d != "" {
		t.Error(d)
	}
}

func TestHalfRune(t *testing.T) {
	for text, want := range map[string]int{"": 0, "a": 0, "ö": 0, "a\xc3": 1, "\xe2\x82": 2, "x\xf0\x9f\x98": 3, "\xff": 0, "\x80": 0, "\x80\x80\x80\x80": 0, "€": 0} {
		if got := halfRune([]byte(text)); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}
