package bundle_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	h "adl.run/adl-runtime/tests/harness"
)

// limit is a file of the bundle's cgroup and what it should say, on v1 ("memory/x")
// and on v2.
type limit struct{ v1, on1, v2, on2 string }

// pureV2 says whether the host has cgroup v2 alone.
func pureV2() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

// checkLimits compares limits below the cgroup's path, which all hierarchies share.
func checkLimits(t *testing.T, what, cgroup string, limits ...limit) {
	t.Helper()
	for _, l := range limits {
		controller, file, _ := strings.Cut(l.v1, "/")
		path, want := filepath.Join("/sys/fs/cgroup", controller, cgroup, file), l.on1
		if pureV2() {
			path, want = filepath.Join("/sys/fs/cgroup", cgroup, l.v2), l.on2
		}
		if got := strings.TrimSpace(h.ReadFile(t, path)); got != want {
			t.Errorf("%s: %s is %q, want %q", what, filepath.Base(path), got, want)
		}
	}
}

// updated is a running container with limits.
func updated(t *testing.T) (*h.Bundle, *h.Container) {
	t.Helper()
	b := h.New(t, h.Sh("echo ready; sleep 1000"), h.Resources(func(r *specs.LinuxResources) {
		r.Memory = &specs.LinuxMemory{Limit: h.Ptr(int64(64 << 20)), Swap: h.Ptr(int64(96 << 20)), Reservation: h.Ptr(int64(32 << 20))}
		r.CPU = &specs.LinuxCPU{Quota: h.Ptr(int64(50000)), Period: h.Ptr(uint64(100000)), Shares: h.Ptr(uint64(512))}
		r.Pids = &specs.LinuxPids{Limit: h.Ptr(int64(50))}
	}))
	c := b.Launch()
	c.WaitOutput("ready")
	return b, c
}

const (
	mib32 = "33554432"
	mib64 = "67108864"
	mib96 = "100663296"
)

// asCreated are the limits of updated.
func asCreated() []limit {
	return []limit{
		{"memory/memory.limit_in_bytes", mib64, "memory.max", mib64},
		{"memory/memory.memsw.limit_in_bytes", mib96, "memory.swap.max", mib32},
		{"memory/memory.soft_limit_in_bytes", mib32, "memory.low", mib32},
		{"cpu/cpu.cfs_quota_us", "50000", "cpu.max", "50000 100000"},
		{"cpu/cpu.cfs_period_us", "100000", "cpu.max", "50000 100000"},
		{"cpu/cpu.shares", "512", "cpu.weight", "59"},
		{"pids/pids.max", "50", "pids.max", "50"},
	}
}

