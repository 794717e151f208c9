package libsandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestConcurrentCreate(t *testing.T) {
	b := scripted(t, t.TempDir(), "sleep 100", nil)
	store := &Store{root: filepath.Join(t.TempDir(), "made/on/demand")}
	before := lookAtHost(t, store.root)
	var wg sync.WaitGroup
	made := make(chan *Sandbox, 8)
	for range cap(made) {
		wg.Go(func() {
			sb, err := store.Create(t.Context(), "box", b, nil)
			switch {
			case err == nil:
				made <- sb
			case !errors.Is(err, ErrExist):
				t.Errorf("create: %v", err)
			}
			if _, err := store.List(); err != nil {
				t.Errorf("list: %v", err)
			}
		})
	}
	wg.Wait()
	if len(made) != 1 {
		t.Fatalf("%d containers of one id", len(made))
	}
	sb := <-made
	if st, err := sb.State(); err != nil || st.Status != specs.StateCreated {
		t.Errorf("state %+v, %v", st, err)
	}
	if err := sb.Delete(t.Context(), nil); err != nil {
		t.Error(err)
	}
	reapChildren()
	before.compare(t, lookAtHost(t, store.root))
}

// Whatever order a start and a delete come in, the container is gone in the end.
func TestDeleteDuringStart(t *testing.T) {
	dir := t.TempDir()
	b := scripted(t, dir, "sleep 100", func(s *specs.Spec) {
		s.Hooks = &specs.Hooks{StartContainer: []specs.Hook{{Path: "/bin/sleep", Args: []string{"sleep", "0.3"}}}}
	})
	store := &Store{root: t.TempDir()}
	before := lookAtHost(t, store.root)
	for _, delay := range []time.Duration{0, 2 * time.Millisecond, 20 * time.Millisecond, 100 * time.Millisecond} {
		if _, err := store.Create(t.Context(), "box", b, nil); err != nil {
			t.Fatal(err)
		}
		starter, err := store.Load("box")
		if err != nil {
			t.Fatal(err)
		}
		started := make(chan error, 1)
		go func() { started <- starter.Start(t.Context()) }()
		time.Sleep(delay)
		deleter, err := store.Load("box")
		if err != nil {
			t.Fatal(err)
		}
		if err := deleter.Delete(t.Context(), &DeleteOptions{Force: true}); err != nil {
			t.Errorf("%v: delete: %v", delay, err)
		}
		if err := <-started; err != nil && !errors.Is(err, ErrNotExist) {
			t.Errorf("%v: start: %v", delay, err)
		}
		if _, err := store.Load("box"); !errors.Is(err, ErrNotExist) {
			t.Errorf("%v: load: %v", delay, err)
		}
		if err := starter.Start(t.Context()); !errors.Is(err, ErrNotExist) {
			t.Errorf("%v: start of the deleted: %v", delay, err)
		}
		reapChildren()
		before.compare(t, lookAtHost(t, store.root))
	}
}

// entries is a store with everything in it that is no container.
func entries(t *testing.T, root string) (names []string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const other = `{"ociVersion":"1.3.0","id":"other"}`
	for name, text := range map[string]string{
		"empty": "", "space": " ", "brace": "{", "null": "null", "list": "[]", "number": "1e999", "text": `"x"`, "binary": "\x00\xff\xfe",
		"of-another": other, "no-id": `{"ociVersion":"1.3.0"}`, "wrong-types": `{"id":"wrong-types","cgroup":[],"ownPid":"x"}`,
		"pid-text": `{"id":"pid-text","rootMount":"1"}`, "deep": strings.Repeat("[", 100_000), "long": `{"id":"long","x":"` + strings.Repeat("y", 1<<20),
		"after": other + other,
	} {
		must(os.Mkdir(filepath.Join(root, name), 0o711))
		must(os.WriteFile(filepath.Join(root, name, stateFile), []byte(text), 0o600))
		names = append(names, name)
	}
	for name, make := range map[string]func(dir string) error{
		"nothing":     func(string) error { return nil },
		"only-init":   func(dir string) error { return os.WriteFile(filepath.Join(dir, initFile), []byte("{}"), 0o600) },
		"directory":   func(dir string) error { return os.MkdirAll(filepath.Join(dir, stateFile, "x"), 0o700) },
		"fifo":        func(dir string) error { return unix.Mkfifo(filepath.Join(dir, stateFile), 0o600) },
		"linked-file": func(dir string) error { return os.Symlink("../of-another/"+stateFile, filepath.Join(dir, stateFile)) },
		"dangling":    func(dir string) error { return os.Symlink("missing", filepath.Join(dir, stateFile)) },
		"foreign":     func(dir string) error { return os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("x"), 0o600) },
	} {
		must(os.Mkdir(filepath.Join(root, name), 0o711))
		must(make(filepath.Join(root, name)))
		names = append(names, name)
	}
	return names
}

