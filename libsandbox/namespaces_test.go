package libsandbox

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/spec"
)

// namespaceTypes are the names of the types in the spec and in /proc/PID/ns.
func namespaceTypes() map[specs.LinuxNamespaceType]string {
	return map[specs.LinuxNamespaceType]string{
		specs.PIDNamespace: "pid", specs.NetworkNamespace: "net", specs.MountNamespace: "mnt",
		specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts", specs.CgroupNamespace: "cgroup",
	}
}

// join replaces a namespace of the spec by the one at path.
func join(s *specs.Spec, typ specs.LinuxNamespaceType, path string) {
	s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == typ })
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: typ, Path: path})
}

// helper starts a process in namespaces of its own and returns its /proc/PID/ns.
func helper(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("/usr/bin/busybox", "sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP,
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return fmt.Sprintf("/proc/%d/ns", cmd.Process.Pid)
}

func TestJoinedNamespaces(t *testing.T) {
	dir := t.TempDir()
	b := scripted(t, dir, "for n in pid net mnt ipc uts cgroup; do readlink /proc/self/ns/$n; done", nil)
	ns := helper(t)
	plain := b.Spec.Linux.Namespaces
	store := &Store{root: t.TempDir()}
	for typ, name := range namespaceTypes() {
		b.Spec.Linux.Namespaces = slices.Clone(plain)
		b.Spec.Hostname = "" // refused in a namespace of somebody else
		join(b.Spec, typ, filepath.Join(ns, name))
		out := output(t, store, b, CreateOptions{})
		want, err := os.Readlink(filepath.Join(ns, name))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(strings.Fields(out), want) {
			t.Errorf("%s: want %s among\n%s", typ, want, out)
		}
		for other, name := range namespaceTypes() {
			if link, _ := os.Readlink(filepath.Join(ns, name)); other != typ && slices.Contains(strings.Fields(out), link) {
				t.Errorf("%s: joined %s as well", typ, other)
			}
		}
	}
}

// What is not the namespace it is said to be is refused by the field's name.
func TestJoinedNamespaceIsAnother(t *testing.T) {
	dir := t.TempDir()
	b := scripted(t, dir, "true", func(s *specs.Spec) { s.Hostname = "" })
	ns := helper(t)
	plain := b.Spec.Linux.Namespaces
	store := &Store{root: t.TempDir()}
	before := lookAtHost(t, store.root)
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	refused := func(typ specs.LinuxNamespaceType, path, want string) {
		t.Helper()
		b.Spec.Linux.Namespaces = slices.Clone(plain)
		join(b.Spec, typ, path)
		want = fmt.Sprintf("linux.namespaces[%d] %s %s: %s", len(b.Spec.Linux.Namespaces)-1, typ, path, want)
		if _, err := store.Run(t.Context(), "box", b, nil); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got  %v\nwant %s", err, want)
		}
		before.compare(t, lookAtHost(t, store.root))
	}
	for typ, name := range namespaceTypes() {
		for other, otherName := range namespaceTypes() {
			if other != typ {
				refused(typ, filepath.Join(ns, otherName), "is a namespace of another type")
			}
		}
		refused(typ, filepath.Join(ns, "user"), "is a namespace of another type")
		refused(typ, "/dev/null", "not a namespace")
		refused(typ, dir, "not a namespace")
		refused(typ, fifo, "not a namespace")
		refused(typ, filepath.Join(ns, name, "x"), "not a directory")
		refused(typ, "/not/there", "no such file or directory")
	}
	refused(specs.MountNamespace, "/proc/self/ns/mnt", "is the mount namespace of the runtime itself")
	refused(specs.MountNamespace, fmt.Sprintf("/proc/%d/ns/mnt", os.Getppid()), "is the mount namespace of the runtime itself")
}

func TestNoPivot(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "beside"), []byte("of the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	b := scripted(t, dir, "ls -a /..; ls /../beside /../../"+dir+" 2>/dev/null; cd /..; ls beside "+dir+" 2>/dev/null; cat /proc/self/mountinfo", nil)
	store := &Store{root: t.TempDir()}
	pivoted := output(t, store, b, CreateOptions{})
	moved := output(t, store, b, CreateOptions{NoPivot: true})
	for _, out := range []string{pivoted, moved} {
		if strings.Contains(out, "beside") || !strings.Contains(out, "rootfs / ro,") {
			t.Errorf("the root is\n%s", out)
		}
	}
	if a, b := len(mountTable(pivoted)), len(mountTable(moved)); a != b {
		t.Errorf("%d lines with pivot_root, %d without:\n%s", a, b, moved)
	}
}

func TestExtraFiles(t *testing.T) {
	dir := t.TempDir()
	b := scripted(t, dir, `cat <&3; cat <&4; echo five >&5; ls /proc/self/fd | cat`, nil)
	store := &Store{root: t.TempDir()}
	var files []*os.File
	for i, text := range []string{"three\n", "four\n", ""} {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	// ls itself opens one more.
	if got := output(t, store, b, CreateOptions{ExtraFiles: files}); got != "three\nfour\n0\n1\n2\n3\n4\n5\n6\n" {
		t.Errorf("the process sees %q", got)
	}
	if _, err := files[2].Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(files[2]); string(text) != "five\n" {
		t.Errorf("descriptor 5 got %q, %v", text, err)
	}
}

// TestMemfdForbidden makes a container where the system forbids executable files in
// memory: in a pid namespace, whose setting it is (Linux 6.3).
func TestMemfdForbidden(t *testing.T) {
	const setting = "/proc/sys/vm/memfd_noexec"
	if dir := os.Getenv("ADL_TEST_MEMFD_DIR"); dir != "" {
		if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(setting, []byte("2"), 0); err != nil {
			t.Fatal(err)
		}
		if fd, err := unix.MemfdCreate("x", unix.MFD_CLOEXEC|unix.MFD_EXEC); err != unix.EACCES {
			t.Fatalf("memfd_create returned %d, %v", fd, err)
		}
		checkLifecycle(t, scripted(t, dir, "echo ran; exit 7", nil))
		return
	}
	dir := t.TempDir()
	scripted(t, dir, "", nil)
	if _, err := os.Stat(setting); err != nil {
		t.Skip("needs Linux 6.3: " + err.Error())
	}
	tmp := filepath.Join(dir, "tmp")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestMemfdForbidden$", "-test.v")
	cmd.Env = append(os.Environ(), "ADL_TEST_MEMFD_DIR="+dir, "TMPDIR="+tmp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID, Unshareflags: unix.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestMemfdForbidden") {
		t.Errorf("%v\n%s", err, out)
	}
	if left, _ := os.ReadDir(tmp); len(left) != 0 {
		t.Errorf("left in the temporary directory: %v", left)
	}
}

// checkLifecycle creates and starts a container that exits with status 7. Its
// status shows that init's executable is recognised.
func checkLifecycle(t *testing.T, b *spec.Bundle) {
	t.Helper()
	store := &Store{root: t.TempDir()}
	sb, err := store.Create(t.Context(), "box", b, nil)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := sb.State(); err != nil || st.Status != specs.StateCreated {
		t.Errorf("state %+v, %v", st, err)
	}
	if err := sb.Start(t.Context()); err != nil {
		t.Error(err)
	}
	if ws, err := sb.Wait(t.Context()); err != nil || ws.ExitStatus() != 7 {
		t.Errorf("ended with %v, %v", ws, err)
	}
	if err := sb.Delete(t.Context(), nil); err != nil {
		t.Error(err)
	}
}
