package managers

import (
	"fmt"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"adl.run/adl-runtime/tests/harness"
)

// probe prints, in sections, what a process sees of its container.
const probe = `
exec 2>&1
section() { echo "== $*"; }
lines() { while read f; do echo "$f $(cat $f 2>&1 | tr '\n' ';')"; done; }
section mountinfo; cat /proc/self/mountinfo
section dev; cd /dev; find . | sort | while read f; do stat -c '%n %F %a %u:%g %t:%T %N' $f; done
section files; cd /; for f in / /* /etc/* /proc/1 /proc/sys /sys/fs/cgroup /run/*; do stat -c '%n %F %a %u:%g' $f; done
section status; cat /proc/self/status
section init; grep -E '^(Groups|Sig|Cap|NoNew|Seccomp|Umask)' /proc/1/status; for f in /proc/1/exe /proc/1/cwd /proc/1/root; do readlink $f || echo "$f is not for us"; done
section limits; cat /proc/self/limits
section env; env | sort
section namespaces; for n in /proc/self/ns/*; do test $(readlink $n) = $(readlink /proc/1/ns/${n##*/}) && echo "$n as init's"; done
section descriptors; ls -l /proc/self/fd | sed -n 's/.* \([0-9]* -> .*\)/\1/p'
section cgroup; cat /proc/self/cgroup
section limits of cgroups; find /sys/fs/cgroup -type f | grep -E 'max$|min$|low$|high$|limit_in_bytes|quota|period|shares|weight|cpus$|mems$|swappiness|oom_control|oom.group|freezer\.state|cgroup\.freeze|subtree_control|cgroup\.type|runtime_us' | sort | lines
section devices; for f in /sys/fs/cgroup/devices/devices.list; do sort $f 2>&1; done
section attributes; for f in /proc/self/attr/current /proc/self/coredump_filter /proc/self/gid_map /proc/self/loginuid /proc/self/oom_score_adj /proc/self/personality /proc/self/sessionid /proc/self/setgroups /proc/self/timerslack_ns /proc/self/uid_map /proc/sys/kernel/domainname /proc/sys/kernel/hostname /proc/sys/net/ipv4/ping_group_range /proc/sys/net/ipv4/ip_unprivileged_port_start; do echo $f; done | lines
section session; cut -d' ' -f4-8 /proc/1/stat
section masks; for f in /proc/acpi /proc/asound /proc/bus /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/sched_debug /proc/scsi /proc/timer_list /proc/timer_stats /sys/devices/virtual/powercap /sys/firmware; do stat -c '%n %F %t:%T' $f 2>&1; ls $f 2>&1 | wc -l; done
section interfaces; tail -n +3 /proc/net/dev | cut -d: -f1; wc -l </proc/net/route; wc -l </proc/net/if_inet6
`

// view is a container that a manager makes in some way; it returns the probe's output.
type view struct {
	name string
	run  func(c client) string
}

// flagViews are views of podman and Docker.
func flagViews() []view {
	flags := func(name, flags string) view {
		return view{name, func(c client) string { return c.run("--name view --hostname view "+flags, probe) }}
	}
	return []view{
		flags("default", ""),
		flags("terminal", "-t"),
		flags("user", "--user 1000:1000 --read-only --security-opt no-new-privileges"),
		flags("limits", "--memory 64m --cpus 0.5 --pids-limit 50 --cap-drop ALL --ulimit nofile=100:200 --ulimit nproc=300:300 --tmpfs /scratch --init"),
		flags("host", "--network host --pid host --ipc host --cap-add SYS_ADMIN"),
		{"exec", func(c client) string {
			c.start("view", "--hostname view", forever)
			return c.exec("", "view", probe)
		}},
		{"exec of a user", func(c client) string {
			c.start("view", "--hostname view", forever)
			return c.exec("--user 1000:1000 --workdir /tmp --env A=b", "view", probe)
		}},
	}
}

// compareViews runs each view on the runtime under test and on runc.
func compareViews(t *testing.T, list []view, tested, runc func(*testing.T) client, tidy func(client)) {
	for _, v := range list {
		t.Run(v.name, func(t *testing.T) {
			var seen []string
			for _, connect := range []func(*testing.T) client{tested, runc} {
				c := connect(t)
				seen = append(seen, v.run(c))
				tidy(c)
			}
			sameView(t, seen[0], seen[1])
		})
	}
}

