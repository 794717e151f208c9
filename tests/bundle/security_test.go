package bundle_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	h "adl.run/adl-runtime/tests/harness"
)

// The tests below build a hostile rootfs that points at a host folder, the victim
// (its cleanup fails the test if anything in it changed). Each container either
// fails with an error or stays confined.

// CVE-2019-19921, CVE-2023-27561: a symlinked /proc makes later writes to
// /proc/self/attr and /proc/sys land elsewhere.
func TestSecurity_SymlinkedProcAndSys(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"/proc", "/sys"} {
		for _, inside := range []bool{true, false} {
			b := h.New(t, h.Args("echo", "ran"))
			v := b.NewVictim()
			target := v.Dir
			if inside {
				target = "/elsewhere"
				h.Must(t, os.MkdirAll(b.In(target), 0o755))
			}
			b.Symlink(target, point)
			r := b.Run()
			if h.Reference() == "crun" && r.Code == 0 {
				continue // crun follows the symlink inside the root
			}
			if r.Code != 1 || r.Stdout != "" || !strings.Contains(r.Stderr, point) {
				t.Errorf("%s -> %s: %+v, want it refused", point, target, r)
			}
			b.CheckNothingLeft()
		}
	}
}

// CVE-2026-41579 and others: /dev itself is a symlink.
func TestSecurity_SymlinkedDev(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "runc", "runc 1.1.5 makes the symlinks of /dev by path and follows the image's")
	for _, target := range []string{"", "/../../../../../../.."} {
		b := h.New(t, h.Sh("stat -c '%t:%T' /dev/null; echo x >/dev/null"))
		v := b.NewVictim()
		b.Symlink(target+v.Dir, "/dev")
		r := b.Run()
		if r.Code == 0 && r.Stdout != "1:3\n" || r.Code != 0 && r.Stderr == "" {
			t.Errorf("%+v", r)
		}
	}
}

// Without a mount on /dev the image's own entries are met where devices are made.
func TestSecurity_SymlinkedDevices(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"null", "zero", "tty", "ptmx", "fd", "stdin", "shm", "pts"} {
		b := h.New(t, h.Sh("echo ran; test -c /dev/null && echo x >/dev/null"), h.WithoutMount("/dev"), h.Writable())
		v := b.NewVictim()
		target := v.File
		if name == "shm" || name == "pts" {
			target = v.Dir
		}
		b.Symlink(target, "/dev/"+name)
		if r := b.Run(); r.Code != 0 && r.Stderr == "" && r.Stdout == "" {
			t.Errorf("/dev/%s -> %s: %+v", name, target, r)
		}
	}
}

// The same for linux.devices in any place.
func TestSecurity_SymlinkedDevicePath(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("echo", "ran"), h.Writable())
	v := b.NewVictim()
	b.Symlink(v.Dir, "/opt")
	b.Spec.Linux.Devices = []specs.LinuxDevice{
		{Path: "/opt/made", Type: "c", Major: 1, Minor: 3, FileMode: h.Ptr(os.FileMode(0o666)), UID: h.Ptr(uint32(1000))},
		{Path: "/opt/file", Type: "c", Major: 1, Minor: 3, FileMode: h.Ptr(os.FileMode(0o777)), UID: h.Ptr(uint32(1000))},
	}
	b.Run()
}

// CVE-2025-52565: /dev/console, or what it is made from, points elsewhere.
func TestSecurity_SymlinkedConsole(t *testing.T) {
	t.Parallel()
	for _, link := range []string{"/dev/console", "/dev/pts"} {
		b := h.New(t, h.Terminal(0, 0), h.Sh("echo x >/dev/console; exit 0"), h.WithoutMount("/dev"), h.Writable())
		v := b.NewVictim()
		if link == "/dev/console" {
			b.Symlink(v.File, link)
		} else {
			b.Symlink(v.Dir, link)
		}
		console, slave := h.OpenPTY(t)
		run := b.StartRun(h.OnTerminal(slave))
		h.Must(t, slave.Close())
		run.Finish()
		console.Close()
	}
}

