package spec

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Validate reports the first thing that makes a bundle's spec unusable, as one
// line that names the field in the spec's words, with its index and value. It
// looks at the text of the spec; of the kernel it asks only whether the root
// file system is there, and, when a network, ipc or uts namespace is joined
// and its sysctls are set, whether that namespace is the caller's own.
// What is valid but not implemented is refused too, see unsupported.
func Validate(b *Bundle) error {
	s := b.Spec
	for _, check := range [...]func(*specs.Spec) error{
		checkVersion, checkPresent, unsupported, checkProcess, checkUser, checkRlimits, checkNames,
		checkMounts, checkHooks, checkAnnotations, checkNamespaces, checkUserNamespace, checkMountMappings, checkTime, checkMemoryPolicy, checkNetDevices, checkSysctl, checkDevices, checkLinux, checkSeccomp, checkResources, checkIntelRdt,
	} {
		if err := check(s); err != nil {
			return err
		}
	}
	return checkRootfs(b)
}

// checkVersion accepts the versions whose configurations this runtime
// understands: a minor version may only add to the ones before it (OCI
// config.md, "Specification version"), so a later minor version is unknown,
// and pre-releases count as what they precede.
func checkVersion(s *specs.Spec) error {
	if s.Version == "" {
		return errors.New("ociVersion: missing")
	}
	major, minor, ok := parseVersion(s.Version)
	if !ok {
		return fmt.Errorf("ociVersion %q: not a semantic version", s.Version)
	}
	if major != specs.VersionMajor || minor > specs.VersionMinor {
		return fmt.Errorf("ociVersion %q: not supported, only 1.0.0 to %d.%d.x are", s.Version, specs.VersionMajor, specs.VersionMinor)
	}
	return nil
}

// parseVersion takes MAJOR.MINOR.PATCH[-PRERELEASE][+BUILD] (semver.org 2.0.0)
// apart. Numbers too large to hold read as very large ones.
func parseVersion(v string) (major, minor int, ok bool) {
	v, build, hasBuild := strings.Cut(v, "+")
	v, pre, hasPre := strings.Cut(v, "-")
	if hasBuild && !identifiers(build) || hasPre && !identifiers(pre) {
		return 0, 0, false
	}
	parts := strings.Split(v, ".")
	if len(parts) != 3 {
		return 0, 0, false
	}
	var n [3]int
	for i, p := range parts {
		if p == "" || len(p) > 1 && p[0] == '0' || strings.Trim(p, "0123456789") != "" {
			return 0, 0, false
		}
		for j := range len(p) {
			n[i] = min(n[i]*10+int(p[j]-'0'), math.MaxInt32)
		}
	}
	return n[0], n[1], true
}

func identifiers(s string) bool {
	for part := range strings.SplitSeq(s, ".") {
		if part == "" {
			return false
		}
		for i := range len(part) {
			if c := part[i]; c != '-' && (!idByte(c) || c == '_' || c == '+') {
				return false
			}
		}
	}
	return true
}

// checkPresent looks for the parts that every other check relies on. The
// specification lets a container be created without a process; runc does not.
func checkPresent(s *specs.Spec) error {
	switch {
	case s.Process == nil:
		return errors.New("process: missing")
	case s.Root == nil:
		return errors.New("root: missing")
	case s.Root.Path == "":
		return errors.New("root.path: missing")
	case s.Linux == nil:
		return errors.New("linux: missing")
	}
	return nil
}

// checkRootfs comes last because it is the only check that waits for a disk.
func checkRootfs(b *Bundle) error {
	rootfs := b.Rootfs()
	if err := noNUL("root.path", rootfs); err != nil {
		return err
	}
	info, err := os.Stat(rootfs)
	if err != nil {
		return fmt.Errorf("root.path %q: %w", rootfs, cause(err))
	}
	if !info.IsDir() {
		return fmt.Errorf("root.path %q: not a directory", rootfs)
	}
	return nil
}

