// Package security translates what a spec says about privileges into numbers and
// filters. It is data in, data out: programs apply it.
package security

import "strings"

// Capabilities returns the names of all capabilities that this package knows, by
// number (capabilities(7); CAP_CHECKPOINT_RESTORE came with Linux 5.9).
func Capabilities() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID",
		"CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE",
		"CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK",
		"CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE",
		"CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
		"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE",
		"CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
		"CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF",
		"CAP_CHECKPOINT_RESTORE",
	}
}

// CapabilityMask returns the set of the named capabilities that the kernel, whose
// highest capability is lastCap, has. The other names come back in unknown: the
// field's habit is to warn of them and go on, so that one spec fits many kernels.
func CapabilityMask(names []string, lastCap int) (mask uint64, unknown []string) {
	all := Capabilities()
	for _, name := range names {
		n := indexOf(all, name)
		if n < 0 || n > lastCap {
			unknown = append(unknown, name)
			continue
		}
		mask |= 1 << n
	}
	return mask, unknown
}

func indexOf(list []string, name string) int {
	for n, s := range list {
		if strings.EqualFold(s, name) {
			return n
		}
	}
	return -1
}
