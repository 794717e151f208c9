package kernel

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// noLeak fails the test if it leaves descriptors open. os/exec and the poller keep
// some of their own from their first use, so a test that uses them does so before.
func noLeak(t *testing.T) {
	t.Helper()
	count := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	before := count()
	t.Cleanup(func() {
		if after := count(); after != before {
			t.Errorf("%d descriptors before, %d after", before, after)
		}
	})
}

func TestReadAll(t *testing.T) {
	noLeak(t)
	dir := t.TempDir()
	for _, size := range []int{0, 1, 4095, 4096, 4097, 1<<20 + 1} {
		want := strings.Repeat("x", size)
		path := filepath.Join(dir, "file")
		if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadAll(path); err != nil || string(got) != want {
			t.Errorf("%d bytes read as %d, %v", size, len(got), err)
		}
	}
	// Files of procfs say that they are empty.
	if got, err := ReadAll("/proc/self/status"); err != nil || len(got) == 0 {
		t.Errorf("/proc/self/status: %d bytes, %v", len(got), err)
	}
}

func TestReadAllOfOtherFiles(t *testing.T) {
	noLeak(t)
	dir := t.TempDir()
	link, fifo := filepath.Join(dir, "link"), filepath.Join(dir, "fifo")
	if err := os.Symlink("/etc/hostname", link); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path string
		want error
	}{
		{link, unix.ELOOP},
		{dir, unix.EISDIR},
		{filepath.Join(dir, "missing"), unix.ENOENT},
		{filepath.Join(fifo, "x"), unix.ENOTDIR},
		{fifo, nil},
	} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			if got, err := ReadAll(c.path); !errors.Is(err, c.want) || len(got) != 0 {
				t.Errorf("%s: %d bytes, %v, want %v", filepath.Base(c.path), len(got), err, c.want)
			}
		}()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: blocks", filepath.Base(c.path))
		}
	}
}

func TestReadFileDropsTheRest(t *testing.T) {
	noLeak(t)
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4)
	if n, err := ReadFile(path, buf); n != 4 || err != nil || string(buf) != "0123" {
		t.Errorf("read %q, %d, %v", buf, n, err)
	}
}