// sameView compares two outputs of the probe.
func sameView(t *testing.T, ours, runcs string) {
	t.Helper()
	a, b := sections(ours), sections(runcs)
	if len(a) < 10 || len(a) != len(b) {
		t.Fatalf("the probe has %d sections, and %d under runc", len(a), len(b))
	}
	for name := range b {
		for _, d := range differences(a[name], b[name]) {
			if !explained(name, d) {
				t.Errorf("%s: %s", name, d)
			}
		}
	}
}

func TestViewPodman(t *testing.T) {
	need(t, "runc")
	p := newPodman(t)
	views := append(flagViews(), view{"privileged", func(c client) string { return c.run("--name view --hostname view --privileged", probe) }})
	compareViews(t, views, p.client, func(t *testing.T) client { return p.on(t, runcPath(t)) }, p.tidy)
}

func TestViewDocker(t *testing.T) {
	need(t, "runc")
	d := newDocker(t)
	compareViews(t, flagViews(), d.client, func(t *testing.T) client {
		c := d.client(t)
		c.create = append(slices.Clone(c.create), "--runtime", "runc")
		return c
	}, d.tidy)
}

func TestViewContainerd(t *testing.T) {
	need(t, "runc")
	d := newContainerd(t)
	flags := func(name, flags string) view {
		return view{name, func(c client) string { return ctr(c, "--rm "+flags, probe).ok() }}
	}
	views := []view{
		flags("default", ""),
		flags("seccomp", "--seccomp --read-only --memory-limit 67108864"),
		{"exec", func(c client) string {
			ctr(c, "-d", forever).ok()
			return c.ok("tasks", "exec", "--exec-id", "e1", "c1", "sh", "-c", probe)
		}},
	}
	compareViews(t, views, d.client, func(t *testing.T) client { return d.on(t, runcPath(t)) }, d.tidy)
}

func TestViewCRI(t *testing.T) {
	need(t, "runc")
	d := newContainerd(t)
	security := func(change func(*cri.LinuxContainerSecurityContext)) func(*cri.ContainerConfig) {
		return func(c *cri.ContainerConfig) { change(c.Linux.SecurityContext) }
	}
	for _, v := range []struct {
		name   string
		change func(*cri.ContainerConfig)
	}{
		{"default", nil},
		{"user", security(func(s *cri.LinuxContainerSecurityContext) {
			s.RunAsUser, s.ReadonlyRootfs, s.NoNewPrivs = &cri.Int64Value{Value: 1000}, true, true
			s.Seccomp = &cri.SecurityProfile{ProfileType: cri.SecurityProfile_RuntimeDefault}
			s.Capabilities = &cri.Capability{DropCapabilities: []string{"ALL"}, AddCapabilities: []string{"NET_BIND_SERVICE"}}
		})},
		{"limits", func(c *cri.ContainerConfig) {
			c.Linux.Resources = &cri.LinuxContainerResources{MemoryLimitInBytes: 64 << 20, CpuQuota: 50000, CpuPeriod: 100000, CpuShares: 512, OomScoreAdj: 900}
		}},
	} {
		t.Run(v.name, func(t *testing.T) {
			var seen []string
			for _, class := range []string{handler, "runc"} {
				k := d.kubelet(t)
				k.handler = class
				k.run(nil)
				seen = append(seen, k.output(k.start("one", probe, v.change)))
				k.tidy()
			}
			sameView(t, seen[0], seen[1])
		})
	}
}

func runcPath(t *testing.T) string {
	path, err := exec.LookPath("runc")
	harness.Must(t, err)
	return path
}

// sections splits the probe's output and takes out of it what differs from one
// container to the next.
func sections(text string) map[string][]string {
	all := map[string][]string{}
	name := ""
	var mounts []string
	for _, line := range harness.Lines(strings.ReplaceAll(text, "\r\n", "\n")) {
		title, isTitle := strings.CutPrefix(line, "== ")
		switch {
		case isTitle:
			name = title
			all[name] = nil
		case name == "mountinfo":
			mounts = append(mounts, line)
		default:
			all[name] = append(all[name], plain(name, line))
		}
	}
	all["mountinfo"] = mountTree(mounts)
	return all
}

