package libsandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/compile"
)

// mountTable brings a mountinfo into an order and drops what differs from run to
// run: the numbers of mounts, of devices that are none, and of peer groups.
func mountTable(text string) []string {
	numbers := regexp.MustCompile(`^\d+ \d+ (0:)?`)
	groups := regexp.MustCompile(`(shared|master|propagate_from):\d+`)
	var list []string
	for line := range strings.Lines(text) {
		line = numbers.ReplaceAllString(strings.TrimSpace(line), "$1")
		line = groups.ReplaceAllString(line, "$1")
		line = regexp.MustCompile(`^0:\d+`).ReplaceAllString(line, "0:N")
		list = append(list, line)
	}
	slices.Sort(list)
	return list
}

// mountful has a mount of every kind that takes attributes, from sources that have
// some already.
func mountful(t *testing.T, dir string) func(*specs.Spec) {
	t.Helper()
	plain, odd, below := filepath.Join(dir, "plain"), filepath.Join(dir, "odd"), filepath.Join(dir, "odd/below")
	tmpfs(t, plain, 0)
	tmpfs(t, odd, unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOATIME)
	tmpfs(t, below, unix.MS_NOEXEC)
	tmpfs(t, filepath.Join(dir, "strict"), unix.MS_RDONLY|unix.MS_STRICTATIME|unix.MS_NODIRATIME)
	if err := os.WriteFile(filepath.Join(plain, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return func(s *specs.Spec) {
		n := 0
		bind := func(source string, options ...string) {
			s.Mounts = append(s.Mounts, specs.Mount{
				Destination: fmt.Sprintf("/b/%02d-%s", n, strings.Join(options, "-")), Type: "bind", Source: source, Options: options,
			})
			n++
		}
		for _, source := range []string{"plain", "odd", "strict"} {
			source = filepath.Join(dir, source)
			for _, o := range []string{"ro", "rw", "suid", "noexec", "relatime", "noatime", "strictatime", "nodiratime", "diratime", "nosymfollow", "private", "slave", "shared", "unbindable"} {
				bind(source, "bind", o)
			}
			bind(source, "bind")
			bind(source, "rbind", "ro", "nodev")
			bind(source, "rbind", "rslave")
			bind(source, "bind", "ro", "nosuid", "noatime", "nodiratime", "rprivate")
		}
		bind(filepath.Join(plain, "file"), "bind", "ro", "noexec")
		s.Mounts = append(
			s.Mounts,
			specs.Mount{Destination: "/t/ro", Type: "tmpfs", Options: []string{"nosuid", "nodev", "ro", "mode=700"}},
			specs.Mount{Destination: "/t/shared", Type: "tmpfs", Options: []string{"noexec", "shared"}},
		)
		s.Linux.ReadonlyPaths = append(s.Linux.ReadonlyPaths, "/b/00-bind-ro", "/dev/shm", "/proc/uptime", "/not/there")
		s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, "/proc/tty", "/proc/version", "/b/01-bind-rw", "/not/there")
	}
}

// TestOldKernels: the mounts of a container are the same where the kernel has
// neither mount_setattr(2) nor clones of detached mounts.
func TestOldKernels(t *testing.T) {
	dir := t.TempDir()
	b := scripted(t, dir, "cat /proc/self/mountinfo", mountful(t, dir))
	store := &Store{root: t.TempDir()}
	want := mountTable(output(t, store, b, CreateOptions{}))
	checkMountTable(t, want)
	for _, k := range []struct{ setattr, detached, noPivot bool }{{false, false, false}, {true, false, false}, {false, true, false}, {true, true, true}, {false, false, true}} {
		store.facts = func(f *compile.Facts) {
			f.MountSetattr, f.CloneDetached = f.MountSetattr && k.setattr, f.CloneDetached && k.detached
		}
		got := mountTable(output(t, store, b, CreateOptions{NoPivot: k.noPivot}))
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%+v (-modern +old):\n%s", k, d)
		}
	}
}

// checkMountTable makes sure that what is compared is right to begin with.
func checkMountTable(t *testing.T, table []string) {
	t.Helper()
	for _, want := range []string{
		" / ro,", " /proc rw,relatime ", " /proc/sys ro,relatime ", " /proc/uptime ro,relatime ",
		" /b/00-bind-ro ro,relatime ", " /b/18-bind-ro ro,nosuid,nodev,noatime ", " /b/20-bind-suid rw,nodev,noatime ",
		" /b/22-bind-relatime rw,nosuid,nodev,relatime ", " /b/37-bind-rw rw,nodiratime ", " /b/45-bind-nosymfollow ro,nodiratime,nosymfollow ", " /b/44-bind-diratime ro ",
		" /b/33-rbind-ro-nodev ro,nosuid,nodev,noatime ", " /b/33-rbind-ro-nodev/below rw,noexec,relatime ",
		" /t/ro ro,nosuid,nodev,relatime ", " /t/shared rw,noexec,relatime shared ", " /b/14-bind rw,relatime ",
		" /proc/version ", " /sys/firmware ro,relatime ", " /dev/shm ro,nosuid,nodev,noexec,relatime ",
	} {
		if !slices.ContainsFunc(table, func(line string) bool { return strings.Contains(line, want) }) {
			t.Errorf("no mount%s", want)
		}
	}
	if t.Failed() {
		t.Log("\n" + strings.Join(table, "\n"))
	}
}

