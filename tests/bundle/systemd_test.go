package bundle_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	h "adl.run/adl-runtime/tests/harness"
)

// The tests of the systemd driver need a host that runs systemd; on a pure v2 one they
// also look at its limits.
func needSystemd(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		t.Skip("needs a host that runs systemd")
	}
	if _, err := exec.LookPath("systemctl"); err != nil {
		t.Skip("needs systemctl")
	}
	h.NotFor(t, "crun", "other defaults")
}

// unitBundle is a bundle whose cgroup is unit NAME.scope of system.slice.
func unitBundle(t *testing.T, mutators ...h.Mutate) (b *h.Bundle, unit string) {
	t.Helper()
	needSystemd(t)
	b = h.New(t, mutators...)
	name := b.Cgroup[len("/adl-test-"):]
	b.Spec.Linux.CgroupsPath = "system.slice:adl-test:" + name
	return b, "adl-test-" + name + ".scope"
}

// property is what systemctl shows of a unit.
func property(t *testing.T, unit, name string) string {
	t.Helper()
	out, err := exec.Command("systemctl", "show", "--property", name, "--value", "--", unit).Output()
	h.Must(t, err)
	return strings.TrimSpace(string(out))
}

// checkUnit compares properties given as "Name=value".
func checkUnit(t *testing.T, unit string, want ...string) {
	t.Helper()
	for _, w := range want {
		name, value, _ := strings.Cut(w, "=")
		if got := property(t, unit, name); got != value {
			t.Errorf("%s of %s is %q, want %q", name, unit, got, value)
		}
	}
}

// noUnit fails the test if systemd still knows the unit.
func noUnit(t *testing.T, unit string) {
	t.Helper()
	if got := property(t, unit, "LoadState"); got != "not-found" {
		t.Errorf("%s is %s, %s", unit, got, property(t, unit, "ActiveState"))
	}
}

// launchUnit creates and starts with --systemd-cgroup.
func launchUnit(t *testing.T, b *h.Bundle) *h.Container {
	t.Helper()
	b.WriteSpec()
	id := b.NewID()
	pidFile := filepath.Join(b.Work, id+".pid")
	b.Do("--systemd-cgroup", "create", "--bundle", b.Dir, "--pid-file", pidFile, id).OK(t)
	c := b.Adopt(id, pidFile)
	b.Do("start", id).OK(t)
	return c
}

const sleepLong = "trap 'exit 15' TERM; echo ready; while :; do sleep 0.2; done"

func TestSystemd_Lifecycle(t *testing.T) {
	t.Parallel()
	b, unit := unitBundle(t, h.Sh(sleepLong))
	b.Spec.Annotations = map[string]string{
		"org.systemd.property.TimeoutStopSec": "uint64 7",
		"org.systemd.property.CollectMode":    "'inactive-or-failed'",
	}
	c := launchUnit(t, b)
	checkUnit(
		t, unit, "ActiveState=active", "SubState=running", "Slice=system.slice", "Delegate=yes", "Transient=yes", "DefaultDependencies=no",
		"ControlGroup=/system.slice/"+unit, "TimeoutStopUSec=7s", "CollectMode=inactive-or-failed", "TasksAccounting=yes",
	)
	cgroup := h.ReadFile(t, "/proc/"+strconv.Itoa(c.Pid)+"/cgroup")
	for _, line := range h.Lines(cgroup) {
		if !strings.HasSuffix(line, ":/system.slice/"+unit) {
			t.Errorf("init is in %q", line)
		}
	}
	// What is executed in the container is in the unit, too.
	for _, line := range h.Lines(b.Do("exec", c.ID, "cat", "/proc/self/cgroup").OK(t).Stdout) {
		if !strings.HasSuffix(line, ":/system.slice/"+unit) {
			t.Errorf("an exec is in %q", line)
		}
	}
	b.Do("pause", c.ID).OK(t)
	if s := stateOf(t, b, c.ID); s.Status != "paused" {
		t.Errorf("%+v", s)
	}
	checkUnit(t, unit, "ActiveState=active")
	b.Do("resume", c.ID).OK(t)
	if out := b.Do("ps", "--format", "json", c.ID).OK(t).Stdout; !strings.Contains(out, strconv.Itoa(c.Pid)) {
		t.Errorf("ps printed %q", out)
	}
	b.Do("events", "--stats", c.ID).OK(t)
	c.Kill("KILL")
	c.WaitExit()
	c.Delete()
	noUnit(t, unit)
}

