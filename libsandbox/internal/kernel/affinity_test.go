package kernel

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWithAffinity(t *testing.T) {
	runtime.LockOSThread() // to see whether the thread gets its CPUs back
	defer runtime.UnlockOSThread()
	allowed := func() string {
		raw, err := os.ReadFile("/proc/thread-self/status")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(raw), "Cpus_allowed_list:\t")
		list, _, _ := strings.Cut(rest, "\n")
		return list
	}
	before := allowed()
	if before == "0" {
		t.Skip("needs a second CPU")
	}
	err := WithAffinity([]uint64{1}, func() error {
		if got := allowed(); got != "0" {
			t.Errorf("confined to %s, want 0", got)
		}
		return unix.EXDEV
	})
	if err != unix.EXDEV {
		t.Errorf("f's error is lost: %v", err)
	}
	if got := allowed(); got != before {
		t.Errorf("CPUs %s, before %s", got, before)
	}
	// A CPU that does not exist.
	mask := make([]uint64, 128)
	mask[127] = 1 << 63
	if err := WithAffinity(mask, func() error { t.Error("called"); return nil }); !errors.Is(err, unix.EINVAL) {
		t.Errorf("CPU 8191: %v", err)
	}
	if err := WithAffinity(nil, func() error { return nil }); err != nil {
		t.Error(err)
	}
}