// Recursive attributes cannot be had from an old kernel; they are refused, not
// forgotten.
func TestOldKernelRefusesRecursiveAttributes(t *testing.T) {
	dir := t.TempDir()
	b := scripted(t, dir, "true", func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/b", Type: "bind", Source: dir, Options: []string{"rbind", "rro"}})
	})
	store := &Store{root: t.TempDir(), facts: func(f *compile.Facts) { f.MountSetattr = false }}
	before := lookAtHost(t, store.root)
	_, err := store.Run(t.Context(), "box", b, nil)
	if err == nil || !strings.HasPrefix(err.Error(), "mounts[7] /b: recursive attributes need mount_setattr(2)") {
		t.Errorf("got %v", err)
	}
	before.compare(t, lookAtHost(t, store.root))
}

func TestHomeOf(t *testing.T) {
	const passwd = "root:x:0:0:root:/root:/bin/sh\n" +
		"short:x:8:8\n" +
		"nohome:x:9:9:::/bin/sh\n" +
		"nohome2:x:9:9::/second:/bin/sh\n" +
		"colon:x:10:10:a b,c:/home/a b:\n" +
		"many:x:11:11::/eleven:/bin/sh:more:fields\n" +
		"zero:x:012:12::/octal:/bin/sh\n" +
		"neg:x:-1:1::/minus:/bin/sh\n" +
		"big:x:4294967295:1::/big:/bin/sh\r\n" +
		"\n:::::::\n" +
		"last:x:13:13::/last:/bin/sh"
	for uid, want := range map[uint32]string{
		0: "/root", 8: "/", 9: "/second", 10: "/home/a b", 11: "/eleven", 12: "/", 13: "/last", 14: "/", 4294967295: "/big",
	} {
		if got := homeOf([]byte(passwd), uid); got != want {
			t.Errorf("uid %d: %q, want %q", uid, got, want)
		}
	}
	if got := homeOf(nil, 0); got != "/" {
		t.Errorf("no file: %q", got)
	}
}

// The image's passwd may be anything.
func TestHomeOfAHostileImage(t *testing.T) {
	dir := t.TempDir()
	b := scripted(t, dir, "true", func(s *specs.Spec) { s.Process.Env = []string{"PATH=/bin"} })
	etc := filepath.Join(dir, "rootfs/etc")
	passwd := filepath.Join(etc, "passwd")
	outside := filepath.Join(dir, "passwd")
	for _, file := range []string{outside} {
		if err := os.WriteFile(file, []byte("root:x:0:0::/outside:\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, make := range map[string]func() error{
		"missing":     func() error { return nil },
		"a fifo":      func() error { return unix.Mkfifo(passwd, 0o644) },
		"a directory": func() error { return os.Mkdir(passwd, 0o755) },
		"a device":    func() error { return unix.Mknod(passwd, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))) },
		"outside":     func() error { return os.Symlink(outside, passwd) },
		"upwards":     func() error { return os.Symlink("../../../passwd", passwd) },
		"a loop":      func() error { return os.Symlink("passwd", passwd) },
	} {
		if err := errors.Join(os.RemoveAll(etc), os.MkdirAll(etc, 0o755), make()); err != nil {
			t.Fatal(err)
		}
		if got := home(b.Rootfs(), b.Spec.Process); got != "/" {
			t.Errorf("%s: HOME is %q", name, got)
		}
	}
	b.Spec.Process.Env = append(b.Spec.Process.Env, "HOME=/mine")
	if got := home(b.Rootfs(), b.Spec.Process); got != "" {
		t.Errorf("HOME is set, got %q", got)
	}
}

func TestPoststartMayFail(t *testing.T) {
	for version, want := range map[string]bool{
		"1.0.0": true, "1.0.2-dev": true, "1.1.0": true, "1.2.0": true, "1.2.0+x": true, "1.2.1": false, "1.3.0": false, "1.10.0": false, "2.0.0": false,
	} {
		if got := poststartMayFail(version); got != want {
			t.Errorf("%s: %v", version, got)
		}
	}
}