func TestSystemd_Run(t *testing.T) {
	t.Parallel()
	for _, cgroupns := range []bool{false, true} {
		b, unit := unitBundle(t, h.Args("cat", "/proc/self/cgroup"))
		want := ":/system.slice/" + unit
		if cgroupns {
			b.Set(h.Namespace("cgroup", ""))
			want = ":/"
		}
		b.WriteSpec()
		r := b.Do("--systemd-cgroup", "run", "--bundle", b.Dir, b.NewID()).OK(t)
		for _, line := range h.Lines(r.Stdout) {
			if !strings.HasSuffix(line, want) {
				t.Errorf("%q, want %s", line, want)
			}
		}
		noUnit(t, unit)
	}
}

// A pid namespace that is joined: the process goes on as a child of the one that was
// started.
func TestSystemd_JoinedPidNamespace(t *testing.T) {
	t.Parallel()
	b, unit := unitBundle(t, h.Args("cat", "/proc/self/cgroup"))
	b.Set(h.Namespace("pid", "/proc/self/ns/pid"))
	b.WriteSpec()
	r := b.Do("--systemd-cgroup", "run", "--bundle", b.Dir, b.NewID()).OK(t)
	if !strings.Contains(r.Stdout, ":/system.slice/"+unit+"\n") {
		t.Errorf("%q", r.Stdout)
	}
	noUnit(t, unit)
}

func TestSystemd_Default(t *testing.T) {
	t.Parallel()
	needSystemd(t)
	h.OursOnly(t, "the unit's name begins with the runtime's")
	b := h.New(t, h.Args("cat", "/proc/self/cgroup"))
	b.Spec.Linux.CgroupsPath = ""
	b.WriteSpec()
	id := b.NewID()
	r := b.Do("--systemd-cgroup", "run", "--bundle", b.Dir, id).OK(t)
	if !strings.Contains(r.Stdout, ":/system.slice/adl-runtime-"+id+".scope\n") {
		t.Errorf("%q", r.Stdout)
	}
}

func TestSystemd_NestedSlice(t *testing.T) {
	t.Parallel()
	b, unit := unitBundle(t, h.Args("cat", "/proc/self/cgroup"))
	name := b.Cgroup[len("/adl-test-"):]
	b.Spec.Linux.CgroupsPath = "adltest-" + name + ".slice:adl-test:" + name
	b.WriteSpec()
	r := b.Do("--systemd-cgroup", "run", "--bundle", b.Dir, b.NewID()).OK(t)
	if want := ":/adltest.slice/adltest-" + name + ".slice/" + unit + "\n"; !strings.Contains(r.Stdout, want) {
		t.Errorf("%q, want %s", r.Stdout, want)
	}
	noUnit(t, unit)
	exec.Command("systemctl", "stop", "adltest.slice").Run()
}

func systemdLimits() h.Mutate {
	return h.Resources(func(r *specs.LinuxResources) {
		r.Memory = &specs.LinuxMemory{Limit: h.Ptr(int64(64 << 20)), Swap: h.Ptr(int64(96 << 20)), Reservation: h.Ptr(int64(32 << 20))}
		r.CPU = &specs.LinuxCPU{Quota: h.Ptr(int64(50000)), Period: h.Ptr(uint64(100000)), Shares: h.Ptr(uint64(512)), Cpus: "0", Mems: "0"}
		r.Pids = &specs.LinuxPids{Limit: h.Ptr(int64(50))}
	})
}

