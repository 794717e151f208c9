package libsandbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/spec"
)

// pausing is a bundle whose process 1 is the pause program.
func pausing(t *testing.T, edit func(*specs.Spec)) *spec.Bundle {
	t.Helper()
	return sleeping(t, func(s *specs.Spec) {
		s.Process.Args = []string{"pause"}
		s.Annotations = map[string]string{AnnotationInit: "pause"}
		if edit != nil {
			edit(s)
		}
	})
}

// wait1s polls for at most a second.
func wait1s(f func() bool) bool {
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if f() {
			return true
		}
	}
	return f()
}

// zombies counts the container's processes that have ended and that nobody has waited for.
func (l *layered) zombies() int {
	return strings.Count(l.sh("cat /proc/[0-9]*/stat 2>/dev/null || true"), ") Z ")
}

func TestPause(t *testing.T) {
	l := runLayered(t, &Store{root: t.TempDir()}, "p", pausing(t, nil), nil)
	if s, err := l.State(); err != nil || s.Status != specs.StateRunning {
		t.Fatalf("%v, %v", s, err)
	}
	if got := l.sh("cat /proc/1/comm; cat /proc/1/cmdline; readlink /proc/1/cwd; ls /proc/1/fd"); got != "pause\npause\x00/\n0\n1\n2\n3" {
		t.Errorf("process 1: %q", got)
	}
	// Orphans, ended before or after their parent, are reaped.
	l.sh("for i in 1 2 3 4 5; do (busybox sleep 0.01 &) ; (busybox setsid busybox true &); done")
	if !wait1s(func() bool { return l.zombies() == 0 }) {
		t.Error("orphans are left as zombies")
	}
	// Freezing and stopping it does not end it.
	if err := l.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := l.Resume(); err != nil {
		t.Fatal(err)
	}
	for _, sig := range []unix.Signal{unix.SIGSTOP, unix.SIGCONT, unix.SIGUSR1, unix.SIGCHLD} {
		if err := l.Signal(sig, false); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(10 * time.Millisecond)
	l.sh("true")
	for _, mode := range []ResetMode{ResetRestart, ResetKeepInit} {
		l.sh("echo x >/made")
		l.reset(mode)
		if got := l.sh("ls /made 2>/dev/null; cat /proc/1/comm"); got != "pause" {
			t.Errorf("%s: %q", mode, got)
		}
	}
	l.sh("echo x >/made")
	if s, err := l.Snapshot(t.Context(), "s"); err != nil || s.Method != ByReference {
		t.Errorf("%+v, %v", s, err)
	}
	if err := l.Signal(unix.SIGTERM, false); err != nil {
		t.Fatal(err)
	}
	if ws, err := l.Wait(t.Context()); err != nil || !ws.Exited() || ws.ExitStatus() != 0 {
		t.Errorf("after SIGTERM: %v, %v", ws, err)
	}
	l.gone()
}

// A root filesystem without any file will do.
func TestPauseEmptyRoot(t *testing.T) {
	b := pausing(t, nil)
	b.Spec.Root.Path = t.TempDir()
	l := runLayered(t, &Store{root: t.TempDir()}, "p", b, nil)
	if s, err := l.State(); err != nil || s.Status != specs.StateRunning {
		t.Errorf("%v, %v", s, err)
	}
	l.reset(ResetRestart)
	l.reset(ResetKeepInit)
	l.gone()
}

func TestPauseCreated(t *testing.T) {
	store := &Store{root: t.TempDir()}
	sb, err := store.Create(t.Context(), "p", pausing(t, nil), &CreateOptions{Layer: &LayerOptions{Driver: "overlay", Root: layerDir(t)}})
	if err != nil {
		t.Fatal(err)
	}
	defer reapChildren()
	if s, err := sb.State(); err != nil || s.Status != specs.StateCreated {
		t.Errorf("%v, %v", s, err)
	}
	if err := sb.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s, err := sb.State(); err != nil || s.Status != specs.StateRunning {
		t.Errorf("%v, %v", s, err)
	}
	if err := sb.Delete(t.Context(), &DeleteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
}

func TestFirstFiles(t *testing.T) {
	b := pausing(t, func(s *specs.Spec) {
		s.Annotations[AnnotationFile+"/etc/hosts"] = "127.0.0.1 box\n"
		s.Annotations[AnnotationFile+"/new/dir/file"] = "text"
		s.Root.Readonly = true
	})
	// What the image has there is replaced, never followed.
	etc := filepath.Join(b.Rootfs(), "etc")
	if err := os.Mkdir(etc, 0o755); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.Symlink(outside, filepath.Join(etc, "hosts")); err != nil {
		t.Fatal(err)
	}
	l := runLayered(t, &Store{root: t.TempDir()}, "f", b, nil)
	const look, want = "cat /etc/hosts /new/dir/file; busybox stat -c %a,%u /etc/hosts", "127.0.0.1 box\ntext644,0"
	for _, mode := range []ResetMode{"", ResetRestart, ResetKeepInit} {
		if mode != "" {
			l.reset(mode)
		}
		if got := l.sh(look); got != want {
			t.Errorf("%s: %q", mode, got)
		}
	}
	if _, err := os.Lstat(outside); err == nil {
		t.Error("a symlink of the image was followed")
	}
	l.gone()
}

func TestFirstFilesOfSnapshot(t *testing.T) {
	b := pausing(t, func(s *specs.Spec) { s.Annotations[AnnotationFile+"/etc/hosts"] = "first" })
	l := runLayered(t, &Store{root: t.TempDir()}, "f", b, nil)
	l.sh("echo -n second >/etc/hosts")
	if _, err := l.Snapshot(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"s", ""} {
		if err := l.Reset(t.Context(), &ResetOptions{To: to}); err != nil {
			t.Fatal(err)
		}
		if got, want := l.sh("cat /etc/hosts"), map[string]string{"s": "second", "": "first"}[to]; got != want {
			t.Errorf("reset to %q: %q, want %q", to, got, want)
		}
	}
	l.gone()
}

func TestBeginRefused(t *testing.T) {
	for _, c := range []struct{ key, value, layer, want string }{
		{AnnotationInit, "sleep", "overlay", `annotations["run.adl.init"] "sleep": must be pause`},
		{AnnotationFile + "etc/hosts", "", "overlay", `annotations["run.adl.file.etc/hosts"]: "etc/hosts": must be the absolute path of a file`},
		{AnnotationFile + "/etc/../x", "", "overlay", `annotations["run.adl.file./etc/../x"]: "/etc/../x": must be the absolute path of a file`},
		{AnnotationFile + "/tmp/x", "", "overlay", `file /tmp/x: its directory is on a mount`},
		{AnnotationFile + "/x", "", "none", `annotations["run.adl.file./x"]: a file needs a layer: the root filesystem is written to otherwise`},
	} {
		b := pausing(t, func(s *specs.Spec) { s.Annotations[c.key] = c.value })
		store := &Store{root: t.TempDir()}
		_, err := store.Run(t.Context(), "x", b, &CreateOptions{Layer: &LayerOptions{Driver: c.layer, Root: layerDir(t)}})
		if err == nil || err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
}
