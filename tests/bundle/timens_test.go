package bundle_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	h "adl.run/adl-runtime/tests/harness"
)

// withTime gives the container a time namespace with these offsets in seconds.
func withTime(monotonic, boottime int64) h.Mutate {
	return func(s *specs.Spec) {
		h.Namespace(specs.TimeNamespace, "")(s)
		s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {Secs: monotonic}, "boottime": {Secs: boottime, Nanosecs: 5}}
	}
}

func uptime(t *testing.T) int64 {
	t.Helper()
	var ts unix.Timespec
	h.Must(t, unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts))
	return ts.Sec
}

// The processes of the container are inside, init as well as what it starts.
func TestLinuxTimeNamespace_Offsets(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun 1.8 fails to join a time namespace, and ignores one with the pids of another")
	h.NotFor(t, "runc", "came with runc 1.2")
	for name, more := range map[string]func(*h.Bundle){
		"alone":            func(*h.Bundle) {},
		"a user namespace": func(b *h.Bundle) { withUserns(t, b) },
		"no pid namespace": func(b *h.Bundle) { b.Set(h.WithoutNamespace(specs.PIDNamespace)) },
		"the pids of another": func(b *h.Bundle) {
			b.Set(h.Namespace(specs.PIDNamespace, h.StartHelper(t, unix.CLONE_NEWPID).Ns("pid")))
		},
	} {
		const offset = 7 * 24 * 3600
		b := h.New(t, h.Sh("read up idle </proc/uptime; echo $up; cat /proc/self/timens_offsets; readlink /proc/$$/ns/time; readlink /proc/self/ns/time_for_children"), withTime(-1, offset))
		more(b)
		before := uptime(t)
		out := h.Lines(b.Out())
		after := uptime(t)
		var up float64
		if _, err := fmt.Sscan(out[0], &up); err != nil || up < float64(before+offset-1) || up > float64(after+offset+1) {
			t.Errorf("%s: the container is up for %s s, the host for %d", name, out[0], after)
		}
		if got, want := fields(out[1]+"\n"+out[2]), fmt.Sprintf("monotonic -1 0\nboottime %d 5", offset); got != want {
			t.Errorf("%s: offsets %q, want %q", name, got, want)
		}
		host, err := os.Readlink("/proc/self/ns/time")
		h.Must(t, err)
		if out[3] != out[4] || out[3] == host {
			t.Errorf("%s: time namespaces %s of the shell, %s of its children, %s of the host", name, out[3], out[4], host)
		}
	}
}

func TestLinuxTimeNamespace_Joined(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun 1.8 fails to join a time namespace, and ignores one with the pids of another")
	h.NotFor(t, "runc", "came with runc 1.2")
	first := h.New(t, h.Sh("echo ready; exec sleep 1000"), withTime(0, 1<<20))
	c := first.Launch()
	c.WaitOutput("ready")
	b := h.New(t, h.Sh("readlink /proc/self/ns/time; grep boottime /proc/self/timens_offsets"), h.Namespace(specs.TimeNamespace, fmt.Sprintf("/proc/%d/ns/time", c.Pid)))
	if got, want := fields(b.Out()), h.NsLink(t, c.Pid, "time")+"\nboottime 1048576 5"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	c.Delete("--force")
}

func TestLinuxTimeNamespace_Refused(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "the wording is this project's")
	b := h.New(t, withTime(-1<<40, 0))
	r := b.Run().Refused(t, "linux.timeOffsets: write: numerical result out of range", "")
	if strings.Contains(r.Stdout, "x") {
		t.Error("it ran")
	}
	b = h.New(t, withTime(0, 0), h.WithoutNamespace(specs.TimeNamespace))
	b.Run().Refused(t, "linux.timeOffsets: need a time namespace", "")
}
