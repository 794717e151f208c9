package bundle_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	h "adl.run/adl-runtime/tests/harness"
)

// cgroupFile reads a file of the bundle's cgroup in a v1 hierarchy.
func cgroupFile(t *testing.T, b *h.Bundle, controller, file string) string {
	t.Helper()
	return strings.TrimSpace(h.ReadFile(t, filepath.Join(b.CgroupV1(controller), file)))
}

// checkFiles compares files given as "controller/file" with their expected content.
func checkFiles(t *testing.T, b *h.Bundle, want map[string]string) {
	t.Helper()
	for name, value := range want {
		controller, file, _ := strings.Cut(name, "/")
		if got := cgroupFile(t, b, controller, file); got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
}

func TestLinuxCgroupsPath(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("cat", "/proc/self/cgroup"))
	b.CgroupV1("memory")
	for _, line := range h.Lines(b.Out()) {
		f := strings.SplitN(line, ":", 3)
		if f[0] != "0" && f[2] != b.Cgroup {
			t.Errorf("%q, want the path %s", line, b.Cgroup)
		}
	}
}

// A relative path is relative to a place of the runtime's choice; it must be the
// same for the same value, and ends in that value.
func TestLinuxCgroupsPath_Relative(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("cat", "/proc/self/cgroup"))
	b.CgroupV1("memory")
	b.Spec.Linux.CgroupsPath = b.Cgroup[1:]
	first, second := b.Out(), b.Out()
	if first != second {
		t.Errorf("two runs in different cgroups:\n%s\n%s", first, second)
	}
	for _, line := range h.Lines(first) {
		if strings.Contains(line, ":pids:") && !strings.HasSuffix(line, b.Cgroup) {
			t.Errorf("%q does not end in %s", line, b.Cgroup)
		}
	}
}

// Without cgroupsPath the container has a cgroup of its own, named after its id.
func TestLinuxCgroupsPath_Default(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("grep", ":pids:", "/proc/self/cgroup"))
	b.CgroupV1("pids")
	b.Spec.Linux.CgroupsPath = ""
	run := b.StartRun()
	if r := run.Finish().OK(t); !strings.HasSuffix(r.Stdout, "/"+lastArg(run)+"\n") {
		t.Errorf("%q does not end in the id %s", r.Stdout, lastArg(run))
	}
}

func TestLinuxCgroupsPath_DotsStayInside(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("grep", ":pids:", "/proc/self/cgroup"))
	b.CgroupV1("pids")
	b.Spec.Linux.CgroupsPath = "/../../.." + b.Cgroup
	r := b.Run()
	if r.Code == 0 && !strings.HasSuffix(r.Stdout, ":pids:"+b.Cgroup+"\n") {
		t.Errorf("%q", r.Stdout)
	}
}

func TestLinuxResources_Memory(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Resources(func(r *specs.LinuxResources) {
		r.Memory = &specs.LinuxMemory{
			Limit: h.Ptr(int64(64 << 20)), Reservation: h.Ptr(int64(32 << 20)), Swap: h.Ptr(int64(96 << 20)),
			Swappiness: h.Ptr(uint64(60)), DisableOOMKiller: h.Ptr(false),
		}
	}))
	b.CgroupV1("memory")
	c := b.Create()
	checkFiles(t, b, map[string]string{
		"memory/memory.limit_in_bytes": "67108864", "memory/memory.soft_limit_in_bytes": "33554432", "memory/memory.memsw.limit_in_bytes": "100663296",
	})
	c.Delete("--force")
}

func TestLinuxResources_MemoryIsEnforced(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("sh -c 'head -c 200m /dev/zero | tail -c 150m >/dev/null'; exit $?"), h.Resources(func(r *specs.LinuxResources) {
		r.Memory = &specs.LinuxMemory{Limit: h.Ptr(int64(16 << 20)), Swap: h.Ptr(int64(16 << 20))}
	}))
	b.CgroupV1("memory")
	if r := b.Run(); r.Code != 137 {
		t.Errorf("status %d, want 137: %s", r.Code, r.Stderr)
	}
}

