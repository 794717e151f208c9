package cgroup

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// hog takes more memory than the cgroup may have.
const hog = `head -c 64m /dev/zero | tail -c 60m >/dev/null`

// v1Only is the cgroup as it would be on a host without unified hierarchy.
func v1Only(t *testing.T, c *Cgroup) *Cgroup {
	t.Helper()
	paths := c.Paths()
	delete(paths, "")
	v1, err := Load(paths)
	if err != nil {
		t.Fatal(err)
	}
	return v1
}

func TestWatch(t *testing.T) {
	host := needRoot(t)
	test := func(t *testing.T, as func(*Cgroup) *Cgroup) {
		c := create(t, name(t), &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(8 << 20)), Swap: new(int64(8 << 20))}})
		sleeper := sleeper(t, c)
		w, err := as(c).Watch()
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if event, err := w.Next(t.Context(), 20*time.Millisecond); event != EventNone || err != nil {
			t.Errorf("nothing happened: %v, %v", event, err)
		}
		cmd := start(t, c, hog)
		if event, err := w.Next(t.Context(), 20*time.Second); event != EventOOM || err != nil {
			t.Errorf("out of memory: %v, %v", event, err)
		}
		_ = cmd.Wait()
		_ = c.Kill()
		_ = sleeper.Wait()
		event := EventOOM
		for event == EventOOM && err == nil { // there may have been more than one
			event, err = w.Next(t.Context(), 100*time.Millisecond)
		}
		if event != EventEmpty || err != nil {
			t.Errorf("all processes ended: %v, %v", event, err)
		}
	}
	t.Run("native", func(t *testing.T) { test(t, func(c *Cgroup) *Cgroup { return c }) })
	if host.Mode == Hybrid {
		t.Run("v1", func(t *testing.T) { test(t, func(c *Cgroup) *Cgroup { return v1Only(t, c) }) })
	}
}

// The end of the cgroup itself is counted by a v1 eventfd, and is no OOM.
func TestWatchOfWhatGoes(t *testing.T) {
	host := needRoot(t)
	test := func(t *testing.T, as func(*Cgroup) *Cgroup) {
		c := create(t, name(t), nil)
		cmd := sleeper(t, c)
		w, err := as(c).Watch()
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		_ = c.Kill()
		_ = cmd.Wait()
		if err := c.Destroy(); err != nil {
			t.Fatal(err)
		}
		if event, err := w.Next(t.Context(), 5*time.Second); event != EventEmpty || err != nil {
			t.Errorf("%v, %v", event, err)
		}
	}
	t.Run("native", func(t *testing.T) { test(t, func(c *Cgroup) *Cgroup { return c }) })
	if host.Mode == Hybrid {
		t.Run("v1", func(t *testing.T) { test(t, func(c *Cgroup) *Cgroup { return v1Only(t, c) }) })
	}
}

func TestWatchEnds(t *testing.T) {
	c := create(t, name(t), nil)
	cmd := sleeper(t, c)
	w, err := c.Watch()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := w.Next(ctx, time.Minute); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	_ = c.Kill()
	_ = cmd.Wait()
}

// On v1 the end of a process is an event, too, and so is a child that it leaves.
func TestWaitEmptyOfV1(t *testing.T) {
	needV1(t)
	c := create(t, name(t), nil)
	cmd := start(t, c, "sleep 0.2 & sleep 0.1")
	deadline(t, "it is in the cgroup", func() bool { pids, _ := v1Only(t, c).Procs(); return len(pids) > 0 })
	if err := v1Only(t, c).WaitEmpty(t.Context()); err != nil {
		t.Error(err)
	}
	if pids, err := c.Procs(); len(pids) > 0 || err != nil {
		t.Error("not empty: ", pids, err)
	}
	_ = cmd.Wait()
}