func TestUpdate_Flags(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun 1.8.1 has no --cpu-burst, and takes no units")
	h.NotFor(t, "runc", "runc 1.1.5 has no --cpu-burst and --cpu-idle")
	b, c := updated(t)
	checkLimits(t, "create", b.Cgroup, asCreated()...)
	for _, tt := range []struct {
		args  string
		check []limit
	}{
		{"--memory 80m", []limit{
			{"memory/memory.limit_in_bytes", "83886080", "memory.max", "83886080"},
			{"memory/memory.memsw.limit_in_bytes", mib96, "memory.swap.max", "16777216"},
		}},
		{"--memory-swap 128m", []limit{
			{"memory/memory.limit_in_bytes", "83886080", "memory.max", "83886080"},
			{"memory/memory.memsw.limit_in_bytes", "134217728", "memory.swap.max", "50331648"},
		}},
		{"--memory 256m --memory-swap 256m", []limit{
			{"memory/memory.limit_in_bytes", "268435456", "memory.max", "268435456"},
			{"memory/memory.memsw.limit_in_bytes", "268435456", "memory.swap.max", "0"},
		}},
		{"--memory 64m --memory-swap 96m --memory-reservation 16m", []limit{
			{"memory/memory.limit_in_bytes", mib64, "memory.max", mib64},
			{"memory/memory.memsw.limit_in_bytes", mib96, "memory.swap.max", mib32},
			{"memory/memory.soft_limit_in_bytes", "16777216", "memory.low", "16777216"},
		}},
		{"--memory-swap -1", []limit{{"memory/memory.memsw.limit_in_bytes", "9223372036854771712", "memory.swap.max", "max"}}},
		{"--memory -1", []limit{{"memory/memory.limit_in_bytes", "9223372036854771712", "memory.max", "max"}}},
		{"--cpu-quota 20000", []limit{
			{"cpu/cpu.cfs_quota_us", "20000", "cpu.max", "20000 100000"},
			{"cpu/cpu.cfs_period_us", "100000", "cpu.max", "20000 100000"},
		}},
		{"--cpu-period 50000", []limit{
			{"cpu/cpu.cfs_quota_us", "20000", "cpu.max", "20000 50000"},
			{"cpu/cpu.cfs_period_us", "50000", "cpu.max", "20000 50000"},
		}},
		{"--cpu-burst 10000", []limit{{"cpu/cpu.cfs_burst_us", "10000", "cpu.max.burst", "10000"}}},
		{"--cpu-burst 0 --cpu-quota -1", []limit{{"cpu/cpu.cfs_quota_us", "-1", "cpu.max", "max 50000"}}},
		{"--cpu-share 1024", []limit{{"cpu/cpu.shares", "1024", "cpu.weight", "100"}}},
		{"--cpu-idle 1", []limit{{"cpu/cpu.idle", "1", "cpu.idle", "1"}}},
		{"--cpu-idle 0", []limit{{"cpu/cpu.idle", "0", "cpu.idle", "0"}}},
		{"--cpuset-cpus 0 --cpuset-mems 0", []limit{
			{"cpuset/cpuset.cpus", "0", "cpuset.cpus", "0"},
			{"cpuset/cpuset.mems", "0", "cpuset.mems", "0"},
		}},
		{"--pids-limit 20", []limit{{"pids/pids.max", "20", "pids.max", "20"}}},
		{"--pids-limit -1", []limit{{"pids/pids.max", "max", "pids.max", "max"}}},
	} {
		if r := b.Do(append([]string{"update", c.ID}, strings.Fields(tt.args)...)...).OK(t); r.Stdout+r.Stderr != "" {
			t.Errorf("%s: wrote %q", tt.args, r.Stdout+r.Stderr)
		}
		checkLimits(t, tt.args, b.Cgroup, tt.check...)
	}
	c.Delete("--force")
}

func TestUpdate_Resources(t *testing.T) {
	t.Parallel()
	b, c := updated(t)
	const change = `{"memory":{"limit":83886080,"swap":134217728,"reservation":16777216},"cpu":{"quota":20000,"period":50000},"pids":{"limit":20}}`
	want := []limit{
		{"memory/memory.limit_in_bytes", "83886080", "memory.max", "83886080"},
		{"memory/memory.memsw.limit_in_bytes", "134217728", "memory.swap.max", "50331648"},
		{"memory/memory.soft_limit_in_bytes", "16777216", "memory.low", "16777216"},
		{"cpu/cpu.cfs_quota_us", "20000", "cpu.max", "20000 50000"},
		{"cpu/cpu.cfs_period_us", "50000", "cpu.max", "20000 50000"},
		{"cpu/cpu.shares", "512", "cpu.weight", "59"}, // not mentioned
		{"pids/pids.max", "20", "pids.max", "20"},
	}
	file := filepath.Join(b.Work, "change.json")
	h.WriteFile(t, file, change, 0o600)
	b.Do("update", "--resources", file, c.ID).OK(t)
	checkLimits(t, "from a file", b.Cgroup, want...)
	b.DoWith([]string{"update", "-r", "-", c.ID}, h.Stdin(`{"memory":{"limit":67108864,"swap":100663296,"reservation":33554432},"cpu":{"quota":50000,"period":100000},"pids":{"limit":50}}`)).OK(t)
	checkLimits(t, "from stdin", b.Cgroup, asCreated()...)
	c.Delete("--force")
}