// The console of one container may not be bound over a file of its choice inside,
// either: that would give it a writable /proc or an unmasked path.
func TestSecurity_ConsoleIsNotBoundThroughASymlink(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "CVE-2025-52565: runc before 1.2.8 and crun before 1.25 follow the symlink")
	b := h.New(t, h.Terminal(0, 0), h.Sh("grep -c ' /etc/target ' /proc/self/mountinfo; exit 0"), h.WithoutMount("/dev"), h.Writable(),
		h.Mount("/dev/pts", "devpts", "devpts", "newinstance", "ptmxmode=0666", "mode=0620"))
	b.File("/etc/target", "image\n")
	b.Symlink("/etc/target", "/dev/console")
	console, slave := h.OpenPTY(t)
	run := b.StartRun(h.OnTerminal(slave))
	h.Must(t, slave.Close())
	r := run.Finish()
	if r.Code != 0 {
		console.WaitText("/dev/console") // refused
		return
	}
	console.WaitText("\r\n")
	if text := console.Text(); text != "0\r\n" {
		t.Errorf("%q: the console was bound over /etc/target", text)
	}
}

// CVE-2025-31133: the image's /dev/null is a symlink, so that masking a path would
// bind something else over it.
func TestSecurity_MaskedPathWithASymlinkedNull(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "CVE-2025-31133: runc before 1.2.8 uses what /dev/null points at")
	for _, target := range []string{"/etc/evil", "/proc/sys/kernel/core_pattern"} {
		b := h.New(t, h.Sh("cat /etc/secret; echo end"), h.WithoutMount("/dev"), h.Writable())
		b.File("/etc/secret", "secret\n")
		b.File("/etc/evil", "evil\n")
		b.Symlink(target, "/dev/null")
		b.Spec.Linux.MaskedPaths = append(b.Spec.Linux.MaskedPaths, "/etc/secret")
		if r := b.Run(); r.Code == 0 && r.Stdout != "end\n" || r.Code != 0 && r.Stderr == "" {
			t.Errorf("/dev/null -> %s: %+v", target, r)
		}
		if got := h.ReadFile(t, b.In("/etc/evil")); got != "evil\n" {
			t.Errorf("/dev/null -> %s: /etc/evil became %q", target, got)
		}
	}
}

