package libsandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/shell"
)

// run runs a command that must not fail on this side.
func (l *layered) run(text string) *shell.Result {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r, err := l.Sandbox.Run(ctx, text, nil)
	if err != nil {
		l.t.Fatalf("%s: %v", text, err)
	}
	return r
}

// say is run for what a command prints.
func (l *layered) say(text string) string {
	l.t.Helper()
	r := l.run(text)
	return strings.TrimSpace(string(r.Stdout) + string(r.Stderr))
}

func TestRun(t *testing.T) {
	c := boxed(t)
	c.WorkingDir, c.Env = "/work", append(c.Env, "A=config")
	l := newBox(t, c)
	if got := l.say("pwd; echo $A; A=kept; cd /dev; f() { echo called $1; }"); got != "/work\nconfig" {
		t.Error(got)
	}
	if got := l.say("pwd; echo $A; f x; echo oops >&2; (exit 7)"); got != "/dev\nkept\ncalled x\noops" {
		t.Error(got)
	}
	if r := l.run("(exit 7)"); r.ExitStatus != 7 || r.Dir != "/dev" || r.Restarted {
		t.Errorf("%+v", r)
	}
	l.run("export B=exported")
	if r := l.run("exit 3"); r.ExitStatus != 3 || !r.Restarted {
		t.Errorf("%+v", r)
	}
	if got := l.say("pwd; echo $B"); got != "/dev\nexported" {
		t.Error(got)
	}
	r, err := l.Sandbox.Run(t.Context(), "cat; echo -n out; exec 3>/dev/null", &RunOptions{Input: []byte("in\x00\xff")})
	if err != nil || string(r.Stdout) != "in\x00\xffout" {
		t.Errorf("%+v, %v", r, err)
	}
	if got := l.say("busybox id -u; busybox grep Seccomp: /proc/self/status; ls -l /proc/self/fd/100/ >/dev/null && echo >/proc/self/fd/100/new"); !strings.HasPrefix(got, "0\nSeccomp:\t2\n") || !strings.Contains(got, "ead-only") {
		t.Error(got)
	}
	l.gone()
}

// A timeout ends what the command has started, daemons included, and nothing else.
func TestRunTimeout(t *testing.T) {
	l := newBox(t, boxed(t))
	l.run("busybox sleep 1001 & x=kept; cd /dev")
	r, err := l.Sandbox.Run(t.Context(), "echo partial; (busybox setsid busybox sleep 1002 &); busybox sleep 1003", &RunOptions{Timeout: 200 * time.Millisecond})
	if err != nil || !r.TimedOut || string(r.Stdout) != "partial\n" || r.Duration > 5*time.Second {
		t.Errorf("%+v, %v", r, err)
	}
	if got := l.say("busybox ps | busybox grep -o '[s]leep 100.'; echo $x; pwd"); got != "sleep 1001\nkept\n/dev" {
		t.Error(got)
	}
	if s, err := l.State(); err != nil || s.Status != "running" {
		t.Errorf("%v, %v", s, err)
	}
	l.gone()
}

// After a reset the next command has a new shell in the working directory.
func TestRunReset(t *testing.T) {
	c := boxed(t)
	c.WorkingDir = "/work"
	l := newBox(t, c)
	for _, mode := range []ResetMode{ResetRestart, ResetKeepInit, ResetKeepInit, ResetRestart} {
		l.run("export A=1; cd /dev; echo x >/made")
		l.reset(mode)
		r := l.run("pwd; echo A=$A; ls /made 2>/dev/null; true")
		if string(r.Stdout) != "/work\nA=\n" || r.Restarted {
			t.Errorf("%s: %q, %+v", mode, r.Stdout, r)
		}
		// One that a reset interrupts says so.
		done := make(chan *shell.Result, 1)
		go func() {
			r, err := l.Sandbox.Run(context.Background(), "echo begun; busybox sleep 1000", nil)
			if err != nil {
				r = &shell.Result{Stderr: []byte(err.Error())}
			}
			done <- r
		}()
		time.Sleep(50 * time.Millisecond)
		l.reset(mode)
		select {
		case r := <-done:
			if r.Signal != unix.SIGKILL || string(r.Stdout) != "begun\n" {
				t.Errorf("%s: interrupted: %+v %s", mode, r, r.Stderr)
			}
		case <-time.After(10 * time.Second):
			t.Fatal(mode + ": the command does not end")
		}
		if got := l.say("pwd"); got != "/work" {
			t.Errorf("%s: %s", mode, got)
		}
	}
	l.gone()
}

