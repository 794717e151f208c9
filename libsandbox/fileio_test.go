package libsandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/spec"
)

// filesIn runs a container to copy files in and out.
func filesIn(t *testing.T, edit func(*specs.Spec)) *layered {
	t.Helper()
	return runForFiles(t, sleeping(t, edit))
}

// filesInUser is filesIn with a user namespace.
func filesInUser(t *testing.T, edit func(*specs.Spec)) *layered {
	t.Helper()
	b := sleeping(t, func(s *specs.Spec) {
		withUser(s)
		if edit != nil {
			edit(s)
		}
	})
	give(t, b.Rootfs())
	return runForFiles(t, b)
}

// runForFiles runs the bundle. At the test's end nothing may be left of it or of copies.
func runForFiles(t *testing.T, b *spec.Bundle) *layered {
	t.Helper()
	store := &Store{root: t.TempDir()}
	// Not those of other tests, which the garbage collector may close meanwhile.
	look := func() (h host, fds int) {
		h = lookAtHost(t, store.root)
		h.children = regexp.MustCompile(`\d+ descriptors`).ReplaceAllString(h.children, "")
		return h, count(t, "/proc/self/fd")
	}
	before, fds := look()
	l := &layered{t: t}
	t.Cleanup(func() {
		if l.Sandbox != nil {
			if err := l.Delete(context.Background(), &DeleteOptions{Force: true}); err != nil {
				t.Error(err)
			}
		}
		reapChildren()
		after, now := look()
		before.compare(t, after)
		if now > fds {
			t.Errorf("%d descriptors, %d before", now, fds)
		}
	})
	var err error
	if l.Sandbox, err = store.Run(t.Context(), "files", b, nil); err != nil {
		t.Fatal(err)
	}
	return l
}

// onHost is a way to a file of the container that goes by /proc.
func (l *layered) onHost(path string) string { return fmt.Sprintf("/proc/%d/root%s", l.Pid(), path) }

func (l *layered) write(path, text string, o *WriteOptions) {
	l.t.Helper()
	if err := l.WriteFile(path, []byte(text), o); err != nil {
		l.t.Error(err)
	}
}

func (l *layered) reads(path, want string) {
	l.t.Helper()
	if got, err := l.ReadFile(path); err != nil || string(got) != want {
		l.t.Errorf("%s is %.60q, %v, want %.60q", path, got, err, want)
	}
}

func TestWriteAndReadFile(t *testing.T) {
	l := filesIn(t, nil)
	l.sh("mkdir /sub; ln -s /sub /link; ln -s ../../../sub/new /newlink; chmod 640 /first; busybox ln /first /hard")
	if err := os.Chown(l.onHost("/first"), 7, 8); err != nil {
		t.Fatal(err)
	}
	l.write("/sub/a", "one", nil)
	l.write("/link/b", "two", &WriteOptions{Mode: 0o4751 | os.ModeSetuid, Owner: &Owner{12, 34}})
	l.write("deep/er/../file", "three", &WriteOptions{Parents: true})
	l.write("/tmp/t", "four", nil) // a tmpfs
	l.write("/first", "five", nil)
	l.write("/sub/new", "", nil)
	l.write("/newlink", "six", nil)
	l.write("/dir/file", strings.Repeat("x", 10), nil)
	l.write("/dir/file", "short", &WriteOptions{Mode: 0o600, Owner: &Owner{1, 1}})
	want := "/sub/a 644 0:0|/sub/b 4751 12:34|/deep/file 644 0:0|/deep/er 755 0:0|/tmp/t 644 0:0|" +
		"/first 640 7:8|/hard 640 7:8|/sub/new 644 0:0|/dir/file 600 1:1|"
	got := l.sh(`for f in /sub/a /sub/b /deep/file /deep/er /tmp/t /first /hard /sub/new /dir/file; do
		echo "$(stat -c '%n %a %u:%g' $f)"; done | busybox tr '\n' '|'`)
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	l.reads("/sub/a", "one")
	l.reads("sub/b", "two")
	l.reads("/tmp/t", "four")
	l.reads("/hard", "five")
	l.reads("/dir/file", "short")
	l.reads("/newlink", "six")
	l.reads("/link/../sub/./a", "one")
	l.reads("/../../sub/a", "one")
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<17)
	l.write("/big", string(big), nil)
	l.reads("/big", string(big))
	f, err := l.Open("/big")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := io.Copy(io.Discard, f); err != nil || n != int64(len(big)) {
		t.Errorf("%d, %v", n, err)
	}
}

