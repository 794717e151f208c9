package layer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestUsers: a committed layer lives as long as anybody has it.
func TestUsers(t *testing.T) {
	needRoot(t)
	f := newFixture(t, &kinds()[1])
	l := f.new()
	if err := f.root.Hold(l.Key(), "early"); !errors.Is(err, ErrGone) {
		t.Errorf("hold what is not committed: %v", err)
	}
	f.check(l.Commit())
	if err := l.Commit(); !errors.Is(err, ErrCommitted) {
		t.Errorf("commit twice: %v", err)
	}
	for _, user := range []string{"named", "named", "origin-0123456789abcdef"} {
		f.check(f.root.Hold(l.Key(), user))
	}
	if err := l.Discard(); !errors.Is(err, ErrInUse) {
		t.Errorf("discard with users: %v", err)
	}
	n := f.next(l, on(l)...)
	all, err := f.root.Layers()
	f.check(err)
	i := slices.IndexFunc(all, func(m Meta) bool { return m.Key == l.Key() })
	slices.Sort(all[i].Users)
	want := []string{"layer-" + n.Key(), "named", "origin-0123456789abcdef"}
	if len(all) != 2 || !all[i].Committed || !slices.Equal(all[i].Users, want) || all[1-i].Committed {
		t.Errorf("layers %+v, want users %v", all, want)
	}
	for _, user := range []string{"nobody", "named", "named"} {
		f.check(f.root.Release(l.Key(), user))
	}
	f.check(f.root.Release(l.Key(), "origin-0123456789abcdef"))
	if loaded, err := f.root.Load(l.Key()); err != nil || !loaded.Meta().Committed {
		t.Errorf("%+v, %v", loaded, err)
	}
	f.check(n.Discard())
	f.check(n.Discard()) // again is fine
	if err := f.root.Hold(l.Key(), "late"); !errors.Is(err, ErrGone) {
		t.Errorf("hold what is gone: %v", err)
	}
	if _, err := l.Next(on(l)); !errors.Is(err, ErrGone) {
		t.Errorf("a layer on what is gone: %v", err)
	}
	if _, err := n.Next(n.Meta().Parents); !errors.Is(err, ErrGone) {
		t.Errorf("a layer on what is gone: %v", err)
	}
	if err := l.Commit(); !errors.Is(err, ErrNotExist) {
		t.Errorf("commit what is gone: %v", err)
	}
	if _, _, err := l.Copy(); !errors.Is(err, unix.ENOENT) {
		t.Errorf("copy what is gone: %v", err)
	}
	f.check(f.root.Release(l.Key(), "named"))
	f.empty()
	f.nothingLeft()
}

// TestNoTrash: what an administrator has removed is made again.
func TestNoTrash(t *testing.T) {
	needRoot(t)
	f := newFixture(t, &kinds()[1])
	l := f.new()
	f.check(os.RemoveAll(filepath.Join(f.root.dir, trashDir)))
	f.check(l.Discard())
	if n, err := f.root.TrashLen(); n != 1 || err != nil {
		t.Errorf("%d in the trash, %v", n, err)
	}
	f.empty()
	f.nothingLeft()
}

// TestUnusedParent: a committed layer that nobody held goes by Discard, and not because
// a layer goes that never was on it.
func TestUnusedParent(t *testing.T) {
	needRoot(t)
	f := newFixture(t, &kinds()[1])
	l := f.new()
	f.check(l.Commit())
	(&Layer{root: f.root, meta: Meta{Key: "0123456789abcdef", Parents: on(l)}}).Discard()
	if _, err := f.root.Load(l.Key()); err != nil {
		t.Error(err)
	}
	f.check(l.Discard())
	f.empty()
	f.nothingLeft()
}

// TestWrongChain: parents that do not stand on each other could be freed apart.
func TestWrongChain(t *testing.T) {
	needRoot(t)
	f := newFixture(t, &kinds()[1])
	a, b := f.new(), f.new()
	f.check(a.Commit())
	f.check(b.Commit())
	for _, parents := range [][]string{{a.Key(), b.Key()}, {a.Key(), a.Key()}} {
		if _, err := a.Next(parents); !errors.Is(err, ErrInvalidName) {
			t.Errorf("next: %v", err)
		}
		if _, err := f.root.New(&Config{Driver: Overlay, Parents: parents}); !errors.Is(err, ErrInvalidName) {
			t.Errorf("new: %v", err)
		}
	}
	if _, err := f.root.New(&Config{Driver: Overlay, UserXattr: true, Parents: on(a)}); !errors.Is(err, ErrInvalidName) {
		t.Errorf("another format: %v", err)
	}
	n := f.new()
	if _, err := a.Next(on(n)); !errors.Is(err, ErrGone) {
		t.Errorf("on a layer that is not committed: %v", err)
	}
}

