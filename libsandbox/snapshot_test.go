package libsandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
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