// TestFilesThatAreNone: what is no regular file is neither opened nor written to.
func TestFilesThatAreNone(t *testing.T) {
	l := filesIn(t, func(s *specs.Spec) { s.Linux.ReadonlyPaths, s.Linux.MaskedPaths = nil, nil })
	if err := unix.Mknod(l.onHost("/zero"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))); err != nil {
		t.Fatal(err)
	}
	l.sh(`busybox mkfifo /fifo; ln -s /nowhere /dangling; ln -s loop /loop; ln -s /proc/sys/kernel/hostname /toproc
ln -s /proc/1/root/first /magic; ln -s /sys/kernel/mm/ksm/run /tosys; busybox truncate -s 300M /huge`)
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/fifo":            "is a FIFO",
		"/zero":            "is a device",
		"/dev/null":        "is a device",
		"/dir":             "is a directory",
		"/":                "is a directory",
		"/loop":            "too many levels of symbolic links",
		"/toproc":          "it is on a file system of the kernel (proc)",
		"/proc/self/stat":  "no such file or directory",
		"/proc/1/environ":  "it is on a file system of the kernel (proc)",
		"/proc/1/root/etc": "too many levels of symbolic links",
		"/magic":           "too many levels of symbolic links",
		"/tosys":           "it is on a file system of the kernel (sysfs)",
		"/first/x":         "not a directory",
	} {
		done := make(chan error, 2)
		go func() {
			_, err := l.ReadFile(path)
			done <- err
			done <- l.WriteFile(path, []byte("x"), &WriteOptions{Parents: true})
		}()
		for i, how := range []string{"open", "write"} {
			select {
			case err := <-done:
				if i == 1 && (path == "/proc/self/stat" || path == "/proc/1/root/etc" || path == "/magic") {
					want = "" // of Parents, and of fewer capabilities
				}
				if err == nil || !strings.HasPrefix(err.Error(), how+" "+path+": ") || !strings.HasSuffix(err.Error(), want) {
					t.Errorf("%s %s: %v, want %q", how, path, err, want)
				}
			case <-time.After(5 * time.Second):
				t.Fatalf("%s of %s blocks", how, path)
			}
		}
	}
	if err := l.WriteFile("/dangling", nil, nil); err == nil || err.Error() != "write /dangling: is a symlink that leads to nothing" {
		t.Error(err)
	}
	for _, path := range []string{"", "/new/", "/dir/..", "/a/b", "/proc/new", "/sys/fs/cgroup/new/x"} {
		if err := l.WriteFile(path, nil, nil); err == nil {
			t.Errorf("%q was written", path)
		}
	}
	if err := l.WriteFile("/sys/fs/cgroup/new/x", nil, &WriteOptions{Parents: true}); err == nil {
		t.Error("a cgroup was made")
	}
	if _, err := l.ReadFile("/nothing"); !errors.Is(err, unix.ENOENT) {
		t.Error(err)
	}
	if _, err := l.ReadFile("/dir"); !errors.Is(err, unix.EISDIR) {
		t.Error(err)
	}
	if _, err := l.ReadFile("/huge"); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	if now, _ := os.Hostname(); now != host {
		t.Errorf("the host's name is %q", now)
	}
}