func TestSystemd_Limits(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "runc", "runc 1.1.5 has another cpu.weight, and leaves what was written before an error")
	b, unit := unitBundle(t, h.Sh(sleepLong), systemdLimits())
	if !pureV2() {
		t.Skip("needs a host with cgroup v2 only")
	}
	c := launchUnit(t, b)
	cgroup := "/system.slice/" + unit
	check := func(what string) {
		t.Helper()
		checkLimits(t, what, cgroup, asCreated()...)
		checkUnit(t, unit, "MemoryMax=67108864", "MemoryLow=33554432", "MemorySwapMax=33554432", "TasksMax=50", "CPUWeight=59", "CPUQuotaPerSecUSec=500ms", "AllowedCPUs=0")
	}
	check("create")
	h.Must(t, exec.Command("systemctl", "daemon-reload").Run())
	check("daemon-reload")

	b.Do("update", "--memory", "80m", "--pids-limit", "20", "--cpu-quota", "20000", c.ID).OK(t)
	changed := []limit{
		{"", "", "memory.max", "83886080"},
		{"", "", "memory.swap.max", "16777216"},
		{"", "", "pids.max", "20"},
		{"", "", "cpu.max", "20000 100000"},
	}
	inUnit := []string{"MemoryMax=83886080", "MemorySwapMax=16777216", "TasksMax=20", "CPUQuotaPerSecUSec=200ms", "CPUWeight=59"}
	checkLimits(t, "update", cgroup, changed...)
	checkUnit(t, unit, inUnit...)
	b.Do("update", "--memory", "90m", "--pids-limit", "30", "--cpuset-cpus", "4000", c.ID).Refused(t, "--cpuset-cpus 4000", "")
	checkLimits(t, "failed update", cgroup, changed...)
	checkUnit(t, unit, inUnit...)
	h.Must(t, exec.Command("systemctl", "daemon-reload").Run())
	checkLimits(t, "daemon-reload after update", cgroup, changed...)

	b.Do("update", "--memory", "-1", "--pids-limit", "-1", "--cpu-quota", "-1", c.ID).OK(t)
	checkLimits(t, "lifted", cgroup, limit{"", "", "memory.max", "max"}, limit{"", "", "memory.swap.max", "max"}, limit{"", "", "pids.max", "max"}, limit{"", "", "cpu.max", "max 100000"})
	checkUnit(t, unit, "MemoryMax=infinity", "TasksMax=infinity", "CPUQuotaPerSecUSec=infinity")
	c.Delete("--force")
	noUnit(t, unit)
}

// The device rules hold, also when systemd has gone over its units.
func TestSystemd_Devices(t *testing.T) {
	t.Parallel()
	b, unit := unitBundle(t, h.Sh("while :; do read go; mknod /tmp/fuse c 10 229; (: </tmp/fuse) 2>&1; echo; head -c 1 /dev/zero >/dev/null && echo null; done"),
		h.Writable(), h.AllCaps("CAP_MKNOD"), h.Mount("/tmp", "tmpfs", "tmpfs", "dev"))
	b.Spec.Process.Args[2] = strings.Replace(b.Spec.Process.Args[2], "read go", "sleep 0.2; rm -f /tmp/fuse", 1)
	b.WriteSpec()
	id := b.NewID()
	pidFile := filepath.Join(b.Work, id+".pid")
	cmd := b.Command([]string{"--root", b.Root, "--systemd-cgroup", "create", "--bundle", b.Dir, "--pid-file", pidFile, id})
	cmd.Finish().OK(t)
	c := b.Adopt(id, pidFile)
	b.Do("start", id).OK(t)
	for range 2 {
		n := strings.Count(cmd.Stdout(), "null")
		h.Eventually(t, "no device was tried", func() bool { return strings.Count(cmd.Stdout(), "null") > n+2 })
		h.Must(t, exec.Command("systemctl", "daemon-reload").Run())
	}
	for _, line := range h.Lines(cmd.Stdout()) {
		if line != "" && line != "null" && !strings.HasSuffix(line, "Operation not permitted") {
			t.Errorf("%q", line)
		}
	}
	b.Do("delete", "--force", id).OK(t)
	c.WaitExit()
	noUnit(t, unit)
}

