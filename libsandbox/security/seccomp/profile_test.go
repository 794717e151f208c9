package seccomp

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	defaults "adl.run/adl-runtime/libsandbox/security/profile"
)

// TestProfile runs the filter of package profile: where several of its rules are about one
// call, what counts is the verdict.
func TestProfile(t *testing.T) {
	errno := func(e unix.Errno) uint32 { return retErrno | uint32(e) }
	allow, _ := verdict(specs.ActAllow, nil)
	audit := append(defaults.Capabilities(), "CAP_AUDIT_WRITE", "CAP_BPF", "CAP_SYS_ADMIN")
	for _, c := range []struct {
		caps []string
		name string
		args [6]uint64
		want uint32
	}{
		{nil, "read", [6]uint64{}, allow},
		{nil, "execveat", [6]uint64{}, allow},
		{nil, "kexec_load", [6]uint64{}, errno(unix.EPERM)},
		{nil, "userfaultfd", [6]uint64{}, errno(unix.EPERM)},
		{nil, "io_uring_setup", [6]uint64{}, errno(unix.ENOSYS)},
		{nil, "add_key", [6]uint64{}, errno(unix.ENOSYS)},
		{nil, "chroot", [6]uint64{}, allow},
		{nil, "bpf", [6]uint64{}, errno(unix.EPERM)},
		{nil, "sethostname", [6]uint64{}, errno(unix.EPERM)},
		{nil, "setns", [6]uint64{}, allow},
		{audit, "bpf", [6]uint64{}, allow},
		{audit, "sethostname", [6]uint64{}, allow},
		{audit, "init_module", [6]uint64{}, errno(unix.EPERM)},
		{nil, "personality", [6]uint64{0}, allow},
		{nil, "personality", [6]uint64{0x20008}, allow},
		{nil, "personality", [6]uint64{0x40000}, errno(unix.ENOSYS)},
		{nil, "socket", [6]uint64{unix.AF_INET, unix.SOCK_STREAM, 0}, allow},
		{nil, "socket", [6]uint64{unix.AF_NETLINK, unix.SOCK_RAW, 0}, allow},
		{nil, "socket", [6]uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT}, errno(unix.EINVAL)},
		{nil, "socket", [6]uint64{unix.AF_INET, unix.SOCK_RAW, unix.NETLINK_AUDIT}, allow},
		{nil, "socket", [6]uint64{unix.AF_VSOCK, unix.SOCK_STREAM, 0}, errno(unix.EPERM)},
		{nil, "socket", [6]uint64{unix.AF_ALG, unix.SOCK_SEQPACKET, 0}, errno(unix.EPERM)},
		{audit, "socket", [6]uint64{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT}, allow},
		{audit, "socket", [6]uint64{unix.AF_VSOCK, unix.SOCK_STREAM, 0}, errno(unix.EPERM)},
		{audit, "socket", [6]uint64{unix.AF_ALG, unix.SOCK_SEQPACKET, 0}, errno(unix.EPERM)},
	} {
		caps := c.caps
		if caps == nil {
			caps = defaults.Capabilities()
		}
		code := parse(compile(t, defaults.Seccomp(caps)).Program)
		nr, ok := table[find(c.name)].number(x86_64)
		if !ok {
			t.Fatal(c.name)
		}
		if got, _ := run(code, &data{nr: nr, arch: x86_64.audit(), args: c.args}); got != c.want {
			t.Errorf("%s%v: %#x, want %#x", c.name, c.args, got, c.want)
		}
	}
}

// TestProfileAgrees: what podman 4.3.1 allows is allowed, except what it has given up since.
func TestProfileAgrees(t *testing.T) {
	names := func(s *specs.LinuxSeccomp) (all []string) {
		for _, r := range s.Syscalls {
			if r.Action == specs.ActAllow && len(r.Args) == 0 {
				for _, n := range r.Names {
					if find(n) >= 0 {
						all = append(all, n)
					}
				}
			}
		}
		slices.Sort(all)
		return slices.Compact(all)
	}
	was, is := names(load(t, "podman.json")), names(defaults.Seccomp(defaults.Capabilities()))
	var gone, come []string
	for _, n := range was {
		if !slices.Contains(is, n) {
			gone = append(gone, n)
		}
	}
	for _, n := range is {
		if !slices.Contains(was, n) {
			come = append(come, n)
		}
	}
	if d := cmp.Diff([]string{"readdir", "sigaction", "sigpending", "sigsuspend"}, gone); d != "" {
		t.Errorf("no longer allowed (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"fanotify_init", "fchmodat2", "futex_requeue", "futex_wait", "futex_waitv", "futex_wake"}, come); d != "" {
		t.Errorf("allowed since (-want +got):\n%s", d)
	}
}
