package kernel

import (
	"os/signal"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRelayed(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGTERM, unix.SIGUSR1, unix.SIGCHLD, unix.SIGCONT, unix.SIGTSTP, unix.SIGWINCH, 34, 64} {
		if !relayed(sig) {
			t.Errorf("signal %d is left out", sig)
		}
	}
	for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGSTOP, unix.SIGSEGV, unix.SIGURG, unix.SIGPIPE, 32, 33} {
		if relayed(sig) {
			t.Errorf("signal %d is relayed", sig)
		}
	}
}

// Every signal arrives, in whatever thread it is taken, and none is received after
// Close.
func TestRelay(t *testing.T) {
	before := dispositions()
	l, err := CatchSignals()
	if err != nil {
		t.Fatal(err)
	}
	for _, sig := range []unix.Signal{unix.SIGUSR1, unix.SIGHUP, unix.SIGTERM, unix.SIGALRM, unix.SIGQUIT, 40, 64} {
		if signal.Ignored(sig) { // by nohup(1)
			t.Logf("signal %d is ignored here", sig)
			continue
		}
		for range 20 {
			if err := unix.Kill(unix.Getpid(), sig); err != nil {
				t.Fatal(err)
			}
			if got, err := l.Next(); err != nil || got != sig {
				t.Fatalf("sent %d, received %d, %v", sig, got, err)
			}
		}
	}
	l.Close()
	if after := dispositions(); after != before {
		t.Error("Close does not give signals their former actions back")
	}
}

func dispositions() (all [lastSignal + 1]sigaction) {
	for sig := 1; sig <= lastSignal; sig++ {
		rtSigaction(sig, nil, &all[sig])
	}
	return all
}
