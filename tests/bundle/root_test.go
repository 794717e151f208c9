package bundle_test

import (
	"os"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	h "adl.run/adl-runtime/tests/harness"
)

func TestRoot_Readonly(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("touch /f || echo refused; echo x >/tmp/f || echo refused; echo ok >/dev/shm/f && cat /dev/shm/f"))
	if got := b.Out(); got != "refused\nrefused\nok" {
		t.Errorf("%q", got)
	}
	if _, err := os.Stat(b.In("/f")); err == nil {
		t.Error("the read-only root was written to")
	}
}

func TestRoot_Writable(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("echo kept >/f"), h.Writable())
	b.Out()
	if got := h.ReadFile(t, b.In("/f")); got != "kept\n" {
		t.Errorf("%q", got)
	}
}

func TestRoot_AbsolutePath(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("cat", "/etc/mark"))
	b.File("/etc/mark", "here")
	b.Spec.Root.Path = b.Rootfs
	if got := b.Out(); got != "here" {
		t.Errorf("%q", got)
	}
}

func TestRoot_BundleIsTheWorkingDirectoryByDefault(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("echo", "hi"))
	b.WriteSpec()
	if r := b.DoWith([]string{"run", b.NewID()}, h.Dir(b.Dir)).OK(t); r.Stdout != "hi\n" {
		t.Errorf("%q", r.Stdout)
	}
}

func TestRoot_RelativeBundle(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("echo", "hi"))
	b.WriteSpec()
	r := b.DoWith([]string{"run", "--bundle", "../bundle", b.NewID()}, h.Dir(b.Work)).OK(t)
	if r.Stdout != "hi\n" {
		t.Errorf("%q", r.Stdout)
	}
}

func TestRoot_NothingOfTheHostIsReachable(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("echo $(ls /); stat -c %d:%i / /..; grep -c '^[0-9]* [0-9]* [0-9:]* [^ ]* / ' /proc/self/mountinfo"))
	got := h.Lines(b.Out())
	if len(got) != 4 {
		t.Fatalf("%q", got)
	}
	if got[0] != "bin dev etc mnt proc root sys tmp" {
		t.Errorf("/ holds %q", got[0])
	}
	if got[1] != got[2] {
		t.Errorf("/.. is %s, / is %s", got[2], got[1])
	}
	if got[3] != "1" {
		t.Errorf("%s mounts on /, want 1: the old root is still there", got[3])
	}
}

func TestRoot_NoPivot(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("ls -d /bin/busybox; touch /f || echo refused"))
	b.WriteSpec()
	r := b.Do("run", "--no-pivot", "--bundle", b.Dir, b.NewID()).OK(t)
	if r.Stdout != "/bin/busybox\nrefused\n" {
		t.Errorf("%q", r.Stdout)
	}
}

func TestHostname(t *testing.T) {
	t.Parallel()
	before, _ := os.Hostname()
	b := h.New(t, h.Args("hostname"))
	b.Spec.Hostname = "its-own-name"
	if got := b.Out(); got != "its-own-name" {
		t.Errorf("%q", got)
	}
	if after, _ := os.Hostname(); after != before {
		t.Errorf("the host's name became %q", after)
	}
}

func TestHostname_WithoutUTSNamespaceIsRefused(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun would rename the host")
	b := h.New(t, h.WithoutNamespace(specs.UTSNamespace))
	b.Run().Fails(t, "hostname")
}

func TestHostname_EmptyKeepsTheHosts(t *testing.T) {
	t.Parallel()
	name, _ := os.Hostname()
	b := h.New(t, h.Args("hostname"), h.WithoutNamespace(specs.UTSNamespace))
	b.Spec.Hostname = ""
	if got := b.Out(); got != name {
		t.Errorf("%q, want %q", got, name)
	}
}

func TestDomainname(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "runc", "domainname came with runc 1.2")
	h.NotFor(t, "crun", "domainname came with crun 1.8.2")
	b := h.New(t, h.Args("cat", "/proc/sys/kernel/domainname"))
	b.Spec.Domainname = "example.test"
	if got := b.Out(); got != "example.test" {
		t.Errorf("%q", got)
	}
}