// cause drops the call and the path that os puts in front of an errno, which
// the caller has already said in the spec's words.
func cause(err error) error {
	var at *os.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

func checkProcess(s *specs.Spec) error {
	p := s.Process
	switch {
	case len(p.Args) == 0:
		return errors.New("process.args: must not be empty")
	case p.Cwd == "":
		return errors.New("process.cwd: missing")
	case !filepath.IsAbs(p.Cwd):
		return fmt.Errorf("process.cwd %q: must be absolute", p.Cwd)
	case p.OOMScoreAdj != nil && (*p.OOMScoreAdj < -1000 || *p.OOMScoreAdj > 1000):
		return fmt.Errorf("process.oomScoreAdj %d: must be from -1000 to 1000", *p.OOMScoreAdj)
	}
	for i, e := range p.Env {
		if strings.IndexByte(e, '=') <= 0 {
			return fmt.Errorf("process.env[%d] %q: must be NAME=VALUE", i, e)
		}
	}
	if err := firstError(noNUL("process.cwd", p.Cwd), noNULs("process.args", p.Args), noNULs("process.env", p.Env)); err != nil {
		return err
	}
	return firstError(
		noNUL("process.apparmorProfile", p.ApparmorProfile), noNUL("process.selinuxLabel", p.SelinuxLabel),
		checkConsole(p), checkAffinity(p), checkScheduler(p), checkIOPriority(p),
	)
}

// checkConsole: the size is a struct winsize, whose members have 16 bits.
// Without a terminal it must be ignored (OCI config.md, "process").
func checkConsole(p *specs.Process) error {
	if !p.Terminal || p.ConsoleSize == nil {
		return nil
	}
	if h := p.ConsoleSize.Height; h > math.MaxUint16 {
		return fmt.Errorf("process.consoleSize.height %d: must be at most %d", h, math.MaxUint16)
	}
	if w := p.ConsoleSize.Width; w > math.MaxUint16 {
		return fmt.Errorf("process.consoleSize.width %d: must be at most %d", w, math.MaxUint16)
	}
	return nil
}

// checkUser refuses the id 4294967295: as -1 it tells setresuid(2) to change
// nothing, so the process would keep the runtime's own user.
func checkUser(s *specs.Spec) error {
	u := &s.Process.User
	switch {
	case u.UID == math.MaxUint32:
		return fmt.Errorf("process.user.uid %d: not a user id", u.UID)
	case u.GID == math.MaxUint32:
		return fmt.Errorf("process.user.gid %d: not a group id", u.GID)
	case u.Umask != nil && *u.Umask > 0o777:
		return fmt.Errorf("process.user.umask %d: must be at most 511 (octal 777)", *u.Umask)
	}
	for i, gid := range u.AdditionalGids {
		if gid == math.MaxUint32 {
			return fmt.Errorf("process.user.additionalGids[%d] %d: not a group id", i, gid)
		}
	}
	return nil
}

func checkRlimits(s *specs.Spec) error {
	limits := s.Process.Rlimits
	for i, r := range limits {
		switch {
		case !isRlimit(r.Type):
			return fmt.Errorf("process.rlimits[%d].type %q: unknown", i, r.Type)
		case r.Soft > r.Hard:
			return fmt.Errorf("process.rlimits[%d] %s: soft %d is above hard %d", i, r.Type, r.Soft, r.Hard)
		}
		for _, before := range limits[:i] {
			if before.Type == r.Type {
				return fmt.Errorf("process.rlimits[%d].type %q: given twice", i, r.Type)
			}
		}
	}
	return nil
}

// isRlimit knows the resources of getrlimit(2) on Linux.
func isRlimit(t string) bool {
	switch t {
	case "RLIMIT_AS", "RLIMIT_CORE", "RLIMIT_CPU", "RLIMIT_DATA", "RLIMIT_FSIZE", "RLIMIT_LOCKS",
		"RLIMIT_MEMLOCK", "RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_NOFILE", "RLIMIT_NPROC",
		"RLIMIT_RSS", "RLIMIT_RTPRIO", "RLIMIT_RTTIME", "RLIMIT_SIGPENDING", "RLIMIT_STACK":
		return true
	}
	return false
}

// checkNames is about hostname and domainname. Setting one without a uts
// namespace would rename the host. The kernel holds 64 bytes of each
// (__NEW_UTS_LEN).
func checkNames(s *specs.Spec) error {
	const most = 64
	for _, n := range [...]struct{ field, value string }{{"hostname", s.Hostname}, {"domainname", s.Domainname}} {
		switch {
		case n.value == "":
		case namespace(s, specs.UTSNamespace) == nil:
			return fmt.Errorf("%s %q: needs a uts namespace", n.field, n.value)
		case len(n.value) > most:
			return fmt.Errorf("%s %q: longer than %d bytes", n.field, n.value, most)
		}
		if err := noNUL(n.field, n.value); err != nil {
			return err
		}
	}
	return nil
}

func checkMounts(s *specs.Spec) error {
	for i := range s.Mounts {
		if err := checkMount(&s.Mounts[i]); err != nil {
			return fmt.Errorf("mounts[%d].%w", i, err)
		}
	}
	return nil
}

// checkMount leaves types and options to those who know the kernel's, but for
// combinations that could only be ignored.
func checkMount(m *specs.Mount) error {
	switch {
	case m.Destination == "":
		return errors.New("destination: missing")
	case !filepath.IsAbs(m.Destination):
		return fmt.Errorf("destination %q: must be absolute", m.Destination)
	}
	bind := m.Type == "bind"
	for j, o := range m.Options {
		switch {
		case o == "":
			return fmt.Errorf("options[%d]: must not be empty", j)
		case o == "bind" || o == "rbind":
			bind = true
		case o == "tmpcopyup" && m.Type != "tmpfs":
			return fmt.Errorf("options[%d] %q: needs type tmpfs", j, o)
		}
	}
	if bind && m.Source == "" {
		return errors.New("source: missing, a bind mount needs one")
	}
	return firstError(
		noNUL("destination", m.Destination), noNUL("source", m.Source),
		noNUL("type", m.Type), noNULs("options", m.Options),
	)
}

func checkHooks(s *specs.Spec) error {
	if s.Hooks == nil {
		return nil
	}
	for _, kind := range [...]struct {
		name  string
		hooks []specs.Hook
	}{
		{"prestart", s.Hooks.Prestart}, //nolint:staticcheck // deprecated, and still what managers write
		{"createRuntime", s.Hooks.CreateRuntime},
		{"createContainer", s.Hooks.CreateContainer},
		{"startContainer", s.Hooks.StartContainer},
		{"poststart", s.Hooks.Poststart},
		{"poststop", s.Hooks.Poststop},
	} {
		for i := range kind.hooks {
			if err := checkHook(&kind.hooks[i]); err != nil {
				return fmt.Errorf("hooks.%s[%d].%w", kind.name, i, err)
			}
		}
	}
	return nil
}

func checkHook(h *specs.Hook) error {
	switch {
	case h.Path == "":
		return errors.New("path: missing")
	case !filepath.IsAbs(h.Path):
		return fmt.Errorf("path %q: must be absolute", h.Path)
	case h.Timeout != nil && *h.Timeout <= 0:
		return fmt.Errorf("timeout %d: must be greater than 0", *h.Timeout)
	}
	return firstError(noNUL("path", h.Path), noNULs("args", h.Args), noNULs("env", h.Env))
}

func checkAnnotations(s *specs.Spec) error {
	if _, ok := s.Annotations[""]; ok {
		return errors.New(`annotations[""]: the key must not be empty`)
	}
	return nil
}

// noNUL guards strings that are handed to system calls, where a NUL byte would
// end them early and so mean something else than what was written.
func noNUL(field, s string) error {
	if strings.IndexByte(s, 0) >= 0 {
		return fmt.Errorf("%s %q: contains a NUL byte", field, s)
	}
	return nil
}

func noNULs(field string, list []string) error {
	for i, s := range list {
		if strings.IndexByte(s, 0) >= 0 {
			return fmt.Errorf("%s[%d] %q: contains a NUL byte", field, i, s)
		}
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
