package libsandbox

import (
	"context"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestManySandboxes makes, uses and deletes sandboxes in one process, which must keep
// nothing of them: no descriptor, goroutine, thread or zombie.
func TestManySandboxes(t *testing.T) {
	c := boxed(t)
	c.Volumes = []string{t.TempDir() + ":/cow:cow"}
	c.Lifetime = time.Hour
	cycle := func() {
		sb, err := New(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		for _, mode := range []ResetMode{ResetRestart, ResetKeepInit} {
			if _, err = sb.Run(t.Context(), "echo x >/cow/x; cd /cow; sleep 100 &", nil); err == nil {
				err = sb.Reset(t.Context(), &ResetOptions{Mode: mode})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, err := sb.Run(t.Context(), "true", nil); err != nil {
			t.Fatal(err)
		}
		if _, err := sb.Shell(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if err := sb.Delete(context.Background(), &DeleteOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	cycle()
	settled := func(what string, least int, now func() int) {
		t.Helper()
		if !wait1s(func() bool { return now() <= least }) {
			t.Errorf("%d %s, %d before", now(), what, least)
		}
	}
	time.Sleep(100 * time.Millisecond)
	fds, goroutines, threads := count(t, "/proc/self/fd"), runtime.NumGoroutine(), count(t, "/proc/self/task")
	for range 10 {
		cycle()
	}
	settled("descriptors", fds, func() int { return count(t, "/proc/self/fd") })
	settled("goroutines", goroutines, runtime.NumGoroutine)
	settled("threads", threads+8, func() int { return count(t, "/proc/self/task") })
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
		t.Errorf("a child is left: %d, %v", pid, err)
		reapChildren()
	}
	noLayers(t, c.Layer.Root)
}
