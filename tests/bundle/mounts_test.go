package bundle_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	h "adl.run/adl-runtime/tests/harness"
)

// sourceDir makes a host folder with one file in it.
func sourceDir(t *testing.T, b *h.Bundle, name string) string {
	t.Helper()
	dir := filepath.Join(b.Work, name)
	h.Must(t, os.MkdirAll(dir, 0o755))
	h.WriteFile(t, filepath.Join(dir, "file"), "of "+name+"\n", 0o644)
	return dir
}

func TestMounts_BindDirectory(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("cat /data/file; echo new >/data/new"))
	src := sourceDir(t, b, "src")
	b.Set(h.Mount("/data", "bind", src, "bind"))
	if got := b.Out(); got != "of src" {
		t.Errorf("%q", got)
	}
	if got := h.ReadFile(t, src+"/new"); got != "new\n" {
		t.Errorf("the bind mount is not writable: %q", got)
	}
}

func TestMounts_BindFile(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("cat /etc/made/conf; cat /etc/passwd"))
	src := sourceDir(t, b, "src") + "/file"
	b.Set(h.Mount("/etc/made/conf", "bind", src, "bind", "ro"), h.Mount("/etc/passwd", "bind", src, "rbind"))
	if got := b.Out(); got != "of src\nof src" {
		t.Errorf("%q", got)
	}
	if h.ReadFile(t, b.In("/etc/passwd")) == "of src\n" {
		t.Error("the file below the mount was written to")
	}
}

// podman and containerd write type "none" or leave it out; the option says it is a bind.
func TestMounts_BindByOptionAlone(t *testing.T) {
	t.Parallel()
	for _, typ := range []string{"none", ""} {
		b := h.New(t, h.Args("cat", "/data/file"))
		b.Set(h.Mount("/data", typ, sourceDir(t, b, "src"), "rbind"))
		if got := b.Out(); got != "of src" {
			t.Errorf("type %q: %q", typ, got)
		}
	}
}

// A source that is not absolute is relative to the bundle.
func TestMounts_BindRelativeSource(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("cat", "/data/file"), h.Mount("/data", "bind", "volume", "bind"))
	b.Foreign("volume")
	h.Must(t, os.Mkdir(b.Dir+"/volume", 0o755))
	h.WriteFile(t, b.Dir+"/volume/file", "beside", 0o644)
	if got := b.Out(); got != "beside" {
		t.Errorf("%q", got)
	}
}

func TestMounts_BindSourceThroughASymlink(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("cat", "/data/file"))
	src := sourceDir(t, b, "src")
	h.Must(t, os.Symlink(src, b.Work+"/link"))
	b.Set(h.Mount("/data", "bind", b.Work+"/link", "bind"))
	if got := b.Out(); got != "of src" {
		t.Errorf("%q", got)
	}
}

// sourceTree makes src with a tmpfs mounted on src/sub.
func sourceTree(t *testing.T, b *h.Bundle) string {
	t.Helper()
	src := sourceDir(t, b, "src")
	h.HostMount(t, "tmpfs", src+"/sub", "tmpfs", 0, "size=64k")
	h.WriteFile(t, src+"/sub/inner", "inner\n", 0o644)
	return src
}

func TestMounts_RbindTakesSubmounts(t *testing.T) {
	t.Parallel()
	for option, want := range map[string]string{"bind": "", "rbind": "inner"} {
		b := h.New(t, h.Args("ls", "/data/sub"))
		b.Set(h.Mount("/data", "bind", sourceTree(t, b), option))
		if got := b.Out(); got != want {
			t.Errorf("%s: %q, want %q", option, got, want)
		}
	}
}

