package libsandbox

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
	"adl.run/adl-runtime/libsandbox/security"
	"adl.run/adl-runtime/libsandbox/security/profile"
	"adl.run/adl-runtime/spec"
)

// Config says what sandbox New makes. Only Rootfs is needed. What cannot be done is an
// error that names the field and its value, never a warning.
type Config struct {
	// Store is where the sandbox is recorded; nil is the store in DefaultStoreRoot.
	Store *Store
	// ID is the sandbox's name in the store; empty makes one up. See spec.ValidateID.
	ID string
	// Rootfs is a directory with the root filesystem, of which nothing needs to be there:
	// an empty one will do. It is not written to, and any number of sandboxes can share
	// it.
	Rootfs string
	// Layer is the writable layer. Its Driver is "overlay" where it is empty; with "none"
	// the sandbox writes to Rootfs, and cannot be reset.
	Layer LayerOptions
	// Reset is what Sandbox.Reset does by default; empty is ResetRestart.
	Reset ResetMode

	// WorkingDir is where processes begin, and is made if it is missing. Empty is "/".
	WorkingDir string
	// Env are variables (NAME=VALUE) beside PATH and TERM, whose defaults they replace.
	Env []string
	// User is "UID" or "UID:GID" in numbers; empty is root of the sandbox.
	User string
	// Hostname is the sandbox's host name; empty is ID.
	Hostname string

	// Volumes are "HOST:CONTAINER[:ro|rw|cow]", absolute paths; rw is the default. What is
	// written to a cow volume, a directory, goes to a layer of its own, never to the
	// host: a reset empties it, snapshots and forks keep it.
	Volumes []string
	// Tmpfs are "PATH[:OPTIONS]" with tmpfs's options, such as size=64m,mode=1777.
	Tmpfs []string
	// ShmSize is the size of /dev/shm; empty is 64m.
	ShmSize string
	// ReadonlyRoot makes the root filesystem read-only; volumes and tmpfs are not.
	ReadonlyRoot bool

	// Network is "none", the default: nothing but a loopback of its own, or "host": the
	// caller's network namespace.
	Network string
	// DNS are addresses of name servers for /etc/resolv.conf. Without any, a sandbox with
	// the host's network gets the host's file, others keep what Rootfs has.
	DNS []string
	// DNSSearch and DNSOptions are the search list and options of /etc/resolv.conf.
	DNSSearch, DNSOptions []string
	// Hosts are "NAME:ADDRESS" lines for /etc/hosts, beside localhost and Hostname.
	Hosts []string

	// Resources limits what the sandbox uses.
	Resources ResourceLimits
	// Devices are "HOST[:CONTAINER[:ACCESS]]" beside the usual ones (null, zero, full,
	// random, urandom, tty, ptmx); ACCESS has letters of rwm, all by default.
	Devices []string
	// CgroupParent is the cgroup that the sandbox's is made in; empty is the default
	// place.
	CgroupParent string

	// Security turns off what is on by default.
	Security Security

	// Lifetime is how long after New the sandbox is deleted, whatever it does; 0 is never.
	Lifetime time.Duration
	// Idle is for how long nothing may be asked of the sandbox, and no process of Exec may
	// run, before it is deleted; 0 is for ever.
	Idle time.Duration
	// Detached lets the sandbox outlive this process. Otherwise CollectOwned, which `gc`
	// calls, deletes it when this process has ended.
	Detached bool

	// Annotations of the container.
	Annotations map[string]string
	// Change has the last word on the spec; nil changes nothing.
	Change func(*specs.Spec) error
}

// Security turns off what protects the host and other sandboxes. The zero value has all
// of it on.
type Security struct {
	// NoSeccomp leaves out podman's default profile, and Seccomp replaces it.
	NoSeccomp bool
	Seccomp   *specs.LinuxSeccomp
	// CapAdd and CapDrop change podman's default capabilities: "CAP_NET_ADMIN"; "ALL".
	CapAdd, CapDrop []string
	// NewPrivileges lets programs gain privileges by set-uid and file capabilities, as
	// su(1) and sudo(8) do.
	NewPrivileges bool
	// Unmasked shows all of /proc and /sys, and lets them be written to.
	Unmasked bool
}

// fieldError heads an error with the field of Config that it is about.
func fieldError(field string, value any, err error) error {
	if s, ok := value.(string); ok {
		value = strconv.Quote(s)
	}
	return fmt.Errorf("%s %v: %w", field, value, err)
}