// A session never makes a snapshot a copy, and notices nothing of it.
func TestRunSnapshot(t *testing.T) {
	l := newBox(t, boxed(t))
	l.run("busybox mkdir -p /a/b; cd /a/b; OLDPWD=/x; export E=1; (exit 5)")
	s, err := l.Snapshot(t.Context(), "s")
	if err != nil || s.Method != ByReference {
		t.Errorf("%+v, %v", s, err)
	}
	if got := l.say("echo $? $OLDPWD $E; pwd; echo x >here; ls"); got != "5 /x 1\n/a/b\nhere" {
		t.Error(got)
	}
	fork, err := l.Fork(t.Context(), "fork", nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &layered{fork, t, l.root}
	if got := f.say("pwd; ls /a/b"); got != "/\nhere" {
		t.Error(got)
	}
	if got := l.say("pwd"); got != "/a/b" {
		t.Error(got)
	}
	if err := fork.Delete(t.Context(), &DeleteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	// While a command runs in it, the snapshot is a copy.
	done := make(chan struct{})
	go func() { defer close(done); l.say("busybox sleep 0.5") }()
	time.Sleep(100 * time.Millisecond)
	s, err = l.Snapshot(t.Context(), "busy")
	if err != nil || s.Method != ByCopy {
		t.Errorf("%+v, %v", s, err)
	}
	<-done
	l.gone()
}

func TestShells(t *testing.T) {
	c := boxed(t)
	c.Env = append(c.Env, "N=config") // which each shell replaces
	l := newBox(t, c)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			s, err := l.Shell(t.Context(), &ShellOptions{Dir: "/dev", Env: []string{fmt.Sprintf("N=%d", i)}})
			if err != nil {
				t.Error(err)
				return
			}
			for range 20 {
				r, err := s.Run(t.Context(), &shell.Command{Text: "echo $N; pwd"})
				if want := fmt.Sprintf("%d\n/dev\n", i); err != nil || string(r.Stdout) != want {
					t.Errorf("%q, %v, want %q", r.Stdout, err, want)
				}
			}
			if i%2 == 0 {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if _, err := l.Snapshot(t.Context(), ""); err != nil { // with closed ones among them
		t.Error(err)
	}
	s, err := l.Shell(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	l.gone()
	if _, err := s.Run(t.Context(), &shell.Command{Text: "true"}); !errors.Is(err, shell.ErrClosed) {
		t.Errorf("after Delete: %v", err)
	}
	if _, err := l.Shell(t.Context(), nil); err == nil {
		t.Error("a shell in a container that is gone")
	}
}

func TestBackground(t *testing.T) {
	l := newBox(t, boxed(t))
	j, err := l.Background(t.Context(), "echo begun; read x </dev/null; busybox sleep 0.1; exit 4", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := l.say("echo meanwhile"); got != "meanwhile" {
		t.Error(got)
	}
	st, err := j.Wait(t.Context())
	if err != nil || st.ExitStatus != 4 {
		t.Errorf("%+v, %v", st, err)
	}
	buf := make([]byte, 100)
	if n, _ := j.Read(shell.Stdout, 0, buf); string(buf[:n]) != "begun\n" {
		t.Errorf("%q", buf[:n])
	}
	if jobs := l.Jobs(); len(jobs) != 1 || jobs[0] != j {
		t.Errorf("%v", jobs)
	}
	l.gone()
}

// A paused container's session goes on afterwards, and is not resumed by a timeout.
func TestRunPaused(t *testing.T) {
	l := newBox(t, boxed(t))
	l.run("true")
	if err := l.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if r, err := l.Sandbox.Run(ctx, "echo x", nil); err == nil {
		t.Errorf("a command of a paused container ended: %+v", r)
	}
	if s, err := l.State(); err != nil || s.Status != StatePaused {
		t.Errorf("%v, %v", s, err)
	}
	if _, err := l.Snapshot(t.Context(), "paused"); err != nil {
		t.Error(err)
	}
	s, err := l.Shell(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Run(t.Context(), &shell.Command{Text: "true"}); !errors.Is(err, ErrPaused) {
		t.Errorf("a shell was started in a paused container: %v", err)
	}
	if err := l.Resume(); err != nil {
		t.Fatal(err)
	}
	if got := l.say("echo on"); got != "on" {
		t.Error(got)
	}
	l.gone()
}

// A whole distribution's bash, on this machine's root filesystem.
func TestRunBash(t *testing.T) {
	if _, err := exec.LookPath("/bin/bash"); err != nil {
		t.Skip("needs /bin/bash")
	}
	c := boxed(t)
	root := filepath.Join(t.TempDir(), "root")
	for _, d := range []string{"usr", "etc", "proc", "dev", "sys", "tmp"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"bin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+d, filepath.Join(root, d)); err != nil {
			t.Fatal(err)
		}
	}
	c.Rootfs, c.Env, c.Volumes = root, nil, []string{"/usr:/usr:ro"}
	l := newBox(t, c)
	if got := l.say("echo ${BASH_VERSION:+bash}; a=(1 2 3); set -o pipefail"); got != "bash" {
		t.Error(got)
	}
	if got := l.say("echo ${a[2]}; false | true; echo $?; nosuchcommand"); !strings.HasPrefix(got, "3\n1\n") || !strings.Contains(got, "nosuchcommand: command not found") {
		t.Error(got)
	}
	l.gone()
}

// Whoever else ends the container need not wait for a session that nobody uses.
func TestRunEndedByOthers(t *testing.T) {
	l := newBox(t, boxed(t))
	l.run("true")
	began := time.Now()
	other, err := (&Store{root: l.store.root}).Load(l.ID())
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Reset(t.Context(), &ResetOptions{Mode: ResetKeepInit}); err != nil {
		t.Fatal(err)
	}
	if got := l.say("pwd"); got != "/" {
		t.Error(got)
	}
	if err := other.Delete(t.Context(), &DeleteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d > 3*time.Second {
		t.Errorf("it took %v", d)
	}
	if r, err := l.Sandbox.Run(t.Context(), "true", nil); err == nil {
		t.Errorf("a command ran: %+v", r)
	}
	l.closeSessions()
	reapChildren()
}

// An idle sandbox is one whose own session runs nothing.
func TestIdleSession(t *testing.T) {
	c := boxed(t)
	c.Idle = 300 * time.Millisecond
	l := newBox(t, c)
	if got := l.say("busybox sleep 0.8; echo done"); got != "done" {
		t.Error(got)
	}
	if !wait1s(func() bool { _, err := c.Store.Load(l.ID()); return errors.Is(err, ErrNotExist) }) {
		t.Error("it is still there")
	}
}

func BenchmarkSandbox(b *testing.B) {
	dir := b.TempDir()
	bin := busybox(b, dir)
	for _, name := range []string{"sh", "true"} {
		if err := os.Symlink("busybox", filepath.Join(bin, name)); err != nil {
			b.Fatal(err)
		}
	}
	layers := filepath.Join(dir, "layers")
	if err := errors.Join(os.Mkdir(layers, 0o700), unix.Mount("tmpfs", layers, "tmpfs", 0, "mode=700")); err != nil {
		b.Fatal(err)
	}
	defer unix.Unmount(layers, unix.MNT_DETACH)
	sb, err := New(b.Context(), &Config{Store: &Store{root: filepath.Join(dir, "store")}, Rootfs: filepath.Join(dir, "rootfs"), Layer: LayerOptions{Root: layers}})
	if err != nil {
		b.Fatal(err)
	}
	defer sb.Delete(context.Background(), &DeleteOptions{Force: true})
	for _, text := range []string{":", "/bin/true"} {
		b.Run(text, func(b *testing.B) {
			for b.Loop() {
				if r, err := sb.Run(b.Context(), text, nil); err != nil || r.ExitStatus != 0 {
					b.Fatal(r, err)
				}
			}
		})
	}
	b.Run("reset", func(b *testing.B) {
		for b.Loop() {
			if err := sb.Reset(b.Context(), nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestRunRaces: commands, resets and snapshots at the same time. Each command gets its own
// result or an error that says why, and nothing hangs.
func TestRunRaces(t *testing.T) {
	for _, mode := range []ResetMode{ResetRestart, ResetKeepInit} {
		t.Run(string(mode), func(t *testing.T) {
			c := boxed(t)
			c.Volumes = []string{t.TempDir() + ":/cow:cow"}
			l := newBox(t, c)
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			var all sync.WaitGroup
			for i := range 3 {
				all.Go(func() {
					s, err := l.Shell(ctx, nil)
					if err != nil {
						t.Error(err)
						return
					}
					for n := range 30 {
						want := fmt.Sprintf("%d of %d\n", n, i)
						r, err := s.Run(ctx, &shell.Command{Text: "echo " + want + "; echo x >/cow/x"})
						switch {
						case err != nil:
							if !expectedInRace(err) {
								t.Errorf("command %d: %v", n, err)
							}
						case r.Signal == 0 && string(r.Stdout) != want:
							t.Errorf("command %d: %q, want %q: %+v", n, r.Stdout, want, r)
						case r.Signal != 0 && r.Signal != unix.SIGKILL:
							t.Errorf("command %d: %+v", n, r)
						}
					}
				})
			}
			all.Go(func() {
				for range 6 {
					if err := l.Reset(ctx, &ResetOptions{Mode: mode}); err != nil {
						t.Errorf("reset: %v", err)
					}
					time.Sleep(10 * time.Millisecond)
				}
			})
			all.Go(func() {
				for range 6 {
					if _, err := l.Snapshot(ctx, ""); err != nil && !expectedInRace(err) {
						t.Errorf("snapshot: %v", err)
					}
					time.Sleep(7 * time.Millisecond)
				}
			})
			all.Wait()
			if got := l.say("echo on; ls /cow"); got != "on" {
				t.Errorf("afterwards: %s", got)
			}
			l.gone()
		})
	}
}