// "ro" is the mount's own attribute; "rro" also that of the mounts below it.
func TestMounts_ReadonlyAndRecursiveReadonly(t *testing.T) {
	t.Parallel()
	h.Since(t, "5.12", "mount_setattr(2)")
	h.NotFor(t, "crun", "crun 1.8.1 makes rbind,ro recursive")
	for option, want := range map[string]string{"ro": "top refused\n", "rro": "top refused\nsub refused\n"} {
		b := h.New(t, h.Sh("(: >/data/new) 2>/dev/null || echo top refused; (: >/data/sub/new) 2>/dev/null || echo sub refused"))
		b.Set(h.Mount("/data", "bind", sourceTree(t, b), "rbind", option))
		if got := b.Run().OK(t).Stdout; got != want {
			t.Errorf("%s: %q, want %q", option, got, want)
		}
	}
}

func TestMounts_RecursiveAttributes(t *testing.T) {
	t.Parallel()
	h.Since(t, "5.12", "mount_setattr(2)")
	h.NotFor(t, "crun", "crun 1.8.1 fails with EINVAL in mount_setattr")
	for option, want := range map[string]string{"rnosuid": "nosuid", "rnodev": "nodev", "rnoexec": "noexec", "rnoatime": "noatime"} {
		b := h.New(t)
		b.Set(h.Mount("/data", "bind", sourceTree(t, b), "rbind", option))
		m := b.Mounts()
		if !m["/data"].Has(want) || !m["/data/sub"].Has(want) {
			t.Errorf("%s: /data has %s, /data/sub has %s", option, m["/data"].Options, m["/data/sub"].Options)
		}
	}
}

func TestMounts_Options(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun 1.8.1 does not let a later option undo an earlier one")
	cases := []struct {
		options string
		has     string
		hasNot  string
	}{
		{"ro", "ro", "rw"},
		{"rw", "rw", "ro"},
		{"nosuid,nodev,noexec", "nosuid,nodev,noexec,rw", ""},
		{"noatime", "noatime", "relatime"},
		{"nodiratime", "nodiratime", ""},
		{"strictatime", "", "relatime,noatime"},
		{"relatime", "relatime", ""},
		{"nosuid,suid", "", "nosuid"},
		{"nodev,dev,noexec,exec", "", "nodev,noexec"},
		{"ro,rw", "rw", "ro"},
		{"defaults", "rw", "nosuid,nodev,noexec"},
	}
	for _, kind := range []string{"tmpfs", "bind"} {
		b := h.New(t)
		src := sourceDir(t, b, "src")
		for i, c := range cases {
			if c.options == "defaults" && h.Reference() == "runc" {
				continue // runc 1.1.5 hands "defaults" to the kernel, which refuses it
			}
			dest := "/m/" + string(rune('a'+i))
			if kind == "bind" {
				b.Set(h.Mount(dest, "bind", src, append([]string{"bind"}, strings.Split(c.options, ",")...)...))
			} else {
				b.Set(h.Mount(dest, "tmpfs", "tmpfs", strings.Split(c.options, ",")...))
			}
		}
		m := b.Mounts()
		for i, c := range cases {
			e, ok := m["/m/"+string(rune('a'+i))]
			if !ok && c.options == "defaults" && h.Reference() == "runc" {
				continue
			}
			for _, o := range strings.FieldsFunc(c.has, comma) {
				if !e.Has(o) {
					t.Errorf("%s %s: got %s, which lacks %s", kind, c.options, e.Options, o)
				}
			}
			for _, o := range strings.FieldsFunc(c.hasNot, comma) {
				if e.Has(o) {
					t.Errorf("%s %s: got %s, which has %s", kind, c.options, e.Options, o)
				}
			}
		}
	}
}

func comma(r rune) bool { return r == ',' }

func TestMounts_Propagation(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "the wrapper that crun needs runs it in a private mount namespace")
	cases := map[string]string{
		"private": "", "rprivate": "", "slave": "master:", "rslave": "master:",
		"shared": "shared:", "rshared": "shared:", "unbindable": "unbindable",
	}
	for option, want := range cases {
		b := h.New(t)
		src := b.Work + "/shared"
		h.HostMount(t, "tmpfs", src, "tmpfs", 0, "size=64k")
		h.Propagation(t, src, unix.MS_SHARED)
		b.Set(h.Mount("/data", "bind", src, "rbind", option))
		if option == "shared" || option == "rshared" {
			b.Spec.Linux.RootfsPropagation = "shared"
		}
		got := b.Mounts()["/data"].Optional
		if want == "" && got != "" || !strings.HasPrefix(got, want) {
			t.Errorf("%s: mountinfo says %q, want %q", option, got, want)
		}
	}
}

