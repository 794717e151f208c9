package kernel

import (
	"os"
	"os/signal"
	"slices"
	"syscall"
	"testing"
)

// Ignored are those of nohup(1), make(1) and the like, caught ones are not.
func TestIgnoredSignals(t *testing.T) {
	before := IgnoredSignals()
	for _, sig := range []syscall.Signal{syscall.SIGUSR2, syscall.SIGTSTP} {
		if slices.Contains(before, int(sig)) {
			t.Skipf("needs %v not to be ignored by whoever runs the tests", sig)
		}
	}
	signal.Ignore(syscall.SIGUSR2, syscall.SIGTSTP)
	got := IgnoredSignals()
	// Reset would leave them ignored.
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR2, syscall.SIGTSTP)
	signal.Stop(c)
	want := append(slices.Clone(before), int(syscall.SIGUSR2), int(syscall.SIGTSTP))
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("ignored %v, want %v", got, want)
	}
	if again := IgnoredSignals(); !slices.Equal(again, before) {
		t.Errorf("afterwards %v, want %v", again, before)
	}
}
