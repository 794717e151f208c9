package libsandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/google/go-cmp/cmp"

	"adl.run/adl-runtime/libsandbox/internal/compile"
	"adl.run/adl-runtime/libsandbox/internal/program"
	"adl.run/adl-runtime/libsandbox/layer"
	"adl.run/adl-runtime/spec"
)

// layered is a container with a layer, and where the layers are.
type layered struct {
	*Sandbox
	t    *testing.T
	root string
}

// runLayered runs the bundle on an overlay.
func runLayered(t *testing.T, store *Store, id string, b *spec.Bundle, o *LayerOptions) *layered {
	t.Helper()
	if o == nil {
		o = &LayerOptions{}
	}
	if o.Driver == "" {
		o.Driver = string(layer.Overlay)
	}
	if o.Root == "" {
		o.Root = layerDir(t)
	}
	sb, err := store.Run(t.Context(), id, b, &CreateOptions{Layer: o})
	if err != nil {
		t.Fatal(err)
	}
	l := &layered{sb, t, o.Root}
	t.Cleanup(func() { _ = store.ForceDelete(context.Background(), id); reapChildren() })
	return l
}

// layerDir is a layer root on a tmpfs, as the temporary directory may be on an overlay.
func layerDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layers")
	tmpfs(t, dir, 0)
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// sh runs a script in the container and returns its output.
func (l *layered) sh(script string) string {
	l.t.Helper()
	out, err := l.try(script)
	if err != nil {
		l.t.Fatalf("%s: %v: %s", script, err, out)
	}
	return strings.TrimSpace(out)
}

func (l *layered) try(script string) (string, error) {
	p, err := l.Process()
	if err != nil {
		return "", err
	}
	p.Args = []string{"/bin/busybox", "sh", "-c", script}
	p.Terminal, p.Cwd, p.User = false, "/", specs.User{}
	out, err := os.CreateTemp(l.t.TempDir(), "out")
	if err != nil {
		return "", err
	}
	defer out.Close()
	x, err := l.Exec(context.Background(), p, &ExecOptions{Stdout: out, Stderr: out})
	if err != nil {
		return "", err
	}
	ws, err := x.Wait(context.Background())
	text, _ := os.ReadFile(out.Name())
	if err == nil && ws.ExitStatus() != 0 {
		err = fmt.Errorf("status %v", ws)
	}
	return string(text), err
}

func (l *layered) reset(mode ResetMode) {
	l.t.Helper()
	if err := l.Reset(l.t.Context(), &ResetOptions{Mode: mode}); err != nil {
		l.t.Fatalf("%s: %v", mode, err)
	}
}

// pid1 tells one init from another.
func (l *layered) pid1() int { return l.Pid() }

// gone deletes the container and checks that there is nothing of it in the layer root.
func (l *layered) gone() {
	l.t.Helper()
	if err := l.Delete(l.t.Context(), &DeleteOptions{Force: true}); err != nil {
		l.t.Fatal(err)
	}
	noLayers(l.t, l.root)
}

func noLayers(t *testing.T, dir string) {
	t.Helper()
	left := ""
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		left = ""
		for _, sub := range []string{"layers", "trash"} {
			names, _ := os.ReadDir(filepath.Join(dir, sub))
			for _, n := range names {
				if n.Name() != "lock" {
					left += sub + "/" + n.Name() + " "
				}
			}
		}
		if left == "" {
			return
		}
	}
	t.Errorf("left in the layer root: %s", left)
}

