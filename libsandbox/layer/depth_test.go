package layer

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// chain makes a chain of n committed layers, each with a file of its own, and returns
// the last.
func chain(f *fixture, n int) *Layer {
	f.Helper()
	l := f.new()
	for i := range n {
		file := filepath.Join(f.root.upper(l.Key()), strconv.Itoa(i))
		f.check(os.WriteFile(file, []byte(strconv.Itoa(i)), 0o600))
		f.check(l.Commit())
		if i < n-1 {
			l = f.next(l, on(l)...)
		}
	}
	return l
}

// TestDepth: chains as deep as overlayfs takes, and not deeper, can be mounted, and go
// with their last layer.
func TestDepth(t *testing.T) {
	needRoot(t)
	for _, depth := range []int{100, maxDepth - 1} {
		t.Run(strconv.Itoa(depth), func(t *testing.T) {
			f := newFixture(t, &kinds()[1])
			top := chain(f, depth)
			l := f.next(top, on(top)...)
			dir := mountLayer(t, l)
			for i := range depth {
				text, err := os.ReadFile(filepath.Join(dir, strconv.Itoa(i)))
				if err != nil || string(text) != strconv.Itoa(i) {
					t.Fatalf("file of layer %d: %q, %v", i, text, err)
				}
			}
			loaded, err := f.root.Load(l.Key())
			f.check(err)
			if len(loaded.Meta().Parents) != depth {
				t.Errorf("%d parents, want %d", len(loaded.Meta().Parents), depth)
			}
			unmount(t, dir)
			if depth == maxDepth-1 {
				tooDeep(f, l)
			}
			f.check(l.Discard())
			f.empty()
			f.nothingLeft()
		})
	}
}

func tooDeep(f *fixture, l *Layer) {
	f.Helper()
	f.check(l.Commit())
	if _, err := l.Next(on(l)); !errors.Is(err, ErrDepth) {
		f.Errorf("a layer on 501: %v", err)
	}
	if _, err := f.root.New(&Config{Driver: Overlay, Parents: on(l)}); !errors.Is(err, ErrDepth) {
		f.Errorf("a new layer on 501: %v", err)
	}
}

// TestManyLowers: the directories of a configuration count, too.
func TestManyLowers(t *testing.T) {
	needRoot(t)
	f := newFixture(t, &kinds()[1])
	var lowers []string
	for i := range maxDepth {
		dir := filepath.Join(f.lower, "lower"+strconv.Itoa(i))
		f.check(os.Mkdir(dir, 0o755))
		f.check(os.WriteFile(filepath.Join(dir, "file"), []byte(strconv.Itoa(i)), 0o600))
		f.check(os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), nil, 0o600))
		lowers = append(lowers, dir)
	}
	f.config.Lowers = lowers
	l := f.new()
	dir := mountLayer(t, l)
	if text, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(text) != "0" {
		t.Errorf("the top directory's file is %q, %v", text, err)
	}
	if _, err := os.Stat(filepath.Join(dir, strconv.Itoa(maxDepth-1))); err != nil {
		t.Error(err)
	}
	unmount(t, dir)
	f.config.Lowers = append(lowers, f.lower)
	if _, err := f.root.New(&f.config); !errors.Is(err, ErrDepth) {
		t.Errorf("501 directories: %v", err)
	}
	f.check(l.Commit())
	if _, err := l.Next(on(l)); !errors.Is(err, ErrDepth) {
		t.Errorf("a layer on 501: %v", err)
	}
}
