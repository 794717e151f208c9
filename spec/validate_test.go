package spec

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// ordinary is a valid spec with something in every section that has rules.
func ordinary() *specs.Spec {
	s := Default(false)
	s.Process.User = specs.User{UID: 1, GID: 1, Umask: new(uint32(0o777)), AdditionalGids: []uint32{0, 5}}
	s.Process.ConsoleSize = &specs.Box{Height: 65535, Width: 0}
	s.Process.OOMScoreAdj = new(-1000)
	s.Process.Env = append(s.Process.Env, "EMPTY=", "A=B=C")
	s.Process.Capabilities.Bounding = append(s.Process.Capabilities.Bounding, "CAP_OF_THE_FUTURE")
	s.Domainname = strings.Repeat("d", 64)
	s.Mounts = append(s.Mounts,
		specs.Mount{Destination: "/data", Source: "data", Options: []string{"rbind", "ro", "rprivate"}},
		specs.Mount{Destination: "/cache", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup"}},
		specs.Mount{Destination: "/x", Type: "unheard-of"},
	)
	s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/bin/true", Args: []string{"true"}, Timeout: new(1)}}}
	s.Annotations = map[string]string{"org.example": "", "run.x": "\x00"}
	s.Linux.Sysctl = map[string]string{
		"net.ipv4.ip_forward": "1", "net/ipv4/conf/eth0.1/forwarding": "1", "net.ipv4.conf.eth0/1.forwarding": "1",
		"kernel.shmmax": "1", "kernel/sem": "1 2 3 4", "fs.mqueue.msg_max": "10", "kernel.domainname": "d",
	}
	s.Linux.Namespaces[2].Path = "/proc/1/ns/none"
	s.Linux.Namespaces[2].Type = specs.CgroupNamespace
	s.Linux.Namespaces = append(s.Linux.Namespaces[:5:5], specs.LinuxNamespace{Type: specs.IPCNamespace})
	s.Linux.Devices = []specs.LinuxDevice{
		{Path: "/dev/a", Type: "c", Major: 10, Minor: 229, FileMode: new(os.FileMode(0o666))},
		{Path: "/dev/b", Type: "b", Major: maxMajor, Minor: maxMinor},
		{Path: "/dev/u", Type: "u"},
		{Path: "/run/fifo", Type: "p", Major: -1, Minor: -1},
	}
	s.Linux.RootfsPropagation = "rslave"
	s.Linux.CgroupsPath = "/a/b..c/d"
	s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32}
	s.Linux.Resources = &specs.LinuxResources{
		Devices: []specs.LinuxDeviceCgroup{
			{Access: "rwm"}, {Allow: true, Type: "a", Access: "r"}, {Type: "b", Major: new(int64(8)), Minor: new(int64(-1)), Access: "mw"},
		},
		Memory:         &specs.LinuxMemory{Limit: new(int64(-1)), Swap: new(int64(0)), Reservation: new(int64(5)), Swappiness: new(uint64(math.MaxUint64))},
		CPU:            &specs.LinuxCPU{Cpus: "0-3,7", Mems: "0", Quota: new(int64(-1)), Idle: new(int64(1))},
		Pids:           &specs.LinuxPids{Limit: new(int64(-1))},
		BlockIO:        &specs.LinuxBlockIO{Weight: new(uint16(0)), LeafWeight: new(uint16(1000)), WeightDevice: []specs.LinuxWeightDevice{{Weight: new(uint16(10))}}, ThrottleReadBpsDevice: []specs.LinuxThrottleDevice{{Rate: 5}}},
		HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "64KB"}, {Pagesize: "2MB"}, {Pagesize: "1GB"}},
		Network:        &specs.LinuxNetwork{ClassID: new(uint32(1)), Priorities: []specs.LinuxInterfacePriority{{Name: "eth0"}}},
		Rdma:           map[string]specs.LinuxRdma{"mlx5_1": {}},
		Unified:        map[string]string{"memory.high": "1", "hugetlb.2MB.max": "max"},
	}
	return s
}