// What fails, early or late, leaves no unit.
func TestSystemd_FailedCreation(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "runc", "other texts")
	for what, m := range map[string]h.Mutate{
		"process.args": h.Args("/nope"),
		"linux.resources.cpu.cpus": h.Resources(func(r *specs.LinuxResources) {
			r.CPU = &specs.LinuxCPU{Cpus: "4000"}
		}),
		"Cannot set property": func(s *specs.Spec) {
			s.Annotations = map[string]string{"org.systemd.property.NoSuchThing": "5"}
		},
		`annotations["org.systemd.property.TimeoutStopUSec"]`: func(s *specs.Spec) {
			s.Annotations = map[string]string{"org.systemd.property.TimeoutStopUSec": "nonsense"}
		},
		`linux.cgroupsPath "/a/b": expected`: func(s *specs.Spec) { s.Linux.CgroupsPath = "/a/b" },
	} {
		b, unit := unitBundle(t)
		b.Set(m)
		b.WriteSpec()
		r := b.Do("--systemd-cgroup", "run", "--bundle", b.Dir, b.NewID())
		r.Stderr = strings.ReplaceAll(r.Stderr, `\"`, `"`)
		r.Fails(t, what).OneLine(t)
		noUnit(t, unit)
		b.CheckNothingLeft()
	}
}

// A unit of the same name that has failed gives way; one that runs does not, and is left
// alone.
func TestSystemd_NameIsTaken(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "runc", "runc 1.1.5 joins the unit of somebody else")
	b, unit := unitBundle(t)
	b.WriteSpec()
	other := exec.Command("systemd-run", "--scope", "--unit", unit, "-p", "RuntimeMaxSec=3", "sleep", "1000")
	h.Must(t, other.Start())
	t.Cleanup(func() { other.Process.Kill(); other.Wait() })
	h.Eventually(t, "no unit", func() bool { return property(t, unit, "ActiveState") == "active" })
	b.Do("--systemd-cgroup", "run", "--bundle", b.Dir, b.NewID()).Refused(t, "linux.cgroupsPath: start unit "+unit+": ", unit)
	checkUnit(t, unit, "ActiveState=active")
	for end := time.Now().Add(30 * time.Second); property(t, unit, "ActiveState") != "failed"; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the unit is %s", property(t, unit, "ActiveState"))
		}
	}
	b.Do("--systemd-cgroup", "run", "--bundle", b.Dir, b.NewID()).OK(t)
	noUnit(t, unit)
}

// The end of the last process ends the unit; deleting the container then is no error.
func TestSystemd_DeleteAfterTheUnit(t *testing.T) {
	t.Parallel()
	b, unit := unitBundle(t, h.Sh(sleepLong))
	c := launchUnit(t, b)
	h.Must(t, exec.Command("systemctl", "stop", unit).Run())
	c.WaitExit()
	if s := stateOf(t, b, c.ID); s.Status != "stopped" {
		t.Errorf("%+v", s)
	}
	c.Delete()
	noUnit(t, unit)
}

func TestSystemd_DeleteOfAPausedContainer(t *testing.T) {
	t.Parallel()
	b, unit := unitBundle(t, h.Sh(sleepLong))
	c := launchUnit(t, b)
	b.Do("pause", c.ID).OK(t)
	b.Do("delete", "--force", c.ID).OK(t)
	c.WaitExit()
	noUnit(t, unit)
}

func TestSystemd_WithoutSystemd(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		t.Skip("needs a host that does not run systemd")
	}
	h.OursOnly(t, "other texts")
	b := h.New(t)
	b.Spec.Linux.CgroupsPath = "system.slice:adl-test:x"
	b.WriteSpec()
	b.Do("--systemd-cgroup", "run", "--bundle", b.Dir, b.NewID()).Fails(t, "this host does not run systemd").OneLine(t)
	b.CheckNothingLeft()
}