// TestOpenAtRoot opens paths of a root that does everything to lead outside.
func TestOpenAtRoot(t *testing.T) {
	noLeak(t)
	base := t.TempDir()
	root := filepath.Join(base, "root")
	for path, text := range map[string]string{"secret": "outside", "root/secret": "inside", "root/sub/dir/file": "file"} {
		path = filepath.Join(base, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{
		"absolute": "/secret", "outside": filepath.Join(base, "secret"), "up": "../../../../secret", "sub/up": "../../../secret",
		"loop": "loop2", "loop2": "loop", "self": "self/x", "dangling": "/not/there", "dir": "/sub/dir", "base": "..",
	} {
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]any{
		"secret": "inside", "/secret": "inside", "../secret": "inside", "sub/../../secret": "inside",
		"absolute": "inside", "up": "inside", "sub/up": "inside", "base/secret": "inside", "dir/file": "file", "dir/../../secret": "inside",
		"outside": unix.ENOENT, "loop": unix.ELOOP, "self": unix.ELOOP, "dangling": unix.ENOENT, "secret/x": unix.ENOTDIR, "": unix.ENOENT,
	} {
		fd, err := OpenInRoot(root, path, unix.O_RDONLY)
		if errno, ok := want.(unix.Errno); ok {
			if !errors.Is(err, errno) {
				t.Errorf("%q: %v, want %v", path, err, errno)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", path, err)
			continue
		}
		buf := make([]byte, 16)
		n, _ := Read(fd, buf)
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%q: descriptor flags %#x, %v", path, flags, err)
		}
		unix.Close(fd)
		if string(buf[:n]) != want {
			t.Errorf("%q is the file %q, want %q", path, buf[:n], want)
		}
	}
	if _, err := OpenInRoot(filepath.Join(base, "no-root"), "x", 0); !errors.Is(err, unix.ENOENT) {
		t.Errorf("missing root: %v", err)
	}
	if _, err := OpenInRoot("/", "proc/self/root/etc", unix.O_PATH); !errors.Is(err, unix.ELOOP) {
		t.Errorf("a magic link opened with %v, want ELOOP", err)
	}
}

func TestRights(t *testing.T) {
	noLeak(t)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	for _, send := range [][]int{{pair[0]}, {pair[0], pair[1]}, nil} {
		var oob []byte
		if send != nil {
			oob = unix.UnixRights(send...)
		}
		if err := unix.Sendmsg(pair[0], []byte("record.."), oob, nil, 0); err != nil {
			t.Fatal(err)
		}
		buf, control := make([]byte, 8), make([]byte, unix.CmsgSpace(8))
		n, oobn, _, _, err := Recvmsg(pair[1], buf, control)
		if err != nil || n != 8 {
			t.Fatalf("received %d bytes, %v", n, err)
		}
		got := Rights(control[:oobn])
		if len(got) != len(send) {
			t.Errorf("sent %d descriptors, received %d", len(send), len(got))
		}
		for i, fd := range got {
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags != unix.FD_CLOEXEC {
				t.Errorf("descriptor %d of %d has flags %d, %v", i, len(got), flags, err)
			}
			unix.Close(fd)
		}
	}
}

func TestRightsOfOtherMessages(t *testing.T) {
	rights := unix.UnixRights(7, 8)
	for name, c := range map[string]struct {
		oob  []byte
		want int
	}{
		"nothing":      {nil, 0},
		"whole":        {rights, 2},
		"cut":          {rights[:len(rights)-8], 0},
		"header only":  {rights[:8], 0},
		"credentials":  {unix.UnixCredentials(&unix.Ucred{Pid: 1}), 0},
		"both kinds":   {append(unix.UnixCredentials(&unix.Ucred{Pid: 1}), rights...), 2},
		"length 0":     {make([]byte, 24), 0},
		"length of -1": {[]byte(strings.Repeat("\xff", 24)), 0},
	} {
		if got := Rights(c.oob); len(got) != c.want {
			t.Errorf("%s: descriptors %v, want %d", name, got, c.want)
		}
	}
}

func TestRetry(t *testing.T) {
	n := 0
	err := Retry(func() error {
		if n++; n < 4 {
			return unix.EINTR
		}
		return unix.EBADF
	})
	if n != 4 || err != unix.EBADF {
		t.Errorf("%d calls, %v", n, err)
	}
}

func TestNamespaceType(t *testing.T) {
	noLeak(t)
	for name, want := range map[string]int{
		"mnt": unix.CLONE_NEWNS, "pid": unix.CLONE_NEWPID, "net": unix.CLONE_NEWNET,
		"ipc": unix.CLONE_NEWIPC, "uts": unix.CLONE_NEWUTS, "cgroup": unix.CLONE_NEWCGROUP, "user": unix.CLONE_NEWUSER,
	} {
		fd, err := unix.Open("/proc/self/ns/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := NamespaceType(fd); got != want || err != nil {
			t.Errorf("%s: type %#x, %v, want %#x", name, got, err, want)
		}
		unix.Close(fd)
	}
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := NamespaceType(fd); !errors.Is(err, unix.ENOTTY) || !strings.HasPrefix(err.Error(), "not a namespace: ") {
		t.Errorf("/dev/null: %v", err)
	}
}

func TestVersionAndBounding(t *testing.T) {
	major, minor, err := Version()
	if err != nil || major<<16|minor < 5<<16|10 {
		t.Errorf("version %d.%d, %v", major, minor, err)
	}
	raw, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if err != nil {
		t.Fatal(err)
	}
	mask, last := Bounding()
	if got := strings.TrimSpace(string(raw)); got != itoa(last) {
		t.Errorf("highest capability %d, the kernel says %s", last, got)
	}
	if mask>>(last+1) != 0 {
		t.Errorf("bounding set %#x with %d capabilities", mask, last+1)
	}
}