func TestValidateAccepts(t *testing.T) {
	dir := newBundle(t, nil)
	if err := os.Symlink("rootfs", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*specs.Spec){
		"ordinary":               func(*specs.Spec) {},
		"no version suffix":      func(s *specs.Spec) { s.Version = "1.0.0" },
		"release candidate":      func(s *specs.Spec) { s.Version = "1.0.0-rc5" },
		"development":            func(s *specs.Spec) { s.Version = "1.0.2-dev" },
		"build":                  func(s *specs.Spec) { s.Version = "1.1.0+dev" },
		"all of semver":          func(s *specs.Spec) { s.Version = "1.3.99-rc.1-x.0+001.a-b" },
		"console without a tty":  func(s *specs.Spec) { s.Process.Terminal = false; s.Process.ConsoleSize.Width = 1 << 20 },
		"absolute root":          func(s *specs.Spec) { s.Root.Path = dir + "/rootfs" },
		"linked root":            func(s *specs.Spec) { s.Root.Path = "link" },
		"no hooks, no mounts":    func(s *specs.Spec) { s.Hooks, s.Mounts = nil, nil },
		"no resources":           func(s *specs.Spec) { s.Linux.Resources = nil },
		"empty lists":            func(s *specs.Spec) { s.Linux.UIDMappings = []specs.LinuxIDMapping{} },
		"systemd cgroup path":    func(s *specs.Spec) { s.Linux.CgroupsPath = "system.slice:docker:1234" },
		"namespaces of the host": func(s *specs.Spec) { *s = *hostNamespaces(s) },
		"soft equals hard":       func(s *specs.Spec) { s.Process.Rlimits[0].Soft = s.Process.Rlimits[0].Hard },
		"env without a value":    func(s *specs.Spec) { s.Process.Env = nil },
	} {
		s := ordinary()
		change(s)
		if err := Validate(&Bundle{Dir: dir, Spec: s}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// hostNamespaces has a mount namespace and nothing that would need another.
func hostNamespaces(s *specs.Spec) *specs.Spec {
	s.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.MountNamespace}}
	s.Linux.Sysctl, s.Hostname, s.Domainname = nil, "", ""
	return s
}

// join replaces the namespace of that type by one at path.
func join(s *specs.Spec, t specs.LinuxNamespaceType, path string) {
	namespace(s, t).Path = path
}

// drop removes the namespace of that type.
func drop(s *specs.Spec, t specs.LinuxNamespaceType) {
	*namespace(s, t) = s.Linux.Namespaces[0]
	s.Linux.Namespaces = s.Linux.Namespaces[1:]
}

type rule struct {
	want   string
	change func(*specs.Spec)
}

// runRules changes an ordinary spec in one way and wants one error for it.
func runRules(t *testing.T, rules []rule) {
	t.Helper()
	dir := newBundle(t, nil)
	for _, r := range rules {
		s := ordinary()
		r.change(s)
		err := Validate(&Bundle{Dir: dir, Spec: s})
		want := strings.ReplaceAll(r.want, "$B", dir)
		if err == nil {
			t.Errorf("accepted, want %s", want)
		} else if err.Error() != want {
			t.Errorf("\n got %s\nwant %s", err, want)
		}
	}
}

func TestValidateVersion(t *testing.T) {
	const unknown = "not supported, only 1.0.0 to 1.3.x are"
	const malformed = "not a semantic version"
	for version, problem := range map[string]string{
		"2.0.0": unknown, "0.9.0": unknown, "1.4.0": unknown, "1.4.0-dev": unknown, "1.18446744073709551617.0": unknown, "99999999999999999999.0.0": unknown,
		"invalid": malformed, "1": malformed, "1.0": malformed, "1.0.0.0": malformed, "v1.0.0": malformed, "1.0.x": malformed, "1..0": malformed,
		"01.0.0": malformed, "1.0.0-": malformed, "1.0.0+": malformed, "1.0.0-a..b": malformed, "1.0.0-a_b": malformed, " 1.0.0": malformed, "1.0.0\n": malformed, "-1.0.0": malformed, "1.0.0+a+b": malformed,
	} {
		err := checkVersion(&specs.Spec{Version: version})
		if err == nil || !strings.HasSuffix(err.Error(), ": "+problem) {
			t.Errorf("%q: %v, want %s", version, err, problem)
		}
	}
	runRules(t, []rule{
		{`ociVersion: missing`, func(s *specs.Spec) { s.Version = "" }},
		{`ociVersion "2.0.0": not supported, only 1.0.0 to 1.3.x are`, func(s *specs.Spec) { s.Version = "2.0.0" }},
	})
}

func TestValidateRoot(t *testing.T) {
	runRules(t, []rule{
		{`root: missing`, func(s *specs.Spec) { s.Root = nil }},
		{`root.path: missing`, func(s *specs.Spec) { s.Root.Path = "" }},
		{`root.path "$B/none": no such file or directory`, func(s *specs.Spec) { s.Root.Path = "none" }},
		{`root.path "/none/here": no such file or directory`, func(s *specs.Spec) { s.Root.Path = "/none/here" }},
		{`root.path "$B/config.json": not a directory`, func(s *specs.Spec) { s.Root.Path = "config.json" }},
		{`root.path "$B/config.json/x": not a directory`, func(s *specs.Spec) { s.Root.Path = "config.json/x" }},
		{`root.path "$B/a\x00b": contains a NUL byte`, func(s *specs.Spec) { s.Root.Path = "a\x00b" }},
	})
	s := ordinary()
	s.Root.Path = "none"
	if err := Validate(&Bundle{Dir: t.TempDir(), Spec: s}); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("%v: the errno is lost", err)
	}
}

