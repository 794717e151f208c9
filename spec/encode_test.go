package spec

import (
	"encoding/json"
	"testing"
)

func TestAppendString(t *testing.T) {
	for _, s := range []string{"", "plain", `"quoted" \ back`, "\x00\x1f\t\n\x7f", "\u00e9\u2028\U0001f600", "<&>", "a\xffb\xc3"} {
		var std, own string
		raw, err := json.Marshal(s)
		if err == nil {
			err = json.Unmarshal(raw, &std)
		}
		if err != nil {
			t.Fatal(err)
		}
		text := AppendString([]byte("x"), s)
		if err := json.Unmarshal(text[1:], &own); err != nil || own != std || text[0] != 'x' {
			t.Errorf("%q became %s, read as %q (%v), not %q", s, text, own, err, std)
		}
	}
}
