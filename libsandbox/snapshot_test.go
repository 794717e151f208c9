package libsandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSnapshotsKeepAll: owners, modes, links, times and what was removed from the root
// filesystem are in a snapshot, by reference and by copy.
func TestSnapshotsKeepAll(t *testing.T) {
	c := boxed(t)
	for _, dir := range []string{"lower/sub", "whole/sub"} {
		if err := os.MkdirAll(filepath.Join(c.Rootfs, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"lower/a", "lower/b", "lower/sub/c", "whole/sub/d", "gone"} {
		if err := os.WriteFile(filepath.Join(c.Rootfs, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const (
		change = `cd /; busybox rm gone lower/a; busybox rm -r whole; busybox mkdir whole; echo new >whole/new; busybox chown 123:456 lower/b lower/sub
echo x >tool; busybox chown 1:2 tool; busybox chmod 6755 tool; busybox ln tool hard; busybox ln -s nowhere soft; busybox mkfifo fifo; busybox touch -d @1000000000.5 tool`
		look  = `cd /; busybox find lower whole gone tool hard soft fifo -exec busybox stat -c "%n %a %u:%g %Y %F" {} + 2>/dev/null | busybox sort; busybox stat -c %h tool; busybox readlink soft; cat tool whole/new lower/b; true`
		spoil = `cd /; busybox rm -rf lower whole tool hard soft fifo; echo back >gone; busybox mkdir -p lower/a`
	)
	l := newBox(t, c)
	l.say(change)
	want := l.say(look)
	for name, method := range map[string]SnapshotMethod{"reference": ByReference, "copy": ByCopy} {
		if method == ByCopy { // somebody writes
			l.say("exec 9>/open")
		}
		s, err := l.Snapshot(t.Context(), name)
		if err != nil || s.Method != method {
			t.Fatalf("%+v, %v", s, err)
		}
		l.say("exec 9>&-; busybox rm -f /open")
		fork, err := l.Fork(t.Context(), "fork-"+name, &ForkOptions{Snapshot: name})
		if err != nil {
			t.Fatal(err)
		}
		if got := (&layered{fork, t, l.root}).say(look); got != want {
			t.Errorf("a fork by %s has\n%s\nwant\n%s", name, got, want)
		}
		if err := fork.Delete(context.Background(), &DeleteOptions{Force: true}); err != nil {
			t.Error(err)
		}
		l.say(spoil)
		if err := l.Restore(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		if got := l.say(look); got != want {
			t.Errorf("restored by %s there is\n%s\nwant\n%s", name, got, want)
		}
	}
	l.gone()
}

// TestSnapshotNumbers: names that are made up are numbers, in their order, also beyond nine.
func TestSnapshotNumbers(t *testing.T) {
	l := newBox(t, boxed(t))
	for i := 1; i <= 12; i++ {
		l.say(fmt.Sprintf("echo %d >/n", i))
		if s, err := l.Snapshot(t.Context(), ""); err != nil || s.Name != fmt.Sprint(i) {
			t.Fatalf("snapshot %d: %+v, %v", i, s, err)
		}
	}
	all, err := l.Snapshots()
	if err != nil || len(all) != 12 {
		t.Fatalf("%v, %v", all, err)
	}
	for i, s := range all {
		if s.Name != fmt.Sprint(i+1) {
			t.Errorf("snapshot %d is %q", i+1, s.Name)
		}
	}
	if err := l.DeleteSnapshot("3"); err != nil {
		t.Fatal(err)
	}
	if s, err := l.Snapshot(t.Context(), ""); err != nil || s.Name != "13" {
		t.Errorf("%+v, %v", s, err)
	}
	for _, n := range []string{"10", "2", "9"} {
		if err := l.Restore(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		if got := l.say("cat /n"); got != n {
			t.Errorf("snapshot %s has %s", n, got)
		}
	}
	l.gone()
}

// TestSnapshotAhead: the layer for the next snapshot is made ahead once there was one. What
// has become of the root directory by then is in both; nothing of it is left where it is not
// used.
func TestSnapshotAhead(t *testing.T) {
	const look = `busybox stat -c "%a %u:%g %Y" /; busybox ls /; cat /a /b 2>/dev/null; true`
	store := &Store{root: t.TempDir()}
	l := runLayered(t, store, "ahead", sleeping(t, nil), nil)
	above := func() string {
		raw, _ := os.ReadFile(filepath.Join(store.root, "ahead", aboveFile))
		return string(raw)
	}
	ahead := func(sb *Sandbox) string {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			sb.mu.Lock()
			made := sb.over.layer
			sb.mu.Unlock()
			if made != nil && made.Key() == above() {
				return made.Key()
			}
			if time.Now().After(deadline) {
				t.Fatalf("no layer was made ahead: %q, %v", above(), made)
			}
		}
	}
	snapshot := func(sb *Sandbox, name string) {
		t.Helper()
		if s, err := sb.Snapshot(t.Context(), name); err != nil || s.Method != ByReference {
			t.Fatalf("%+v, %v", s, err)
		}
	}
	snapshot(l.Sandbox, "first")
	key := ahead(l.Sandbox)
	l.sh(`echo 1 >/a; busybox chmod 1751 /; busybox chown 5:6 /; busybox touch -d @1000000000 /`)
	want := l.sh(look)
	snapshot(l.Sandbox, "used")
	if now := l.rec.current(); now != key {
		t.Errorf("the container is on %s, made ahead was %s", now, key)
	}
	if got := l.sh(look); got != want {
		t.Errorf("after the snapshot:\n%swant\n%s", got, want)
	}
	ahead(l.Sandbox)
	l.sh(`echo 2 >/b; busybox chmod 755 /`)
	want = l.sh(look)
	// Another Sandbox has no use for it, as it has no mount of it.
	other, err := store.Load("ahead")
	if err != nil {
		t.Fatal(err)
	}
	snapshot(other, "other")
	ahead(other)
	if got := l.sh(look); got != want {
		t.Errorf("after another's snapshot:\n%swant\n%s", got, want)
	}
	snapshot(l.Sandbox, "mine")
	key = ahead(l.Sandbox)
	l.reset(ResetKeepInit)
	if _, err := os.Stat(filepath.Join(l.root, "layers", key)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the layer above one that was reset: %v", err)
	}
	ahead(l.Sandbox)
	if err := l.Restore(t.Context(), "other"); err != nil {
		t.Fatal(err)
	}
	if got := l.sh(look); got != want {
		t.Errorf("restored:\n%swant\n%s", got, want)
	}
	ahead(l.Sandbox)
	l.gone()
}

// TestSnapshotAheadXattr: an attribute of the root directory that was removed meanwhile is
// not in the next snapshot.
func TestSnapshotAheadXattr(t *testing.T) {
	store := &Store{root: t.TempDir()}
	l := runLayered(t, store, "ahead", sleeping(t, nil), nil)
	l.wanted.snapshot = true
	root := fmt.Sprintf("/proc/%d/root/.", l.Pid())
	if err := unix.Setxattr(root, "user.one", []byte("1"), 0); err != nil {
		t.Skipf("setxattr: %v: the layer's filesystem has no user attributes", err)
	}
	l.prepareNext()
	if l.over.layer == nil {
		t.Fatal("no layer was made ahead")
	}
	if err := errors.Join(unix.Removexattr(root, "user.one"), unix.Setxattr(root, "user.two", []byte("2"), 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Snapshot(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	var list [256]byte
	n, err := unix.Listxattr(fmt.Sprintf("/proc/%d/root/.", l.Pid()), list[:])
	if err != nil || strings.Contains(string(list[:n]), "user.one") || !strings.Contains(string(list[:n]), "user.two") {
		t.Errorf("attributes %q, %v", list[:max(n, 0)], err)
	}
	l.gone()
}