func TestValidateProcess(t *testing.T) {
	runRules(t, []rule{
		{`process: missing`, func(s *specs.Spec) { s.Process = nil }},
		{`process.args: must not be empty`, func(s *specs.Spec) { s.Process.Args = nil }},
		{`process.args[1] "a\x00": contains a NUL byte`, func(s *specs.Spec) { s.Process.Args = []string{"sh", "a\x00"} }},
		{`process.cwd: missing`, func(s *specs.Spec) { s.Process.Cwd = "" }},
		{`process.cwd "home": must be absolute`, func(s *specs.Spec) { s.Process.Cwd = "home" }},
		{`process.cwd "/\x00": contains a NUL byte`, func(s *specs.Spec) { s.Process.Cwd = "/\x00" }},
		{`process.env[1] "TERM": must be NAME=VALUE`, func(s *specs.Spec) { s.Process.Env[1] = "TERM" }},
		{`process.env[0] "=x": must be NAME=VALUE`, func(s *specs.Spec) { s.Process.Env[0] = "=x" }},
		{`process.env[0] "A=\x00": contains a NUL byte`, func(s *specs.Spec) { s.Process.Env[0] = "A=\x00" }},
		{`process.oomScoreAdj 1001: must be from -1000 to 1000`, func(s *specs.Spec) { s.Process.OOMScoreAdj = new(1001) }},
		{`process.oomScoreAdj -1001: must be from -1000 to 1000`, func(s *specs.Spec) { s.Process.OOMScoreAdj = new(-1001) }},
		{`process.consoleSize.height 65536: must be at most 65535`, func(s *specs.Spec) { s.Process.ConsoleSize.Height = 65536 }},
		{`process.consoleSize.width 65536: must be at most 65535`, func(s *specs.Spec) { s.Process.ConsoleSize.Width = 65536 }},
		{`process.user.uid 4294967295: not a user id`, func(s *specs.Spec) { s.Process.User.UID = math.MaxUint32 }},
		{`process.user.gid 4294967295: not a group id`, func(s *specs.Spec) { s.Process.User.GID = math.MaxUint32 }},
		{`process.user.additionalGids[1] 4294967295: not a group id`, func(s *specs.Spec) { s.Process.User.AdditionalGids[1] = math.MaxUint32 }},
		{`process.user.umask 512: must be at most 511 (octal 777)`, func(s *specs.Spec) { *s.Process.User.Umask = 512 }},
		{`process.rlimits[1].type "RLIMIT_TEST": unknown`, func(s *specs.Spec) {
			s.Process.Rlimits = append(s.Process.Rlimits, specs.POSIXRlimit{Type: "RLIMIT_TEST"})
		}},
		{`process.rlimits[0].type "": unknown`, func(s *specs.Spec) { s.Process.Rlimits[0].Type = "" }},
		{`process.rlimits[1].type "RLIMIT_NOFILE": given twice`, func(s *specs.Spec) {
			s.Process.Rlimits = append(s.Process.Rlimits, s.Process.Rlimits[0])
		}},
		{`process.rlimits[0] RLIMIT_NOFILE: soft 5 is above hard 4`, func(s *specs.Spec) { s.Process.Rlimits[0].Soft, s.Process.Rlimits[0].Hard = 5, 4 }},
	})
}

func TestRlimitNames(t *testing.T) {
	for _, name := range strings.Fields("AS CORE CPU DATA FSIZE LOCKS MEMLOCK MSGQUEUE NICE NOFILE NPROC RSS RTPRIO RTTIME SIGPENDING STACK") {
		if !isRlimit("RLIMIT_" + name) {
			t.Errorf("RLIMIT_%s is unknown", name)
		}
	}
	if isRlimit("nofile") || isRlimit("RLIMIT_nofile") {
		t.Error("a name in lower case is known")
	}
}

