package spec

import (
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// checkSeccomp refuses what runc refuses, and what runc ignores although it was
// written down: an errno for an action that carries none (the specification and
// crun refuse it, too), an entry without names, a flag or metadata for a listener
// that there is not. An empty section means no filter, as with runc. Names of
// system calls are left to those who know the kernel's.
func checkSeccomp(s *specs.Spec) error {
	c := s.Linux.Seccomp
	if c == nil || emptySeccomp(c) {
		return nil
	}
	if err := checkSeccompFields(c); err != nil {
		return fmt.Errorf("linux.seccomp.%w", err)
	}
	return nil
}

func emptySeccomp(c *specs.LinuxSeccomp) bool {
	return c.DefaultAction == "" && c.DefaultErrnoRet == nil && len(c.Architectures) == 0 && len(c.Flags) == 0 &&
		c.ListenerPath == "" && c.ListenerMetadata == "" && len(c.Syscalls) == 0
}

func checkSeccompFields(c *specs.LinuxSeccomp) error {
	switch {
	case c.DefaultAction == "":
		return errors.New("defaultAction: missing")
	case c.DefaultAction == specs.ActNotify:
		return fmt.Errorf("defaultAction %q: only rules may have it", c.DefaultAction)
	case c.ListenerMetadata != "" && c.ListenerPath == "":
		return fmt.Errorf("listenerMetadata %q: needs listenerPath", c.ListenerMetadata)
	}
	if err := checkAction("defaultAction", c.DefaultAction, "defaultErrnoRet", c.DefaultErrnoRet); err != nil {
		return err
	}
	for i, a := range c.Architectures {
		if !isSeccompArch(a) {
			return fmt.Errorf("architectures[%d] %q: unknown", i, a)
		}
	}
	for i := range c.Syscalls {
		if err := checkSyscall(&c.Syscalls[i]); err != nil {
			return fmt.Errorf("syscalls[%d].%w", i, err)
		}
	}
	notify := slices.ContainsFunc(c.Syscalls, func(r specs.LinuxSyscall) bool { return r.Action == specs.ActNotify })
	if notify && c.ListenerPath == "" {
		return fmt.Errorf("listenerPath: missing, %s needs one", specs.ActNotify)
	}
	if err := noNUL("listenerPath", c.ListenerPath); err != nil {
		return err
	}
	return checkSeccompFlags(c.Flags, notify)
}

// checkSeccompFlags: WAIT_KILLABLE_RECV is about the listener, and seccomp(2)
// refuses it without one. runc knows TSYNC, which the specification does not list.
func checkSeccompFlags(flags []specs.LinuxSeccompFlag, notify bool) error {
	for i, f := range flags {
		switch f {
		case specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow, "SECCOMP_FILTER_FLAG_TSYNC":
		case specs.LinuxSeccompFlagWaitKillableRecv:
			if !notify {
				return fmt.Errorf("flags[%d] %q: needs a rule with %s", i, f, specs.ActNotify)
			}
		default:
			return fmt.Errorf("flags[%d] %q: unknown", i, f)
		}
	}
	return nil
}

// checkAction: the largest errnos are those that libseccomp takes.
func checkAction(field string, action specs.LinuxSeccompAction, errnoField string, errno *uint) error {
	most := uint(0)
	switch action {
	case specs.ActErrno:
		most = 4094
	case specs.ActTrace:
		most = 65535
	case specs.ActKill, specs.ActKillProcess, specs.ActKillThread, specs.ActTrap, specs.ActAllow, specs.ActLog, specs.ActNotify:
	case "":
		return fmt.Errorf("%s: missing", field)
	default:
		return fmt.Errorf("%s %q: unknown", field, action)
	}
	switch {
	case errno == nil:
	case most == 0:
		return fmt.Errorf("%s %d: %s carries no errno", errnoField, *errno, action)
	case *errno > most:
		return fmt.Errorf("%s %d: must be at most %d", errnoField, *errno, most)
	}
	return nil
}

// isSeccompArch knows those that runc takes.
func isSeccompArch(a specs.Arch) bool {
	switch a {
	case specs.ArchX86, specs.ArchX86_64, specs.ArchX32, specs.ArchARM, specs.ArchAARCH64,
		specs.ArchMIPS, specs.ArchMIPS64, specs.ArchMIPS64N32, specs.ArchMIPSEL, specs.ArchMIPSEL64, specs.ArchMIPSEL64N32,
		specs.ArchPPC, specs.ArchPPC64, specs.ArchPPC64LE, specs.ArchS390, specs.ArchS390X,
		specs.ArchRISCV64, specs.ArchLOONGARCH64:
		return true
	}
	return false
}

func checkSyscall(r *specs.LinuxSyscall) error {
	if len(r.Names) == 0 {
		return errors.New("names: must not be empty")
	}
	for i, name := range r.Names {
		switch {
		case name == "":
			return fmt.Errorf("names[%d]: must not be empty", i)
		case name == "write" && r.Action == specs.ActNotify:
			return fmt.Errorf("names[%d] %q: must not have %s", i, name, r.Action)
		}
	}
	if err := checkAction("action", r.Action, "errnoRet", r.ErrnoRet); err != nil {
		return err
	}
	for i := range r.Args {
		switch a := &r.Args[i]; {
		case a.Index > 5:
			return fmt.Errorf("args[%d].index %d: must be at most 5", i, a.Index)
		case a.Op == "":
			return fmt.Errorf("args[%d].op: missing", i)
		case !isOperator(a.Op):
			return fmt.Errorf("args[%d].op %q: unknown", i, a.Op)
		}
	}
	return nil
}

func isOperator(o specs.LinuxSeccompOperator) bool {
	switch o {
	case specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual, specs.OpEqualTo,
		specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual:
		return true
	}
	return false
}
