package bundle_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	h "adl.run/adl-runtime/tests/harness"
)

// config-linux.md, "Default Devices".
func TestLinuxDevices_Default(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("cd /dev; stat -c '%n %F %t:%T %a %u:%g' null zero full random urandom tty; for i in 0 1; do head -c 2 /dev/zero | wc -c; echo x >/dev/null; done; head -c 3 /dev/urandom | wc -c; echo x 2>/dev/null >/dev/full || echo full"))
	want := `null character special file 1:3 666 0:0
zero character special file 1:5 666 0:0
full character special file 1:7 666 0:0
random character special file 1:8 666 0:0
urandom character special file 1:9 666 0:0
tty character special file 5:0 666 0:0
2
2
3
full`
	if got := b.Out(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestLinuxDevices_Symlinks(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("cd /dev; for l in fd stdin stdout stderr ptmx; do echo $l $(readlink $l); done"))
	got := b.Out()
	for _, want := range []string{"fd /proc/self/fd", "stdin /proc/self/fd/0", "stdout /proc/self/fd/1", "stderr /proc/self/fd/2"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	if !strings.HasSuffix(got, "ptmx pts/ptmx") && !strings.HasSuffix(got, "ptmx /dev/pts/ptmx") {
		t.Errorf("%q", got)
	}
}

func TestLinuxDevices_NothingElseInDev(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("echo $(ls /dev)"))
	// runc 1.1 and crun also link /dev/core to /proc/kcore.
	want := "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
	if got := strings.TrimPrefix(b.Out(), "core "); got != want {
		t.Errorf("/dev holds %q, want %q", got, want)
	}
}

func TestLinuxDevices_Ptmx(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("exec 3<>/dev/ptmx; ls /dev/pts"))
	if got := b.Out(); got != "0\nptmx" {
		t.Errorf("%q: /dev/ptmx must open the container's own devpts", got)
	}
}

func TestLinuxDevices_Extra(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("stat -c '%n %F %t:%T %a %u:%g' /dev/fuse /dev/sub/disk /dev/zero2 /dev/pipe"))
	b.Spec.Linux.Devices = []specs.LinuxDevice{
		{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229, FileMode: h.Ptr(os.FileMode(0o660)), UID: h.Ptr(uint32(7)), GID: h.Ptr(uint32(8))},
		{Path: "/dev/sub/disk", Type: "b", Major: 254, Minor: 99, FileMode: h.Ptr(os.FileMode(0o600))},
		{Path: "/dev/zero2", Type: "u", Major: 1, Minor: 5, FileMode: h.Ptr(os.FileMode(0o444))},
		{Path: "/dev/pipe", Type: "p", FileMode: h.Ptr(os.FileMode(0o640)), UID: h.Ptr(uint32(1000)), GID: h.Ptr(uint32(1000))},
	}
	want := `/dev/fuse character special file a:e5 660 7:8
/dev/sub/disk block special file fe:63 600 0:0
/dev/zero2 character special file 1:5 444 0:0
/dev/pipe fifo 0:0 640 1000:1000`
	if got := b.Out(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A device whose path is a default one replaces it.
func TestLinuxDevices_ReplacesADefault(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun keeps the default")
	b := h.New(t, h.Args("stat", "-c", "%t:%T %a", "/dev/full"))
	b.Spec.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/full", Type: "c", Major: 1, Minor: 5, FileMode: h.Ptr(os.FileMode(0o600))}}
	if got := b.Out(); got != "1:5 600" {
		t.Errorf("%q", got)
	}
}

// podman's --privileged binds the host's /dev instead of a tmpfs; nothing of it
// may change.
func TestLinuxDevices_BoundDev(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("stat -c %F /dev/null; echo $(ls /dev)"), h.WithoutMount("/dev"))
	dev := b.Work + "/dev"
	h.Must(t, os.Mkdir(dev, 0o755))
	h.Must(t, unix.Mknod(dev+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	b.Set(h.Mount("/dev", "bind", dev, "rbind", "rprivate"))
	if got := b.Out(); got != "character special file\nnull" {
		t.Errorf("%q: a bound /dev must stay as it is", got)
	}
}

func TestLinuxMaskedPaths(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("cat /etc/secret; ls /etc/dir; stat -c %F /etc/secret /etc/dir; (echo x >/etc/dir/new) 2>/dev/null || echo refused; grep -c . /proc/keys; echo end"), h.Writable())
	b.File("/etc/secret", "secret\n")
	b.File("/etc/dir/inner", "secret\n")
	b.Spec.Linux.MaskedPaths = append(b.Spec.Linux.MaskedPaths, "/etc/secret", "/etc/dir", "/etc/missing", "/missing/too")
	if got := b.Out(); got != "character special file\ndirectory\nrefused\n0\nend" {
		t.Errorf("%q", got)
	}
	if h.ReadFile(t, b.In("/etc/secret")) != "secret\n" {
		t.Error("the masked file itself changed")
	}
	if _, err := os.Lstat(b.In("/etc/missing")); err == nil {
		t.Error("a missing masked path was made")
	}
}

func TestLinuxMaskedPaths_HideAMount(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("ls /data; echo end"))
	b.Set(h.Mount("/data", "bind", sourceDir(t, b, "src"), "bind"))
	b.Spec.Linux.MaskedPaths = append(b.Spec.Linux.MaskedPaths, "/data")
	if got := b.Out(); got != "end" {
		t.Errorf("%q", got)
	}
}