func TestValidateNames(t *testing.T) {
	long := strings.Repeat("h", 65)
	runRules(t, []rule{
		{`hostname "runc": needs a uts namespace`, func(s *specs.Spec) { drop(s, specs.UTSNamespace) }},
		{`domainname "d": needs a uts namespace`, func(s *specs.Spec) {
			drop(s, specs.UTSNamespace)
			s.Hostname, s.Domainname = "", "d"
		}},
		{`hostname "` + long + `": longer than 64 bytes`, func(s *specs.Spec) { s.Hostname = long }},
		{`domainname "` + long + `": longer than 64 bytes`, func(s *specs.Spec) { s.Domainname = long }},
		{`hostname "a\x00": contains a NUL byte`, func(s *specs.Spec) { s.Hostname = "a\x00" }},
	})
}

func TestValidateMounts(t *testing.T) {
	runRules(t, []rule{
		{`mounts[3].destination "dev": must be absolute`, func(s *specs.Spec) { s.Mounts[3].Destination = "dev" }},
		{`mounts[0].destination: missing`, func(s *specs.Spec) { s.Mounts[0].Destination = "" }},
		{`mounts[0].destination "/\x00": contains a NUL byte`, func(s *specs.Spec) { s.Mounts[0].Destination = "/\x00" }},
		{`mounts[0].source "\x00": contains a NUL byte`, func(s *specs.Spec) { s.Mounts[0].Source = "\x00" }},
		{`mounts[0].type "\x00": contains a NUL byte`, func(s *specs.Spec) { s.Mounts[0].Type = "\x00" }},
		{`mounts[1].options[1] "\x00": contains a NUL byte`, func(s *specs.Spec) { s.Mounts[1].Options[1] = "\x00" }},
		{`mounts[1].options[0]: must not be empty`, func(s *specs.Spec) { s.Mounts[1].Options[0] = "" }},
		{`mounts[7].source: missing, a bind mount needs one`, func(s *specs.Spec) { s.Mounts[7].Source = "" }},
		{`mounts[0].source: missing, a bind mount needs one`, func(s *specs.Spec) { s.Mounts[0].Type, s.Mounts[0].Source = "bind", "" }},
		{`mounts[8].options[0] "tmpcopyup": needs type tmpfs`, func(s *specs.Spec) { s.Mounts[8].Type = "proc" }},
	})
}

func TestValidateHooks(t *testing.T) {
	at := func(pick func(*specs.Hooks) *[]specs.Hook, bad specs.Hook) func(*specs.Spec) {
		return func(s *specs.Spec) { *pick(s.Hooks) = []specs.Hook{{Path: "/bin/true"}, bad} }
	}
	path := specs.Hook{Path: "true"}
	runRules(t, []rule{
		{`hooks.prestart[1].path "true": must be absolute`, at(func(h *specs.Hooks) *[]specs.Hook { return &h.Prestart }, path)},
		{`hooks.createRuntime[1].path "true": must be absolute`, at(func(h *specs.Hooks) *[]specs.Hook { return &h.CreateRuntime }, path)},
		{`hooks.createContainer[1].path "true": must be absolute`, at(func(h *specs.Hooks) *[]specs.Hook { return &h.CreateContainer }, path)},
		{`hooks.startContainer[1].path "true": must be absolute`, at(func(h *specs.Hooks) *[]specs.Hook { return &h.StartContainer }, path)},
		{`hooks.poststart[1].path "true": must be absolute`, at(func(h *specs.Hooks) *[]specs.Hook { return &h.Poststart }, path)},
		{`hooks.poststop[1].path "true": must be absolute`, at(func(h *specs.Hooks) *[]specs.Hook { return &h.Poststop }, path)},
		{`hooks.poststop[0].path: missing`, func(s *specs.Spec) { s.Hooks.Poststop[0].Path = "" }},
		{`hooks.poststop[0].timeout 0: must be greater than 0`, func(s *specs.Spec) { s.Hooks.Poststop[0].Timeout = new(0) }},
		{`hooks.poststop[0].timeout -1: must be greater than 0`, func(s *specs.Spec) { s.Hooks.Poststop[0].Timeout = new(-1) }},
		{`hooks.poststop[0].args[0] "\x00": contains a NUL byte`, func(s *specs.Spec) { s.Hooks.Poststop[0].Args[0] = "\x00" }},
		{`hooks.poststop[0].env[0] "\x00": contains a NUL byte`, func(s *specs.Spec) { s.Hooks.Poststop[0].Env = []string{"\x00"} }},
		{`annotations[""]: the key must not be empty`, func(s *specs.Spec) { s.Annotations[""] = "" }},
	})
}

