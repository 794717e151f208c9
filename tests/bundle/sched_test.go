package bundle_test

import (
	"os/exec"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	h "adl.run/adl-runtime/tests/harness"
)

// stat prints the priority, nice value and scheduling policy of the shell
// (proc_pid_stat(5), fields 18, 19 and 41).
const stat = `sed 's/.*) //' /proc/$$/stat | cut -d' ' -f16,17,39`

func TestProcess_Scheduler(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "runc", "came with runc 1.2")
	h.NotFor(t, "crun", "came with crun 1.9")
	for want, s := range map[string]specs.Scheduler{
		"27 7 3":  {Policy: specs.SchedBatch, Nice: 7},
		"20 0 5":  {Policy: specs.SchedIdle},
		"39 19 0": {Policy: specs.SchedOther, Nice: 19, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork}},
	} {
		b := h.New(t, h.Sh(stat))
		b.Spec.Process.Scheduler = &s
		if got := b.Out(); got != want {
			t.Errorf("%+v: %q, want %q", s, got, want)
		}
	}
	b := h.New(t)
	b.Spec.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedISO}
	b.Run().Refused(t, "process.scheduler SCHED_ISO: sched_setattr: invalid argument", "")
}

func TestProcess_IOPriority(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "came with crun 1.9")
	h.NotFor(t, "runc", "came with runc 1.2")
	for want, p := range map[string]specs.LinuxIOPriority{
		"best-effort: prio 6": {Class: specs.IOPRIO_CLASS_BE, Priority: 6},
		"idle":                {Class: specs.IOPRIO_CLASS_IDLE, Priority: 0},
	} {
		b := h.New(t, h.Sh("busybox ionice -p $$; busybox ionice"))
		b.Spec.Process.IOPriority = &p
		out := h.Lines(b.Out())
		if len(out) != 2 || !strings.HasPrefix(out[0], want) || out[1] != out[0] {
			t.Errorf("%+v: %q, want %q of the shell and of its child", p, out, want)
		}
	}
}

func TestLinux_MemoryPolicy(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "came with runc 1.4")
	for want, p := range map[string]specs.LinuxMemoryPolicy{
		"bind:0":          {Mode: specs.MpolBind, Nodes: "0"},
		"prefer=static:0": {Mode: specs.MpolPreferred, Nodes: "0", Flags: []specs.MemoryPolicyFlagType{specs.MpolFStaticNodes}},
		"local":           {Mode: specs.MpolLocal},
	} {
		b := h.New(t, h.Sh("test -e /proc/self/numa_maps && head -n 1 /proc/self/numa_maps | cut -d' ' -f2"))
		b.Spec.Linux.MemoryPolicy = &p
		r := b.Run()
		if r.Code != 0 {
			t.Skip("needs a kernel with CONFIG_NUMA: " + r.Stderr)
		}
		if got := strings.TrimSpace(r.Stdout); got != want {
			t.Errorf("%+v: %q, want %q", p, got, want)
		}
	}
	b := h.New(t)
	b.Spec.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "1000"}
	b.Run().Refused(t, "linux.memoryPolicy MPOL_BIND: set_mempolicy: ", "")
}

// veth makes a pair of network devices on the host, of which the first has addresses.
func veth(t *testing.T) (name string) {
	t.Helper()
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip("needs ip (Debian package iproute2): " + err.Error())
	}
	name = "adl" + h.Random()[:8]
	ip := func(args string) {
		t.Helper()
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	if out, err := exec.Command("ip", "link", "add", name, "type", "veth", "peer", "name", name+"p").CombinedOutput(); err != nil {
		t.Skipf("needs the veth device: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", name+"p").Run() })
	ip("addr add 192.0.2.7/24 brd + dev " + name)
	ip("addr add 169.254.3.3/16 scope link dev " + name)
	ip("-6 addr add 2001:db8::7/64 nodad dev " + name)
	ip("link set " + name + " mtu 1400 up")
	return name
}

func TestLinux_NetDevices(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "came with runc 1.4")
	for inside, rename := range map[string]string{"": "", "eth7": "eth7", "net0": "net%d"} {
		name := veth(t)
		if inside == "" {
			inside = name
		}
		b := h.New(t, h.Sh("ip -o addr show dev "+inside+"; cat /sys/class/net/"+inside+"/mtu /sys/class/net/"+inside+"/flags"))
		b.Spec.Linux.NetDevices = map[string]specs.LinuxNetDevice{name: {Name: rename}}
		out := b.Out()
		for _, want := range []string{"inet 192.0.2.7/24 brd 192.0.2.255 scope global", "inet6 2001:db8::7/64 scope global", "\n1400\n0x1003"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s as %s: no %q in %q", name, inside, want, out)
			}
		}
		if strings.Contains(out, "169.254") {
			t.Errorf("%s has kept an address of link scope: %q", name, out)
		}
	}
}

func TestLinux_NetDevicesRefused(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "came with runc 1.4")
	name := veth(t)
	for want, devices := range map[string]map[string]specs.LinuxNetDevice{
		`linux.netDevices \"adl-not-there\": no such device`:          {"adl-not-there": {}},
		`linux.netDevices \"` + name + `\": name \"lo\": file exists`: {name: {Name: "lo"}},
	} {
		b := h.New(t)
		b.Spec.Linux.NetDevices = devices
		b.Run().Refused(t, want, "")
	}
	out, err := exec.Command("ip", "-o", "link", "show", name).CombinedOutput()
	if err != nil || !strings.Contains(string(out), ",UP") {
		t.Errorf("the device that was not moved: %v: %s", err, out)
	}
}

func TestProcess_LabelsWithoutAModule(t *testing.T) {
	t.Parallel()
	b := h.New(t)
	b.Spec.Process.ApparmorProfile = "adl-test"
	if r := b.Run(); r.Code == 0 {
		t.Skip("needs a host without AppArmor")
	} else if !strings.Contains(r.Stderr, "no such file") {
		r.Refused(t, `process.apparmorProfile \"adl-test\": AppArmor is not enabled on this host`, "apparmor failed to apply profile")
	}
	b = h.New(t)
	b.Spec.Process.SelinuxLabel = "system_u:system_r:container_t:s0:c1,c2"
	if r := b.Run(); !strings.Contains(r.Stderr, "attr/exec") {
		r.Refused(t, `process.selinuxLabel \"system_u:system_r:container_t:s0:c1,c2\": SELinux is not enabled on this host`, "selinux is disabled or not supported")
	}
}