// What the host mounts later appears in a slave, and what the container mounts does
// not appear on the host.
func TestMounts_SlavePropagatesOneWay(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "the wrapper that crun needs runs it in a private mount namespace")
	b := h.New(t, h.Sh("mount -t tmpfs inner /data/mine && echo ready; while ! test -e /data/theirs/file; do sleep 0.02; done; echo seen"), h.AllCaps("CAP_SYS_ADMIN"))
	src := b.Work + "/shared"
	h.HostMount(t, "tmpfs", src, "tmpfs", 0, "size=64k")
	h.Propagation(t, src, unix.MS_SHARED)
	for _, d := range []string{"/mine", "/theirs"} {
		h.Must(t, os.Mkdir(src+d, 0o755))
	}
	b.Set(h.Mount("/data", "bind", src, "rbind", "rslave"))
	run := b.StartRun()
	run.WaitOutput("ready")
	h.HostMount(t, "tmpfs", src+"/theirs", "tmpfs", 0, "size=64k")
	h.WriteFile(t, src+"/theirs/file", "", 0o644)
	run.WaitOutput("seen")
	if strings.Contains(h.ReadFile(t, "/proc/self/mountinfo"), src+"/mine") {
		t.Error("the container's mount appeared on the host")
	}
	run.Finish().OK(t)
}

func TestMounts_Tmpfs(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("stat -c %a /t; df -k /t | tail -1 | tr -s ' ' | cut -d' ' -f2; dd if=/dev/zero of=/t/big bs=1k count=200 2>/dev/null || echo full"),
		h.Mount("/t", "tmpfs", "tmpfs", "mode=1750", "size=128k", "nosuid"))
	if got := b.Out(); got != "1750\n128\nfull" {
		t.Errorf("%q", got)
	}
}

func TestMounts_TmpfsTakesTheModeOfItsDirectory(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun keeps the kernel's default mode 1777")
	b := h.New(t, h.Args("stat", "-c", "%a", "/tmp"), h.Mount("/tmp", "tmpfs", "tmpfs", "nosuid"))
	h.Must(t, os.Chmod(b.In("/tmp"), 0o710))
	if got := b.Out(); got != "710" {
		t.Errorf("mode %q, want the directory's 710", got)
	}
}

func TestMounts_TmpfsCopyUp(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("cat /conf/a /conf/sub/b; readlink /conf/link; stat -c '%a %u:%g' /conf/sub; echo changed >/conf/a"),
		h.Mount("/conf", "tmpfs", "tmpfs", "tmpcopyup"), h.AllCaps("CAP_DAC_OVERRIDE"))
	b.File("/conf/a", "A\n")
	b.File("/conf/sub/b", "B\n")
	h.Must(t, os.Symlink("/anywhere", b.In("/conf/link")))
	h.Must(t, os.Chmod(b.In("/conf/sub"), 0o750))
	h.Must(t, os.Chown(b.In("/conf/sub"), 12, 34))
	if got := b.Out(); got != "A\nB\n/anywhere\n750 12:34" {
		t.Errorf("%q", got)
	}
	if got := h.ReadFile(t, b.In("/conf/a")); got != "A\n" {
		t.Errorf("the image's file became %q", got)
	}
}

func TestMounts_TmpfsCopyUpHasItsOptions(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("stat -c '%a %u:%g' /conf /new /plain; cat /conf/a"),
		h.Mount("/conf", "tmpfs", "tmpfs", "tmpcopyup", "mode=1777", "uid=5", "gid=6"), h.Mount("/new", "tmpfs", "tmpfs", "tmpcopyup", "mode=700"),
		h.Mount("/plain", "tmpfs", "tmpfs", "tmpcopyup"))
	h.NotFor(t, "runc", "versions before 1.2 give it the directory's mode")
	b.File("/conf/a", "A\n")
	if got := b.Out(); got != "1777 5:6\n700 0:0\n1777 0:0\nA" {
		t.Errorf("%q", got)
	}
}