// spec is the spec of the sandbox, except for the volumes and limits.
func (c *Config) spec(id string) (*specs.Spec, error) {
	s := spec.Default(false)
	s.Root = &specs.Root{Path: c.Rootfs, Readonly: c.ReadonlyRoot}
	s.Hostname = c.Hostname
	if s.Hostname == "" {
		s.Hostname = id[:min(len(id), 63)]
	}
	if strings.ContainsFunc(c.Hostname, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) { // it goes to /etc/hosts
		return nil, fieldError("Hostname", c.Hostname, errors.New("has white space"))
	}
	s.Annotations = map[string]string{AnnotationInit: initPause}
	if c.Reset != "" {
		s.Annotations[AnnotationReset] = string(c.Reset)
	}
	for k, v := range c.Annotations {
		s.Annotations[k] = v
	}
	if c.CgroupParent != "" {
		s.Linux.CgroupsPath = path.Join("/", c.CgroupParent, id)
	}
	for _, set := range []func(*specs.Spec) error{c.process, c.security, c.network, c.mounts, c.devices, c.limits} {
		if err := set(s); err != nil {
			return nil, err
		}
	}
	if err := c.files(s); err != nil {
		return nil, err
	}
	if c.Change != nil {
		if err := c.Change(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// process sets what processes of the sandbox begin with.
func (c *Config) process(s *specs.Spec) error {
	p := s.Process
	p.Terminal, p.Args, p.Cwd = false, []string{"pause"}, "/"
	if c.WorkingDir != "" {
		if !filepath.IsAbs(c.WorkingDir) {
			return fieldError("WorkingDir", c.WorkingDir, errNotAbsolute)
		}
		p.Cwd = path.Clean(c.WorkingDir)
	}
	for i, kv := range c.Env {
		name, _, ok := strings.Cut(kv, "=")
		if !ok || name == "" || strings.ContainsRune(kv, 0) {
			return fieldError(fmt.Sprintf("Env[%d]", i), kv, errors.New("must be NAME=VALUE"))
		}
		p.Env = slices.DeleteFunc(p.Env, func(have string) bool { return strings.HasPrefix(have, name+"=") })
		p.Env = append(p.Env, kv)
	}
	if c.User != "" {
		uid, gid, both := strings.Cut(c.User, ":")
		u, err := strconv.ParseUint(uid, 10, 32)
		g := uint64(0)
		if err == nil && both {
			g, err = strconv.ParseUint(gid, 10, 32)
		}
		if err != nil || u == 1<<32-1 || g == 1<<32-1 {
			return fieldError("User", c.User, errors.New("must be UID or UID:GID, in numbers"))
		}
		p.User.UID, p.User.GID = uint32(u), uint32(g)
	}
	// As many as the caller may have: its soft limit is often 1024, for select(2)'s sake.
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return fmt.Errorf("RLIMIT_NOFILE: %w", err)
	}
	files := min(lim.Max, 1<<20)
	p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: files, Hard: files}}
	return nil
}

var errNotAbsolute = errors.New("must be an absolute path")

// security sets what keeps the sandbox's processes in.
func (c *Config) security(s *specs.Spec) error {
	o := &c.Security
	caps := slices.DeleteFunc(profile.Capabilities(), func(name string) bool {
		return slices.Contains(o.CapDrop, name) || slices.Contains(o.CapDrop, "ALL")
	})
	mask, last := kernel.Bounding()
	for i, name := range o.CapAdd {
		one, unknown := security.CapabilityMask([]string{name}, last)
		switch {
		case name == "ALL":
			one = mask
		case len(unknown) > 0:
			return fieldError(fmt.Sprintf("Security.CapAdd[%d]", i), name, errors.New("unknown to the kernel"))
		case one&^mask != 0:
			return fieldError(fmt.Sprintf("Security.CapAdd[%d]", i), name, errors.New("this process may not have it itself"))
		}
		for n, name := range security.Capabilities() {
			if one&(1<<n) != 0 && !slices.Contains(caps, name) {
				caps = append(caps, name)
			}
		}
	}
	p := s.Process
	p.Capabilities = &specs.LinuxCapabilities{Bounding: caps}
	if p.User.UID == 0 {
		p.Capabilities.Effective, p.Capabilities.Permitted = caps, caps
	}
	p.NoNewPrivileges = !o.NewPrivileges
	s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = profile.MaskedPaths(), profile.ReadonlyPaths()
	if o.Unmasked {
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
	}
	switch {
	case o.NoSeccomp && o.Seccomp != nil:
		return fieldError("Security.NoSeccomp", true, errors.New("there is Security.Seccomp, too"))
	case o.Seccomp != nil:
		s.Linux.Seccomp = o.Seccomp
	case !o.NoSeccomp:
		s.Linux.Seccomp = profile.Seccomp(caps)
	}
	return nil
}

// network sets the namespaces.
func (c *Config) network(s *specs.Spec) error {
	switch c.Network {
	case "", "none":
	case "host":
		s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(ns specs.LinuxNamespace) bool {
			return ns.Type == specs.NetworkNamespace
		})
	default:
		return fieldError("Network", c.Network, errors.New("must be none or host"))
	}
	return nil
}