func TestValidateNamespaces(t *testing.T) {
	runRules(t, []rule{
		{`linux: missing`, func(s *specs.Spec) { s.Linux = nil }},
		{`linux.namespaces[5].type: missing`, func(s *specs.Spec) { s.Linux.Namespaces[5].Type = "" }},
		{`linux.namespaces[0].type "PID": unknown`, func(s *specs.Spec) { s.Linux.Namespaces[0].Type = "PID" }},
		{`linux.namespaces[1].type "pid": given twice`, func(s *specs.Spec) { s.Linux.Namespaces[1].Type = "pid" }},
		{`linux.namespaces[0].path "ns/pid": must be absolute`, func(s *specs.Spec) { s.Linux.Namespaces[0].Path = "ns/pid" }},
		{`linux.namespaces[0].path "/\x00": contains a NUL byte`, func(s *specs.Spec) { s.Linux.Namespaces[0].Path = "/\x00" }},
	})
}

func TestValidateSysctl(t *testing.T) {
	only := func(key string) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{key: "1"} }
	}
	without := func(t specs.LinuxNamespaceType, key string) func(*specs.Spec) {
		return func(s *specs.Spec) {
			drop(s, t)
			s.Hostname, s.Domainname = "", ""
			only(key)(s)
		}
	}
	joined := func(t specs.LinuxNamespaceType, path, key string) func(*specs.Spec) {
		return func(s *specs.Spec) { join(s, t, path); only(key)(s) }
	}
	const foreign = "does not belong to a namespace of the container"
	runRules(t, []rule{
		{`linux.sysctl "net.ipv4.ip_forward": not allowed in the host's network namespace`, without(specs.NetworkNamespace, "net.ipv4.ip_forward")},
		{`linux.sysctl "net/core/somaxconn": not allowed in the host's network namespace`, without(specs.NetworkNamespace, "net/core/somaxconn")},
		{`linux.sysctl "net.core.somaxconn": not allowed in the host's network namespace`, joined(specs.NetworkNamespace, "/proc/self/ns/net", "net.core.somaxconn")},
		{`linux.sysctl "net.core.somaxconn": network namespace "/none": no such file or directory`, joined(specs.NetworkNamespace, "/none", "net.core.somaxconn")},
		{`linux.sysctl "kernel.shmmax": not allowed in the host's ipc namespace`, without(specs.IPCNamespace, "kernel.shmmax")},
		{`linux.sysctl "kernel.shmmax": not allowed in the host's ipc namespace`, joined(specs.IPCNamespace, "/proc/self/ns/ipc", "kernel.shmmax")},
		{`linux.sysctl "fs.mqueue.msg_max": not allowed in the host's ipc namespace`, without(specs.IPCNamespace, "fs.mqueue.msg_max")},
		{`linux.sysctl "kernel.domainname": not allowed in the host's uts namespace`, without(specs.UTSNamespace, "kernel.domainname")},
		{`linux.sysctl "kernel.hostname": not allowed, the hostname field sets it`, only("kernel.hostname")},
		{`linux.sysctl "kernel.core_pattern": ` + foreign, only("kernel.core_pattern")},
		{`linux.sysctl "kernel.shmmax.x": ` + foreign, only("kernel.shmmax.x")},
		{`linux.sysctl "kernel.shm/max": ` + foreign, only("kernel.shm/max")},
		{`linux.sysctl "vm.swappiness": ` + foreign, only("vm.swappiness")},
		{`linux.sysctl "net": ` + foreign, only("net")},
		{`linux.sysctl "network.x": ` + foreign, only("network.x")},
		{`linux.sysctl "user.max_user_namespaces": ` + foreign, only("user.max_user_namespaces")},
		{`linux.sysctl "": not a sysctl's name`, only("")},
		{`linux.sysctl "net/../kernel/core_pattern": not a sysctl's name`, only("net/../kernel/core_pattern")},
		{`linux.sysctl "net.//.kernel.core_pattern": not a sysctl's name`, only("net.//.kernel.core_pattern")},
		{`linux.sysctl "net/./x": not a sysctl's name`, only("net/./x")},
		{`linux.sysctl "net..x": not a sysctl's name`, only("net..x")},
		{`linux.sysctl "/net/x": not a sysctl's name`, only("/net/x")},
		{`linux.sysctl "net.x\x00": not a sysctl's name`, only("net.x\x00")},
		{`linux.sysctl "net.x": value "\x00" contains a NUL byte`, func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"net.x": "\x00"} }},
	})
}