func TestMounts_Filesystems(t *testing.T) {
	t.Parallel()
	b := h.New(t)
	m := b.Mounts()
	for point, want := range map[string]string{
		"/proc": "proc", "/dev": "tmpfs", "/dev/pts": "devpts", "/dev/shm": "tmpfs", "/dev/mqueue": "mqueue", "/sys": "sysfs",
	} {
		if m[point].Type != want {
			t.Errorf("%s has type %q, want %q", point, m[point].Type, want)
		}
	}
	for point, options := range map[string]string{"/sys": "ro,nosuid,nodev,noexec", "/dev": "nosuid", "/dev/pts": "nosuid,noexec", "/dev/shm": "nosuid,nodev,noexec"} {
		for _, o := range strings.Split(options, ",") {
			if !m[point].Has(o) {
				t.Errorf("%s has options %s, which lack %s", point, m[point].Options, o)
			}
		}
	}
	for _, o := range []string{"gid=5", "mode=620", "ptmxmode=666"} {
		if !strings.Contains(m["/dev/pts"].Super, o) {
			t.Errorf("/dev/pts has %q, which lacks %s", m["/dev/pts"].Super, o)
		}
	}
}

func TestMounts_DevptsIsANewInstance(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("ls /dev/pts"))
	if got := b.Out(); got != "ptmx" {
		t.Errorf("/dev/pts holds %q", got)
	}
}

func TestMounts_CgroupV1(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("ls /sys/fs/cgroup; cat /sys/fs/cgroup/pids/pids.max; (mkdir /sys/fs/cgroup/pids/x || echo 1 >/sys/fs/cgroup/pids/cgroup.procs) 2>/dev/null || echo refused"))
	b.CgroupV1("pids")
	b.Set(setPids(77))
	got := h.Lines(b.Out())
	if len(got) < 3 || got[len(got)-2] != "77" || got[len(got)-1] != "refused" {
		t.Errorf("%q: want the container's own pids.max of 77 and a read-only hierarchy", got)
	}
	for _, name := range []string{"memory", "devices", "cpu"} {
		if !strings.Contains(" "+strings.Join(got, " ")+" ", " "+name+" ") {
			t.Errorf("no %s under /sys/fs/cgroup: %q", name, got)
		}
	}
}

func TestMounts_CgroupWritable(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("mkdir /sys/fs/cgroup/pids/sub && rmdir /sys/fs/cgroup/pids/sub && echo made"), h.WithoutMount("/sys/fs/cgroup"),
		h.Mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", "rw"))
	h.Must(t, os.Symlink("busybox", b.In("/bin/rmdir")))
	b.CgroupV1("pids")
	if got := b.Out(); got != "made" {
		t.Errorf("%q", got)
	}
}

func TestMounts_CgroupWithACgroupNamespace(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("cat /sys/fs/cgroup/pids/pids.max; grep :pids: /proc/self/cgroup; (mkdir /sys/fs/cgroup/pids/x) 2>/dev/null || echo refused"), h.Namespace(specs.CgroupNamespace, ""))
	b.CgroupV1("pids")
	b.Set(setPids(66))
	got := h.Lines(b.Out())
	if len(got) != 3 || got[0] != "66" || !strings.HasSuffix(got[1], ":pids:/") || got[2] != "refused" {
		t.Errorf("%q", got)
	}
}

func TestMounts_Order(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("ls /a /a/b; cat /a/b/file"))
	b.Set(h.Mount("/a", "tmpfs", "tmpfs"), h.Mount("/a/b", "bind", sourceDir(t, b, "one"), "bind"), h.Mount("/a/b", "bind", sourceDir(t, b, "two"), "bind"))
	if got := b.Out(); !strings.HasSuffix(got, "of two") {
		t.Errorf("%q: the later mount must be on top", got)
	}
}

