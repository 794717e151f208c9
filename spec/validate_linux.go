package spec

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// namespace is the entry of that type in linux.namespaces, or nil.
func namespace(s *specs.Spec, t specs.LinuxNamespaceType) *specs.LinuxNamespace {
	for i := range s.Linux.Namespaces {
		if s.Linux.Namespaces[i].Type == t {
			return &s.Linux.Namespaces[i]
		}
	}
	return nil
}

// checkNamespaces: without a mount namespace every mount of the container, and
// the change of root, would happen to the host.
func checkNamespaces(s *specs.Spec) error {
	list := s.Linux.Namespaces
	for i, ns := range list {
		switch {
		case ns.Type == "":
			return fmt.Errorf("linux.namespaces[%d].type: missing", i)
		case !isNamespace(ns.Type):
			return fmt.Errorf("linux.namespaces[%d].type %q: unknown", i, ns.Type)
		case ns.Path != "" && !filepath.IsAbs(ns.Path):
			return fmt.Errorf("linux.namespaces[%d].path %q: must be absolute", i, ns.Path)
		case strings.IndexByte(ns.Path, 0) >= 0:
			return fmt.Errorf("linux.namespaces[%d].path %q: contains a NUL byte", i, ns.Path)
		}
		for _, before := range list[:i] {
			if before.Type == ns.Type {
				return fmt.Errorf("linux.namespaces[%d].type %q: given twice", i, ns.Type)
			}
		}
	}
	return nil
}

func isNamespace(t specs.LinuxNamespaceType) bool {
	switch t {
	case specs.PIDNamespace, specs.NetworkNamespace, specs.MountNamespace, specs.IPCNamespace,
		specs.UTSNamespace, specs.UserNamespace, specs.CgroupNamespace, specs.TimeNamespace:
		return true
	}
	return false
}

// checkSysctl lets a container set only what belongs to one of its own
// namespaces, by the same list as runc: /proc/sys is otherwise the host's.
func checkSysctl(s *specs.Spec) error {
	for key, value := range s.Linux.Sysctl {
		if err := checkSysctlKey(s, key); err != nil {
			return fmt.Errorf("linux.sysctl %q: %w", key, err)
		}
		if strings.IndexByte(value, 0) >= 0 {
			return fmt.Errorf("linux.sysctl %q: value %q contains a NUL byte", key, value)
		}
	}
	return nil
}

func checkSysctlKey(s *specs.Spec, key string) error {
	path, err := sysctlPath(key)
	if err != nil {
		return err
	}
	switch {
	case strings.HasPrefix(path, "net/"):
		return private(s, specs.NetworkNamespace)
	case strings.HasPrefix(path, "fs/mqueue/"):
		return private(s, specs.IPCNamespace)
	}
	switch path {
	case "kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/sem",
		"kernel/shmall", "kernel/shmmax", "kernel/shmmni", "kernel/shm_rmid_forced":
		return private(s, specs.IPCNamespace)
	case "kernel/domainname":
		return private(s, specs.UTSNamespace)
	case "kernel/hostname":
		return errors.New("not allowed, the hostname field sets it")
	}
	return errors.New("does not belong to a namespace of the container")
}

// sysctlPath is the key as a path below /proc/sys. As in sysctl.d(5) the
// separator that comes first separates, '.' or '/', and the other one stands
// for the one it is not: net.ipv4.conf.eth0/1.forwarding is
// net/ipv4/conf/eth0.1/forwarding. Steps that would leave the tree are
// refused: "net/../kernel/core_pattern" begins well.
func sysctlPath(key string) (string, error) {
	path := key
	if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '.' {
		path = strings.Map(func(r rune) rune {
			switch r {
			case '.':
				return '/'
			case '/':
				return '.'
			}
			return r
		}, key)
	}
	for step := range strings.SplitSeq(path, "/") {
		if step == "" || step == "." || step == ".." || strings.IndexByte(step, 0) >= 0 {
			return "", errors.New("not a sysctl's name")
		}
	}
	return path, nil
}