func TestLinuxResources_CPU(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Resources(func(r *specs.LinuxResources) {
		r.CPU = &specs.LinuxCPU{Shares: h.Ptr(uint64(512)), Quota: h.Ptr(int64(50000)), Period: h.Ptr(uint64(100000)), Cpus: "0", Mems: "0"}
	}))
	b.CgroupV1("cpu")
	c := b.Create()
	checkFiles(t, b, map[string]string{
		"cpu/cpu.shares": "512", "cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000", "cpuset/cpuset.cpus": "0", "cpuset/cpuset.mems": "0",
	})
	c.Delete("--force")
}

func TestLinuxResources_CPUSetIsSeenByTheProcess(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("grep", "Cpus_allowed_list", "/proc/self/status"), h.Resources(func(r *specs.LinuxResources) { r.CPU = &specs.LinuxCPU{Cpus: "0"} }))
	b.CgroupV1("cpuset")
	if got := strings.Fields(b.Out()); got[len(got)-1] != "0" {
		t.Errorf("%q", got)
	}
}

func TestLinuxResources_Pids(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; exit 0"), setPids(5))
	b.CgroupV1("pids")
	c := b.Create()
	checkFiles(t, b, map[string]string{"pids/pids.max": "5"})
	c.Start()
	c.WaitExit()
	if !strings.Contains(c.Stderr(), "fork") {
		t.Errorf("no fork was refused: %q", c.Stderr())
	}
}

func TestLinuxResources_PidsUnlimited(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun 1.8.1 writes -1 to pids.max on cgroup v1 and fails")
	b := h.New(t, setPids(-1))
	b.CgroupV1("pids")
	c := b.Create()
	checkFiles(t, b, map[string]string{"pids/pids.max": "max"})
	c.Delete("--force")
}

func TestLinuxResources_BlockIO(t *testing.T) {
	t.Parallel()
	const major, minor = 254, 0
	if _, err := os.Stat("/sys/dev/block/254:0"); err != nil {
		t.Skip("no block device 254:0 to throttle")
	}
	device := func(rate uint64) []specs.LinuxThrottleDevice {
		d := specs.LinuxThrottleDevice{Rate: rate}
		d.Major, d.Minor = major, minor
		return []specs.LinuxThrottleDevice{d}
	}
	b := h.New(t, h.Resources(func(r *specs.LinuxResources) {
		r.BlockIO = &specs.LinuxBlockIO{
			ThrottleReadBpsDevice: device(1 << 20), ThrottleWriteBpsDevice: device(2 << 20),
			ThrottleReadIOPSDevice: device(100), ThrottleWriteIOPSDevice: device(200),
		}
	}))
	b.CgroupV1("blkio")
	c := b.Create()
	checkFiles(t, b, map[string]string{
		"blkio/blkio.throttle.read_bps_device": "254:0 1048576", "blkio/blkio.throttle.write_bps_device": "254:0 2097152",
		"blkio/blkio.throttle.read_iops_device": "254:0 100", "blkio/blkio.throttle.write_iops_device": "254:0 200",
	})
	c.Delete("--force")
}

// hasController says whether a v1 controller is mounted here.
func hasController(name string) bool {
	_, err := os.Stat("/sys/fs/cgroup/" + name)
	return err == nil
}

// A limit that cannot be set is an error, not a warning.
func TestLinuxResources_MissingControllerIsRefused(t *testing.T) {
	t.Parallel()
	h.New(t).CgroupV1("memory")
	h.NotFor(t, "crun", "crun ignores a limit whose controller is missing")
	if !hasController("hugetlb") {
		b := h.New(t, h.Resources(func(r *specs.LinuxResources) {
			r.HugepageLimits = []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 2 << 20}}
		}))
		b.Run().Refused(t, "hugepageLimits", "hugetlb")
	}
	if !hasController("net_cls") {
		b := h.New(t, h.Resources(func(r *specs.LinuxResources) {
			r.Network = &specs.LinuxNetwork{ClassID: h.Ptr(uint32(0x10001))}
		}))
		b.Run().Refused(t, "linux.resources.network", "net_cls")
	}
}