func TestValidateDevices(t *testing.T) {
	runRules(t, []rule{
		{`linux.devices[0].path: missing`, func(s *specs.Spec) { s.Linux.Devices[0].Path = "" }},
		{`linux.devices[0].path "dev/a": must be absolute`, func(s *specs.Spec) { s.Linux.Devices[0].Path = "dev/a" }},
		{`linux.devices[0].path "/\x00": contains a NUL byte`, func(s *specs.Spec) { s.Linux.Devices[0].Path = "/\x00" }},
		{`linux.devices[1].type: missing`, func(s *specs.Spec) { s.Linux.Devices[1].Type = "" }},
		{`linux.devices[1].type "a": must be b, c, u or p`, func(s *specs.Spec) { s.Linux.Devices[1].Type = "a" }},
		{`linux.devices[0].major -1: must be from 0 to 4095`, func(s *specs.Spec) { s.Linux.Devices[0].Major = -1 }},
		{`linux.devices[0].major 4096: must be from 0 to 4095`, func(s *specs.Spec) { s.Linux.Devices[0].Major = 4096 }},
		{`linux.devices[2].minor -1: must be from 0 to 1048575`, func(s *specs.Spec) { s.Linux.Devices[2].Minor = -1 }},
		{`linux.devices[2].minor 1048576: must be from 0 to 1048575`, func(s *specs.Spec) { s.Linux.Devices[2].Minor = 1 << 20 }},
	})
}

func TestValidateLinux(t *testing.T) {
	runRules(t, []rule{
		{`linux.rootfsPropagation "rw": must be shared, slave, private or unbindable`, func(s *specs.Spec) { s.Linux.RootfsPropagation = "rw" }},
		{`linux.personality.domain "BSD": must be LINUX or LINUX32`, func(s *specs.Spec) { s.Linux.Personality.Domain = "BSD" }},
		{`linux.personality.flags[0] "X": unknown`, func(s *specs.Spec) { s.Linux.Personality.Flags = []specs.LinuxPersonalityFlag{"X"} }},
		{`linux.maskedPaths[1] "proc": must be absolute`, func(s *specs.Spec) { s.Linux.MaskedPaths[1] = "proc" }},
		{`linux.maskedPaths[0] "": must be absolute`, func(s *specs.Spec) { s.Linux.MaskedPaths[0] = "" }},
		{`linux.maskedPaths[0] "/\x00": contains a NUL byte`, func(s *specs.Spec) { s.Linux.MaskedPaths[0] = "/\x00" }},
		{`linux.readonlyPaths[1] "proc": must be absolute`, func(s *specs.Spec) { s.Linux.ReadonlyPaths[1] = "proc" }},
		{`linux.cgroupsPath "../x": must not contain ".."`, func(s *specs.Spec) { s.Linux.CgroupsPath = "../x" }},
		{`linux.cgroupsPath "/a/..": must not contain ".."`, func(s *specs.Spec) { s.Linux.CgroupsPath = "/a/.." }},
		{`linux.cgroupsPath "/\x00": contains a NUL byte`, func(s *specs.Spec) { s.Linux.CgroupsPath = "/\x00" }},
	})
}