// sleeping is a bundle whose init sleeps.
func sleeping(t *testing.T, edit func(*specs.Spec)) *spec.Bundle {
	t.Helper()
	dir := t.TempDir()
	b := scripted(t, dir, "", func(s *specs.Spec) {
		s.Process.Args = []string{"busybox", "sleep", "1000"}
		s.Root.Readonly = false
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/tmp", Type: "tmpfs", Source: "tmpfs"})
		if edit != nil {
			edit(s)
		}
	})
	for name, text := range map[string]string{"rootfs/first": "first\n", "rootfs/dir/file": "below\n"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// spoil changes everything that a reset is to undo.
const spoil = `echo changed > /first; rm -r /dir; mkdir /made; echo x > /made/x; chmod 700 /
echo y > /tmp/y; echo z > /dev/shm/z; echo > /dev/junk; rm /dev/zero; hostname spoiled
busybox sleep 1000 & busybox setsid busybox sleep 1000 & `

// look prints what spoil has changed.
const look = `cat /first; cat /dir/file; ls /made /tmp /dev/shm 2>/dev/null; ls -d /dev/junk 2>/dev/null
stat -c %a /; busybox test -c /dev/zero && echo zero; hostname; busybox ps | busybox grep -c '[s]leep 1000'`

func TestReset(t *testing.T) {
	for _, mode := range []ResetMode{ResetRestart, ResetKeepInit} {
		t.Run(string(mode), func(t *testing.T) {
			b := sleeping(t, nil)
			before := lookAtHost(t, t.TempDir())
			l := runLayered(t, &Store{root: t.TempDir()}, "r", b, nil)
			first, pid := l.sh(look), l.pid1()
			for range 3 {
				l.sh(spoil)
				if l.sh(look) == first {
					t.Fatal("nothing was changed: " + first)
				}
				l.reset(mode)
				if got := l.sh(look); got != first {
					t.Errorf("after the reset:\n%s\nat first:\n%s", got, first)
				}
			}
			if kept := l.pid1() == pid; kept != (mode == ResetKeepInit) {
				t.Errorf("init was %d and is %d", pid, l.pid1())
			}
			if s, err := l.State(); err != nil || s.Status != specs.StateRunning {
				t.Errorf("%v, %v", s, err)
			}
			if raw, err := os.ReadFile(filepath.Join(b.Rootfs(), "first")); err != nil || string(raw) != "first\n" {
				t.Errorf("the bundle's root filesystem was written to: %q, %v", raw, err)
			}
			l.gone()
			reapChildren()
			_ = before
		})
	}
}

// TestResetOfEverything resets a container that uses every feature with ops of its own.
func TestResetOfEverything(t *testing.T) {
	for _, mode := range []ResetMode{ResetRestart, ResetKeepInit} {
		t.Run(string(mode), func(t *testing.T) {
			l := runLayered(t, &Store{root: t.TempDir()}, "e", everything(t, t.TempDir()), nil)
			view := `busybox cat /proc/self/mountinfo | busybox cut -d' ' -f5- | busybox sed 's/[us]*[a-z]*dir+*=[^, ]*//g; s/master:[0-9]*//' | busybox grep -v '^.bound.dir.rootfs' | busybox sort; busybox ls -lR /dev /skel | busybox sed 's/ [A-Z][a-z][a-z] .*:.. / /'; busybox hostname; busybox cat /proc/sys/net/ipv4/ip_forward`
			first := l.sh(view)
			l.reset(mode)
			if d := cmp.Diff(strings.Split(first, "\n"), strings.Split(l.sh(view), "\n")); d != "" {
				t.Errorf("-at first +after the reset\n%s", d)
			}
			l.gone()
		})
	}
}

// TestResetIPC: System V and POSIX objects are the IPC namespace's, which init keeps.
func TestResetIPC(t *testing.T) {
	b := sleeping(t, nil)
	l := runLayered(t, &Store{root: t.TempDir()}, "ipc", b, nil)
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/ipc", l.Pid()), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	inIPC(t, fd, func() {
		for _, errno := range []error{
			errnoOf(unix.Syscall(unix.SYS_SHMGET, 1, 4096, unix.IPC_CREAT|0o600)),
			errnoOf(unix.Syscall(unix.SYS_SEMGET, 1, 1, unix.IPC_CREAT|0o600)),
			errnoOf(unix.Syscall(unix.SYS_MSGGET, 1, unix.IPC_CREAT|0o600, 0)),
		} {
			if errno != nil {
				t.Error(errno)
			}
		}
	})
	l.sh(": > /dev/mqueue/q")
	count := "busybox wc -l /proc/sysvipc/* | busybox sed '$d; s/ *//'; ls /dev/mqueue"
	if got := l.sh(count); !strings.Contains(got, "2 /proc/sysvipc/shm") || !strings.Contains(got, "q") {
		t.Fatalf("nothing was made: %s", got)
	}
	l.reset(ResetKeepInit)
	if got := l.sh(count); strings.Contains(got, "2 ") || strings.HasSuffix(got, "q") {
		t.Errorf("left: %s", got)
	}
	l.gone()
}

func errnoOf(_, _ uintptr, errno syscall.Errno) error {
	if errno == 0 {
		return nil
	}
	return errno
}

func inIPC(t *testing.T, fd int, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		own, err := unix.Open("/proc/thread-self/ns/ipc", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		defer unix.Close(own)
		if err := unix.Setns(fd, unix.CLONE_NEWIPC); err != nil {
			t.Error(err)
			return
		}
		f()
		// The process's first thread would stay there.
		if err := unix.Setns(own, unix.CLONE_NEWIPC); err != nil {
			t.Error(err)
			return
		}
		runtime.UnlockOSThread()
	}()
	<-done
}

// TestResetStdio: the next init has the first one's files, and not what that put there.
func TestResetStdio(t *testing.T) {
	b := sleeping(t, func(s *specs.Spec) {
		s.Process.Args = []string{"/bin/sh", "-c", "echo begin; echo error >&2; exec sleep 1000 >/first"}
	})
	out, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	store := &Store{root: t.TempDir()}
	root := layerDir(t)
	sb, err := store.Run(t.Context(), "io", b, &CreateOptions{Stderr: out, Layer: &LayerOptions{Driver: "overlay", Root: root}})
	if err != nil {
		t.Fatal(err)
	}
	l := &layered{sb, t, root}
	text := func() string {
		raw, _ := os.ReadFile(out.Name())
		return string(raw)
	}
	for n := 1; n <= 3; n++ {
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end) && strings.Count(text(), "error\n") < n; {
			time.Sleep(time.Millisecond)
		}
		if text() != strings.Repeat("error\n", n) {
			t.Fatalf("%d times: %q", n, text())
		}
		l.reset(ResetRestart)
	}
	l.gone()
}