func TestLinuxResources_UnifiedOnV1IsRefused(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun ignores linux.resources.unified on cgroup v1")
	b := h.New(t, h.Resources(func(r *specs.LinuxResources) { r.Unified = map[string]string{"memory.max": "67108864"} }))
	b.CgroupV1("memory")
	b.Run().Refused(t, "linux.resources.unified", "unified")
}

// openDevice makes a node for fuse (10:229) and tries to open it.
const openDevice = "mknod /tmp/fuse c 10 229 || exit 3; (: </tmp/fuse) 2>&1 && echo opened; (: >/tmp/fuse) 2>&1 && echo opened for writing; exit 0"

func TestLinuxResources_DevicesAreRefused(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh(openDevice), h.Writable(), h.AllCaps("CAP_MKNOD"))
	b.CgroupV1("devices")
	got := b.Out()
	if strings.Contains(got, "opened") || strings.Count(got, "Operation not permitted") != 2 {
		t.Errorf("%q", got)
	}
}

func TestLinuxResources_DevicesAreAllowed(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh(openDevice), h.Writable(), h.AllCaps("CAP_MKNOD"), h.Resources(func(r *specs.LinuxResources) {
		r.Devices = append(r.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: h.Ptr(int64(10)), Minor: h.Ptr(int64(229)), Access: "r"})
	}))
	b.CgroupV1("devices")
	got := b.Out()
	if !strings.HasPrefix(got, "opened\n") || strings.Contains(got, "for writing") {
		t.Errorf("%q: want reading allowed and writing refused", got)
	}
}

func TestLinuxResources_DevicesList(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Resources(func(r *specs.LinuxResources) {
		r.Devices = append(r.Devices, specs.LinuxDeviceCgroup{Allow: true, Type: "b", Major: h.Ptr(int64(7)), Access: "rwm"})
	}))
	b.CgroupV1("devices")
	c := b.Create()
	list := cgroupFile(t, b, "devices", "devices.list")
	for _, rule := range []string{"b 7:* rwm", "c 1:3 rwm", "c 136:* rwm"} {
		if !strings.Contains(list, rule) {
			t.Errorf("no %q in %q", rule, list)
		}
	}
	if strings.Contains(list, "a *:*") {
		t.Errorf("everything is allowed: %q", list)
	}
	c.Delete("--force")
}

// podman's --privileged and Kubernetes' privileged pods.
func TestLinuxResources_AllDevices(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh(openDevice), h.Writable(), h.AllCaps("CAP_MKNOD"), h.Resources(func(r *specs.LinuxResources) {
		r.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	}))
	b.CgroupV1("devices")
	if got := b.Out(); got != "opened\nopened for writing" {
		t.Errorf("%q", got)
	}
}

func TestLinuxResources_NoneAtAll(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("echo", "hi"))
	b.Spec.Linux.Resources = nil
	if got := b.Out(); got != "hi" {
		t.Errorf("%q", got)
	}
}

// Every process of the container is in the cgroup, init from its first instruction.
func TestLinuxResources_InitIsInTheCgroup(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("sleep", "1000"))
	dir := b.CgroupV1("pids")
	c := b.Create()
	if got := h.Lines(h.ReadFile(t, dir+"/cgroup.procs")); len(got) != 1 || got[0] != strconv.Itoa(c.Pid) {
		t.Errorf("cgroup.procs is %q, want init %d", got, c.Pid)
	}
	c.Delete("--force")
}

// A container would wait for ever in a cgroup that somebody has frozen.
func TestCgroups_FrozenIsRefused(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun 1.8 waits for ever")
	b := h.New(t, h.Sh("true"))
	dir := b.CgroupV1("freezer")
	h.Must(t, os.MkdirAll(dir, 0o755))
	h.WriteFile(t, filepath.Join(dir, "freezer.state"), "FROZEN", 0o644)
	b.Run().Fails(t, "frozen")
	h.WriteFile(t, filepath.Join(dir, "freezer.state"), "THAWED", 0o644)
	h.Must(t, os.Remove(dir))
}
