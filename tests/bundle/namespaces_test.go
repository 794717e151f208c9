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

// printNs prints the six namespace links of the container's shell.
const printNs = "for n in pid net ipc uts mnt cgroup; do readlink /proc/self/ns/$n; done"

// nsLinks maps a namespace's name to its link, from the output of printNs.
func nsLinks(out string) map[string]string {
	links := map[string]string{}
	for _, line := range h.Lines(out) {
		name, _, _ := strings.Cut(line, ":")
		links[name] = line
	}
	return links
}

func TestLinuxNamespaces_New(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh(printNs), h.Namespace(specs.CgroupNamespace, ""))
	got := nsLinks(b.Out())
	for _, name := range []string{"pid", "net", "ipc", "uts", "mnt", "cgroup"} {
		if got[name] == "" || got[name] == h.NsLink(t, os.Getpid(), name) {
			t.Errorf("%s namespace is %q, the host's", name, got[name])
		}
	}
}

func TestLinuxNamespaces_SharedWithTheHost(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh(printNs))
	b.Spec.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	b.Spec.Hostname = ""
	// sysfs can be mounted only by the owner of the network namespace, which root is.
	got := nsLinks(b.Out())
	for _, name := range []string{"pid", "net", "ipc", "uts", "cgroup"} {
		if got[name] != h.NsLink(t, os.Getpid(), name) {
			t.Errorf("%s namespace is %q, not the host's", name, got[name])
		}
	}
	if got["mnt"] == h.NsLink(t, os.Getpid(), "mnt") {
		t.Error("the mount namespace is the host's")
	}
}

func TestLinuxNamespaces_Joined(t *testing.T) {
	t.Parallel()
	helper := h.StartHelper(t, unix.CLONE_NEWNET|unix.CLONE_NEWIPC|unix.CLONE_NEWUTS|unix.CLONE_NEWPID|unix.CLONE_NEWCGROUP)
	cases := map[string]specs.LinuxNamespaceType{
		"net": specs.NetworkNamespace, "ipc": specs.IPCNamespace, "uts": specs.UTSNamespace, "cgroup": specs.CgroupNamespace,
	}
	for name, typ := range cases {
		b := h.New(t, h.Sh(printNs), h.Namespace(typ, helper.Ns(name)))
		b.Spec.Hostname = ""
		if got := nsLinks(b.Out())[name]; got != h.NsLink(t, helper.Pid, name) {
			t.Errorf("%s namespace is %s, want the helper's", name, got)
		}
	}
}

func TestLinuxNamespaces_JoinedPid(t *testing.T) {
	t.Parallel()
	helper := h.StartHelper(t, unix.CLONE_NEWPID)
	b := h.New(t, h.Sh(printNs+"; cat /proc/1/comm; test $$ -gt 1 && echo not 1"), h.Namespace(specs.PIDNamespace, helper.Ns("pid")))
	out := b.Out()
	if got := nsLinks(out)["pid"]; got != h.NsLink(t, helper.Pid, "pid") {
		t.Errorf("pid namespace is %s, want the helper's", got)
	}
	if !strings.HasSuffix(out, "busybox\nnot 1") && !strings.HasSuffix(out, "sleep\nnot 1") {
		t.Errorf("pid 1 is not the helper: %q", out)
	}
}

// As a pod's second container: everything but the mount namespace is joined.
func TestLinuxNamespaces_JoinedAll(t *testing.T) {
	t.Parallel()
	first := h.New(t, h.Sh("echo ready; exec sleep 1000"))
	pause := first.Launch()
	pause.WaitOutput("ready")
	b := h.New(t, h.Sh(printNs+"; hostname"))
	b.Spec.Hostname = ""
	for name, typ := range map[string]specs.LinuxNamespaceType{"net": "network", "ipc": "ipc", "uts": "uts", "pid": "pid"} {
		b.Set(h.Namespace(typ, fmt.Sprintf("/proc/%d/ns/%s", pause.Pid, name)))
	}
	out := b.Out()
	for name, link := range nsLinks(strings.TrimSuffix(out, "\nadl")) {
		same := link == h.NsLink(t, pause.Pid, name)
		if want := name != "mnt" && name != "cgroup"; want && !same {
			t.Errorf("%s is %s, not the first container's", name, link)
		}
	}
	if !strings.HasSuffix(out, "\nadl") {
		t.Errorf("the hostname is not the first container's: %q", out)
	}
	pause.Delete("--force")
}

// A namespace may also be given by a bind mount of its file, as CNI does.
func TestLinuxNamespaces_JoinedByABoundFile(t *testing.T) {
	t.Parallel()
	helper := h.StartHelper(t, unix.CLONE_NEWNET)
	b := h.New(t, h.Sh(printNs))
	file := b.Work + "/netns"
	h.WriteFile(t, file, "", 0o644)
	h.Must(t, unix.Mount(helper.Ns("net"), file, "", unix.MS_BIND, ""))
	t.Cleanup(func() { unix.Unmount(file, unix.MNT_DETACH) })
	b.Set(h.Namespace(specs.NetworkNamespace, file))
	if got := nsLinks(b.Out())["net"]; got != h.NsLink(t, helper.Pid, "net") {
		t.Errorf("net namespace is %s, want the helper's", got)
	}
}

func TestLinuxNamespaces_LoopbackIsUp(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("ip -o addr show lo; ip link | grep -c '^[0-9]'"))
	got := h.Lines(b.Out())
	if len(got) == 0 || !strings.Contains(got[0], "127.0.0.1/8") {
		t.Errorf("%q: want lo with 127.0.0.1/8", got)
	}
}

func TestLinuxNamespaces_Twice(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun takes the last one")
	b := h.New(t)
	b.Spec.Linux.Namespaces = append(b.Spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.PIDNamespace})
	b.Run().Refused(t, "linux.namespaces", "duplicated ns")
}

func TestLinuxNamespaces_UnknownTypeIsRefused(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Namespace("nosuch", ""))
	b.Run().Refused(t, "linux.namespaces", "nosuch")
}

// Without a pid namespace the container's processes do not die with init; delete
// must kill what is in the cgroup.
func TestLinuxNamespaces_SharedPidIsCleanedUp(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("setsid sleep 1000 & setsid sleep 1001 & echo ready; exec sleep 1002"), h.WithoutNamespace(specs.PIDNamespace))
	c := b.Launch()
	c.WaitOutput("ready")
	if n := b.AdoptProcesses(); n != 3 {
		t.Errorf("%d processes in the cgroup, want 3", n)
	}
	c.Delete("--force")
}