// TestFilesOfEachStatus: a container that lives has files, whatever it does.
func TestFilesOfEachStatus(t *testing.T) {
	store := &Store{root: t.TempDir()}
	sb, err := store.Create(t.Context(), "c", sleeping(t, nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.ForceDelete(context.Background(), "c"); reapChildren() }()
	l := &layered{Sandbox: sb, t: t}
	l.write("/made", "created", nil)
	l.reads("/made", "created")
	if err := sb.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.reads("/made", "created")
	if err := sb.Pause(); err != nil {
		t.Fatal(err)
	}
	l.write("/made", "paused", nil)
	if err := sb.Resume(); err != nil {
		t.Fatal(err)
	}
	l.reads("/made", "paused")
	if err := sb.Signal(unix.SIGKILL, false); err != nil {
		t.Fatal(err)
	}
	if _, err := sb.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := sb.ReadFile("/made"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("read from a stopped container: %v", err)
	}
	if err := sb.WriteFile("/made", nil, nil); !errors.Is(err, ErrNotRunning) {
		t.Errorf("write to a stopped container: %v", err)
	}
	if err := sb.Delete(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := sb.ReadFile("/made"); !errors.Is(err, ErrNotExist) {
		t.Errorf("read from a deleted container: %v", err)
	}
}

// TestFilesWhileCreating: before its time, init's root directory is the host's.
func TestFilesWhileCreating(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("the host's"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, do := range []func(*Store, context.Context, string, *spec.Bundle, *CreateOptions) (*Sandbox, error){(*Store).Create, (*Store).Run} {
		store := &Store{root: t.TempDir()}
		var readers sync.WaitGroup
		seen, ended := false, make(chan error, 100)
		store.step = func(name string) {
			seen = seen || name == "published"
			readers.Go(func() {
				sb, err := (&Store{root: store.root}).Load("c")
				if err != nil {
					return // not recorded yet
				}
				raw, err := sb.ReadFile(secret)
				if err == nil {
					t.Errorf("%s: read %q of the host", name, raw)
				}
				ended <- err
			})
			time.Sleep(5 * time.Millisecond)
		}
		sb, err := do(store, t.Context(), "c", sleeping(t, nil), nil)
		if err != nil {
			t.Fatal(err)
		}
		readers.Wait()
		if len(ended) == 0 {
			t.Error("nobody read")
		}
		if !seen {
			t.Error("the step is not there")
		}
		store.step = nil
		if err := sb.Delete(t.Context(), &DeleteOptions{Force: true}); err != nil {
			t.Error(err)
		}
		reapChildren()
	}
}

// TestFilesAfterReset: the root directory is the one of now, also after a reset by
// somebody else.
func TestFilesAfterReset(t *testing.T) {
	for _, mode := range []ResetMode{ResetRestart, ResetKeepInit} {
		t.Run(string(mode), func(t *testing.T) {
			l := runLayered(t, &Store{root: t.TempDir()}, "r", sleeping(t, nil), nil)
			other, err := l.store.Load("r")
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				l.reads("/first", "first\n")
				l.write("/first", "changed", nil)
				l.write("/tmp/t", "x", nil)
				l.reads("/first", "changed")
				if err := other.Reset(t.Context(), &ResetOptions{Mode: mode}); err != nil {
					t.Fatal(err)
				}
				l.reads("/first", "first\n")
				if _, err := l.ReadFile("/tmp/t"); !errors.Is(err, unix.ENOENT) {
					t.Errorf("a file of the old tmpfs: %v", err)
				}
			}
			l.gone()
		})
	}
}

// TestFilesOfAUserNamespace: owners are what the container sees, also where only its
// users can have files.
func TestFilesOfAUserNamespace(t *testing.T) {
	l := filesInUser(t, nil)
	for _, dir := range []string{"/", "/tmp/"} { // the second is a tmpfs of the namespace
		l.write(dir+"new", "a", nil)
		l.write(dir+"d/own", "b", &WriteOptions{Owner: &Owner{7, 8}, Parents: true})
		want := fmt.Sprintf("%snew 0:0 %sd 0:0 %sd/own 7:8", dir, dir, dir)
		if got := strings.Join(strings.Fields(l.sh(fmt.Sprintf("stat -c '%%n %%u:%%g' %snew %sd %sd/own", dir, dir, dir))), " "); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		l.reads(dir+"d/own", "b")
	}
	if err := l.WriteFile("/x", nil, &WriteOptions{Owner: &Owner{70000, 0}}); err == nil || !strings.HasSuffix(err.Error(), "chown: user id 70000: not mapped") {
		t.Error(err)
	}
}

// TestFilesOfASandbox: files go where the sandbox's processes see them, so what is in its
// volumes keeps to what those are.
func TestFilesOfASandbox(t *testing.T) {
	c := boxed(t)
	host := map[string]string{}
	for _, name := range []string{"rw", "ro", "cow"} {
		host[name] = t.TempDir()
		if err := os.WriteFile(filepath.Join(host[name], "file"), []byte("host"), 0o644); err != nil {
			t.Fatal(err)
		}
		c.Volumes = append(c.Volumes, host[name]+":/"+name+":"+name)
	}
	c.WorkingDir = "/work"
	l := newBox(t, c)
	for _, name := range []string{"rw", "cow"} {
		l.write("/"+name+"/file", "changed", nil)
		l.write("/"+name+"/new", "new", nil)
	}
	if err := l.WriteFile("/ro/file", nil, nil); !errors.Is(err, unix.EROFS) {
		t.Errorf("a read-only volume: %v", err)
	}
	l.write("/work/script", "#!/bin/sh\necho it runs", &WriteOptions{Mode: 0o755})
	if got := l.sh("cat /rw/file /cow/file /cow/new; /work/script"); got != "changedchangednewit runs" {
		t.Errorf("the sandbox has %q", got)
	}
	for name, want := range map[string]string{"rw/file": "changed", "rw/new": "new", "ro/file": "host", "cow/file": "host", "cow/new": ""} {
		dir, file, _ := strings.Cut(name, "/")
		if raw, _ := os.ReadFile(filepath.Join(host[dir], file)); string(raw) != want {
			t.Errorf("%s is %q on the host", name, raw)
		}
	}
	l.reset("")
	l.reads("/cow/file", "host")
	l.reads("/rw/file", "changed")
	if _, err := l.ReadFile("/work/script"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("after the reset: %v", err)
	}
	l.gone()
}

// TestFilesThatCannotBe: the file system's limits hold and are named.
func TestFilesThatCannotBe(t *testing.T) {
	l := filesIn(t, func(s *specs.Spec) {
		s.Root.Readonly = true
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dir", Type: "tmpfs", Source: "tmpfs", Options: []string{"size=64k"}})
	})
	if err := l.WriteFile("/first", []byte("x"), nil); !errors.Is(err, unix.EROFS) || err.Error() != "write /first: read-only file system" {
		t.Error(err)
	}
	if err := l.WriteFile("/new", nil, nil); !errors.Is(err, unix.EROFS) {
		t.Error(err)
	}
	if err := l.WriteFile("/dir/large", make([]byte, 1<<20), nil); !errors.Is(err, unix.ENOSPC) || err.Error() != "write /dir/large: no space left on device" {
		t.Error(err)
	}
	l.reads("/first", "first\n")
}

// exchange exchanges two files of the container's all the time, until the test ends or
// the function that it returns is called.
func (l *layered) exchange(a, b string) (stop func()) {
	l.t.Helper()
	a, b = l.onHost(a), l.onHost(b)
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-end:
				return
			default:
				_ = unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
			}
		}
	}()
	return func() { close(end); <-done }
}