// TestConcurrency: layers that come and go on one committed layer, and on each other.
func TestConcurrency(t *testing.T) {
	needRoot(t)
	for _, k := range []kind{kinds()[1], {name: "memory", fs: "tmpfs", memory: true, config: Config{Driver: Overlay}}} {
		t.Run(k.name, func(t *testing.T) {
			f := newFixture(t, &k)
			l := f.new()
			f.check(os.WriteFile(filepath.Join(f.root.upper(l.Key()), "file"), nil, 0o600))
			f.check(l.Commit())
			f.check(f.root.Hold(l.Key(), "named"))
			var all sync.WaitGroup
			for g := range 8 {
				all.Go(func() {
					for i := range 40 {
						if err := comeAndGo(f.root, l, i); err != nil {
							t.Errorf("goroutine %d, round %d: %v", g, i, err)
							return
						}
					}
				})
			}
			stop := make(chan struct{})
			var others sync.WaitGroup
			others.Go(func() { keepEmptying(t, f.root, stop) })
			all.Wait()
			close(stop)
			others.Wait()
			if _, err := f.root.Load(l.Key()); err != nil {
				t.Errorf("the held layer: %v", err)
			}
			left, err := f.root.Layers()
			if len(left) != 1 || err != nil {
				t.Errorf("left: %+v, %v", left, err)
			}
			f.check(f.root.Release(l.Key(), "named"))
			f.empty()
			f.nothingLeft()
		})
	}
}

// comeAndGo makes a layer on l, commits it every other time, and lets go of all.
func comeAndGo(r *Root, l *Layer, i int) error {
	n, err := l.Next(on(l))
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(r.upper(n.Meta().Parents[0]), "file")); err != nil {
		return fmt.Errorf("the parent: %w", err)
	}
	if i%2 == 0 {
		return n.Discard()
	}
	user := "user-" + n.Key()
	if err := errors.Join(n.Commit(), r.Hold(n.Key(), user)); err != nil {
		return err
	}
	child, err := n.Next(on(n))
	if err != nil {
		return err
	}
	var race sync.WaitGroup
	var errs [2]error
	race.Go(func() { errs[0] = r.Release(n.Key(), user) })
	race.Go(func() { errs[1] = child.Discard() })
	race.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	if _, err := r.Load(n.Key()); !errors.Is(err, ErrNotExist) {
		return fmt.Errorf("a layer without users: %w", err)
	}
	return nil
}

func keepEmptying(t *testing.T, r *Root, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		if err := r.Empty(context.Background(), Pace{}); err != nil {
			t.Error(err)
			return
		}
		if _, err := r.Layers(); err != nil {
			t.Error(err)
			return
		}
	}
}

// TestLastUser: of two who let go at once, one frees the layer, and who comes for it at
// that moment either has it or is told that it is gone.
func TestLastUser(t *testing.T) {
	needRoot(t)
	f := newFixture(t, &kinds()[1])
	for range 300 {
		l := f.new()
		f.check(l.Commit())
		f.check(f.root.Hold(l.Key(), "a"))
		f.check(f.root.Hold(l.Key(), "b"))
		var n *Layer
		var errs [3]error
		var race sync.WaitGroup
		race.Go(func() { errs[0] = f.root.Release(l.Key(), "a") })
		race.Go(func() { errs[1] = f.root.Release(l.Key(), "b") })
		race.Go(func() { n, errs[2] = l.Next(on(l)) })
		race.Wait()
		f.check(errors.Join(errs[:2]...))
		_, err := f.root.Load(l.Key())
		switch {
		case n != nil && err != nil:
			t.Fatalf("freed while used: %v", err)
		case n == nil && (!errors.Is(errs[2], ErrGone) || !errors.Is(err, ErrNotExist)):
			t.Fatalf("not freed, or a wrong error: %v, %v", err, errs[2])
		case n != nil:
			f.check(n.Discard())
		}
	}
	f.empty()
	f.nothingLeft()
}

