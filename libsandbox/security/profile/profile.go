// Package profile has the security settings that a sandbox gets when nobody says
// otherwise, as data: capabilities, the seccomp profile, masked and read-only paths. They
// are podman's defaults, so that what runs in a container of podman's runs here.
//
// Nothing of it is part of a bundle's container, whose spec says all.
package profile

import (
	"runtime"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Capabilities are podman's since version 4: those of root that do not reach beyond the
// container. The result is the caller's.
func Capabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_NET_BIND_SERVICE",
		"CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
	}
}

// MaskedPaths show nothing: they would tell of the host, or let the container reach it.
// The result is the caller's.
func MaskedPaths() []string {
	return []string{
		"/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
		"/proc/timer_list", "/proc/timer_stats", "/sys/dev/block", "/sys/devices/virtual/powercap", "/sys/firmware", "/sys/fs/selinux",
	}
}

// ReadonlyPaths cannot be written to. The result is the caller's.
func ReadonlyPaths() []string {
	return []string{"/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// Seccomp returns the profile for a container with the given capabilities (CAP_CHOWN and
// the like) on this architecture. The facts are those of containers-common's
// pkg/seccomp/seccomp.json of 2025. The result is the caller's.
func Seccomp(caps []string) *specs.LinuxSeccomp {
	nosys, perm := uint(unix.ENOSYS), uint(unix.EPERM)
	s := &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno, DefaultErrnoRet: &nosys,
		Architectures: []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32},
	}
	native := []string{"arch_prctl", "modify_ldt"}
	if runtime.GOARCH == "arm64" {
		s.Architectures = []specs.Arch{specs.ArchAARCH64, specs.ArchARM}
		native = []string{"arm_fadvise64_64", "arm_sync_file_range", "breakpoint", "cacheflush", "set_tls", "sync_file_range2"}
	}
	allow, deny := append(strings.Fields(allowed), native...), strings.Fields(refused)
	for _, p := range privileged() {
		if slices.ContainsFunc(p.caps, func(c string) bool { return slices.Contains(caps, c) }) {
			allow = append(allow, p.names...)
		} else {
			deny = append(deny, p.names...)
		}
	}
	s.Syscalls = []specs.LinuxSyscall{
		{Names: deny, Action: specs.ActErrno, ErrnoRet: &perm},
		{Names: allow, Action: specs.ActAllow},
	}
	s.Syscalls = append(s.Syscalls, personalities()...)
	s.Syscalls = append(s.Syscalls, sockets(slices.Contains(caps, "CAP_AUDIT_WRITE"))...)
	return s
}

// privilege is what one of the capabilities makes possible. The kernel asks for it
// anyway; without it, the code that would ask cannot be reached.
type privilege struct{ caps, names []string }

func privileged() []privilege {
	return []privilege{
		{[]string{"CAP_DAC_READ_SEARCH"}, []string{"open_by_handle_at"}},
		{[]string{"CAP_SYS_ADMIN"}, []string{"lookup_dcookie", "quotactl", "quotactl_fd", "setdomainname", "sethostname"}},
		{[]string{"CAP_SYS_ADMIN", "CAP_BPF"}, []string{"bpf"}},
		{[]string{"CAP_SYS_ADMIN", "CAP_PERFMON"}, []string{"perf_event_open"}},
		{[]string{"CAP_SYS_CHROOT"}, []string{"chroot"}},
		{[]string{"CAP_SYS_MODULE"}, []string{"delete_module", "finit_module", "init_module", "query_module"}},
		{[]string{"CAP_SYS_PACCT"}, []string{"acct"}},
		{[]string{"CAP_SYS_PTRACE"}, []string{"kcmp", "process_madvise"}},
		{[]string{"CAP_SYS_RAWIO"}, []string{"ioperm", "iopl"}},
		{[]string{"CAP_SYS_TIME"}, []string{"clock_settime", "clock_settime64", "settimeofday", "stime"}},
		{[]string{"CAP_SYS_TTY_CONFIG"}, []string{"vhangup"}},
	}
}

// personalities are the domains of personality(2) that a program may ask for: Linux,
// 32-bit Linux, both with UNAME26, and the question which one it has.
func personalities() (rules []specs.LinuxSyscall) {
	for _, domain := range []uint64{0, 8, 0x20000, 0x20008, 0xffffffff} {
		rules = append(rules, specs.LinuxSyscall{
			Names: []string{"personality"}, Action: specs.ActAllow,
			Args: []specs.LinuxSeccompArg{{Index: 0, Value: domain, Op: specs.OpEqualTo}},
		})
	}
	return rules
}

// sockets refuses those that reach the hypervisor (AF_VSOCK) or the kernel's ciphers
// (AF_ALG) and, where audit is false, those for audit messages. No two rules fit one call:
// which of them counted would be up to the order that libseccomp has.
func sockets(audit bool) []specs.LinuxSyscall {
	perm, inval := uint(unix.EPERM), uint(unix.EINVAL)
	rule := func(action specs.LinuxSeccompAction, errno *uint, args ...specs.LinuxSeccompArg) specs.LinuxSyscall {
		return specs.LinuxSyscall{Names: []string{"socket"}, Action: action, ErrnoRet: errno, Args: args}
	}
	family := func(op specs.LinuxSeccompOperator, f uint64) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: 0, Value: f, Op: op}
	}
	protocol := func(op specs.LinuxSeccompOperator) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: 2, Value: unix.NETLINK_AUDIT, Op: op}
	}
	netlink := family(specs.OpEqualTo, unix.AF_NETLINK)
	rules := []specs.LinuxSyscall{
		rule(specs.ActErrno, &perm, family(specs.OpEqualTo, unix.AF_VSOCK)),
		rule(specs.ActErrno, &perm, family(specs.OpEqualTo, unix.AF_ALG)),
		rule(specs.ActAllow, nil, family(specs.OpLessThan, unix.AF_NETLINK)),
		rule(specs.ActAllow, nil, family(specs.OpGreaterThan, unix.AF_VSOCK)),
	}
	for f := uint64(unix.AF_NETLINK + 1); f < unix.AF_VSOCK; f++ {
		if f != unix.AF_ALG {
			rules = append(rules, rule(specs.ActAllow, nil, family(specs.OpEqualTo, f)))
		}
	}
	if audit {
		return append(rules, rule(specs.ActAllow, nil, netlink))
	}
	return append(rules,
		rule(specs.ActErrno, &inval, netlink, protocol(specs.OpEqualTo)),
		rule(specs.ActAllow, nil, netlink, protocol(specs.OpNotEqual)))
}