// The same with a regular file, a FIFO and another device in /dev/null's place.
func TestSecurity_MaskedPathWithAFalseNull(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "CVE-2025-31133: runc before 1.2.8 does not look at what /dev/null is")
	makers := map[string]func(path string) error{
		"file":    func(p string) error { return os.WriteFile(p, []byte("evil\n"), 0o644) },
		"fifo":    func(p string) error { return unix.Mkfifo(p, 0o644) },
		"urandom": func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 9))) },
	}
	for name, make := range makers {
		b := h.New(t, h.Sh("head -c 4 /etc/secret | wc -c; exit 0"), h.WithoutMount("/dev"), h.Writable())
		b.File("/etc/secret", "secret\n")
		h.Must(t, make(b.In("/dev/null")))
		b.Spec.Linux.MaskedPaths = append(b.Spec.Linux.MaskedPaths, "/etc/secret")
		if r := b.Run(); r.Code == 0 && r.Stdout != "0\n" || r.Code != 0 && r.Stderr == "" {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// CVE-2019-16884 and others: a mount over /proc hides the files to which security
// labels and sysctls are written.
func TestSecurity_MountsOverProc(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun allows every mount over /proc")
	b := h.New(t)
	src := sourceDir(t, b, "src")
	b.Symlink("/proc/sys", "/way")
	b.Symlink("/proc", "/link")
	for _, dest := range []string{"/proc/sys", "/proc/self/attr", "/proc/1", "/proc/../proc/sys/kernel", "/way", "/link/sys", "/proc"} {
		b.Spec.Mounts = h.Default(b.Cgroup).Mounts
		b.Set(h.Mount(dest, "bind", src, "bind"))
		r := b.Run()
		r.Refused(t, "mounts[7]", "cannot be mounted because it is")
	}
}

// lxcfs mounts these, and nothing else, over files of /proc.
func TestSecurity_AllowedMountsOverProc(t *testing.T) {
	t.Parallel()
	names := []string{"cpuinfo", "meminfo", "stat", "uptime", "loadavg", "diskstats", "swaps"}
	b := h.New(t, h.Sh("cd /proc; cat "+strings.Join(names, " ")))
	for _, name := range names {
		b.Set(h.Mount("/proc/"+name, "bind", sourceDir(t, b, "src")+"/file", "bind", "ro"))
	}
	if got := strings.Count(b.Out(), "of src"); got != len(names) {
		t.Errorf("%d of %d files were replaced", got, len(names))
	}
}

// CVE-2024-21626: a working directory behind a descriptor that the runtime leaks.
func TestSecurity_CwdIsALeakedDescriptor(t *testing.T) {
	t.Parallel()
	marker := filepath.Join(os.TempDir(), "adl-marker-"+h.Random())
	h.WriteFile(t, marker, "host\n", 0o644)
	defer os.Remove(marker)
	for fd := 3; fd < 12; fd++ {
		b := h.New(t, h.Sh("cat ./"+strings.Repeat("../", 20)+marker[1:]+" 2>/dev/null; pwd; exit 0"), h.Cwd(fmt.Sprintf("/proc/self/fd/%d", fd)))
		r := b.Run()
		if strings.Contains(r.Stdout, "host") {
			t.Errorf("cwd /proc/self/fd/%d is outside the container: %q", fd, r.Stdout)
		}
		if r.Code != 0 && r.Stderr == "" {
			t.Errorf("fd %d: %+v", fd, r)
		}
	}
}

// Also when the descriptor is the caller's, as a manager may leave one open.
func TestSecurity_CwdIsACallersDescriptor(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "CVE-2024-21626 in crun 1.8.1: it does not check where the cwd is")
	top, err := os.Open("/")
	h.Must(t, err)
	defer top.Close()
	for _, flags := range [][]string{nil, {"--preserve-fds", "1"}} {
		b := h.New(t, h.Args("echo", "ran"), h.Cwd("/proc/self/fd/3"))
		b.WriteSpec()
		args := append(append([]string{"run"}, flags...), "--bundle", b.Dir, b.NewID())
		if r := b.DoWith(args, h.ExtraFiles(top)); r.Code == 0 || r.Stdout != "" {
			t.Errorf("%q: %+v", flags, r)
		}
	}
}

func TestSecurity_CwdIsASymlinkOutwards(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("ls; exit 0"), h.Writable())
	v := b.NewVictim()
	b.Symlink(v.Dir+"/made", "/way")
	b.Set(h.Cwd("/way"))
	if r := b.Run(); strings.Contains(r.Stdout, "file") {
		t.Errorf("the container sees the host: %q", r.Stdout)
	}
}

// A symlinked component of the mount's target, with the target missing (CVE-2024-45310).
func TestSecurity_MountTargetIsMadeInside(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("echo", "ran"))
	v := b.NewVictim()
	b.Symlink(v.Dir, "/data")
	src := sourceDir(t, b, "src")
	b.Set(h.Mount("/data/new/deep", "tmpfs", "tmpfs"), h.Mount("/data/newfile", "bind", src+"/file", "bind"))
	b.Run()
}

func TestSecurity_TmpfsCopyUpDoesNotFollowSymlinks(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("cat /conf/link 2>/dev/null; ls /conf/dir/ 2>/dev/null; readlink /conf/link; exit 0"), h.Mount("/conf", "tmpfs", "tmpfs", "tmpcopyup"))
	v := b.NewVictim()
	h.Must(t, os.MkdirAll(b.In("/conf"), 0o755))
	b.Symlink(v.File, "/conf/link")
	b.Symlink(v.Dir, "/conf/dir")
	if got := b.Out(); got != v.File {
		t.Errorf("%q, want only the symlink itself", got)
	}
}

func TestSecurity_MaskedAndReadonlyPathsStayInside(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("echo", "ran"), h.Writable())
	v := b.NewVictim()
	b.Symlink(v.Dir, "/mask")
	b.Symlink(v.File, "/maskfile")
	b.Symlink(v.Dir, "/ro")
	b.Spec.Linux.MaskedPaths = []string{"/mask", "/maskfile", "/mask/file"}
	b.Spec.Linux.ReadonlyPaths = []string{"/ro", "/ro/file"}
	b.Run()
	h.WriteFile(t, v.Dir+"/still-writable", "", 0o644)
	h.Must(t, os.Remove(v.Dir+"/still-writable"))
}