// TestMemoryRoot: one tmpfs, whoever comes first; it goes with the last layer.
func TestMemoryRoot(t *testing.T) {
	needRoot(t)
	f := newFixture(t, &kind{fs: "ext4", memory: true, config: Config{Driver: Overlay}})
	for range 20 {
		var all sync.WaitGroup
		for range 6 {
			all.Go(func() {
				l, err := f.root.New(&f.config)
				if err == nil {
					err = errors.Join(l.Discard(), ignore(f.root.Empty(context.Background(), Pace{}), ErrBusy))
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		l := f.new()
		mounts, err := os.ReadFile("/proc/self/mountinfo")
		f.check(err)
		if n := strings.Count(string(mounts), " "+f.root.dir+" "); n != 1 {
			t.Fatalf("mounted %d times:\n%s", n, mounts)
		}
		f.empty()
		if _, err := f.root.Load(l.Key()); err != nil {
			t.Fatalf("unmounted with a layer in it: %v", err)
		}
		f.check(l.Discard())
		f.empty()
		f.nothingLeft()
	}
	f.check(unix.Mount("ramfs", f.root.dir, "ramfs", 0, "mode=0700"))
	defer func() { _ = unix.Unmount(f.root.dir, 0) }()
	if _, err := f.root.New(&f.config); !errors.Is(err, ErrUnsuitable) {
		t.Errorf("with another filesystem mounted there: %v", err)
	}
}

func ignore(err, known error) error {
	if errors.Is(err, known) {
		return nil
	}
	return err
}

// TestPrune: a layer that is gone keeps nothing, whenever its end was interrupted.
func TestPrune(t *testing.T) {
	needRoot(t)
	f := newFixture(t, &kinds()[1])
	bottom := f.new()
	f.check(bottom.Commit())
	f.check(f.root.Hold(bottom.Key(), "named"))
	middle := f.next(bottom, on(bottom)...)
	f.check(middle.Commit())
	f.check(f.root.Hold(middle.Key(), "named"))
	top := f.next(middle, on(middle)...)
	users := func(l *Layer) *Meta {
		t.Helper()
		all, err := f.root.Layers()
		f.check(err)
		for i := range all {
			if all[i].Key == l.Key() {
				return &all[i]
			}
		}
		return nil
	}
	f.check(f.root.Prune(users(middle)))
	if m := users(middle); len(m.Users) != 2 {
		t.Errorf("users %q, want the layer and named", m.Users)
	}
	until(f.root, 1, func(r *Root) error { // killed when the layer is in the trash
		l, err := r.Load(top.Key())
		f.check(err)
		return l.Discard()
	})
	if m := users(middle); len(m.Users) != 2 || users(top) != nil {
		t.Fatalf("users %q of the parent of a layer that is half gone", m.Users)
	}
	f.check(f.root.Prune(users(middle)))
	if m := users(middle); len(m.Users) != 1 || m.Users[0] != "named" {
		t.Errorf("users %q, want named", m.Users)
	}
	f.check(f.root.Release(middle.Key(), "named"))
	f.check(f.root.Release(bottom.Key(), "named"))
	f.empty()
	f.nothingLeft()
}

// TestUncommit: what nobody else has can be written again.
// A layer that was made above one that is not committed leaves that alone until it is
// settled.
func TestAbove(t *testing.T) {
	needRoot(t)
	f := newFixture(t, &kinds()[1])
	l := f.new()
	for range 2 {
		n, err := l.Above()
		f.check(err)
		f.check(n.Discard())
		if _, err := f.root.Load(l.Key()); err != nil || l.Meta().Committed {
			t.Fatalf("the layer below: %v, committed %v", err, l.Meta().Committed)
		}
	}
	n, err := l.Above()
	f.check(err)
	if err := n.Settle(); !errors.Is(err, ErrGone) {
		t.Errorf("on a layer that is not committed: %v", err)
	}
	f.check(l.Commit())
	f.check(f.root.Hold(l.Key(), "named"))
	f.check(n.Settle())
	f.check(f.root.Release(l.Key(), "named"))
	if _, err := f.root.Load(l.Key()); err != nil {
		t.Errorf("below a layer: %v", err)
	}
	f.check(n.Discard())
	if _, err := f.root.Load(l.Key()); !errors.Is(err, ErrNotExist) {
		t.Errorf("without a user: %v", err)
	}
	f.empty()
	f.nothingLeft()
}

func TestUncommit(t *testing.T) {
	needRoot(t)
	f := newFixture(t, &kinds()[1])
	l := f.new()
	f.check(l.Commit())
	f.check(f.root.Hold(l.Key(), "named"))
	n := f.next(l, on(l)...)
	if !n.Unchanged() || l.Unchanged() {
		t.Errorf("a new layer is unchanged: %v; one without a parent: %v", n.Unchanged(), l.Unchanged())
	}
	f.check(os.WriteFile(filepath.Join(written(n), "file"), nil, 0o600))
	if n.Unchanged() {
		t.Error("a layer with a file is unchanged")
	}
	if err := l.Uncommit("named"); !errors.Is(err, ErrInUse) {
		t.Errorf("with a layer on it: %v", err)
	}
	f.check(n.Discard())
	f.check(l.CheckLowers())
	f.check(l.Uncommit("named"))
	loaded, err := f.root.Load(l.Key())
	if f.check(err); loaded.Meta().Committed || l.Meta().Committed {
		t.Error("still committed")
	}
	f.check(l.Discard())
	f.empty()
	f.nothingLeft()
}