func TestMounts_LaterParentHidesEarlierChild(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("ls /a; echo end"))
	b.Set(h.Mount("/a/b", "bind", sourceDir(t, b, "one"), "bind"), h.Mount("/a", "tmpfs", "tmpfs"))
	if got := b.Out(); got != "end" {
		t.Errorf("%q", got)
	}
}

func TestMounts_TargetsAreMade(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun makes the parents with mode 1755")
	b := h.New(t, h.Sh("stat -c '%F %a %u' /new /new/deep /new/deep/dir; stat -c %F /new/deep/conf"))
	src := sourceDir(t, b, "src")
	b.Set(h.Mount("/new/deep/dir", "tmpfs", "tmpfs", "mode=700"), h.Mount("/new/deep/conf", "bind", src+"/file", "bind"))
	if got := b.Out(); got != "directory 755 0\ndirectory 755 0\ndirectory 700 0\nregular file" {
		t.Errorf("%q", got)
	}
}

func TestMounts_TargetIsNotClean(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("ls /x/y"), h.Mount("/x//./z/../y/", "tmpfs", "tmpfs"))
	if m := b.Mounts(); m["/x/y"].Type != "tmpfs" {
		t.Errorf("/x/y is %+v", m["/x/y"])
	}
}

func TestMounts_TargetThroughASymlinkStaysInside(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun 1.8.1 does not make targets behind a dangling symlink")
	b := h.New(t)
	v := b.NewVictim()
	b.Symlink(v.Dir, "/out")
	b.Symlink("../../../../../../../../.."+v.Dir, "/up")
	b.Symlink("/really", "/inside")
	b.Set(h.Mount("/out/made", "tmpfs", "tmpfs"), h.Mount("/up/too", "tmpfs", "tmpfs"), h.Mount("/inside/dir", "tmpfs", "tmpfs"))
	m := b.Mounts()
	for _, point := range []string{v.Dir + "/made", v.Dir + "/too", "/really/dir"} {
		if m[point].Type != "tmpfs" {
			t.Errorf("no tmpfs at %s inside the container", point)
		}
	}
}

func TestMounts_FileTargetThroughASymlinkStaysInside(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("cat", "/link"))
	v := b.NewVictim()
	b.Symlink(v.File, "/link")
	b.Set(h.Mount("/link", "bind", sourceDir(t, b, "src")+"/file", "bind"))
	if got := b.Out(); got != "of src" {
		t.Errorf("%q", got)
	}
}

func TestMounts_DoNotReachTheHost(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("echo ready; sleep 100"))
	before := h.ReadFile(t, "/proc/self/mountinfo")
	c := b.Launch()
	c.WaitOutput("ready")
	for _, line := range h.Lines(h.ReadFile(t, "/proc/self/mountinfo")) {
		if strings.Contains(line, b.Rootfs) && !strings.Contains(before, line) {
			t.Errorf("a mount of the container is visible on the host: %s", line)
		}
	}
	c.Delete("--force")
}

// Even where the host's root is a shared mount, as systemd makes it.
func TestMounts_DoNotReachASharedHost(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("echo ready; sleep 100"))
	h.HostMount(t, b.Dir, b.Dir, "", unix.MS_BIND, "")
	h.Propagation(t, b.Dir, unix.MS_SHARED)
	c := b.Launch()
	c.WaitOutput("ready")
	if text := h.ReadFile(t, "/proc/self/mountinfo"); strings.Contains(text, b.Rootfs) {
		t.Error("mounts of the container are visible on the host")
	}
	c.Delete("--force")
}

func TestMounts_UnknownTypeIsRefused(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Mount("/data", "nosuchfs", "none"))
	b.Run().Refused(t, "mounts[7]", "no such device")
}

func TestMounts_UnknownTmpfsOptionIsRefused(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Mount("/data", "tmpfs", "tmpfs", "nosuchoption=1"))
	b.Run().Refused(t, "mounts[7]", "nosuchoption")
}