func TestSecurity_NoLeakedDescriptors(t *testing.T) {
	t.Parallel()
	files := []string{"/", "/etc/passwd", "/dev/null"}
	var open []*os.File
	for _, name := range files {
		f, err := os.Open(name)
		h.Must(t, err)
		defer f.Close()
		open = append(open, f)
	}
	b := h.New(t, h.Sh("ls -l /proc/$$/fd; true"))
	out := b.Out(h.ExtraFiles(open...))
	if n := len(h.Lines(out)); n != 3 && !(n == 4 && strings.HasPrefix(out, "total")) {
		t.Errorf("descriptors inside: %s", out)
	}
}

func TestSecurity_NoLeakedDescriptorsOfCreate(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("echo ready; ls /proc/$$/fd; true"))
	b.Set(h.HookSet(specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/true"}}}))
	c := b.Launch()
	c.WaitExit()
	if got := c.Stdout(); got != "ready\n0\n1\n2\n" {
		t.Errorf("%q", got)
	}
}

// CVE-2019-5736: the container must not reach the host's runtime through
// /proc/PID/exe of the waiting init.
func TestSecurity_ExeOfTheWaitingInit(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("sleep", "1000"))
	c := b.Create()
	var exe, runtime unix.Stat_t
	path := fmt.Sprintf("/proc/%d/exe", c.Pid)
	h.Must(t, unix.Stat(path, &exe))
	h.Must(t, unix.Stat(os.Getenv("ADL_RUNTIME"), &runtime))
	same := exe.Dev == runtime.Dev && exe.Ino == runtime.Ino
	if h.Reference() == "" && same { // runc 1.1.5 binds itself read-only instead
		t.Errorf("init runs the runtime's own file")
	}
	if f, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
		if _, err := f.Write([]byte("x")); err == nil {
			t.Error("the waiting init's program can be overwritten")
		}
		f.Close()
	}
	c.Delete("--force")
}

// CVE-2016-9962: while init prepares, nothing in the container may trace it.
func TestSecurity_WaitingInitIsNotDumpable(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.User(1000, 1000))
	c := b.Create()
	var st unix.Stat_t
	// proc(5): the files belong to root:root when the process is not dumpable.
	h.Must(t, unix.Stat(fmt.Sprintf("/proc/%d/environ", c.Pid), &st))
	if st.Uid != 0 || st.Gid != 0 {
		t.Errorf("/proc/PID/environ belongs to %d:%d", st.Uid, st.Gid)
	}
	c.Delete("--force")
}

// CVE-2022-29162: the caller's inheritable and ambient capabilities stay outside.
func TestSecurity_NoInheritedCapabilities(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("cat", "/proc/self/status"), h.User(1000, 1000))
	withAmbient := func(c *command) {
		c.SysProcAttr = &syscall.SysProcAttr{AmbientCaps: []uintptr{unix.CAP_CHOWN, unix.CAP_SYS_ADMIN}}
	}
	status := b.Out(withAmbient)
	for _, field := range []string{"CapInh", "CapAmb", "CapEff", "CapPrm"} {
		if got := h.StatusField(t, status, field); got != "0000000000000000" {
			t.Errorf("%s is %s", field, got)
		}
	}
}

// The environment, the umask, the nice value and the signal set-up of the caller
// do not reach the container.
func TestSecurity_CallersAttributes(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("umask; grep -E '^Sig(Blk|Ign)' /proc/self/status | tr '\t' ' '"))
	odd := func(c *command) {
		c.Args = append([]string{"sh", "-c", `trap '' USR1 HUP PIPE; umask 0; exec "$0" "$@"`}, append([]string{c.Path}, c.Args[1:]...)...)
		c.Path = "/bin/sh"
	}
	got := b.Out(odd)
	if !strings.HasPrefix(got, "0022\n") {
		t.Errorf("umask %q", got)
	}
	if h.Reference() == "" && got != "0022\nSigBlk: 0000000000000000\nSigIgn: 0000000000000000" {
		t.Errorf("%q: the caller's ignored signals reached the container", got)
	}
}