// plain replaces ids, numbers of pipes and counters.
func plain(section, line string) string {
	for _, r := range []struct{ pattern, by string }{
		{`[0-9a-f]{64}`, "ID"},
		{`[0-9a-f]{12}\b`, "SHORTID"},
		{`(pipe|socket):\[[0-9]+\]`, "$1"},
		{`^(Pid|Tgid|NSpid|NStgid|NSpgid|NSsid|PPid|Vm\w+|Rss\w+|voluntary_ctxt_switches|nonvoluntary_ctxt_switches|SigQ|HugetlbPages|x86_Thread\w*|Cpus_allowed\w*|Mems_allowed\w*):.*`, "$1"},
		{`^(/proc/self/fd|3 -> /proc/)[0-9]+.*`, "$1"},
		{`/proc/[0-9]+/`, "/proc/N/"},
		{`0::/.*`, "0::/…"},
	} {
		line = regexp.MustCompile(r.pattern).ReplaceAllString(line, r.by)
	}
	if section == "session" {
		line = regexp.MustCompile(`\b[2-9][0-9]*\b`).ReplaceAllString(line, "N")
	}
	return line
}

// mountTree is mountinfo (proc_pid_mountinfo(5)) without numbers: the mount point of
// the parent, root, mount point, options and so on.
func mountTree(lines []string) []string {
	points := map[string]string{}
	for _, line := range lines {
		f := strings.Fields(line)
		points[f[0]] = f[4]
	}
	var tree []string
	for _, line := range lines {
		f := strings.Fields(line)
		rest := strings.Join(f[5:], " ")
		rest = regexp.MustCompile(`(shared|master):[0-9]+`).ReplaceAllString(rest, "$1")
		rest = regexp.MustCompile(`(lowerdir|upperdir|workdir)=[^ ,]*`).ReplaceAllString(rest, "$1")
		parent := points[f[1]]
		if path.Dir(f[4]) == f[4] {
			parent = "outside"
		}
		tree = append(tree, plain("", fmt.Sprintf("%s (on %s): %s %s", f[4], parent, f[3], rest)))
	}
	return tree
}

// differences lists the lines that only one of them has.
func differences(ours, runcs []string) []string {
	var list []string
	count := map[string]int{}
	for _, l := range ours {
		count[l]++
	}
	for _, l := range runcs {
		count[l]--
	}
	for l, n := range count {
		switch {
		case n > 0:
			list = append(list, "only ours: "+l)
		case n < 0:
			list = append(list, "only runc: "+l)
		}
	}
	slices.Sort(list)
	return list
}

// reasons are the differences that are meant to be, each with a heading of
// docs/differences.md.
func reasons() []struct{ heading, section, line string } {
	const v1 = "/sys/fs/cgroup on cgroup v1"
	return []struct{ heading, section, line string }{
		{v1, "mountinfo", `/sys/fs/cgroup \(on /sys\): / r[ow],nosuid,nodev,noexec,relatime - tmpfs`},
		{v1, "files", `/sys/fs/cgroup directory [57]55 0:0`},
		{"cpu.shares on cgroup v2", "limits of cgroups", `/sys/fs/cgroup/cpu\.weight(\.nice)? `},
		{"/dev/core", "dev", `only runc: \./core symbolic link .* -> '/proc/kcore'`},
	}
}

func explained(section, line string) bool {
	for _, r := range reasons() {
		if r.section == section && regexp.MustCompile(r.line).MatchString(line) {
			return true
		}
	}
	return false
}

// TestReasons: what is called explained is explained.
func TestReasons(t *testing.T) {
	text, err := os.ReadFile("../../docs/differences.md")
	harness.Must(t, err)
	for _, r := range reasons() {
		if !strings.Contains(string(text), "\n## "+r.heading+"\n") {
			t.Errorf("docs/differences.md has no heading %q", r.heading)
		}
	}
}
