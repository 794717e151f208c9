package runtime

import "testing"

func TestContainerPath(t *testing.T) {
	for arg, want := range map[string][2]string{
		"box:/a":   {"box", "/a"},
		"box:a:b":  {"box", "a:b"},
		"box:":     {"box", ""},
		"-":        {"", "-"},
		"a":        {"", "a"},
		"/a:b":     {"", "/a:b"},
		"./a:b":    {"", "./a:b"},
		"../a:b":   {"", "../a:b"},
		":a":       {"", ":a"},
		"box:-":    {"box", "-"},
		"b.o-x:./": {"b.o-x", "./"},
	} {
		if id, path := containerPath(arg); id != want[0] || path != want[1] {
			t.Errorf("%q: %q, %q", arg, id, path)
		}
	}
}
