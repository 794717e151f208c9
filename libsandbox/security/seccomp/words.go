package seccomp

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// What a filter returns: the action in the upper half, data for it in the lower
// (linux/seccomp.h).
const (
	retKillProcess = 0x80000000
	retKillThread  = 0x00000000
	retTrap        = 0x00030000
	retErrno       = 0x00050000
	retNotify      = 0x7fc00000
	retTrace       = 0x7ff00000
	retLog         = 0x7ffc0000
	retAllow       = 0x7fff0000

	retActionFull = 0xffff0000
)

const (
	eperm  = 1
	enosys = 38

	// maxErrno is the largest errno that libseccomp lets an action carry.
	maxErrno = 4094
	maxTrace = 0xffff
)

// verdict is the value that a filter returns for an action. errno is nil where the
// spec has none; actions that carry no errno leave it alone.
func verdict(action specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	data := uint(eperm)
	if errno != nil {
		data = *errno
	}
	switch action {
	case specs.ActKill, specs.ActKillThread:
		return retKillThread, nil
	case specs.ActKillProcess:
		return retKillProcess, nil
	case specs.ActTrap:
		return retTrap, nil
	case specs.ActErrno:
		if data > maxErrno {
			return 0, fmt.Errorf("errno %d is above %d", data, maxErrno)
		}
		return retErrno | uint32(data), nil
	case specs.ActTrace:
		if data > maxTrace {
			return 0, fmt.Errorf("errno %d is above %d", data, maxTrace)
		}
		return retTrace | uint32(data), nil
	case specs.ActAllow:
		return retAllow, nil
	case specs.ActLog:
		return retLog, nil
	case specs.ActNotify:
		return retNotify, nil
	}
	return 0, fmt.Errorf("unknown action %q", action)
}

// refusesNew reports whether calls newer than the profile get ENOSYS instead of
// the default action. A tracer is expected to know what it does with them.
func refusesNew(defaultAction uint32) bool {
	switch defaultAction & retActionFull {
	case retAllow, retLog, retTrace:
		return false
	}
	return true
}

// Flags of seccomp(2).
const (
	flagLog              = 1 << 1
	flagSpecAllow        = 1 << 2
	flagNewListener      = 1 << 3
	flagWaitKillableRecv = 1 << 5
)

// flagBits are the flags for seccomp(2). A spec without a list gets SPEC_ALLOW, as
// runc does it: otherwise a filter switches mitigations on that cost up to half of
// the speed. An empty list is a list. TSYNC is about other threads, and the caller
// of seccomp(2) has none.
func flagBits(flags []specs.LinuxSeccompFlag) (bits uint32, err error) {
	if flags == nil {
		return flagSpecAllow, nil
	}
	for i, f := range flags {
		switch f {
		case specs.LinuxSeccompFlagLog:
			bits |= flagLog
		case specs.LinuxSeccompFlagSpecAllow:
			bits |= flagSpecAllow
		case specs.LinuxSeccompFlagWaitKillableRecv:
			bits |= flagWaitKillableRecv
		case "SECCOMP_FILTER_FLAG_TSYNC":
		default:
			return 0, fmt.Errorf("linux.seccomp.flags[%d] %q: unknown", i, f)
		}
	}
	return bits, nil
}

// arch is one way to make system calls: a column of the table.
type arch uint8

const (
	x86_64 arch = iota
	x86
	x32
	aarch64
	arm

	arches // how many there are
)

// x32Bit is set in the numbers of x32's calls, which otherwise look like x86-64's.
const x32Bit = 1 << 30

// audit is the value of seccomp_data.arch (AUDIT_ARCH_* in linux/audit.h).
func (a arch) audit() uint32 {
	switch a {
	case x86:
		return 0x40000003
	case aarch64:
		return 0xc00000b7
	case arm:
		return 0x40000028
	}
	return 0xc000003e
}

// wide reports whether conditions compare all 64 bits of an argument.
func (a arch) wide() bool { return a == x86_64 || a == aarch64 }

// archSet is the set of a spec's architectures and the native one.
type archSet [arches]bool

// readArches returns the architectures that a kernel of the native one can run.
// Those that it cannot are warned of. runc refuses big-endian ones there, because
// libseccomp cannot put both byte orders into one filter.
func readArches(list []specs.Arch, native specs.Arch) (set archSet, warnings []string, err error) {
	switch native {
	case specs.ArchX86_64:
		set[x86_64] = true
	case specs.ArchAARCH64:
		set[aarch64] = true
	default:
		return set, nil, fmt.Errorf("no filters are made for the architecture %q", native)
	}
	for i, name := range list {
		family := native
		switch name {
		case specs.ArchX86_64, specs.ArchX86, specs.ArchX32:
			family = specs.ArchX86_64
		case specs.ArchAARCH64, specs.ArchARM:
			family = specs.ArchAARCH64
		case specs.ArchMIPSEL, specs.ArchMIPSEL64, specs.ArchMIPSEL64N32,
			specs.ArchPPC64LE, specs.ArchRISCV64, specs.ArchLOONGARCH64:
			family = name
		case specs.ArchMIPS, specs.ArchMIPS64, specs.ArchMIPS64N32,
			specs.ArchPPC, specs.ArchPPC64, specs.ArchS390, specs.ArchS390X:
			return set, nil, fmt.Errorf("linux.seccomp.architectures[%d] %q: its byte order is not this machine's", i, name)
		default:
			return set, nil, fmt.Errorf("linux.seccomp.architectures[%d] %q: unknown", i, name)
		}
		if family != native {
			warnings = append(warnings, fmt.Sprintf("linux.seccomp.architectures[%d] %q: ignored, this machine has no such calls", i, name))
			continue
		}
		switch name {
		case specs.ArchX86:
			set[x86] = true
		case specs.ArchX32:
			set[x32] = true
		case specs.ArchARM:
			set[arm] = true
		}
	}
	return set, warnings, nil
}
