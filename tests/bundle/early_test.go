package bundle_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	h "adl.run/adl-runtime/tests/harness"
)

// startsGo runs a command, which must succeed in silence, and says whether Go's runtime
// was started for it: that would name the packages that it initialises.
func startsGo(t *testing.T, b *h.Bundle, args []string, opts ...h.Option) bool {
	t.Helper()
	r := b.Command(args, append(opts, h.Environ("GODEBUG=inittrace=1"))...).Finish().OK(t)
	started := false
	for _, line := range h.Lines(r.Stderr) {
		if !strings.HasPrefix(line, "init ") {
			t.Errorf("wrote %q", line)
		}
		started = true
	}
	if r.Stdout != "" {
		t.Errorf("wrote %q", r.Stdout)
	}
	return started
}

// stopped makes a container whose init has ended and is reaped.
func stopped(t *testing.T, b *h.Bundle, flags ...string) *h.Container {
	t.Helper()
	c, r := b.TryCreate(flags)
	r.OK(t)
	c.Kill("KILL")
	c.WaitExit()
	return c
}

func TestVerbs_DeleteBeforeGoStarts(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "it is how ours deletes")
	h.Direct(t)
	b := h.New(t)
	log := b.Work + "/log"
	for _, args := range []string{
		"--root ROOT delete ID",
		"--root=ROOT delete -f ID",
		"--root ROOT --log-format json --log " + log + " delete --force ID",
		"--log=" + log + " --root ROOT delete ID --force",
	} {
		c := stopped(t, b)
		words := strings.Fields(strings.NewReplacer("ROOT", b.Root, "ID", c.ID).Replace(args))
		if startsGo(t, b, words) {
			t.Errorf("%s: Go's runtime was started (is the binary linked with -E adl_entry?)", args)
		}
		b.CheckNothingLeft()
	}
	if text := h.ReadFile(t, log); text != "" {
		t.Errorf("the log has %q", text)
	}
	gone(t, b.Do("delete", "adl-test-missing"))
}

func TestVerbs_DeleteOfALaunchedContainerBeforeGoStarts(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "it is how ours deletes")
	h.Direct(t)
	b := h.New(t, h.Sh("exit 3"))
	c := b.Launch()
	pidfd, err := unix.PidfdOpen(c.Pid, 0)
	h.Must(t, err)
	defer unix.Close(pidfd)
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, 5000); err != nil {
		t.Fatal(err)
	}
	if startsGo(t, b, []string{"--root", b.Root, "delete", c.ID}) { // a zombie has ended
		t.Error("Go's runtime was started")
	}
	if code := c.WaitExit(); code != 3 {
		t.Errorf("status %d, want 3", code)
	}
}

// TestVerbs_DeleteLeftToGo has what the short way does not know about.
func TestVerbs_DeleteLeftToGo(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "it is how ours deletes")
	h.Direct(t)
	entry := func(b *h.Bundle, c *h.Container, name string) string { return filepath.Join(b.Root, c.ID, name) }
	for name, change := range map[string]func(t *testing.T, b *h.Bundle, c *h.Container) (args []string){
		"unknown file": func(t *testing.T, b *h.Bundle, c *h.Container) []string {
			h.Must(t, os.WriteFile(entry(b, c, "later"), nil, 0o600))
			return nil
		},
		"cgroup in its cgroup": func(t *testing.T, b *h.Bundle, c *h.Container) []string {
			for _, dir := range cgroupsOf(t, b, c) {
				h.Must(t, os.MkdirAll(filepath.Join(dir, "below"), 0o755))
			}
			return nil
		},
		"locked": func(t *testing.T, b *h.Bundle, c *h.Container) []string {
			dir, err := os.Open(entry(b, c, ""))
			h.Must(t, err)
			h.Must(t, unix.Flock(int(dir.Fd()), unix.LOCK_EX))
			time.AfterFunc(200*time.Millisecond, func() { dir.Close() })
			return nil
		},
		"pid of somebody else": func(t *testing.T, b *h.Bundle, c *h.Container) []string {
			h.Must(t, os.WriteFile(entry(b, c, "init.json"), fmt.Appendf(nil, `{"pid":%d,"startTime":1}`, os.Getpid()), 0o600))
			return nil
		},
		"no init yet": func(t *testing.T, b *h.Bundle, c *h.Container) []string {
			h.Must(t, os.Truncate(entry(b, c, "init.json"), 0))
			return []string{"--root", b.Root, "delete", "--force", c.ID}
		},
		"root is relative": func(t *testing.T, b *h.Bundle, c *h.Container) []string {
			root, err := filepath.Rel(b.Dir, b.Root)
			h.Must(t, err)
			return []string{"--root", root, "delete", c.ID}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := h.New(t)
			c := stopped(t, b)
			args := change(t, b, c)
			if args == nil {
				args = []string{"--root", b.Root, "delete", c.ID}
			}
			if !startsGo(t, b, args) {
				t.Error("Go's runtime was not started")
			}
			b.CheckNothingLeft()
		})
	}
	t.Run("running", func(t *testing.T) {
		t.Parallel()
		b := h.New(t, h.Sh("sleep 1000"))
		c := b.Launch()
		if !startsGo(t, b, []string{"--root", b.Root, "delete", "--force", c.ID}) {
			t.Error("Go's runtime was not started")
		}
		if code := c.WaitExit(); code != 137 {
			t.Errorf("status %d, want 137", code)
		}
	})
	t.Run("layer", func(t *testing.T) {
		t.Parallel()
		b := h.New(t)
		c := stopped(t, b, layers(t, b)...)
		if !startsGo(t, b, []string{"--root", b.Root, "delete", c.ID}) {
			t.Error("Go's runtime was not started")
		}
	})
}

// A record that names other directories than cgroups is refused, and they stay.
func TestVerbs_DeleteOfACgroupThatIsNone(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "it is about what ours writes down")
	b := h.New(t)
	c := stopped(t, b)
	state := filepath.Join(b.Root, c.ID, "state.json")
	good := h.ReadFile(t, state)
	empty := filepath.Join(b.Work, "empty")
	h.Must(t, os.Mkdir(empty, 0o755))
	for _, dir := range cgroupsOf(t, b, c) {
		for _, other := range []string{empty, "/sys/fs/cgroup/../../.." + empty} {
			h.Must(t, os.WriteFile(state, []byte(strings.Replace(good, `"`+dir+`"`, `"`+other+`"`, 1)), 0o600))
			b.Do("delete", c.ID).Fails(t, "is not one of a container")
		}
	}
	if _, err := os.Stat(empty); err != nil {
		t.Error(err)
	}
	h.Must(t, os.WriteFile(state, []byte(good), 0o600))
	b.Do("delete", c.ID).OK(t)
}

// cgroupsOf are the directories that state.json names.
func cgroupsOf(t *testing.T, b *h.Bundle, c *h.Container) []string {
	t.Helper()
	var record struct{ Cgroup map[string]string }
	h.Must(t, json.Unmarshal([]byte(h.ReadFile(t, filepath.Join(b.Root, c.ID, "state.json"))), &record))
	if len(record.Cgroup) == 0 {
		t.Fatal("no cgroups")
	}
	return slices.Sorted(maps.Values(record.Cgroup))
}
