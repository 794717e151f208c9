package bundle_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	h "adl.run/adl-runtime/tests/harness"
)

// mappedRoot is the host's id of root in the tests' user namespaces.
const mappedRoot = 300000

func idMap(container, host, size uint32) specs.LinuxIDMapping {
	return specs.LinuxIDMapping{ContainerID: container, HostID: host, Size: size}
}

// withUserns gives the container a new user namespace in which it owns its rootfs.
func withUserns(t *testing.T, b *h.Bundle, mutators ...h.Mutate) *h.Bundle {
	t.Helper()
	b.Set(h.Namespace(specs.UserNamespace, ""))
	b.Spec.Linux.UIDMappings = []specs.LinuxIDMapping{idMap(0, mappedRoot, 65536)}
	b.Spec.Linux.GIDMappings = b.Spec.Linux.UIDMappings
	b.Set(mutators...)
	own(t, b.Rootfs)
	// Others than this runtime reach a rootfs only if the container's root does.
	h.Must(t, os.Chmod(filepath.Dir(filepath.Dir(b.Dir)), 0o711))
	return b
}

// own gives the directory and what is in it to the root of the tests' user namespaces.
func own(t *testing.T, dir string) {
	t.Helper()
	h.Must(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() != "busybox" { // a link to all tests' copy
			err = os.Lchown(p, mappedRoot, mappedRoot)
		}
		return err
	}))
}

// owner is the inode of the user namespace that a process's namespace belongs to.
func owner(t *testing.T, pid int, name string) uint64 {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, name))
	h.Must(t, err)
	defer f.Close()
	fd, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_USERNS)
	h.Must(t, err)
	defer unix.Close(fd)
	return inode(t, fd)
}

func inode(t *testing.T, fd int) uint64 {
	t.Helper()
	var st unix.Stat_t
	h.Must(t, unix.Fstat(fd, &st))
	return st.Ino
}

// Every new namespace belongs to the user namespace, so that its root rules there.
func TestLinuxUserNamespace_New(t *testing.T) {
	t.Parallel()
	b := withUserns(t, h.New(t, h.Sh("id; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups; echo ready; exec sleep 1000")),
		h.Namespace(specs.CgroupNamespace, ""))
	c := b.Launch()
	c.WaitOutput("ready")
	want := fmt.Sprintf("uid=0(root) gid=0(root)\n0 %[1]d 65536\n0 %[1]d 65536\nallow\nready", mappedRoot)
	if got := fields(c.Stdout()); got != want {
		t.Errorf("the container sees %q, want %q", got, want)
	}
	user, err := os.Stat(fmt.Sprintf("/proc/%d/ns/user", c.Pid))
	h.Must(t, err)
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", c.Pid))
	h.Must(t, err)
	defer f.Close()
	own := inode(t, int(f.Fd()))
	for _, name := range []string{"pid", "net", "ipc", "uts", "mnt", "cgroup"} {
		if got := owner(t, c.Pid, name); got != own {
			t.Errorf("%s belongs to user namespace %d, not to the container's %d", name, got, own)
		}
	}
	if host, err := os.Stat("/proc/self/ns/user"); err != nil || os.SameFile(user, host) {
		t.Error("the user namespace is the host's")
	}
	if st := h.ReadFile(t, fmt.Sprintf("/proc/%d/status", c.Pid)); fields(h.StatusField(t, st, "Uid")) != strings.TrimSpace(strings.Repeat(fmt.Sprintf("%d ", mappedRoot), 4)) {
		t.Errorf("on the host the process has the uids %s", h.StatusField(t, st, "Uid"))
	}
	c.Delete("--force")
}

// fields is text with the words of each line one blank apart.
func fields(text string) string {
	var lines []string
	for _, line := range h.Lines(text) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "\n")
}

