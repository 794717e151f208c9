package libsandbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

func newPool(t *testing.T, c *Config, n int, o *PoolOptions) *Pool {
	t.Helper()
	p, err := NewPool(t.Context(), c, n, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		reapChildren()
		if left, err := c.Store.List(); err != nil || len(left) > 0 {
			t.Errorf("left: %v, %v", left, err)
		}
		noLayers(t, c.Layer.Root)
	})
	return p
}

func TestPool(t *testing.T) {
	c := boxed(t)
	c.ID = "p"
	p := newPool(t, c, 3, nil)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			sb, err := p.Get(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			l := &layered{sb, t, c.Layer.Root}
			out, err := l.try(fmt.Sprintf("ls /mark* 2>/dev/null; echo %d >/mark%d; sleep 1000 & ls /mark*", i, i))
			if want := fmt.Sprintf("/mark%d\n", i); err != nil || out != want {
				t.Errorf("worker %d saw %q, %v", i, out, err)
			}
			if i == 0 {
				if _, err := sb.Snapshot(t.Context(), ""); err != nil {
					t.Error(err)
				}
			}
			if err := p.Put(sb); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for range 3 {
		sb, err := p.Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if s, err := sb.Snapshots(); err != nil || len(s) > 0 || !strings.HasPrefix(sb.ID(), "p-") {
			t.Errorf("%s: %v, %v", sb.ID(), s, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if sb, err := p.Get(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a fourth one: %v, %v", sb, err)
	}
}

// A sandbox that somebody has deleted, or whose process 1 has ended, is replaced.
func TestPoolReplaces(t *testing.T) {
	c := boxed(t)
	p := newPool(t, c, 1, nil)
	for _, spoil := range []func(*Sandbox) error{
		func(sb *Sandbox) error { return sb.Delete(t.Context(), &DeleteOptions{Force: true}) },
		func(sb *Sandbox) error { return sb.Signal(9, true) },
	} {
		sb, err := p.Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := spoil(sb); err != nil {
			t.Fatal(err)
		}
		if err := p.Put(sb); err != nil {
			t.Fatal(err)
		}
		next, err := p.Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		(&layered{next, t, c.Layer.Root}).sh("true")
		if err := p.Put(next); err != nil {
			t.Fatal(err)
		}
		if err := p.Put(next); err == nil {
			t.Error("given back twice")
		}
	}
}

func TestPoolSetup(t *testing.T) {
	c := boxed(t)
	p := newPool(t, c, 2, &PoolOptions{Mode: ResetKeepInit, Setup: func(_ context.Context, sb *Sandbox) error {
		_, err := sb.Run(t.Context(), "echo ready >/setup; left=behind; sleep 1000 &", nil)
		return err
	}})
	for range 4 {
		sb, err := p.Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		l := &layered{sb, t, c.Layer.Root}
		if got := l.say("cat /setup; echo spoiled >/setup; cat /setup; echo $left; busybox ps | busybox grep -c '[s]leep'; left=x"); got != "ready\nspoiled\n\n0" {
			t.Error(got)
		}
		if err := p.Put(sb); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPoolErrors(t *testing.T) {
	c := boxed(t)
	if _, err := NewPool(t.Context(), c, 0, nil); err == nil {
		t.Error("a pool of none")
	}
	failed := errors.New("setup failed")
	calls := 0
	_, err := NewPool(t.Context(), c, 3, &PoolOptions{Parallel: 1, Setup: func(context.Context, *Sandbox) error {
		if calls++; calls == 2 {
			return failed
		}
		return nil
	}})
	if !errors.Is(err, failed) {
		t.Errorf("%v", err)
	}
	reapChildren()
	if left, err := c.Store.List(); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	// One that cannot be replaced is an error of one Get, and is tried again.
	calls = 10
	broken := false
	p := newPool(t, c, 1, &PoolOptions{Setup: func(context.Context, *Sandbox) error {
		if broken {
			broken = false
			return failed
		}
		return nil
	}})
	sb, err := p.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	broken = true
	if err := errors.Join(sb.Delete(t.Context(), &DeleteOptions{Force: true}), p.Put(sb)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Get(t.Context()); !errors.Is(err, failed) {
		t.Errorf("%v", err)
	}
	if sb, err = p.Get(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Put(&Sandbox{}); err == nil {
		t.Error("a sandbox of somebody else's was taken")
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if _, err := p.Get(t.Context()); !errors.Is(err, ErrPoolClosed) {
		t.Errorf("%v", err)
	}
	if err := p.Put(sb); err != nil {
		t.Errorf("%v", err)
	}
}