// TestResetRefused: each of them is an error, and the container is as it was.
func TestResetRefused(t *testing.T) {
	store := &Store{root: t.TempDir()}
	plain, err := store.Run(t.Context(), "plain", sleeping(t, nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.ForceDelete(context.Background(), "plain"); reapChildren() }()
	if err := plain.Reset(t.Context(), nil); !errors.Is(err, ErrNoLayer) || !strings.Contains(err.Error(), "--layer") {
		t.Errorf("without a layer: %v", err)
	}
	if _, err := plain.Snapshot(t.Context(), "x"); !errors.Is(err, ErrNoLayer) {
		t.Errorf("snapshot without a layer: %v", err)
	}
	if _, err := plain.Fork(t.Context(), "y", nil); !errors.Is(err, ErrNoLayer) {
		t.Errorf("fork without a layer: %v", err)
	}
	l := runLayered(t, store, "l", sleeping(t, nil), nil)
	l.sh("echo > /made")
	for _, name := range []string{"../x", "a,b:c", ".", "..", "/", "a/b", "-x", strings.Repeat("x", 129), "x\n", "é"} {
		if err := l.Reset(t.Context(), &ResetOptions{To: name}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", name)) {
			t.Errorf("to %q: %v", name, err)
		}
		if _, err := l.Snapshot(t.Context(), name); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", name)) {
			t.Errorf("snapshot %q: %v", name, err)
		}
		if err := l.DeleteSnapshot(name); err == nil {
			t.Errorf("snapshot %q was deleted", name)
		}
	}
	if err := l.Reset(t.Context(), &ResetOptions{To: "none"}); !errors.Is(err, ErrNoSnapshot) {
		t.Errorf("to none: %v", err)
	}
	if err := l.Reset(t.Context(), &ResetOptions{Mode: "odd"}); err == nil {
		t.Error("mode odd was accepted")
	}
	if _, err := l.Snapshot(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Snapshot(t.Context(), "one"); !errors.Is(err, ErrSnapshotExists) {
		t.Errorf("again: %v", err)
	}
	if _, err := l.Fork(t.Context(), "plain", nil); !errors.Is(err, ErrExist) {
		t.Errorf("fork to an id that is taken: %v", err)
	}
	l.sh("cat /made")
	if err := l.Signal(unix.SIGKILL, false); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []ResetMode{ResetRestart, ResetKeepInit} {
		if err := l.Reset(t.Context(), &ResetOptions{Mode: mode}); !errors.Is(err, ErrNotRunning) {
			t.Errorf("stopped, %s: %v", mode, err)
		}
	}
	l.gone()
}

// TestResetPaused: a paused container is paused afterwards if its init is kept, and
// otherwise runs.
func TestResetPaused(t *testing.T) {
	for mode, want := range map[ResetMode]specs.ContainerState{ResetRestart: specs.StateRunning, ResetKeepInit: StatePaused} {
		l := runLayered(t, &Store{root: t.TempDir()}, "p", sleeping(t, nil), nil)
		l.sh("echo > /made")
		if err := l.Pause(); err != nil {
			t.Fatal(err)
		}
		l.reset(mode)
		if s, err := l.State(); err != nil || s.Status != want {
			t.Errorf("%s: %v, %v", mode, s, err)
		}
		if want == StatePaused {
			if err := l.Resume(); err != nil {
				t.Error(err)
			}
		}
		l.sh("! cat /made 2>/dev/null")
		l.gone()
	}
}

// TestResetFrozenBelow: a process that somebody has frozen in a cgroup v1 below the
// container's can neither be stopped nor die, and keeps init from dying: then all is killed,
// the next init with it, which has come to life by then.
func TestResetFrozenBelow(t *testing.T) {
	for _, mode := range []ResetMode{ResetRestart, ResetKeepInit} {
		l := runLayered(t, &Store{root: t.TempDir()}, "frozen", sleeping(t, nil), nil)
		freezer, ok := l.rec.Cgroup["freezer"]
		if !ok {
			t.Skip("the host has no cgroup v1 freezer")
		}
		l.sh("busybox sleep 1000 & echo > /made")
		below := filepath.Join(freezer, "below")
		if err := os.Mkdir(below, 0o755); err != nil {
			t.Fatal(err)
		}
		pids, err := os.ReadFile(filepath.Join(freezer, "cgroup.procs"))
		if err != nil {
			t.Fatal(err)
		}
		for _, pid := range strings.Fields(string(pids)) {
			if pid != strconv.Itoa(l.pid1()) {
				if err := os.WriteFile(filepath.Join(below, "cgroup.procs"), []byte(pid), 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := os.WriteFile(filepath.Join(below, "freezer.state"), []byte("FROZEN"), 0); err != nil {
			t.Fatal(err)
		}
		l.reset(mode)
		l.sh("! cat /made 2>/dev/null")
		if got := l.sh("busybox ps -o args | busybox grep -c '[s]leep'"); got != "1" {
			t.Errorf("%s: %s processes sleep, want 1", mode, got)
		}
		l.gone()
	}
}

// TestResetWait: a reset is not the end of init for who waits for it.
func TestResetWait(t *testing.T) {
	l := runLayered(t, &Store{root: t.TempDir()}, "w", sleeping(t, nil), nil)
	ended := make(chan unix.WaitStatus, 1)
	go func() {
		ws, err := l.Wait(context.Background())
		if err != nil {
			t.Error(err)
		}
		ended <- ws
	}()
	for range 5 {
		l.reset(ResetRestart)
		select {
		case ws := <-ended:
			t.Fatalf("ended with %v", ws)
		case <-time.After(5 * time.Millisecond):
		}
	}
	if err := l.Signal(unix.SIGTERM, false); err != nil { // which PID 1 ignores
		t.Fatal(err)
	}
	if err := l.Signal(unix.SIGKILL, false); err != nil {
		t.Fatal(err)
	}
	if ws := <-ended; !ws.Signaled() || ws.Signal() != unix.SIGKILL {
		t.Errorf("ended with %v", ws)
	}
	l.gone()
}

// TestResetEachOpFails makes every op of the programs of a reset fail once. Where init is
// kept the container is then as it was, but for its processes; where it is not, a reset
// puts it right.
func TestResetEachOpFails(t *testing.T) {
	for _, mode := range []ResetMode{ResetKeepInit, ResetRestart} {
		t.Run(string(mode), func(t *testing.T) {
			store := &Store{root: t.TempDir()}
			l := runLayered(t, store, "f", everything(t, t.TempDir()), nil)
			l.sh("echo > /dev/shm/made")
			var notes []string
			failed := 0
			for n := 1; notes == nil || n < len(notes); n++ {
				var note string
				store.tamper = func(p *program.Program) {
					notes = nil
					for i := range p.Ops {
						notes = append(notes, p.Texts[p.Ops[i].Note])
					}
					if n < len(p.Ops) { // a layer that was mounted ahead takes fewer
						note, p.Ops[n] = notes[n], failing(p.Ops[n])
					}
				}
				err := l.Reset(t.Context(), &ResetOptions{Mode: mode})
				store.tamper = nil
				switch {
				case err == nil: // not every path goes through every op
				case !errors.Is(err, unix.EXDEV) || !strings.HasPrefix(err.Error(), "reset: "+note+": "):
					t.Fatalf("op %d (%s) failed with %v", n, note, err)
				case mode == ResetKeepInit:
					failed++
					l.sh("busybox cat /dev/shm/made; busybox test $(busybox grep -c ' / / ' /proc/self/mountinfo) = 1")
				default:
					failed++
					if s, err := l.State(); err != nil || s.Status != specs.StateStopped {
						t.Fatalf("op %d (%s): %v, %v", n, note, s, err)
					}
					l.reset(mode)
				}
				l.sh("echo > /dev/shm/made")
				for n+1 < len(notes) && notes[n+1] == note && n%5 != 0 {
					n++ // not all of one note
				}
			}
			if failed < 100 {
				t.Errorf("only %d ops were reached", failed)
			}
			l.gone()
		})
	}
}

// TestResetKilledAtEachStep kills the process that resets a container at each step.
// What it leaves is told as it is, and a reset, a delete and gc put it right.
func TestResetKilledAtEachStep(t *testing.T) {
	if os.Getenv("ADL_TEST_RESET") != "" {
		resetAndDie()
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) }()
	for _, what := range []string{"restart", "keep-init", "snapshot"} {
		t.Run(what, func(t *testing.T) {
			b := sleeping(t, withCow(t))
			for step := 1; ; step++ {
				store := &Store{root: t.TempDir()}
				l := runLayered(t, store, "k", b, nil)
				l.sh("echo > /made; echo > /cow/made")
				killed := dieAt(t, store.root, what, step)
				if s, err := l.State(); err != nil || s.Status == specs.StateCreating {
					t.Fatalf("step %d: %v, %v", step, s, err)
				}
				if step%2 == 0 { // delete at once otherwise
					if err := l.Reset(t.Context(), &ResetOptions{Mode: ResetRestart}); err != nil {
						t.Fatalf("step %d: %v", step, err)
					}
					l.sh("! cat /made /cow/made 2>/dev/null; cat /first")
				}
				if err := store.ForceDelete(t.Context(), "k"); err != nil {
					t.Fatalf("step %d: %v", step, err)
				}
				if err := GC(t.Context(), l.root); err != nil {
					t.Fatalf("step %d: %v", step, err)
				}
				waitForChildren(t)
				noLayers(t, l.root)
				if t.Failed() {
					t.Fatalf("step %d", step)
				}
				if !killed {
					if step < 4 {
						t.Fatalf("%d steps only", step)
					}
					return
				}
			}
		})
	}
}

// TestSnapshotKilledThenGC: gc leaves a living container what it is on, wherever its
// snapshot was killed.
func TestSnapshotKilledThenGC(t *testing.T) {
	b := sleeping(t, withCow(t))
	resumed := 0
	for step := 1; ; step++ {
		store := &Store{root: t.TempDir()}
		l := runLayered(t, store, "k", b, nil)
		l.sh("echo > /made; echo > /cow/made")
		killed := dieAt(t, store.root, "snapshot", step)
		if err := GC(t.Context(), l.root); err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		now, err := store.Load("k")
		if err != nil {
			t.Fatal(err)
		}
		root, err := now.rec.Layer.open()
		if err != nil {
			t.Fatal(err)
		}
		on, err := root.Load(now.rec.current())
		if err != nil {
			t.Errorf("step %d: the container's layer: %v", step, err)
		}
		if killed && err == nil && !on.Meta().Committed { // nothing has happened yet
			if err := now.Resume(); err != nil {
				t.Errorf("step %d: resume: %v", step, err)
			}
			if s, err := now.Snapshot(t.Context(), "again"); err != nil || s.Method != ByReference {
				t.Errorf("step %d: %+v, %v", step, s, err)
			}
			resumed++
		}
		if err := store.ForceDelete(t.Context(), "k"); err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		if err := GC(t.Context(), l.root); err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
		noLayers(t, l.root)
		reapChildren()
		if !killed || t.Failed() {
			if step < 4 || resumed < 2 {
				t.Fatalf("%d steps only, resumed after %d", step, resumed)
			}
			return
		}
	}
}

// A layer that is gone, and was killed before it said so to the one below, keeps nothing.
func TestGCDeadUser(t *testing.T) {
	store := &Store{root: t.TempDir()}
	l := runLayered(t, store, "k", sleeping(t, nil), nil)
	first := l.rec.current()
	if _, err := l.Snapshot(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	users := filepath.Join(l.root, "layers", first, "users")
	if err := os.WriteFile(users+"/layer-0123456789abcdef", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := GC(t.Context(), l.root); err != nil {
		t.Fatal(err)
	}
	names, err := os.ReadDir(users)
	if err != nil || len(names) == 0 || slices.ContainsFunc(names, func(n os.DirEntry) bool { return n.Name() == "layer-0123456789abcdef" }) {
		t.Errorf("users %v, %v", names, err)
	}
	if err := os.WriteFile(users+"/layer-fedcba9876543210", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Delete(context.Background(), &DeleteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if err := GC(t.Context(), l.root); err != nil {
		t.Fatal(err)
	}
	noLayers(t, l.root)
}

// dieAt runs a reset or a snapshot in a process that ends at a step, and says whether it
// did.
func dieAt(t *testing.T, store, what string, step int) bool {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestResetKilledAtEachStep$")
	cmd.Env = append(os.Environ(), "ADL_TEST_RESET="+what, "ADL_TEST_RESET_STORE="+store, fmt.Sprintf("ADL_TEST_RESET_STEP=%d", step))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true
	}
	if err != nil {
		t.Fatalf("step %d: %v\n%s", step, err, out)
	}
	return false
}

func resetAndDie() {
	var at, now int
	fmt.Sscan(os.Getenv("ADL_TEST_RESET_STEP"), &at)
	store := &Store{root: os.Getenv("ADL_TEST_RESET_STORE")}
	store.step = func(string) {
		if now++; now == at {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	}
	sb, err := store.Load("k")
	if err == nil {
		if what := os.Getenv("ADL_TEST_RESET"); what == "snapshot" {
			_, err = sb.Snapshot(context.Background(), "s")
		} else {
			err = sb.Reset(context.Background(), &ResetOptions{Mode: ResetMode(what)})
		}
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// TestResetRaces: whatever happens to a container at the same time, each gets a result
// or an error, and nothing hangs or stays.
func TestResetRaces(t *testing.T) {
	for _, mode := range []ResetMode{ResetRestart, ResetKeepInit} {
		t.Run(string(mode), func(t *testing.T) {
			store := &Store{root: t.TempDir()}
			l := runLayered(t, store, "r", sleeping(t, nil), nil)
			var all sync.WaitGroup
			for _, do := range []func(*Sandbox) error{
				func(sb *Sandbox) error { return sb.Reset(context.Background(), &ResetOptions{Mode: mode}) },
				func(sb *Sandbox) error { return sb.Reset(context.Background(), &ResetOptions{Mode: mode}) },
				func(sb *Sandbox) error { _, err := sb.Snapshot(context.Background(), ""); return err },
				func(sb *Sandbox) error { return errors.Join(sb.Pause(), sb.Resume()) },
				func(sb *Sandbox) error {
					p, err := sb.Process()
					if err != nil {
						return err
					}
					p.Args = []string{"busybox", "true"}
					x, err := sb.Exec(context.Background(), p, nil)
					if err == nil {
						_, err = x.Wait(context.Background())
					}
					return err
				},
				func(sb *Sandbox) error { _, err := sb.State(); return err },
			} {
				all.Add(1)
				go func() {
					defer all.Done()
					sb, err := store.Load("r")
					if err != nil {
						t.Error(err)
						return
					}
					for range 15 {
						if err := do(sb); err != nil && !expectedInRace(err) {
							t.Errorf("%v", err)
						}
					}
				}()
			}
			all.Wait()
			if s, err := l.State(); err == nil && s.Status == StatePaused {
				_ = l.Resume()
			}
			l.reset(ResetRestart)
			l.sh("cat /first")
			l.gone()
			reapChildren()
		})
	}
}

// expectedInRace is what a command may say that met another.
func expectedInRace(err error) bool {
	for _, kind := range []error{ErrNotRunning, ErrPaused, ErrNotPaused, errBusy, errExecDied} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// TestSnapshots: a snapshot never changes, a container returns to it, and space is freed
// with the last user.
func TestSnapshots(t *testing.T) {
	store := &Store{root: t.TempDir()}
	l := runLayered(t, store, "s", sleeping(t, nil), nil)
	state := "cat /first; ls / | busybox tr '\\n' ' '; cat /n 2>/dev/null; true"
	want := map[string]string{"": l.sh(state)}
	for i := range 5 {
		name := fmt.Sprintf("at%d", i)
		l.sh(fmt.Sprintf("echo %d > /first; mkdir /d%d; echo %d >> /n; rm -rf /d%d", i, i, i, i-2))
		want[name] = l.sh(state)
		s, err := l.Snapshot(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if s.Method != ByReference || l.sh(state) != want[name] {
			t.Errorf("%s: %+v, now %s", name, s, l.sh(state))
		}
	}
	for _, mode := range []ResetMode{ResetRestart, ResetKeepInit} {
		for _, name := range []string{"at2", "at0", "", "at4", "at3", "at1"} {
			l.sh("rm -rf /d* /first; echo > /rubbish")
			if err := l.Reset(t.Context(), &ResetOptions{Mode: mode, To: name}); err != nil {
				t.Fatal(err)
			}
			if got := l.sh(state); got != want[name] {
				t.Errorf("%s to %q: %s, want %s", mode, name, got, want[name])
			}
		}
	}
	all, err := l.Snapshots()
	if err != nil || len(all) != 5 || all[0].Name != "at0" || all[4].Name != "at4" {
		t.Errorf("%v, %v", all, err)
	}
	for _, name := range []string{"at4", "at0", "at2"} {
		if err := l.DeleteSnapshot(name); err != nil {
			t.Error(err)
		}
	}
	if err := l.Reset(t.Context(), &ResetOptions{To: "at3"}); err != nil {
		t.Fatal(err)
	}
	if got := l.sh(state); got != want["at3"] {
		t.Errorf("at3 without those below: %s", got)
	}
	l.gone()
}

// TestSnapshotNoticed: where a process would notice, the layer is copied, and the
// processes go on as if nothing had happened.
func TestSnapshotNoticed(t *testing.T) {
	for name, script := range map[string]string{
		"open for writing": "test -e /ready || echo 1 >/open; exec 3>>/open; touch /ready; while :; do busybox sleep 0.01; done",
		"open for reading": "test -e /ready || echo 1 >/open; exec 3</open; touch /ready; while :; do busybox sleep 0.01; done",
		"below the root":   "mkdir -p /sub; cd /sub; test -e /ready || echo 1 >/open; touch /ready; while :; do busybox sleep 0.01; done",
		"on a tmpfs":       "cd /tmp; test -e /ready || echo 1 >/open; touch /ready; while :; do busybox sleep 0.01; done",
	} {
		t.Run(name, func(t *testing.T) {
			store := &Store{root: t.TempDir()}
			l := runLayered(t, store, "n", sleeping(t, func(s *specs.Spec) {
				s.Process.Args = []string{"/bin/sh", "-c", script}
			}), nil)
			for l.sh("ls /") == "" || !strings.Contains(l.sh("ls /"), "ready") {
				time.Sleep(time.Millisecond)
			}
			s, err := l.Snapshot(t.Context(), "x")
			if err != nil {
				t.Fatal(err)
			}
			if s.Method != ByCopy || s.Why == "" || s.Files == 0 {
				t.Errorf("%+v", s)
			}
			l.noTrash() // of the layer that was made for the other way
			l.sh("echo 2 > /open; echo > /later")
			if err := l.Reset(t.Context(), &ResetOptions{To: "x", Mode: ResetRestart}); err != nil {
				t.Fatal(err)
			}
			if got := l.sh("cat /open; ls / | busybox grep later" + " || true"); got != "1" {
				t.Errorf("the snapshot has %q", got)
			}
			l.gone()
		})
	}
}

// noTrash waits until no layer is in the trash.
func (l *layered) noTrash() {
	l.t.Helper()
	root, err := l.rec.Layer.open()
	if err != nil {
		l.t.Fatal(err)
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		n, err := root.TrashLen()
		if n == 0 && err == nil {
			return
		}
		if time.Now().After(end) {
			l.t.Fatalf("%d layers in the trash, %v", n, err)
		}
	}
}

// TestSnapshotCannotTakeBack: where processes would notice, and what was made for the way
// without a copy cannot be given up, that is an error. Nothing else is in the way of the
// next snapshot.
func TestSnapshotCannotTakeBack(t *testing.T) {
	store := &Store{root: t.TempDir()}
	l := runLayered(t, store, "n", sleeping(t, func(s *specs.Spec) {
		s.Process.Args = []string{"/bin/sh", "-c", "exec 3>/open; while :; do busybox sleep 0.01; done"}
	}), nil)
	for !strings.Contains(l.sh("ls /"), "open") {
		time.Sleep(time.Millisecond)
	}
	trash := filepath.Join(l.root, "trash")
	store.step = func(name string) {
		if name == "layered" {
			if err := errors.Join(os.RemoveAll(trash), os.WriteFile(trash, nil, 0o600)); err != nil {
				t.Error(err)
			}
		}
	}
	if s, err := l.Snapshot(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "undo: ") {
		t.Fatalf("%+v, %v", s, err)
	}
	store.step = nil
	if err := os.Remove(trash); err != nil {
		t.Fatal(err)
	}
	if s, err := l.Snapshot(t.Context(), "x"); err != nil || s.Method != ByCopy {
		t.Fatalf("%+v, %v", s, err)
	}
	l.noTrash()
	if err := l.Reset(t.Context(), &ResetOptions{To: "x", Mode: ResetRestart}); err != nil {
		t.Fatal(err)
	}
	l.gone()
}

// TestSnapshotAboveItself: whatever names the layer that the container is on, no snapshot
// gives that one up.
func TestSnapshotAboveItself(t *testing.T) {
	store := &Store{root: t.TempDir()}
	l := runLayered(t, store, "n", sleeping(t, nil), nil)
	l.sh("echo mine > /made")
	above := filepath.Join(store.root, "n", aboveFile)
	if err := os.WriteFile(above, []byte(l.rec.current()), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Snapshot(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(above); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v", aboveFile, err)
	}
	l.noTrash()
	if err := l.Reset(t.Context(), &ResetOptions{To: "x"}); err != nil {
		t.Fatal(err)
	}
	if got := l.sh("cat /made"); got != "mine" {
		t.Errorf("%q", got)
	}
	l.gone()
}

// TestLoadFails: a record that could not be read is not taken for the one that is stored.
func TestLoadFails(t *testing.T) {
	store := &Store{root: t.TempDir()}
	l := runLayered(t, store, "n", sleeping(t, nil), nil)
	sb, err := store.Load("n")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Snapshot(t.Context(), "x"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(store.root, "n", initFile)
	now, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if e, err := sb.refresh(); err == nil {
		e.close()
		t.Fatal("a record that is none was read")
	}
	if sb.upToDate(filepath.Join(store.root, "n")) {
		t.Error("the former record is taken for this one")
	}
	if err := os.WriteFile(file, now, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := sb.Reset(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	l.gone()
}

// TestSnapshotWriter: who writes to the layer by another way than the container's
// processes and its mount namespace is found, too, and can go on afterwards.
func TestSnapshotWriter(t *testing.T) {
	for name, write := range map[string]func(t *testing.T, l *layered){
		"host": func(t *testing.T, l *layered) {
			f, err := os.OpenFile(fmt.Sprintf("/proc/%d/root/open", l.Pid()), os.O_WRONLY|os.O_CREATE, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
		},
		"mount namespace": func(t *testing.T, l *layered) {
			p, err := l.Process()
			if err != nil {
				t.Fatal(err)
			}
			p.Args = []string{"/bin/busybox", "unshare", "-m", "/bin/sh", "-c", "exec 3>/open; exec busybox sleep 1000"}
			p.Terminal, p.Cwd, p.User = false, "/", specs.User{}
			caps := []string{"CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"}
			p.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}
			if _, err := l.Exec(t.Context(), p, nil); err != nil {
				t.Fatal(err)
			}
			for end := time.Now().Add(5 * time.Second); !strings.Contains(l.sh("ls /"), "open"); time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("the process does not write")
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := runLayered(t, &Store{root: t.TempDir()}, "w", sleeping(t, nil), nil)
			write(t, l)
			s, err := l.Snapshot(t.Context(), "x")
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]string{"host": compile.WrittenTo, "mount namespace": "its root is not the container's root directory"}
			if s.Method != ByCopy || s.Why != want[name] {
				t.Errorf("%+v", s)
			}
			l.sh("echo > /later; ls /open")
			l.gone()
		})
	}
}

// TestForks: a tree of containers, of which each goes its own way.
func TestForks(t *testing.T) {
	store := &Store{root: t.TempDir()}
	b := sleeping(t, nil)
	l := runLayered(t, store, "f0", b, nil)
	last := l
	const depth = 12
	for i := 1; i <= depth; i++ {
		last.sh(fmt.Sprintf("echo %d >> /path", i))
		id := fmt.Sprintf("f%d", i)
		sb, err := last.Fork(t.Context(), id, &ForkOptions{Change: func(s *specs.Spec) error {
			s.Process.Env = append(s.Process.Env, "DEPTH="+id)
			return nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.ForceDelete(context.Background(), id); reapChildren() })
		last.sh("echo gone >> /path")
		last = &layered{sb, t, l.root}
		if i%3 == 0 {
			if err := store.ForceDelete(t.Context(), fmt.Sprintf("f%d", i-1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := ""
	for i := 1; i <= depth; i++ {
		want += fmt.Sprintf("%d\n", i)
	}
	for range 2 {
		if got := last.sh("cat /path; echo $DEPTH"); got != want+fmt.Sprintf("f%d", depth) {
			t.Errorf("the last one has %q", got)
		}
		last.sh("echo rubbish >> /path")
		last.reset(ResetRestart)
	}
	for i := 0; i < depth; i++ {
		if err := store.ForceDelete(t.Context(), fmt.Sprintf("f%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	last.sh("cat /path")
	last.gone()
}

// TestLayerPlan: what flags and annotations amount to, and what is refused.
func TestLayerPlan(t *testing.T) {
	for _, c := range []struct {
		name        string
		o           LayerOptions
		annotations map[string]string
		want        string // in the error
		driver      layer.Driver
	}{
		{name: "nothing"},
		{name: "flag", o: LayerOptions{Driver: "overlay"}, driver: layer.Overlay},
		{name: "annotation", annotations: map[string]string{AnnotationLayer: "btrfs"}, driver: layer.Btrfs},
		{name: "flag wins", o: LayerOptions{Driver: "none"}, annotations: map[string]string{AnnotationLayer: "overlay"}},
		{name: "unknown", annotations: map[string]string{AnnotationLayer: "zfs"}, want: `annotations["run.adl.layer"] "zfs"`},
		{name: "no layer", o: LayerOptions{Size: 1}, want: "has no layer"},
		{name: "no layer for a root", o: LayerOptions{Root: "/x"}, want: "layer root"},
		{name: "no layer wanted", o: LayerOptions{Driver: "none", Root: "/x"}},
		{name: "no layer either", annotations: map[string]string{AnnotationLayerSize: "1m"}, want: AnnotationLayerSize},
		{name: "mode", o: LayerOptions{Driver: "overlay"}, annotations: map[string]string{AnnotationReset: "x"}, want: `annotations["run.adl.reset"] "x"`},
		{name: "lower", o: LayerOptions{Driver: "overlay"}, annotations: map[string]string{AnnotationLower: "/a:b"}, want: `"b"`},
		{name: "upper", o: LayerOptions{Driver: "overlay", Upper: "ram"}, want: `layer upper "ram"`},
		{name: "upper size", o: LayerOptions{Driver: "overlay", Upper: "tmpfs:size=0"}, want: `size "0"`},
		{name: "size", o: LayerOptions{Driver: "overlay"}, annotations: map[string]string{AnnotationLayerSize: "-1"}, want: `size "-1"`},
		{name: "root", o: LayerOptions{Driver: "overlay", Root: "x"}, want: `"x"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := spec.Default(false)
			s.Annotations = c.annotations
			p, err := planLayer("id", "/store", "/rootfs", s, &c.o, ResetRestart)
			switch {
			case c.want != "":
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
			case err != nil:
				t.Error(err)
			case (p == nil) != (c.driver == ""):
				t.Errorf("%+v", p)
			case p != nil && p.config.Driver != c.driver:
				t.Errorf("driver %q", p.config.Driver)
			}
		})
	}
	s := spec.Default(false)
	s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.MountNamespace })
	if _, err := planLayer("id", "/store", "/rootfs", s, &LayerOptions{Driver: "overlay"}, ResetRestart); err == nil || !strings.Contains(err.Error(), "mount namespace") {
		t.Error(err)
	}
}

// TestResetKinds resets, snapshots and forks containers of every kind that a reset treats
// in a way of its own.
func TestResetKinds(t *testing.T) {
	for name, edit := range map[string]func(*specs.Spec){
		"user namespace": withUser,
		"user and time namespace": func(s *specs.Spec) {
			withUser(s)
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
		},
		"the host's pid namespace": func(s *specs.Spec) {
			s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
		},
		"a network administrator": func(s *specs.Spec) {
			c := s.Process.Capabilities
			for _, set := range []*[]string{&c.Bounding, &c.Permitted, &c.Effective} {
				*set = append(*set, "CAP_NET_ADMIN")
			}
		},
		"a read-only root": func(s *specs.Spec) { s.Root.Readonly = true },
		"a shared root":    func(s *specs.Spec) { s.Linux.RootfsPropagation = "shared" },
		"a seccomp filter": func(s *specs.Spec) {
			s.Linux.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := sleeping(t, edit)
			give(t, b.Rootfs())
			for dir := filepath.Dir(b.Rootfs()); dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
				_ = os.Chmod(dir, 0o755)
			}
			store := &Store{root: t.TempDir()}
			l := runLayered(t, store, "k", b, nil)
			const view = "cat /first /tmp/x 2>/dev/null; ls /dev/shm; busybox ip link 2>/dev/null | busybox grep -o dummy0; true"
			first := l.sh(view)
			for _, mode := range []ResetMode{ResetRestart, ResetKeepInit, ResetRestart} {
				l.sh("echo changed > /first; echo > /tmp/x; echo > /dev/shm/y; busybox ip link add dummy0 type dummy 2>/dev/null; busybox sleep 1000 & true")
				l.reset(mode)
				got := l.sh(view)
				if mode == ResetKeepInit {
					got = strings.ReplaceAll(got, "\ndummy0", "") // the network namespace is init's
				}
				if got != first {
					t.Errorf("%s: %q, at first %q", mode, got, first)
				}
			}
			l.sh("echo kept > /tmp/x; echo kept > /first; true")
			kept := l.sh("cat /first")
			if _, err := l.Snapshot(t.Context(), "s"); err != nil {
				t.Fatal(err)
			}
			if got := l.sh("cat /first /tmp/x"); got != kept+"\nkept" {
				t.Errorf("after the snapshot: %q", got)
			}
			sb, err := l.Fork(t.Context(), "fork", nil)
			if err != nil {
				t.Fatal(err)
			}
			f := &layered{sb, t, l.root}
			if got := f.sh("cat /first; cat /tmp/x 2>/dev/null; true"); got != kept {
				t.Errorf("the fork: %q", got)
			}
			f.reset(ResetKeepInit)
			if err := store.ForceDelete(t.Context(), "fork"); err != nil {
				t.Fatal(err)
			}
			l.gone()
		})
	}
}

// TestSnapshotFailsHalfWay: what a snapshot by reference needs and cannot have makes it
// a copy, and the container's own layer is never lost.
func TestSnapshotFailsHalfWay(t *testing.T) {
	store := &Store{root: t.TempDir()}
	l := runLayered(t, store, "h", sleeping(t, nil), nil)
	l.sh("echo mine > /first")
	ops := 0
	for n := 1; ops == 0 || n < ops; n += 1 + n/8 {
		store.tamper = func(p *program.Program) {
			ops = len(p.Ops)
			p.Ops[n] = failing(p.Ops[n])
		}
		s, err := l.Snapshot(t.Context(), "")
		store.tamper = nil
		if err != nil {
			t.Fatalf("op %d: %v", n, err)
		}
		l.sh(fmt.Sprintf("cat /first /dir/file; echo %d > /after", n))
		if s.Method == ByCopy && !strings.Contains(s.Why, "exchanged") {
			t.Errorf("op %d: %+v", n, s)
		}
		if err := l.Reset(t.Context(), &ResetOptions{To: s.Name, Mode: ResetKeepInit}); err != nil {
			t.Fatalf("op %d: %v", n, err)
		}
		if got := l.sh("cat /first; ls / | busybox grep -c after; true"); !strings.HasPrefix(got, "mine") {
			t.Errorf("op %d: %q", n, got)
		}
	}
	l.gone()
}

// TestForkOfTheUnchanged: a fork of what nothing was written to since the last one stands on
// the same layers.
func TestForkOfTheUnchanged(t *testing.T) {
	store := &Store{root: t.TempDir()}
	l := runLayered(t, store, "u", sleeping(t, nil), nil)
	l.sh("echo mine > /first")
	depths := map[int]bool{}
	for i := range 4 {
		id := fmt.Sprintf("u%d", i)
		sb, err := l.Fork(t.Context(), id, nil)
		if err != nil {
			t.Fatal(err)
		}
		depths[len(sb.rec.Layer.Parents)] = true
		if got := (&layered{sb, t, l.root}).sh("cat /first"); got != "mine" {
			t.Errorf("fork %d has %q", i, got)
		}
		if err := store.ForceDelete(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if len(depths) != 1 {
		t.Errorf("depths %v", depths)
	}
	l.gone()
}
