package kernel

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestAside changes the working directory aside, many times at once: nobody
// else's changes.
func TestAside(t *testing.T) {
	was, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			err := Aside(func() error {
				if unix.Gettid() == unix.Getpid() {
					return errors.New("on the first thread")
				}
				return unix.Chdir("/")
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := Aside(func() error { return unix.ENOTTY }); err != unix.ENOTTY {
		t.Error(err)
	}
	for range 100 {
		is, err := unix.Getwd()
		if err != nil || is != was {
			t.Fatalf("working directory %q, was %q: %v", is, was, err)
		}
		runtime.Gosched()
	}
}