// A hostile bundle path: nothing of it is a format string, an option or a separator.
func TestSecurity_OddBundlePath(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("cat", "/etc/mark"), h.Mount("/a b,c", "tmpfs", "tmpfs"))
	b.File("/etc/mark", "here")
	odd := filepath.Join(b.Work, "a b,c:d\\040%s\t\"x\"")
	h.Must(t, os.Rename(b.Dir, odd))
	b.Dir, b.Rootfs = odd, filepath.Join(odd, "rootfs")
	if got := b.Out(); got != "here" {
		t.Errorf("%q", got)
	}
}

// The image cannot make `run` wait for ever: a FIFO where a file is expected.
func TestSecurity_FifoInTheImage(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "runc and crun open the image's etc/passwd and wait for a writer")
	b := h.New(t, h.Args("true"))
	for _, name := range []string{"/etc/passwd", "/etc/group"} {
		h.Must(t, os.Remove(b.In(name)))
		h.Must(t, unix.Mkfifo(b.In(name), 0o644))
	}
	b.Run()
}

// CVE-2024-21626 by process.args: a directory that the caller leaves open, without
// the close-on-exec flag, is a way to the programs of the host.
func TestSecurity_ArgsAreACallersDescriptor(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "CVE-2024-21626 in crun 1.8.1: it executes the host's file")
	host := t.TempDir()
	busybox, err := os.ReadFile("/usr/bin/busybox")
	h.Must(t, err)
	h.WriteFile(t, host+"/echo", string(busybox), 0o755)
	dir, err := os.Open(host)
	h.Must(t, err)
	defer dir.Close()
	b := h.New(t)
	b.Symlink("/proc/self/fd/9/echo", "/opt/echo")
	files := []*os.File{6: dir}
	for i := range files[:6] {
		files[i] = dir
	}
	for _, arg := range []string{"/proc/self/fd/9/echo", "/opt/echo", "echo"} {
		b.Set(h.Args(arg), h.Env("PATH=/opt"))
		if r := b.Run(h.ExtraFiles(files...)); r.Code == 0 || r.Stdout != "" {
			t.Errorf("%s: %+v", arg, r)
		}
	}
}

// The waiting init has no descriptor of the caller's either: processes of a joined
// pid namespace and hooks could look at it.
func TestSecurity_WaitingInitHasNoDescriptorsOfTheCaller(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "runc and crun have their own descriptors open")
	top, err := os.Open("/usr")
	h.Must(t, err)
	defer top.Close()
	b := h.New(t)
	c := b.Create(h.ExtraFiles(top, top, top, top, top, top, top, top, top))
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", c.Pid))
	h.Must(t, err)
	for _, fd := range fds {
		if to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", c.Pid, fd.Name())); to == "/usr" {
			t.Errorf("descriptor %s is the caller's %s", fd.Name(), to)
		}
	}
	c.Delete("--force")
}

// A container that freezes itself in a cgroup of its own can still be deleted.
func TestSecurity_FrozenByItself(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "runc 1.1.5 and crun 1.8.1 thaw only the container's own cgroup")
	b := h.New(t, h.AllCaps("CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"), h.Sh("cd /sys/fs/cgroup/freezer && mkdir sub && echo 1 >sub/tasks && echo ready && echo FROZEN >sub/freezer.state; sleep 1000"))
	state := b.CgroupV1("freezer") + "/sub/freezer.state"
	for i := range b.Spec.Mounts {
		if m := &b.Spec.Mounts[i]; m.Type == "cgroup" {
			m.Options = []string{"nosuid", "noexec", "nodev"}
		}
	}
	c := b.Launch()
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		if text, err := os.ReadFile(state); err == nil && string(text) == "FROZEN\n" {
			break
		} else if time.Now().After(end) {
			t.Fatalf("%s: %q, %v", state, text, err)
		}
	}
	c.Delete("--force")
}
