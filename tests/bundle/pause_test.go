package bundle_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	h "adl.run/adl-runtime/tests/harness"
)

// withoutUnified hides the cgroup v2 mount of a hybrid host from a command, which
// then finds a host with v1 only.
func withoutUnified() h.Option {
	return func(c *exec.Cmd) {
		script := `umount /sys/fs/cgroup/unified; exec "$@"`
		c.Args = append([]string{"unshare", "-m", "sh", "-c", script, "sh", c.Path}, c.Args[1:]...)
		c.Path = "/usr/bin/unshare"
	}
}

// counter counts as long as it is let.
func counter(t *testing.T, mutators ...h.Mutate) *h.Bundle {
	t.Helper()
	return h.New(t, append([]h.Mutate{h.Sh("trap 'exit 15' TERM; while :; do echo tick; sleep 0.01; done")}, mutators...)...)
}

// stands fails the test if the output grows.
func stands(t *testing.T, c *h.Container) {
	t.Helper()
	before := c.Stdout()
	time.Sleep(100 * time.Millisecond)
	if after := c.Stdout(); len(after) != len(before) {
		t.Errorf("a paused container wrote %d bytes", len(after)-len(before))
	}
}

func runs(t *testing.T, c *h.Container) {
	t.Helper()
	before := len(c.Stdout())
	h.Eventually(t, "the container stands still", func() bool { return len(c.Stdout()) > before })
}

// eachHierarchy runs a test on the host as it is, and on a hybrid one also as if it
// had v1 only.
func eachHierarchy(t *testing.T, test func(t *testing.T, opts ...h.Option)) {
	t.Run("native", func(t *testing.T) {
		t.Parallel()
		test(t)
	})
	t.Run("v1", func(t *testing.T) {
		t.Parallel()
		if _, err := os.Stat("/sys/fs/cgroup/unified/cgroup.procs"); err != nil {
			t.Skip("needs a hybrid host")
		}
		h.NotFor(t, "crun", "the wrapper does it already")
		test(t, withoutUnified())
	})
}

func TestPause(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun may be paused twice")
	eachHierarchy(t, func(t *testing.T, opts ...h.Option) {
		b := counter(t)
		c := b.Launch(opts...)
		c.WaitOutput("tick")
		do := func(args ...string) h.Result { return b.DoWith(args, opts...) }
		if r := do("pause", c.ID).OK(t); r.Stdout+r.Stderr != "" {
			t.Errorf("pause wrote %q", r.Stdout+r.Stderr)
		}
		stands(t, c)
		if s := stateOf(t, b, c.ID); s.Status != "paused" || s.Pid != c.Pid {
			t.Errorf("%+v", s)
		}
		if out := b.Do("list").OK(t).Stdout; !strings.Contains(out, "paused") {
			t.Errorf("list printed %q", out)
		}
		do("pause", c.ID).Refused(t, "container not running", "container not running")
		do("start", c.ID).Refused(t, "paused", "")
		do("delete", c.ID).Refused(t, "is not stopped: paused", "is not stopped: paused")
		do("resume", c.ID).OK(t)
		runs(t, c)
		if s := stateOf(t, b, c.ID); s.Status != "running" {
			t.Errorf("%+v", s)
		}
		do("resume", c.ID).Refused(t, "container not paused", "container not paused")
		c.Kill("TERM")
		if code := c.WaitExit(); code != 15 {
			t.Errorf("status %d, want 15", code)
		}
		do("pause", c.ID).Refused(t, "container not running", "container not running")
		do("resume", c.ID).Refused(t, "container not paused", "container not paused")
		c.Delete()
	})
}

// SIGKILL ends a paused container at once, every other signal when it is resumed.
func TestPause_Signals(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "a paused container of crun does not die of SIGKILL on cgroup v1")
	eachHierarchy(t, func(t *testing.T, opts ...h.Option) {
		for _, ns := range []string{"own pid namespace", "shared pid namespace"} {
			b := counter(t)
			if ns[0] == 's' {
				h.NotFor(t, "runc", "1.1.5 waits for ever")
				b.Set(h.WithoutNamespace("pid"))
			}
			c := b.Launch(opts...)
			c.WaitOutput("tick")
			b.DoWith([]string{"pause", c.ID}, opts...).OK(t)
			b.AdoptProcesses()
			b.DoWith([]string{"kill", c.ID, "TERM"}, opts...).OK(t)
			stands(t, c)
			b.DoWith([]string{"kill", c.ID, "KILL"}, opts...).OK(t)
			h.Eventually(t, ns+": init lives on", func() bool { return !h.Alive(c.Pid) })
			b.DoWith([]string{"delete", "--force", c.ID}, opts...).OK(t)
		}
	})
}

func TestPause_DeleteForce(t *testing.T) {
	t.Parallel()
	eachHierarchy(t, func(t *testing.T, opts ...h.Option) {
		b := counter(t)
		c := b.Launch(opts...)
		c.WaitOutput("tick")
		b.DoWith([]string{"pause", c.ID}, opts...).OK(t)
		b.DoWith([]string{"delete", "--force", c.ID}, opts...).OK(t)
		gone(t, b.Do("state", c.ID))
		c.WaitExit()
	})
}

// A created container can be paused, and be started after it is resumed.
func TestPause_OfACreatedContainer(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun shows it as created")
	b := counter(t)
	c := b.Create()
	b.Do("pause", c.ID).OK(t)
	if s := stateOf(t, b, c.ID); s.Status != "paused" {
		t.Errorf("%+v", s)
	}
	b.Do("resume", c.ID).OK(t)
	c.Start()
	c.WaitOutput("tick")
	c.Delete("--force")
}

// While a container forks as fast as it can, every pause takes hold.
func TestPause_OfForks(t *testing.T) {
	t.Parallel()
	eachHierarchy(t, func(t *testing.T, opts ...h.Option) {
		b := h.New(t, h.Sh("while :; do echo tick; true & sh -c true; done"))
		c := b.Launch(opts...)
		c.WaitOutput("tick")
		for range 5 {
			b.DoWith([]string{"pause", c.ID}, opts...).OK(t)
			stands(t, c)
			b.DoWith([]string{"resume", c.ID}, opts...).OK(t)
			runs(t, c)
		}
		b.DoWith([]string{"delete", "--force", c.ID}, opts...).OK(t)
	})
}

func TestPause_BadInput(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun has other texts and statuses")
	b := h.New(t)
	for _, verb := range []string{"pause", "resume", "ps", "events", "update"} {
		gone(t, b.Do(verb, "adl-test-missing"))
		b.Do(verb).Fails(t, "1 argument")
		b.Do(verb, "--nope", "x").Fails(t, "nope")
	}
}