func TestLinuxUserNamespace_RootMay(t *testing.T) {
	t.Parallel()
	b := withUserns(t, h.New(t, h.Writable(), h.AllCaps("CAP_SYS_ADMIN", "CAP_CHOWN", "CAP_MKNOD", "CAP_NET_ADMIN")))
	b.Set(h.Sh(`hostname other && hostname
		mount -t tmpfs x /mnt && touch /mnt/f && chown 7:8 /mnt/f && stat -c %u:%g /mnt/f
		ip link set lo down && echo net
		echo made >/root/f && stat -c %u:%g /root/f
		mknod /root/node c 1 3 2>/dev/null || echo no nodes
		mount -o remount,rw /bound 2>/dev/null || echo locked`))
	// The host's attributes of a mount hold in a user namespace that gets a copy.
	src := filepath.Join(b.Work, "source")
	h.HostMount(t, "none", src, "tmpfs", 0, "mode=755")
	h.Must(t, unix.Mount("", src, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
	b.Set(h.Mount("/bound", "bind", src, "rbind"))
	if got, want := b.Out(), "other\n7:8\nnet\n0:0\nno nodes\nlocked"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	var st unix.Stat_t
	h.Must(t, unix.Stat(b.In("root/f"), &st))
	if st.Uid != mappedRoot {
		t.Errorf("on the host the file belongs to %d", st.Uid)
	}
}

func TestLinuxUserNamespace_User(t *testing.T) {
	t.Parallel()
	b := withUserns(t, h.New(t, h.Sh("id; grep -E 'Cap(Eff|Bnd)' /proc/self/status; cat /proc/self/oom_score_adj"), h.User(1000, 1000, 5, 6)))
	adj := 500
	if mayRaise(t) {
		adj = -500
	}
	b.Spec.Process.OOMScoreAdj = &adj
	want := fmt.Sprintf("uid=1000(user) gid=1000(user) groups=5,6\nCapEff: 0000000000000000\nCapBnd: 0000000020000420\n%d", adj)
	if got := fields(b.Out()); got != want && got != strings.Replace(want, "groups=5", "groups=1000(user),5", 1) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The devices are the host's, as mknod(2) is not for this root.
func TestLinuxUserNamespace_Devices(t *testing.T) {
	t.Parallel()
	b := withUserns(t, h.New(t, h.Sh("for d in null zero full random urandom tty; do stat -c '%F %t:%T' /dev/$d; done; echo x >/dev/null && head -c 3 /dev/zero | od -An -tx1; echo made >/dev/new && cat /dev/new")))
	want := strings.Join([]string{
		"character special file 1:3", "character special file 1:5", "character special file 1:7",
		"character special file 1:8", "character special file 1:9", "character special file 5:0", "00 00 00", "made",
	}, "\n")
	if got := fields(b.Out()); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLinuxUserNamespace_DeviceOfTheHost(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "runc binds whatever has the name")
	for path, want := range map[string]string{
		"/dev/not-there": "linux.devices[0] /dev/not-there: with a user namespace it has to be the host's, which has none there",
		"/dev/zero":      "linux.devices[0] /dev/zero: with a user namespace it has to be the host's, which is another device",
	} {
		b := withUserns(t, h.New(t))
		b.Spec.Linux.Devices = []specs.LinuxDevice{{Path: path, Type: "c", Major: 1, Minor: 3}}
		b.Run().Refused(t, want, "")
	}
}

// mayRaise says whether the runtime has CAP_SYS_RESOURCE.
func mayRaise(t *testing.T) bool {
	t.Helper()
	var mask uint64
	_, err := fmt.Sscanf(h.StatusField(t, h.ReadFile(t, "/proc/self/status"), "CapEff"), "%x", &mask)
	h.Must(t, err)
	return mask&(1<<unix.CAP_SYS_RESOURCE) != 0
}

// Limits above the runtime's own and sysctls take privileges outside and inside.
func TestLinuxUserNamespace_LimitsAndSysctl(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun is subject to the limits itself")
	var own unix.Rlimit
	h.Must(t, unix.Getrlimit(unix.RLIMIT_SIGPENDING, &own))
	hard := own.Max
	if mayRaise(t) {
		hard += 2
	}
	b := withUserns(t, h.New(t, h.Sh("grep -E 'pending signals|open files' /proc/self/limits; cat /proc/sys/net/ipv4/ip_forward"),
		h.Rlimits(specs.POSIXRlimit{Type: "RLIMIT_NOFILE", Soft: 20, Hard: 30}, specs.POSIXRlimit{Type: "RLIMIT_SIGPENDING", Soft: hard - 1, Hard: hard})))
	b.Spec.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"}
	got := strings.Split(fields(b.Out()), "\n")
	want := []string{"Max open files 20 30 files", fmt.Sprintf("Max pending signals %d %d signals", hard-1, hard), "1"}
	if len(got) != 3 || got[0]+got[1] != want[0]+want[1] && got[1]+got[0] != want[0]+want[1] || got[2] != "1" {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The runtime opens what is mounted, so only that has to be the container's.
func TestLinuxUserNamespace_UnreachableSource(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun 1.8 leaves out what is mounted below the source")
	b := withUserns(t, h.New(t, h.Sh("cat /bound/file /single; ls /bound/below")))
	closed := filepath.Join(b.Work, "closed")
	h.Must(t, os.MkdirAll(filepath.Join(closed, "src/below"), 0o755))
	h.WriteFile(t, closed+"/src/file", "seen\n", 0o644)
	h.HostMount(t, "none", closed+"/src/below", "tmpfs", 0, "mode=755")
	h.WriteFile(t, closed+"/src/below/deep", "", 0o644)
	h.Must(t, os.Chmod(closed, 0o700))
	b.Set(h.Mount("/bound", "bind", closed+"/src", "rbind", "ro"), h.Mount("/single", "bind", closed+"/src/file", "rbind"))
	if got := b.Out(); got != "seen\nseen\ndeep" {
		t.Errorf("got %q", got)
	}
	b = withUserns(t, h.New(t), h.Mount("/bound", "bind", closed+"/src", "bind"))
	b.Run().Refused(t, "mounts[7] /bound: a user namespace must not uncover what mounts below the source hide: use rbind", "invalid argument")
}

func TestLinuxUserNamespace_UnreachableRootfs(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "others open the root filesystem as the container's root")
	b := withUserns(t, h.New(t, h.Sh("echo ran; pwd; ls -d /bin")))
	h.Must(t, os.Chmod(b.Dir, 0o700))
	if got := b.Out(); got != "ran\n/\n/bin" {
		t.Errorf("got %q", got)
	}
}

// As a pod's second container: the user namespace and what belongs to it are joined.
func TestLinuxUserNamespace_Joined(t *testing.T) {
	t.Parallel()
	first := withUserns(t, h.New(t, h.Sh("echo ready; exec sleep 1000")))
	pause := first.Launch()
	pause.WaitOutput("ready")
	for _, repeat := range []bool{false, true} {
		if !repeat && h.Reference() == "runc" {
			continue // before 1.2 it wants them to be repeated
		}
		b := withUserns(t, h.New(t, h.Sh("id -u; readlink /proc/self/ns/user; "+printNs)))
		b.Spec.Hostname = ""
		if !repeat {
			b.Spec.Linux.UIDMappings, b.Spec.Linux.GIDMappings = nil, nil
		}
		for name, typ := range map[string]specs.LinuxNamespaceType{"user": "user", "net": "network", "ipc": "ipc", "uts": "uts"} {
			b.Set(h.Namespace(typ, fmt.Sprintf("/proc/%d/ns/%s", pause.Pid, name)))
		}
		out := b.Out()
		links := nsLinks(out)
		if !strings.HasPrefix(out, "0\n") {
			t.Errorf("not root: %q", out)
		}
		for name, want := range map[string]bool{"user": true, "net": true, "ipc": true, "uts": true, "mnt": false, "pid": false} {
			if same := links[name] == h.NsLink(t, pause.Pid, name); same != want {
				t.Errorf("%s is %s, the first container's: %v", name, links[name], same)
			}
		}
	}
	pause.Delete("--force")
}

// A namespace that belongs to the host can be joined as well, as a network made by CNI.
func TestLinuxUserNamespace_JoinsOthersOfTheHost(t *testing.T) {
	t.Parallel()
	helper := h.StartHelper(t, unix.CLONE_NEWNET|unix.CLONE_NEWIPC)
	b := withUserns(t, h.New(t, h.Sh(printNs), h.WithoutMount("/sys"), h.WithoutMount("/dev/mqueue")),
		h.Namespace(specs.NetworkNamespace, helper.Ns("net")), h.Namespace(specs.IPCNamespace, helper.Ns("ipc")))
	links := nsLinks(b.Out())
	for _, name := range []string{"net", "ipc"} {
		if links[name] != h.NsLink(t, helper.Pid, name) {
			t.Errorf("%s is %s, want the helper's", name, links[name])
		}
	}
}

func TestLinuxUserNamespace_JoinOwnIsRefused(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Namespace(specs.UserNamespace, "/proc/self/ns/user"))
	b.Run().Refused(t, "linux.namespaces[5] user /proc/self/ns/user: is the user namespace of the runtime itself", "no uid mappings found")
}

func TestLinuxUserNamespace_Terminal(t *testing.T) {
	t.Parallel()
	b := withUserns(t, h.New(t, h.Terminal(0, 0), h.User(7, 8), h.Sh("tty; stat -c %u:%g /dev/pts/0; echo x >/dev/console && echo end")))
	sock := b.ListenConsole()
	c, r := b.TryCreate([]string{"--console-socket", sock.Path})
	r.OK(t)
	console := sock.Receive()
	c.Start()
	console.WaitText("end")
	c.WaitExit()
	if got := console.Text(); !strings.HasPrefix(got, "/dev/pts/0\r\n7:5\r\nx\r\n") {
		t.Errorf("terminal shows %q", got)
	}
	c.Delete()
}

// createContainer and startContainer hooks run in the user namespace, as its root or as
// the process's user.
func TestLinuxUserNamespace_Hooks(t *testing.T) {
	t.Parallel()
	b := newHookBundle(t)
	own(t, b.dir)
	withUserns(t, b.Bundle)
	b.Set(func(s *specs.Spec) { s.Mounts[len(s.Mounts)-1].Options = []string{"rbind"} })
	script := func(name string) specs.Hook {
		hook := b.hook(name, "")
		hook.Args[2] = "id -u >" + b.dir + "/" + name
		return hook
	}
	b.Set(h.HookSet(specs.Hooks{
		CreateRuntime: []specs.Hook{script("createRuntime")}, CreateContainer: []specs.Hook{script("createContainer")},
		StartContainer: []specs.Hook{script("startContainer")},
	}))
	b.Run().OK(t)
	for name, want := range map[string]int{"createRuntime": 0, "createContainer": mappedRoot, "startContainer": mappedRoot} {
		var st unix.Stat_t
		h.Must(t, unix.Stat(filepath.Join(b.dir, name), &st))
		if int(st.Uid) != want || b.read(t, name) != "0" {
			t.Errorf("%s ran as %s, its file belongs to %d", name, b.read(t, name), st.Uid)
		}
	}
}

func TestLinuxUserNamespace_ManyMappings(t *testing.T) {
	t.Parallel()
	b := withUserns(t, h.New(t, h.Sh("wc -l </proc/self/uid_map; tail -n 1 /proc/self/uid_map")))
	var maps []specs.LinuxIDMapping
	for i := range uint32(340) {
		maps = append(maps, idMap(2*i, mappedRoot+2*i, 1))
	}
	b.Spec.Linux.UIDMappings = maps[:200]
	if got, want := fields(b.Out()), fmt.Sprintf("200\n398 %d 1", mappedRoot+398); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	h.OursOnly(t, "others leave it to the kernel, which says only that something is invalid")
	b.Spec.Linux.UIDMappings = maps
	b.Run().Refused(t, "linux.uidMappings: 340 mappings take 4365 bytes, at most 4095 are possible", "")
}

// Root need not be mapped.
func TestLinuxUserNamespace_WithoutRoot(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "runc becomes root before anything else")
	b := withUserns(t, h.New(t, h.Sh("id -u; echo x >/dev/null && echo ok"), h.User(1000, 1000)), h.WithoutMount("/dev/pts"))
	b.Spec.Linux.UIDMappings = []specs.LinuxIDMapping{idMap(1000, mappedRoot, 1)}
	b.Spec.Linux.GIDMappings = b.Spec.Linux.UIDMappings
	if got := b.Out(); got != "1000\nok" {
		t.Errorf("got %q", got)
	}
}

func TestLinuxUserNamespace_BadMappings(t *testing.T) {
	t.Parallel()
	for want, edit := range map[string]func(*specs.Spec){
		"linux.uidMappings[1]: hostID 300000 and size 1 overlap linux.uidMappings[0]": func(s *specs.Spec) {
			s.Linux.UIDMappings = append(s.Linux.UIDMappings, idMap(70000, mappedRoot, 1))
		},
		"linux.gidMappings[0].size: must not be 0":              func(s *specs.Spec) { s.Linux.GIDMappings = []specs.LinuxIDMapping{idMap(0, 1, 0)} },
		"linux.uidMappings: missing":                            func(s *specs.Spec) { s.Linux.UIDMappings = nil },
		"linux.gidMappings: missing":                            func(s *specs.Spec) { s.Linux.GIDMappings = nil },
		"process.user.uid 65536: not in linux.uidMappings":      h.User(65536, 0),
		"process.user.gid 65536: not in linux.gidMappings":      h.User(0, 65536),
		"linux.uidMappings: need a user namespace":              h.WithoutNamespace(specs.UserNamespace),
		"linux.namespaces: a user namespace needs a mount name": h.WithoutNamespace(specs.MountNamespace),
	} {
		h.OursOnly(t, "the wording is this project's")
		b := withUserns(t, h.New(t))
		edit(b.Spec)
		b.Run().Refused(t, want, "")
	}
}

// What hides a path in an ordinary container does so here.
func TestLinuxUserNamespace_Masked(t *testing.T) {
	t.Parallel()
	b := withUserns(t, h.New(t, h.Sh("wc -c </proc/keys; ls /sys/firmware | wc -l; (echo 1 >/proc/sys/vm/overcommit_memory) 2>/dev/null || echo denied")))
	if got := b.Out(); got != "0\n0\ndenied" {
		t.Errorf("got %q", got)
	}
}

// With cgroup v2 and a writable mount of it, the container's cgroup is its own
// (config-linux.md, "Cgroup ownership").
func TestLinuxUserNamespace_OwnsItsCgroup(t *testing.T) {
	t.Parallel()
	var fs unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &fs); err != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
		t.Skip("needs cgroup v2")
	}
	script := h.Sh("stat -c %u /sys/fs/cgroup /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/memory.max; mkdir /sys/fs/cgroup/sub && echo made && echo $$ >/sys/fs/cgroup/sub/cgroup.procs && cat /proc/self/cgroup")
	mount := h.Mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev")
	b := withUserns(t, h.New(t, script, h.WithoutMount("/sys/fs/cgroup"), mount), h.Namespace(specs.CgroupNamespace, ""))
	if got := b.Out(); got != "0\n0\n65534\nmade\n0::/sub" {
		t.Errorf("got %q", got)
	}
	b = withUserns(t, h.New(t, h.Sh("stat -c %u /sys/fs/cgroup")), h.Namespace(specs.CgroupNamespace, ""))
	if got := b.Out(); got != "65534" {
		t.Errorf("with a read-only mount the cgroup belongs to %s", got)
	}
}