func TestValidateResources(t *testing.T) {
	res := func(change func(*specs.LinuxResources)) func(*specs.Spec) {
		return func(s *specs.Spec) { change(s.Linux.Resources) }
	}
	page := func(size string) func(*specs.Spec) {
		return res(func(r *specs.LinuxResources) { r.HugepageLimits[1].Pagesize = size })
	}
	const badPage = "must be a number and KB, MB or GB"
	runRules(t, []rule{
		{`linux.resources.devices[1].type "u": must be a, b or c`, res(func(r *specs.LinuxResources) { r.Devices[1].Type = "u" })},
		{`linux.resources.devices[0].access: must not be empty`, res(func(r *specs.LinuxResources) { r.Devices[0].Access = "" })},
		{`linux.resources.devices[0].access "rx": must consist of r, w and m`, res(func(r *specs.LinuxResources) { r.Devices[0].Access = "rx" })},
		{`linux.resources.devices[2].major -2: must be from -1 to 4095`, res(func(r *specs.LinuxResources) { *r.Devices[2].Major = -2 })},
		{`linux.resources.devices[2].minor 1048576: must be from -1 to 1048575`, res(func(r *specs.LinuxResources) { *r.Devices[2].Minor = 1 << 20 })},
		{`linux.resources.memory.limit -2: must be -1 or more`, res(func(r *specs.LinuxResources) { *r.Memory.Limit = -2 })},
		{`linux.resources.memory.reservation -2: must be -1 or more`, res(func(r *specs.LinuxResources) { *r.Memory.Reservation = -2 })},
		{`linux.resources.memory.swap -2: must be -1 or more`, res(func(r *specs.LinuxResources) { *r.Memory.Swap = -2 })},
		{`linux.resources.memory.swap 1: must not be less than memory.limit 2, which it includes`, res(func(r *specs.LinuxResources) { *r.Memory.Limit, *r.Memory.Swap = 2, 1 })},
		{`linux.resources.memory.swappiness 101: must be from 0 to 100`, res(func(r *specs.LinuxResources) { *r.Memory.Swappiness = 101 })},
		{`linux.resources.cpu.cpus "a": not a list such as 0-3,7`, res(func(r *specs.LinuxResources) { r.CPU.Cpus = "a" })},
		{`linux.resources.cpu.mems "0\x00": not a list such as 0-3,7`, res(func(r *specs.LinuxResources) { r.CPU.Mems = "0\x00" })},
		{`linux.resources.cpu.idle 2: must be 0 or 1`, res(func(r *specs.LinuxResources) { *r.CPU.Idle = 2 })},
		{`linux.resources.cpu.quota -2: must be -1 or more`, res(func(r *specs.LinuxResources) { *r.CPU.Quota = -2 })},
		{`linux.resources.blockIO.weight 9: must be from 10 to 1000`, res(func(r *specs.LinuxResources) { *r.BlockIO.Weight = 9 })},
		{`linux.resources.blockIO.leafWeight 1001: must be from 10 to 1000`, res(func(r *specs.LinuxResources) { *r.BlockIO.LeafWeight = 1001 })},
		{`linux.resources.blockIO.weightDevice[0].weight 9: must be from 10 to 1000`, res(func(r *specs.LinuxResources) { *r.BlockIO.WeightDevice[0].Weight = 9 })},
		{`linux.resources.blockIO.weightDevice[0].leafWeight 9: must be from 10 to 1000`, res(func(r *specs.LinuxResources) { r.BlockIO.WeightDevice[0].LeafWeight = new(uint16(9)) })},
		{`linux.resources.blockIO.weightDevice[0].major -1: must be from 0 to 4095`, res(func(r *specs.LinuxResources) { r.BlockIO.WeightDevice[0].Major = -1 })},
		{`linux.resources.blockIO.throttleReadBpsDevice[0].minor -1: must be from 0 to 1048575`, res(func(r *specs.LinuxResources) { r.BlockIO.ThrottleReadBpsDevice[0].Minor = -1 })},
		{`linux.resources.blockIO.throttleWriteIOPSDevice[0].major -1: must be from 0 to 4095`, res(func(r *specs.LinuxResources) {
			r.BlockIO.ThrottleWriteIOPSDevice = []specs.LinuxThrottleDevice{{LinuxBlockIODevice: specs.LinuxBlockIODevice{Major: -1}}}
		})},
		{`linux.resources.hugepageLimits[1].pageSize "2M": ` + badPage, page("2M")},
		{`linux.resources.hugepageLimits[1].pageSize "2TB": ` + badPage, page("2TB")},
		{`linux.resources.hugepageLimits[1].pageSize "MB": ` + badPage, page("MB")},
		{`linux.resources.hugepageLimits[1].pageSize "2KMB": ` + badPage, page("2KMB")},
		{`linux.resources.hugepageLimits[1].pageSize "2B": ` + badPage, page("2B")},
		{`linux.resources.hugepageLimits[1].pageSize "B": ` + badPage, page("B")},
		{`linux.resources.hugepageLimits[1].pageSize "": ` + badPage, page("")},
		{`linux.resources.hugepageLimits[1].pageSize "02MB": ` + badPage, page("02MB")},
		{`linux.resources.hugepageLimits[1].pageSize "../2MB": ` + badPage, page("../2MB")},
		{`linux.resources.network.priorities[0].name "": not an interface's name`, res(func(r *specs.LinuxResources) { r.Network.Priorities[0].Name = "" })},
		{`linux.resources.network.priorities[0].name "a 1\nb": not an interface's name`, res(func(r *specs.LinuxResources) { r.Network.Priorities[0].Name = "a 1\nb" })},
		{`linux.resources.rdma["a b"]: not a device's name`, res(func(r *specs.LinuxResources) { r.Rdma["a b"] = specs.LinuxRdma{} })},
		{`linux.resources.unified["../memory.high"]: not a file of a cgroup, such as memory.high`, res(func(r *specs.LinuxResources) { r.Unified["../memory.high"] = "" })},
		{`linux.resources.unified["memory"]: not a file of a cgroup, such as memory.high`, res(func(r *specs.LinuxResources) { r.Unified["memory"] = "" })},
		{`linux.resources.unified[".high"]: not a file of a cgroup, such as memory.high`, res(func(r *specs.LinuxResources) { r.Unified[".high"] = "" })},
		{`linux.resources.unified["a.b"] "\x00": contains a NUL byte`, res(func(r *specs.LinuxResources) { r.Unified["a.b"] = "\x00" })},
	})
}

