package libsandbox

import (
	"context"
	"os"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// TestManyContainers makes and removes containers in one process, which must keep
// nothing of them: no descriptor, goroutine, thread or zombie. ADL_TEST_CONTAINERS is
// how many, 20 by default.
func TestManyContainers(t *testing.T) {
	b := everything(t, t.TempDir())
	store := &Store{root: t.TempDir()}
	n, err := strconv.Atoi(os.Getenv("ADL_TEST_CONTAINERS"))
	if err != nil {
		n = 20
	}
	cycle := func() {
		sb, err := store.Create(context.Background(), "one", b, nil)
		if err == nil {
			err = sb.Start(context.Background())
		}
		if err == nil {
			err = sb.Delete(context.Background(), &DeleteOptions{Force: true})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cycle()
	fds, goroutines, threads := count(t, "/proc/self/fd"), runtime.NumGoroutine(), count(t, "/proc/self/task")
	for range n {
		cycle()
	}
	if now := count(t, "/proc/self/fd"); now > fds {
		t.Errorf("%d descriptors, %d before", now, fds)
	}
	if now := runtime.NumGoroutine(); now > goroutines {
		t.Errorf("%d goroutines, %d before", now, goroutines)
	}
	if now := count(t, "/proc/self/task"); now > threads+8 {
		t.Errorf("%d threads, %d before", now, threads)
	}
	if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != unix.ECHILD {
		t.Errorf("a child is left: %d, %v", pid, err)
		reapChildren()
	}
}

func count(t *testing.T, dir string) int {
	t.Helper()
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}