func TestLinuxReadonlyPaths(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("(echo 1 >/etc/dir/inner) 2>/dev/null || echo dir; (echo 1 >/etc/conf) 2>/dev/null || echo file; (echo x >/proc/sys/kernel/hostname) 2>/dev/null || echo sys; echo ok >/etc/free; cat /etc/dir/inner"), h.Writable())
	b.File("/etc/conf", "c\n")
	b.File("/etc/dir/inner", "inner\n")
	b.Spec.Linux.ReadonlyPaths = append(b.Spec.Linux.ReadonlyPaths, "/etc/dir", "/etc/conf", "/etc/missing")
	if got := b.Out(); got != "dir\nfile\nsys\ninner" {
		t.Errorf("%q", got)
	}
}

func TestLinuxReadonlyPaths_KeepOtherFlags(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun 1.8.1 drops the other flags")
	b := h.New(t, h.Mount("/data", "tmpfs", "tmpfs", "nosuid", "nodev", "noexec"))
	b.Spec.Linux.ReadonlyPaths = []string{"/data"}
	m := b.Mounts()["/data"]
	for _, o := range []string{"ro", "nosuid", "nodev", "noexec"} {
		if !m.Has(o) {
			t.Errorf("/data has %s, which lacks %s", m.Options, o)
		}
	}
}

func TestLinuxRootfsPropagation(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "the wrapper that crun needs runs it in a private mount namespace")
	cases := map[string]string{"": "master:", "private": "", "slave": "master:", "rslave": "master:", "shared": "shared:", "unbindable": "unbindable"}
	for propagation, want := range cases {
		if h.Reference() == "runc" && slices.Contains([]string{"shared", "slave", "unbindable"}, propagation) {
			continue // runc 1.1.5 sets the host's / instead of the container's, fixed in 1.2
		}
		b := h.New(t)
		h.HostMount(t, b.Dir, b.Dir, "", unix.MS_BIND, "")
		h.Propagation(t, b.Dir, unix.MS_SHARED)
		b.Spec.Linux.RootfsPropagation = propagation
		got := b.Mounts()["/"].Optional
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("rootfsPropagation %q: mountinfo says %q, want %q", propagation, got, want)
		}
	}
}

func TestLinuxRootfsPropagation_UnknownIsRefused(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun ignores an unknown value")
	b := h.New(t)
	b.Spec.Linux.RootfsPropagation = "sideways"
	b.Run().Refused(t, "linux.rootfsPropagation", "rootfsPropagation=sideways")
}

func TestLinuxSysctl(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_unprivileged_port_start"))
	b.Spec.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1", "kernel.msgmax": "12345", "net.ipv4.ip_unprivileged_port_start": "80"}
	if got := b.Out(); got != "1\n12345\n80" {
		t.Errorf("%q", got)
	}
}

// A sysctl that is not of a new namespace would change the host.
func TestLinuxSysctl_OfTheHostIsRefused(t *testing.T) {
	t.Parallel()
	before := h.ReadFile(t, "/proc/sys/vm/overcommit_ratio")
	for name, change := range map[string]h.Mutate{
		"vm.overcommit_ratio": func(*specs.Spec) {},
		"net.ipv4.ip_forward": h.WithoutNamespace(specs.NetworkNamespace),
		"kernel.msgmax":       h.WithoutNamespace(specs.IPCNamespace),
	} {
		b := h.New(t, change)
		b.Spec.Linux.Sysctl = map[string]string{name: "17"}
		b.Run().Fails(t, name)
	}
	if h.ReadFile(t, "/proc/sys/vm/overcommit_ratio") != before {
		t.Error("the host's sysctl changed")
	}
}

func TestLinuxSysctl_MissingIsRefused(t *testing.T) {
	t.Parallel()
	b := h.New(t)
	b.Spec.Linux.Sysctl = map[string]string{"net.no.such": "1"}
	b.Run().Fails(t, "net")
}
