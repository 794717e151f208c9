package bundle_test

import (
	"encoding/json"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	h "adl.run/adl-runtime/tests/harness"
)

const noEvents = "crun has no verb events"

// eventLine is a line that `events` prints.
type eventLine struct {
	Type string         `json:"type"`
	ID   string         `json:"id"`
	Data map[string]any `json:"data"`
}

func parseEvents(t *testing.T, text string) (all []eventLine) {
	t.Helper()
	for _, line := range h.Lines(text) {
		var e eventLine
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		all = append(all, e)
	}
	return all
}

// limited is a container with limits to be found in its statistics.
func limited(t *testing.T, script string) *h.Bundle {
	t.Helper()
	return h.New(t, h.Sh(script), h.Resources(func(r *specs.LinuxResources) {
		r.Memory = &specs.LinuxMemory{Limit: h.Ptr(int64(32 << 20)), Swap: h.Ptr(int64(32 << 20))}
		r.Pids = &specs.LinuxPids{Limit: h.Ptr(int64(33))}
	}))
}

func TestEvents_Stats(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", noEvents)
	b := limited(t, "echo ready; sleep 1000")
	c := b.Launch()
	c.WaitOutput("ready")
	all := parseEvents(t, b.Do("events", "--stats", c.ID).OK(t).Stdout)
	if len(all) != 1 || all[0].Type != "stats" || all[0].ID != c.ID {
		t.Fatalf("%+v", all)
	}
	data := all[0].Data
	keys := slices.Sorted(maps.Keys(data))
	if want := []string{"blkio", "cpu", "cpuset", "hugetlb", "intel_rdt", "memory", "network_interfaces", "pids"}; !slices.Equal(keys, want) {
		t.Errorf("keys %v, want %v", keys, want)
	}
	at := func(path string) any {
		var v any = data
		for _, key := range strings.Split(path, ".") {
			m, _ := v.(map[string]any)
			v = m[key]
		}
		return v
	}
	if got := at("memory.usage.limit"); got != float64(32<<20) {
		t.Errorf("memory limit %v", got)
	}
	if got := at("pids.limit"); got != float64(33) {
		t.Errorf("pids limit %v", got)
	}
	for _, path := range []string{"pids.current", "memory.usage.usage", "cpu.usage.total"} {
		if n, _ := at(path).(float64); n <= 0 {
			t.Errorf("%s is %v", path, at(path))
		}
	}
	c.Delete("--force")
}

// Statistics each interval, until the container ends.
func TestEvents_Interval(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "runc", "1.1.5 goes on until the container is deleted on cgroup v1")
	h.NotFor(t, "crun", noEvents)
	eachHierarchy(t, func(t *testing.T, opts ...h.Option) {
		b := limited(t, "sleep 1000")
		c := b.Launch(opts...)
		e := b.Command([]string{"--root", b.Root, "events", "--interval", "20ms", c.ID}, opts...)
		h.Eventually(t, "not three events", func() bool { return strings.Count(e.Stdout(), "\n") >= 3 })
		c.Kill("KILL")
		c.WaitExit()
		for _, e := range parseEvents(t, e.Finish().OK(t).Stdout) {
			if e.Type != "stats" || e.ID != c.ID || e.Data == nil {
				t.Errorf("%+v", e)
			}
		}
		b.DoWith([]string{"delete", c.ID}, opts...).OK(t)
	})
}

func TestEvents_OOM(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", noEvents)
	eachHierarchy(t, func(t *testing.T, opts ...h.Option) {
		b := limited(t, "read go </tmp/go; head -c 200m /dev/zero | tail -c 150m >/dev/null; sleep 1000")
		fifo := b.Work + "/go"
		h.Must(t, unix.Mkfifo(fifo, 0o600))
		b.Set(h.Mount("/tmp", "bind", b.Work, "bind"))
		c := b.Launch(opts...)
		e := b.Command([]string{"--root", b.Root, "events", "--interval", "1h", c.ID}, opts...)
		time.Sleep(300 * time.Millisecond) // until it watches
		h.Must(t, exec.Command("sh", "-c", "echo >"+fifo).Run())
		h.Eventually(t, "no event", func() bool { return strings.Contains(e.Stdout(), "\n") })
		c.Kill("KILL")
		c.WaitExit()
		b.DoWith([]string{"delete", "--force", c.ID}, opts...).OK(t)
		for _, line := range h.Lines(e.Finish().OK(t).Stdout) {
			if line != `{"type":"oom","id":"`+c.ID+`"}` {
				t.Errorf("%q", line)
			}
		}
	})
}

func TestEvents_BadInput(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", noEvents)
	b := h.New(t)
	c := b.Create()
	for _, interval := range []string{"0", "0s", "-1s"} {
		b.Do("events", "--interval", interval, c.ID).Refused(t, "duration interval must be greater than 0", "duration interval must be greater than 0")
	}
	for _, interval := range []string{"x", "", "5"} {
		b.Do("events", "--interval", interval, c.ID).Fails(t, "interval")
	}
	c.Start()
	c.WaitExit()
	b.Do("events", "--stats", c.ID).Refused(t, "is not running", "is not running")
	b.Do("events", c.ID).Refused(t, "is not running", "is not running")
	c.Delete()
}