// An update that the kernel refuses half-way, or that makes no sense, changes nothing.
func TestUpdate_AllOrNothing(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "runc and crun leave what was written before the error")
	b, c := updated(t)
	for args, want := range map[string]string{
		"--memory 80m --memory-swap 128m --pids-limit 20 --cpuset-cpus 4000": "--cpuset-cpus 4000: ",
		"--cpu-quota 20000 --cpu-period 50000 --cpuset-mems 900":             "--cpuset-mems 900: ",
		"--cpu-quota 500": "--cpu-quota",
		"--cpu-period 5":  "--cpu-period",
		"--cpu-period 50000 --cpu-quota 20000 --cpu-burst 9000000": "--cpu-burst 9000000: ",
		"--memory 128m":          "--memory-swap 100663296: ", // the one that it is with
		"--memory-swap 1m":       "--memory-swap 1048576: ",
		"--cpu-share nonsense":   `--cpu-share "nonsense": invalid syntax`,
		"--memory 5q":            `--memory "5q": `,
		"--cpu-quota -2":         "--cpu-quota -2: must be -1 or more",
		"--cpuset-cpus a-b":      `--cpuset-cpus "a-b": `,
		"--cpu-idle 2":           "--cpu-idle 2: must be 0 or 1",
		"--blkio-weight 5":       "--blkio-weight 5: must be from 10 to 1000",
		"--blkio-weight 70000":   `--blkio-weight "70000": value out of range`,
		"--pids-limit many":      `--pids-limit "many": invalid syntax`,
		"--l3-cache-schema L3:x": "linux.intelRdt: the container was made without it",
		"--mem-bw-schema L3:0=1": `--mem-bw-schema "L3:0=1": must begin with "MB:"`,
		"--resources /nowhere":   "--resources: open /nowhere: no such file or directory",
	} {
		r := b.Do(append([]string{"update", c.ID}, strings.Fields(args)...)...)
		r.Stderr = strings.ReplaceAll(r.Stderr, `\"`, `"`) // the log quotes its message
		if r.Fails(t, want).OneLine(t); strings.Contains(r.Stderr, "setting back") {
			t.Errorf("%s: %s", args, r.Stderr)
		}
		checkLimits(t, args, b.Cgroup, asCreated()...)
	}
	for text, want := range map[string]string{
		`{"pids":{"limit":20},"memory":{"limit":"5"}}`: "--resources: -:1:40: memory.limit: expected a number",
		`{"pids":{"limit":20},"cpu":{"cpus":"4000"}}`:  "linux.resources.cpu.cpus: 4000: ",
		`{"pids":`: "--resources: -:1:9: unexpected end",
		``:         "--resources: -:1:1: unexpected end",
		`{"hugepageLimits":[{"pageSize":"../2MB","limit":1}]}`: "linux.resources.hugepageLimits[0].pageSize",
		`{"unified":{"../x":"1"}}`:                             "linux.resources.unified",
	} {
		b.DoWith([]string{"update", "--resources", "-", c.ID}, h.Stdin(text)).Fails(t, want).OneLine(t)
		checkLimits(t, text, b.Cgroup, asCreated()...)
	}
	c.Delete("--force")
}

func TestUpdate_ByStatus(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun takes limits for a stopped container")
	b := h.New(t)
	c := b.Create()
	b.Do("update", "--pids-limit", "30", c.ID).OK(t)
	checkLimits(t, "created", b.Cgroup, limit{"pids/pids.max", "30", "pids.max", "30"})
	c.Start()
	c.WaitExit()
	b.Do("update", "--pids-limit", "31", c.ID).Refused(t, "container not running", "container not running")
	c.Delete()
	gone(t, b.Do("update", "--pids-limit", "31", c.ID))
	b.Do("update").Fails(t, "")
	if h.Reference() == "" {
		b.Do("update", "--nope", "5", c.ID).Fails(t, "nope")
	}
}

// Devices cannot be changed by an update, as in runc.
func TestUpdate_LeavesDevices(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun changes them")
	b, c := updated(t)
	b.CgroupV1("devices")
	before := cgroupFile(t, b, "devices", "devices.list")
	b.DoWith([]string{"update", "-r", "-", c.ID}, h.Stdin(`{"devices":[{"allow":true,"access":"rwm"}],"pids":{"limit":20}}`)).OK(t)
	if after := cgroupFile(t, b, "devices", "devices.list"); after != before {
		t.Errorf("devices.list became %q", after)
	}
	c.Delete("--force")
}

// A paused container takes new limits and stays paused.
func TestUpdate_OfAPausedContainer(t *testing.T) {
	t.Parallel()
	b, c := updated(t)
	b.Do("pause", c.ID).OK(t)
	b.Do("update", "--pids-limit", "20", c.ID).OK(t)
	checkLimits(t, "paused", b.Cgroup, limit{"pids/pids.max", "20", "pids.max", "20"})
	if s := stateOf(t, b, c.ID); s.Status != "paused" {
		t.Errorf("%+v", s)
	}
	b.Do("resume", c.ID).OK(t)
	c.Delete("--force")
}
