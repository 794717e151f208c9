package layer

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestLifeOfLayers(t *testing.T) {
	dir := t.TempDir()
	lower := filepath.Join(dir, "lower")
	if err := os.Mkdir(lower, 0o751); err != nil {
		t.Fatal(err)
	}
	r, err := Open(filepath.Join(dir, "a", "root"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := r.New(&Config{Driver: Overlay, Lowers: []string{lower}, Owner: Owner{"/s", "c\n\"1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(l.Mounts())
	if err := l.Commit(); err != nil {
		t.Fatal(err)
	}
	n, err := l.Next([]string{l.Key()})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Discard(); !errors.Is(err, ErrInUse) {
		t.Fatal(err)
	}
	n2, err := r.New(&Config{Driver: Overlay, Parents: []string{l.Key()}})
	if err != nil {
		t.Fatal(err)
	}
	all, err := r.Layers()
	t.Logf("%+v %v", all, err)
	for _, x := range []*Layer{n, n2} {
		if err := x.Discard(); err != nil {
			t.Fatal(err)
		}
	}
	all, err = r.Layers()
	if len(all) != 0 || err != nil {
		t.Fatal(all, err)
	}
	if _, err := l.Next([]string{l.Key()}); !errors.Is(err, ErrGone) {
		t.Fatal(err)
	}
}