func TestEntriesThatAreNone(t *testing.T) {
	store := &Store{root: t.TempDir()}
	names := entries(t, store.root)
	if list, err := store.List(); err != nil || len(list) != 0 {
		t.Errorf("list: %d containers, %v", len(list), err)
	}
	for _, name := range names {
		if sb, err := store.Load(name); err == nil {
			t.Errorf("%s: loaded %+v", name, sb.rec)
		} else if !strings.HasPrefix(err.Error(), fmt.Sprintf("container %q: ", name)) || strings.Contains(err.Error(), "\n") || len(err.Error()) > 300 {
			t.Errorf("%s: %.400v", name, err)
		}
		if err := store.ForceDelete(t.Context(), name); err != nil {
			t.Errorf("%s: delete: %v", name, err)
		}
		if err := store.ForceDelete(t.Context(), name); err != nil {
			t.Errorf("%s: delete again: %v", name, err)
		}
	}
	if left, _ := os.ReadDir(store.root); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// What is no directory is nobody's container, and stays.
func TestEntriesThatAreNoDirectories(t *testing.T) {
	base := t.TempDir()
	store := &Store{root: filepath.Join(base, "store")}
	outside := filepath.Join(base, "outside")
	for _, dir := range []string{store.root, outside} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(outside, stateFile), []byte(`{"id":"link","ociVersion":"1.3.0"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(store.root, name) }
	for _, err := range []error{
		os.WriteFile(in("file"), []byte("x"), 0o600), os.Symlink(outside, in("link")), os.Symlink("missing", in("dangling")),
		os.Symlink("loop", in("loop")), unix.Mkfifo(in("fifo"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := tree(t, base)
	if list, err := store.List(); err != nil || len(list) != 0 {
		t.Errorf("list: %d containers, %v", len(list), err)
	}
	for _, name := range []string{"file", "link", "dangling", "loop", "fifo"} {
		if _, err := store.Load(name); err == nil {
			t.Errorf("%s: loaded", name)
		}
		if _, err := store.add(name); !errors.Is(err, ErrExist) {
			t.Errorf("%s: create: %v", name, err)
		}
		if err := store.ForceDelete(t.Context(), name); err == nil {
			t.Errorf("%s: deleted", name)
		}
	}
	if got := tree(t, base); got != want {
		t.Errorf("there is\n%swas\n%s", got, want)
	}
}

func TestIDs(t *testing.T) {
	b := scripted(t, t.TempDir(), "true", nil)
	store := &Store{root: t.TempDir()}
	for id, want := range map[string]struct {
		kind error
		text string
	}{
		"":                        {ErrInvalidID, "container id cannot be empty"},
		".":                       {ErrInvalidID, `invalid container id format: "."`},
		"..":                      {ErrInvalidID, `invalid container id format: ".."`},
		"a/b":                     {ErrInvalidID, `invalid container id format: "a/b"`},
		"a b":                     {ErrInvalidID, `invalid container id format: "a b"`},
		"a\x00b":                  {ErrInvalidID, `invalid container id format: "a\x00b"`},
		"é":                       {ErrInvalidID, `invalid container id format: "é"`},
		strings.Repeat("n", 300):  {unix.ENAMETOOLONG, "file name too long"},
		strings.Repeat("n", 1024): {unix.ENAMETOOLONG, "file name too long"},
		strings.Repeat("n", 1025): {ErrInvalidID, "invalid container id format: longer than 1024 bytes"},
	} {
		_, err := store.Create(t.Context(), id, b, nil)
		if !errors.Is(err, want.kind) || !strings.HasSuffix(fmt.Sprint(err), want.text) {
			t.Errorf("create %.20q: %v", id, err)
		}
		if _, err := store.Load(id); err == nil {
			t.Errorf("loaded %.20q", id)
		}
		if want.kind == ErrInvalidID {
			if err := store.ForceDelete(t.Context(), id); !errors.Is(err, ErrInvalidID) {
				t.Errorf("delete %.20q: %v", id, err)
			}
			continue
		}
		// No such container can be there.
		if _, err := store.Load(id); !errors.Is(err, ErrNotExist) {
			t.Errorf("load %.20q: %v", id, err)
		}
		if err := store.ForceDelete(t.Context(), id); err != nil {
			t.Errorf("delete %.20q: %v", id, err)
		}
	}
	if left, _ := os.ReadDir(store.root); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	// The longest that a file system takes works in full: the socket's path as well.
	long := strings.Repeat("n", 255)
	sb, err := store.Create(t.Context(), long, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := sb.Start(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := sb.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	if err := sb.Delete(t.Context(), nil); err != nil {
		t.Error(err)
	}
}