func TestIntelRdt(t *testing.T) {
	rdt := func(r specs.LinuxIntelRdt) func(*specs.Spec) {
		return func(s *specs.Spec) { s.Linux.IntelRdt = &r }
	}
	list := []rule{
		{`linux.intelRdt.memBwSchema "L3:0=f": must begin with "MB:"`, rdt(specs.LinuxIntelRdt{MemBwSchema: "L3:0=f"})},
		{`linux.intelRdt.memBwSchema "MB:0=5\nL3:0=f": not one line`, rdt(specs.LinuxIntelRdt{MemBwSchema: "MB:0=5\nL3:0=f"})},
		{`linux.intelRdt.schemata[1] "L3:0=f\nL2:0=f": not one line`, rdt(specs.LinuxIntelRdt{Schemata: []string{"", "L3:0=f\nL2:0=f"}})},
		{`linux.intelRdt.l3CacheSchema "L3:\x00": contains a NUL byte`, rdt(specs.LinuxIntelRdt{L3CacheSchema: "L3:\x00"})},
		{`linux.intelRdt.closID "` + strings.Repeat("c", 256) + `": longer than 255 bytes`, rdt(specs.LinuxIntelRdt{ClosID: strings.Repeat("c", 256)})},
	}
	for _, id := range []string{".", "..", "../x", "a/b", "/a", "//", "a\n", "a\x00"} {
		list = append(list, rule{fmt.Sprintf("linux.intelRdt.closID %q: not the name of a resctrl group", id), rdt(specs.LinuxIntelRdt{ClosID: id})})
	}
	runRules(t, list)
	for _, r := range []specs.LinuxIntelRdt{
		{},
		{ClosID: "a b\u00e9..c"},
		{ClosID: "/", L3CacheSchema: "L3CODE:0=f\nL3DATA:0=f", MemBwSchema: "MB:0=5", Schemata: []string{"L2:0=1"}, EnableMonitoring: true},
	} {
		s := ordinary()
		s.Linux.IntelRdt = &r
		if err := checkIntelRdt(s); err != nil {
			t.Error(err)
		}
	}
}

func TestUnsupported(t *testing.T) {
	runRules(t, []rule{
		{`vm: virtual machines are not supported`, func(s *specs.Spec) { s.VM = &specs.VM{} }},
		{`windows: only Linux is supported`, func(s *specs.Spec) { s.Windows = &specs.Windows{} }},
		{`solaris: only Linux is supported`, func(s *specs.Spec) { s.Solaris = &specs.Solaris{} }},
		{`zos: only Linux is supported`, func(s *specs.Spec) { s.ZOS = &specs.ZOS{} }},
		{`freebsd: only Linux is supported`, func(s *specs.Spec) { s.FreeBSD = &specs.FreeBSD{} }},
		{`process.commandLine: only Windows has it, use process.args`, func(s *specs.Spec) { s.Process.CommandLine = "c" }},
		{`process.user.username: only Windows has it, use process.user.uid`, func(s *specs.Spec) { s.Process.User.Username = "u" }},
	})
}

// FuzzValidate: whatever decodes can be validated without a panic, and a problem
// is one line.
func FuzzValidate(f *testing.F) {
	for _, raw := range samples(f) {
		f.Add(raw)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := Load(raw)
		if err != nil {
			return
		}
		err = Validate(&Bundle{Dir: dir, Spec: s})
		if err != nil && strings.ContainsAny(err.Error(), "\n\x00") {
			t.Errorf("not one line: %q", err)
		}
	})
}