// TestFilesRace reads and writes below a directory that is exchanged for a symlink to
// the host's all the time.
func TestFilesRace(t *testing.T) {
	l := filesIn(t, nil)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "file"), []byte("host"), 0o644); err != nil {
		t.Fatal(err)
	}
	l.sh(fmt.Sprintf("mkdir -p /race/d; echo -n mine > /race/d/file; ln -s %s /race/s; busybox mkfifo /race/fifo; ln -s %s/file /race/fs", outside, outside))
	defer l.exchange("/race/d", "/race/s")()
	defer l.exchange("/race/fifo", "/race/fs")()
	read, wrote := 0, 0
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
		for _, path := range []string{"/race/d/file", "/race/s/file", "/race/fifo", "/race/fs"} {
			raw, err := l.ReadFile(path)
			if strings.Contains(string(raw), "host") {
				t.Fatalf("%s: read %q", path, raw)
			}
			if err == nil {
				read++
			}
			if l.WriteFile(path, []byte("mine"), &WriteOptions{Parents: wrote%2 == 0 && path[6] == 's'}) == nil {
				wrote++
			}
		}
	}
	if read == 0 || wrote == 0 {
		t.Errorf("%d reads and %d writes succeeded", read, wrote)
	}
	names, _ := os.ReadDir(outside)
	if raw, err := os.ReadFile(filepath.Join(outside, "file")); err != nil || string(raw) != "host" || len(names) != 1 {
		t.Errorf("the host's file is %q, %v, among %v", raw, err, names)
	}
}

func BenchmarkFile(b *testing.B) {
	store := &Store{root: b.TempDir()}
	s := spec.Default(false)
	s.Process.Terminal, s.Root.Readonly = false, false
	s.Process.Args = []string{"/bin/busybox", "sleep", "1000"}
	s.Linux.CgroupsPath = fmt.Sprintf("/adl-fault-bench-%d", os.Getpid())
	dir := b.TempDir()
	busybox(b, dir)
	sb, err := store.Run(b.Context(), "bench", bundle(b, dir, s), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = store.ForceDelete(context.Background(), "bench"); reapChildren() }()
	data := make([]byte, 4096)
	b.Run("write4k", func(b *testing.B) {
		for b.Loop() {
			if err := sb.WriteFile("/dev/shm/file", data, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read4k", func(b *testing.B) {
		for b.Loop() {
			if _, err := sb.ReadFile("/dev/shm/file"); err != nil {
				b.Fatal(err)
			}
		}
	})
}