// private reports an error unless the container has a namespace of type t that
// is not the caller's. A joined one may be, so it is compared by inode.
func private(s *specs.Spec, t specs.LinuxNamespaceType) error {
	shared := fmt.Errorf("not allowed in the host's %s namespace", t)
	ns := namespace(s, t)
	if ns == nil {
		return shared
	}
	if ns.Path == "" {
		return nil
	}
	proc := string(t)
	if t == specs.NetworkNamespace {
		proc = "net"
	}
	own, err := os.Stat("/proc/self/ns/" + proc)
	if err != nil {
		return err
	}
	joined, err := os.Stat(ns.Path)
	if err != nil {
		return fmt.Errorf("%s namespace %q: %w", t, ns.Path, cause(err))
	}
	if os.SameFile(own, joined) {
		return shared
	}
	return nil
}

// The kernel's device numbers have 12 bits for major and 20 for minor
// (MINORBITS in linux/kdev_t.h); mknod(2) would cut what is above.
const (
	maxMajor = 1<<12 - 1
	maxMinor = 1<<20 - 1
)

func checkDevices(s *specs.Spec) error {
	for i := range s.Linux.Devices {
		d := &s.Linux.Devices[i]
		switch {
		case d.Path == "":
			return fmt.Errorf("linux.devices[%d].path: missing", i)
		case !filepath.IsAbs(d.Path):
			return fmt.Errorf("linux.devices[%d].path %q: must be absolute", i, d.Path)
		case strings.IndexByte(d.Path, 0) >= 0:
			return fmt.Errorf("linux.devices[%d].path %q: contains a NUL byte", i, d.Path)
		case d.Type == "":
			return fmt.Errorf("linux.devices[%d].type: missing", i)
		}
		switch d.Type {
		case "b", "c", "u":
			if err := deviceNumber(d.Major, d.Minor, 0); err != nil {
				return fmt.Errorf("linux.devices[%d].%w", i, err)
			}
		case "p": // a fifo has no number
		default:
			return fmt.Errorf("linux.devices[%d].type %q: must be b, c, u or p", i, d.Type)
		}
	}
	return nil
}

// deviceNumber accepts numbers from least, which is -1 where that means any.
func deviceNumber(major, minor, least int64) error {
	if major < least || major > maxMajor {
		return fmt.Errorf("major %d: must be from %d to %d", major, least, maxMajor)
	}
	if minor < least || minor > maxMinor {
		return fmt.Errorf("minor %d: must be from %d to %d", minor, least, maxMinor)
	}
	return nil
}

func checkLinux(s *specs.Spec) error {
	l := s.Linux
	switch l.RootfsPropagation {
	case "", "private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable":
	default:
		return fmt.Errorf("linux.rootfsPropagation %q: must be shared, slave, private or unbindable", l.RootfsPropagation)
	}
	if p := l.Personality; p != nil {
		switch {
		case p.Domain != specs.PerLinux && p.Domain != specs.PerLinux32:
			return fmt.Errorf("linux.personality.domain %q: must be LINUX or LINUX32", p.Domain)
		case len(p.Flags) > 0:
			return fmt.Errorf("linux.personality.flags[0] %q: unknown", p.Flags[0])
		}
	}
	return firstError(
		absolute("linux.maskedPaths", l.MaskedPaths),
		absolute("linux.readonlyPaths", l.ReadonlyPaths),
		checkCgroupsPath(l.CgroupsPath),
		noNUL("linux.mountLabel", l.MountLabel),
	)
}

func absolute(field string, paths []string) error {
	for i, p := range paths {
		if !filepath.IsAbs(p) {
			return fmt.Errorf("%s[%d] %q: must be absolute", field, i, p)
		}
	}
	return noNULs(field, paths)
}

// checkCgroupsPath: both the plain path and systemd's slice:prefix:name are
// used to build paths below the cgroup root, and neither may climb out of it.
func checkCgroupsPath(path string) error {
	for step := range strings.SplitSeq(path, "/") {
		if step == ".." {
			return fmt.Errorf("linux.cgroupsPath %q: must not contain \"..\"", path)
		}
	}
	return noNUL("linux.cgroupsPath", path)
}
