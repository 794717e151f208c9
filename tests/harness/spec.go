package harness

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Mutate changes one aspect of a spec.
type Mutate func(*specs.Spec)

// Default is an ordinary rootful container, the same as `runc spec` writes, but
// without a terminal and with a cgroupsPath of its own. Args default to "true".
func Default(cgroup string) *specs.Spec {
	caps := []string{"CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"}
	return &specs.Spec{
		Version: "1.0.2",
		Process: &specs.Process{
			Args: []string{"true"},
			Env: []string{
				"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
				"TERM=xterm",
			},
			Cwd:             "/",
			NoNewPrivileges: true,
			Capabilities:    &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
			Rlimits:         []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Hard: 1024, Soft: 1024}},
		},
		Root:     &specs.Root{Path: "rootfs", Readonly: true},
		Hostname: "adl",
		Mounts:   defaultMounts(),
		Linux: &specs.Linux{
			CgroupsPath: cgroup,
			Resources: &specs.LinuxResources{
				Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}},
			},
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.PIDNamespace},
				{Type: specs.NetworkNamespace},
				{Type: specs.IPCNamespace},
				{Type: specs.UTSNamespace},
				{Type: specs.MountNamespace},
			},
			MaskedPaths: []string{
				"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
				"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
			},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
}

func defaultMounts() []specs.Mount {
	return []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc"},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
	}
}

// Args sets process.args.
func Args(args ...string) Mutate {
	return func(s *specs.Spec) { s.Process.Args = args }
}

// Sh runs a script with the rootfs's shell.
func Sh(script string) Mutate { return Args("/bin/sh", "-c", script) }

// Env appends to process.env.
func Env(env ...string) Mutate {
	return func(s *specs.Spec) { s.Process.Env = append(s.Process.Env, env...) }
}

// Cwd sets process.cwd.
func Cwd(dir string) Mutate {
	return func(s *specs.Spec) { s.Process.Cwd = dir }
}

// User sets process.user.
func User(uid, gid uint32, additional ...uint32) Mutate {
	return func(s *specs.Spec) {
		s.Process.User.UID, s.Process.User.GID, s.Process.User.AdditionalGids = uid, gid, additional
	}
}

// Caps sets the five capability sets.
func Caps(c specs.LinuxCapabilities) Mutate {
	return func(s *specs.Spec) { s.Process.Capabilities = &c }
}

// AllCaps gives the process the named capabilities in bounding, effective and
// permitted.
func AllCaps(names ...string) Mutate {
	return Caps(specs.LinuxCapabilities{Bounding: names, Effective: names, Permitted: names})
}

// Rlimits replaces process.rlimits.
func Rlimits(limits ...specs.POSIXRlimit) Mutate {
	return func(s *specs.Spec) { s.Process.Rlimits = limits }
}

// NoNewPrivileges sets process.noNewPrivileges.
func NoNewPrivileges(on bool) Mutate {
	return func(s *specs.Spec) { s.Process.NoNewPrivileges = on }
}

// Terminal asks for a terminal of the given size; zero means none is given.
func Terminal(rows, cols uint) Mutate {
	return func(s *specs.Spec) {
		s.Process.Terminal = true
		if rows != 0 || cols != 0 {
			s.Process.ConsoleSize = &specs.Box{Height: rows, Width: cols}
		}
	}
}

// Writable makes the root writable.
func Writable() Mutate {
	return func(s *specs.Spec) { s.Root.Readonly = false }
}

// Mount appends to mounts.
func Mount(dest, typ, source string, options ...string) Mutate {
	return func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: dest, Type: typ, Source: source, Options: options})
	}
}

// WithoutMount removes the mount at dest and every mount below it.
func WithoutMount(dest string) Mutate {
	return func(s *specs.Spec) {
		var keep []specs.Mount
		for _, m := range s.Mounts {
			if m.Destination != dest && !under(m.Destination, dest) {
				keep = append(keep, m)
			}
		}
		s.Mounts = keep
	}
}

// WithoutNamespace makes the container share the host's namespace of that type.
func WithoutNamespace(typ specs.LinuxNamespaceType) Mutate {
	return func(s *specs.Spec) {
		var keep []specs.LinuxNamespace
		for _, ns := range s.Linux.Namespaces {
			if ns.Type != typ {
				keep = append(keep, ns)
			}
		}
		s.Linux.Namespaces = keep
	}
}

// Namespace adds a namespace, or replaces the one of that type; an empty path
// means a new one.
func Namespace(typ specs.LinuxNamespaceType, path string) Mutate {
	return func(s *specs.Spec) {
		WithoutNamespace(typ)(s)
		s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: typ, Path: path})
	}
}

// Resources changes linux.resources.
func Resources(change func(*specs.LinuxResources)) Mutate {
	return func(s *specs.Spec) { change(s.Linux.Resources) }
}

// HookSet changes hooks.
func HookSet(h specs.Hooks) Mutate {
	return func(s *specs.Spec) { s.Hooks = &h }
}

// Ptr returns a pointer to v, for the spec's optional fields.
func Ptr[T any](v T) *T { return &v }

func under(path, dir string) bool {
	return len(path) > len(dir) && path[:len(dir)] == dir && path[len(dir)] == '/'
}
