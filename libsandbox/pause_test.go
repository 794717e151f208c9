package libsandbox

import (
	"context"
	"errors"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func TestPauseAndResume(t *testing.T) {
	store, err := OpenStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	sb, err := store.Run(t.Context(), "paused", scripted(t, t.TempDir(), "sleep 1000", nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sb.Delete(context.Background(), &DeleteOptions{Force: true}); err != nil {
			t.Error(err)
		}
	})
	if err := sb.Resume(); !errors.Is(err, ErrNotPaused) {
		t.Errorf("resume of a running container: %v", err)
	}
	if err := sb.Pause(); err != nil {
		t.Fatal(err)
	}
	if s, err := sb.State(); err != nil || s.Status != StatePaused {
		t.Errorf("%+v, %v", s, err)
	}
	if err := sb.Pause(); !errors.Is(err, ErrNotRunning) {
		t.Errorf("pause of a paused container: %v", err)
	}
	if err := sb.Resume(); err != nil {
		t.Fatal(err)
	}
	if s, err := sb.State(); err != nil || s.Status != specs.StateRunning {
		t.Errorf("%+v, %v", s, err)
	}
	if pids, err := sb.Processes(); err != nil || len(pids) == 0 || pids[0] != sb.Pid() {
		t.Errorf("processes %v, %v; init is %d", pids, err, sb.Pid())
	}
}

func TestEventsEnd(t *testing.T) {
	store, err := OpenStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	sb, err := store.Run(t.Context(), "watched", scripted(t, t.TempDir(), "sleep 1000", nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	enough, seen := errors.New("enough"), 0
	err = sb.Events(t.Context(), time.Millisecond, func(e Event) error {
		if seen++; e.Stats == nil || e.Stats.CPU.Usage.Total == 0 || seen == 3 {
			return enough
		}
		return nil
	})
	if !errors.Is(err, enough) || seen != 3 {
		t.Errorf("%v after %d events", err, seen)
	}
	if err := sb.Signal(unix.SIGKILL, false); err != nil {
		t.Fatal(err)
	}
	if err := sb.Events(t.Context(), time.Minute, func(Event) error { return enough }); err != nil && !errors.Is(err, ErrNotRunning) {
		t.Errorf("events of a container that ends: %v", err)
	}
	if err := sb.Delete(t.Context(), &DeleteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := sb.Stats(); !errors.Is(err, ErrNotExist) {
		t.Errorf("statistics of a deleted container: %v", err)
	}
}
