package libsandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/cgroup"
	"adl.run/adl-runtime/spec"
)

// running starts a container from b, which ends with the test.
func running(t *testing.T, store *Store, b *spec.Bundle) *Sandbox {
	t.Helper()
	sb, err := store.Run(t.Context(), "box", b, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		store.tamper, store.facts = nil, nil
		if err := store.ForceDelete(context.Background(), "box"); err != nil {
			t.Error(err)
		}
		reapChildren()
	})
	return sb
}

// sleeper is a container that does nothing.
func sleeper(t *testing.T, edit func(*specs.Spec)) (*Store, *Sandbox) {
	t.Helper()
	store := &Store{root: t.TempDir()}
	return store, running(t, store, scripted(t, t.TempDir(), "exec sleep 1000", edit))
}

// shellIn is the process that runs a script in sb.
func shellIn(t *testing.T, sb *Sandbox, script string) *specs.Process {
	t.Helper()
	p, err := sb.Process()
	if err != nil {
		t.Fatal(err)
	}
	p.Args = []string{"/bin/sh", "-c", script}
	return p
}

// execute executes p, waits for its end and returns what it has written.
func execute(t *testing.T, sb *Sandbox, p *specs.Process, o ExecOptions) (string, unix.WaitStatus) {
	t.Helper()
	out, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	o.Stdout, o.Stderr = out, out
	x, err := sb.Exec(t.Context(), p, &o)
	if err != nil {
		t.Fatal(err)
	}
	ws, err := x.Wait(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text), ws
}

// TestEachExecOpFails makes every op of an exec's program fail once. Exec must return an
// error with the op's note, and leave nothing: neither a process, nor in the container.
func TestEachExecOpFails(t *testing.T) {
	covered := map[string]bool{}
	for _, c := range []struct {
		name string
		edit func(*specs.Spec)
		proc func(*specs.Process)
	}{
		{name: "user", proc: func(p *specs.Process) {
			p.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NPROC", Soft: 1000, Hard: 1000}, {Type: "RLIMIT_CORE", Soft: 0, Hard: 0}}
			p.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0", Final: "0"}
		}},
		{name: "terminal", proc: func(p *specs.Process) {
			p.Terminal = true
			p.ConsoleSize = &specs.Box{Height: 24, Width: 80}
		}},
		{name: "no pid namespace", edit: func(s *specs.Spec) {
			s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
			s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == "/proc" })
			s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
		}},
		{name: "no mount namespace", edit: func(s *specs.Spec) {
			s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.MountNamespace })
			s.Linux.RootfsPropagation = ""
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := everything(t, t.TempDir())
			if c.edit != nil {
				c.edit(b.Spec)
				b = bundle(t, b.Dir, b.Spec)
			}
			store := &Store{root: t.TempDir()}
			sb := running(t, store, b)
			p, err := sb.Process()
			if err != nil {
				t.Fatal(err)
			}
			p.Args = []string{"busybox", "true"}
			if c.proc != nil {
				c.proc(p)
			}
			eachOpFails(t, store, covered, 15, func() (func() error, error) {
				x, err := sb.Exec(t.Context(), p, nil)
				return func() error {
					if x.Console() != nil {
						x.Console().Close()
					}
					_, err := x.Wait(context.Background())
					return err
				}, err
			})
			store.tamper = nil
			if pids, err := sb.Processes(); err != nil || len(pids) != 1 {
				t.Errorf("processes %v, %v, want init only", pids, err)
			}
		})
	}
}

func TestExecStatus(t *testing.T) {
	_, sb := sleeper(t, nil)
	for script, want := range map[string]func(unix.WaitStatus) bool{
		"exit 7":       func(ws unix.WaitStatus) bool { return ws.ExitStatus() == 7 },
		"kill -9 $$":   func(ws unix.WaitStatus) bool { return ws.Signaled() && ws.Signal() == unix.SIGKILL },
		"test -e /dev": func(ws unix.WaitStatus) bool { return ws.Exited() && ws.ExitStatus() == 0 },
	} {
		if out, ws := execute(t, sb, shellIn(t, sb, script), ExecOptions{}); !want(ws) || out != "" {
			t.Errorf("%s: %v, %q", script, ws, out)
		}
	}
}

// What the process leaves open is as in the container's own.
func TestExecInherits(t *testing.T) {
	umask := uint32(0o027)
	_, sb := sleeper(t, func(s *specs.Spec) {
		s.Process.User.Umask = &umask
		s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 99, Hard: 100}}
		adj := 321
		s.Process.OOMScoreAdj = &adj
	})
	p := &specs.Process{Args: []string{"/bin/sh", "-c", "umask; ulimit -n; cat /proc/self/oom_score_adj; while read k v; do [ $k = CapEff: ] && echo $v; done < /proc/self/status"}, Cwd: "/"}
	out, _ := execute(t, sb, p, ExecOptions{})
	if want := "0027\n99\n321\n0000000020000420\n"; out != want {
		t.Errorf("got %q, want %q", out, want)
	}
	p.Capabilities = &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL"}}
	if out, _ = execute(t, sb, p, ExecOptions{}); !strings.HasSuffix(out, "\n0000000000000020\n") {
		t.Errorf("with capabilities of its own: %q", out)
	}
}

// A copy is the caller's: to change it changes nothing for the next one.
func TestProcessIsACopy(t *testing.T) {
	_, sb := sleeper(t, nil)
	p, err := sb.Process()
	if err != nil {
		t.Fatal(err)
	}
	p.Args[0], p.Env[0], p.Capabilities.Bounding[0] = "x", "x", "x"
	q, err := sb.Process()
	if err != nil {
		t.Fatal(err)
	}
	if q.Args[0] == "x" || q.Env[0] == "x" || q.Capabilities.Bounding[0] == "x" {
		t.Errorf("changed: %+v", q)
	}
}

func TestExecAffinity(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("needs two CPUs")
	}
	_, sb := sleeper(t, nil)
	p := shellIn(t, sb, "while read k v; do [ $k = Cpus_allowed_list: ] && echo $v; done < /proc/self/status")
	for _, c := range []struct {
		initial, final, want string
	}{{"", "1", "1\n"}, {"0", "1", "1\n"}, {"1", "0", "0\n"}} {
		p.ExecCPUAffinity = &specs.CPUAffinity{Initial: c.initial, Final: c.final}
		if out, _ := execute(t, sb, p, ExecOptions{}); out != c.want {
			t.Errorf("%+v: CPUs %q", c, out)
		}
	}
	p.ExecCPUAffinity = &specs.CPUAffinity{Initial: "8191"}
	if _, err := sb.Exec(t.Context(), p, nil); !errors.Is(err, unix.EINVAL) {
		t.Errorf("CPU 8191: %v", err)
	}
}

// The container's session keyring is init's, not the caller's and not a new one.
func TestExecKeyring(t *testing.T) {
	store, sb := sleeper(t, func(s *specs.Spec) { s.Linux.MaskedPaths = nil })
	// The serial number of the session keyring, by its name.
	const script = `while read serial flags usage expiry perm uid gid type name rest; do case $name in _ses.box:) echo $serial $name;; esac; done < /proc/keys`
	first, _ := execute(t, sb, shellIn(t, sb, script), ExecOptions{})
	second, _ := execute(t, sb, shellIn(t, sb, script), ExecOptions{})
	if strings.Count(first, "_ses.box") != 1 || first != second {
		t.Errorf("keyrings:\n%safterwards:\n%s", first, second)
	}
	_ = store
}

func TestExecTerminal(t *testing.T) {
	_, sb := sleeper(t, nil)
	p := shellIn(t, sb, "stty size 2>/dev/null; readlink /proc/self/fd/0; echo word > /dev/tty; read line; echo got:$line; exit 5")
	p.Terminal, p.ConsoleSize = true, &specs.Box{Height: 33, Width: 101}
	x, err := sb.Exec(t.Context(), p, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Console().Close()
	if _, err := x.Console().WriteString("hello\n"); err != nil {
		t.Fatal(err)
	}
	if ws, err := x.Wait(t.Context()); err != nil || ws.ExitStatus() != 5 {
		t.Errorf("%v, %v", ws, err)
	}
	text, _ := io.ReadAll(x.Console()) // EIO: nobody has it open any more
	for _, want := range []string{"/dev/pts/0\r\n", "word\r\n", "got:hello\r\n"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("terminal shows %q, want %q in it", text, want)
		}
	}
}

// /dev/pts must be the terminals' own file system, and no symlink to one.
func TestExecTerminalHostile(t *testing.T) {
	for script, want := range map[string]string{
		"busybox umount -l /dev/pts; exec sleep 1000":                                                     "/dev/pts: is no mount of type devpts",
		"busybox umount -l /dev/pts; busybox rmdir /dev/pts; busybox ln -s shm /dev/pts; exec sleep 1000": "/dev/pts: openat2: too many levels of symbolic links",
		"busybox umount -l /dev/pts; busybox rmdir /dev/pts; exec sleep 1000":                             "/dev/pts: openat2: no such file or directory",
		"busybox touch /dev/shm/x; busybox mount -o bind /dev/shm/x /dev/pts/ptmx; exec sleep 1000":       "process.terminal: openat2: invalid cross-device link",
		"busybox mount -t tmpfs none /dev/pts; busybox mknod /dev/pts/ptmx c 5 2; exec sleep 1000":        "/dev/pts: is no mount of type devpts",
	} {
		store := &Store{root: t.TempDir()}
		b := scripted(t, t.TempDir(), script, func(s *specs.Spec) {
			s.Process.Capabilities = &specs.LinuxCapabilities{
				Bounding: []string{"CAP_SYS_ADMIN", "CAP_MKNOD"}, Effective: []string{"CAP_SYS_ADMIN", "CAP_MKNOD"}, Permitted: []string{"CAP_SYS_ADMIN", "CAP_MKNOD"},
			}
		})
		sb, err := store.Run(t.Context(), "box", b, nil)
		if err != nil {
			t.Fatal(err)
		}
		awaitCommand(t, sb, "sleep")
		p := shellIn(t, sb, "true")
		p.Terminal = true
		if _, err := sb.Exec(t.Context(), p, nil); err == nil || err.Error() != want {
			t.Errorf("%s:\ngot  %v\nwant %s", script, err, want)
		}
		if err := sb.Delete(t.Context(), &DeleteOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}
}

// awaitCommand waits until init executes the command.
func awaitCommand(t *testing.T, sb *Sandbox, name string) {
	t.Helper()
	for range 2000 {
		if raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", sb.Pid())); strings.HasPrefix(string(raw), name+"\x00") {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("init does not become %s", name)
}

// The states of a container, and what Exec says to each.
func TestExecStates(t *testing.T) {
	store := &Store{root: t.TempDir()}
	b := scripted(t, t.TempDir(), "exec sleep 1000", nil)
	sb, err := store.Create(t.Context(), "box", b, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer reapChildren()
	p := shellIn(t, sb, "true")
	if _, ws := execute(t, sb, p, ExecOptions{}); ws != 0 {
		t.Errorf("created: %v", ws)
	}
	if err := sb.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := sb.Pause(); err != nil {
		t.Fatal(err)
	}
	if _, err := sb.Exec(t.Context(), p, nil); !errors.Is(err, ErrPaused) || err.Error() != "cannot exec in a paused container (use --ignore-paused to override)" {
		t.Errorf("paused: %v", err)
	}
	resumed := time.AfterFunc(100*time.Millisecond, func() {
		other, err := store.Load("box")
		if err == nil {
			err = other.Resume()
		}
		if err != nil {
			t.Error(err)
		}
	})
	if _, ws := execute(t, sb, p, ExecOptions{IgnorePaused: true}); ws != 0 || resumed.Stop() {
		t.Errorf("paused, and that ignored: %v", ws)
	}
	if err := sb.Signal(unix.SIGKILL, false); err != nil {
		t.Fatal(err)
	}
	if _, err := sb.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := sb.Exec(t.Context(), p, nil); !errors.Is(err, ErrNotRunning) || err.Error() != "cannot exec in a stopped container" {
		t.Errorf("stopped: %v", err)
	}
	if err := sb.Delete(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := sb.Exec(t.Context(), p, nil); !errors.Is(err, ErrNotExist) {
		t.Errorf("deleted: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := sb.Exec(ctx, p, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A paused container whose end comes before its resumption takes along who waits in it.
func TestExecInPausedContainerThatEnds(t *testing.T) {
	store, sb := sleeper(t, nil)
	p := shellIn(t, sb, "sleep 1000")
	if err := sb.Pause(); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(100*time.Millisecond, func() {
		if err := store.ForceDelete(context.Background(), "box"); err != nil {
			t.Error(err)
		}
	})
	other, err := store.Load("box")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Exec(t.Context(), p, &ExecOptions{IgnorePaused: true}); err == nil {
		t.Error("a process was executed")
	}
}

// Deletion ends what was executed, whoever has the pid namespace, and does not wait for
// those that the caller has not waited for.
func TestDeleteEndsExecs(t *testing.T) {
	for name, edit := range map[string]func(*specs.Spec){
		"own pid namespace": nil,
		"the host's": func(s *specs.Spec) {
			s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
			s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == "/proc" })
			s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, sb := sleeper(t, edit)
			var execs []*Process
			for range 3 {
				x, err := sb.Exec(t.Context(), shellIn(t, sb, "sleep 1000 & sleep 1000"), nil)
				if err != nil {
					t.Fatal(err)
				}
				execs = append(execs, x)
			}
			begin := time.Now()
			if err := sb.Delete(t.Context(), &DeleteOptions{Force: true}); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(begin); d > 5*time.Second {
				t.Errorf("it took %v", d)
			}
			for _, x := range execs {
				if ws, err := x.Wait(t.Context()); err != nil || !ws.Signaled() || ws.Signal() != unix.SIGKILL {
					t.Errorf("%v, %v", ws, err)
				}
				if err := x.Signal(unix.SIGTERM); !errors.Is(err, ErrNotRunning) {
					t.Errorf("signal after the end: %v", err)
				}
			}
			if n := len(sb.execs); n != 0 {
				t.Errorf("%d processes are still on the books", n)
			}
		})
	}
}

// TestExecRacesDelete executes without a pause while the container is deleted. Whatever
// Exec says, in the end there is neither process nor cgroup.
func TestExecRacesDelete(t *testing.T) {
	for name, edit := range map[string]func(*specs.Spec){
		"own pid namespace": nil,
		"the host's": func(s *specs.Spec) {
			s.Linux.Namespaces = slices.DeleteFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.PIDNamespace })
			s.Mounts = slices.DeleteFunc(s.Mounts, func(m specs.Mount) bool { return m.Destination == "/proc" })
			s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			b := scripted(t, dir, "exec sleep 1000", edit)
			store := &Store{root: t.TempDir()}
			before := lookAtHost(t, store.root)
			for round := range 8 {
				raceDelete(t, store, b, time.Duration(round)*time.Millisecond)
				if t.Failed() {
					t.Fatalf("round %d", round)
				}
			}
			before.compare(t, lookAtHost(t, store.root))
		})
	}
}

func raceDelete(t *testing.T, store *Store, b *spec.Bundle, after time.Duration) {
	t.Helper()
	sb, err := store.Run(t.Context(), "box", b, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := shellIn(t, sb, "sleep 1000")
	var wg sync.WaitGroup
	var execs [4][]*Process
	for n := range execs {
		wg.Go(func() {
			for {
				x, err := sb.Exec(context.Background(), p, nil)
				if err == nil {
					execs[n] = append(execs[n], x)
					continue
				}
				if !errors.Is(err, ErrNotRunning) && !errors.Is(err, ErrNotExist) {
					t.Errorf("exec: %v", err)
				}
				return
			}
		})
	}
	time.Sleep(after)
	if err := sb.Delete(t.Context(), &DeleteOptions{Force: true}); err != nil {
		t.Errorf("delete: %v", err)
	}
	wg.Wait()
	for _, x := range slices.Concat(execs[:]...) {
		if ws, err := x.Wait(t.Context()); err != nil || !ws.Signaled() {
			t.Errorf("%v, %v", ws, err)
		}
	}
}

// Many at once, and nothing left of them.
func TestManyExecs(t *testing.T) {
	_, sb := sleeper(t, nil)
	p := shellIn(t, sb, "true")
	many := func() {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 10 {
					x, err := sb.Exec(context.Background(), p, nil)
					if err != nil {
						t.Error(err)
						return
					}
					if ws, err := x.Wait(context.Background()); err != nil || ws != 0 {
						t.Errorf("%v, %v", ws, err)
					}
				}
			})
		}
		wg.Wait()
	}
	many()
	fds, goroutines := count(t, "/proc/self/fd"), runtime.NumGoroutine()
	many()
	if now := count(t, "/proc/self/fd"); now > fds {
		t.Errorf("%d descriptors, %d before", now, fds)
	}
	for range 100 { // those of the test itself end a moment after Wait
		if runtime.NumGoroutine() <= goroutines {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if now := runtime.NumGoroutine(); now > goroutines {
		t.Errorf("%d goroutines, %d before", now, goroutines)
	}
	if pids, err := sb.Processes(); err != nil || len(pids) != 1 {
		t.Errorf("processes %v, %v", pids, err)
	}
	if len(sb.execs) != 0 {
		t.Errorf("%d processes on the books", len(sb.execs))
	}
}

// On a pure cgroup v2 host a container that has given its controllers to cgroups of its
// own cannot take processes itself.
func TestExecBesideInit(t *testing.T) {
	host, err := cgroup.Discover()
	if err != nil || host.Mode != cgroup.V2 {
		t.Skip("needs a host with cgroup v2 only")
	}
	_, sb := sleeper(t, nil)
	dir := sb.rec.Cgroup[""]
	inner := filepath.Join(dir, "inner")
	for _, err := range []error{
		os.Mkdir(inner, 0o755),
		os.WriteFile(inner+"/cgroup.procs", fmt.Append(nil, sb.Pid()), 0o644),
		os.WriteFile(dir+"/cgroup.subtree_control", []byte("+pids"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	out, ws := execute(t, sb, shellIn(t, sb, "cat /proc/self/cgroup"), ExecOptions{})
	if ws != 0 || !strings.HasSuffix(out, "/inner\n") {
		t.Errorf("%v: %s", ws, out)
	}
	if _, err := sb.Exec(t.Context(), shellIn(t, sb, "true"), &ExecOptions{Cgroup: map[string]string{"": "/"}}); !errors.Is(err, unix.EBUSY) {
		t.Errorf("the container's own cgroup, and no other: %v", err)
	}
}

func TestExecSubCgroup(t *testing.T) {
	_, sb := sleeper(t, nil)
	for _, dir := range sb.rec.Cgroup {
		sub := filepath.Join(dir, "sub")
		if err := os.Mkdir(sub, 0o755); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
		sibling := dir + "-sibling"
		if err := os.Mkdir(sibling, 0o755); err == nil {
			t.Cleanup(func() { _ = os.Remove(sibling) })
		}
		// A cpuset takes nobody while it is empty.
		for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
			if raw, err := os.ReadFile(filepath.Join(dir, f)); err == nil {
				_ = os.WriteFile(filepath.Join(sub, f), bytes.TrimSpace(raw), 0o644)
			}
		}
	}
	out, ws := execute(t, sb, shellIn(t, sb, "cat /proc/self/cgroup"), ExecOptions{Cgroup: map[string]string{"": "sub"}})
	for line := range strings.Lines(out) {
		if !strings.HasSuffix(line, "/sub\n") {
			t.Errorf("%v, not in a cgroup called sub: %s", ws, line)
		}
	}
	name := filepath.Base(sb.rec.Cgroup["pids"]) + "-sibling"
	for _, c := range []struct {
		paths map[string]string
		want  string
	}{
		{map[string]string{"": ".."}, `cgroup "..": bad sub cgroup path: must not contain ".."`},
		{map[string]string{"": "../" + name}, fmt.Sprintf(`cgroup "../%s": bad sub cgroup path: must not contain ".."`, name)},
		{map[string]string{"": "sub/../../x"}, `cgroup "sub/../../x": bad sub cgroup path: must not contain ".."`},
		{map[string]string{"": ""}, `cgroup "": bad sub cgroup path: must not be empty`},
		{map[string]string{"nope": "/"}, `cgroup "/": unknown controller "nope"`},
		{map[string]string{"": "missing"}, "no such file or directory"},
	} {
		_, err := sb.Exec(t.Context(), shellIn(t, sb, "true"), &ExecOptions{Cgroup: c.paths})
		if !errors.Is(err, ErrCgroup) || !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("%v: %v, want %s", c.paths, err, c.want)
		}
	}
}

func TestExecPublishes(t *testing.T) {
	_, sb := sleeper(t, nil)
	p := shellIn(t, sb, "sleep 1000")
	file := filepath.Join(t.TempDir(), "pid")
	x, err := sb.Exec(t.Context(), p, &ExecOptions{PidFile: file})
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(file); err != nil || string(raw) != fmt.Sprint(x.Pid()) {
		t.Errorf("pid file: %q, %v, want %d", raw, err, x.Pid())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := x.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait: %v", err)
	}
	if err := x.Signal(unix.SIGTERM); err != nil {
		t.Error(err)
	}
	if ws, err := x.Wait(t.Context()); err != nil || ws.Signal() != unix.SIGTERM {
		t.Errorf("%v, %v", ws, err)
	}
	// What cannot be told of is not left running.
	for _, o := range []ExecOptions{{PidFile: "/nope/pid"}, {PidfdSocket: "/nope/sock"}, {PidFile: file, PidfdSocket: "/nope/sock"}} {
		_ = os.Remove(file)
		if _, err := sb.Exec(t.Context(), p, &o); !errors.Is(err, unix.ENOENT) {
			t.Errorf("%+v: %v", o, err)
		}
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%+v: the pid file is left", o)
		}
	}
	p.Terminal = true
	if _, err := sb.Exec(t.Context(), p, &ExecOptions{ConsoleSocket: "/nope/sock"}); !errors.Is(err, unix.ENOENT) {
		t.Errorf("console socket: %v", err)
	}
	if pids, err := sb.Processes(); err != nil || len(pids) != 1 {
		t.Errorf("processes %v, %v, want init only", pids, err)
	}
}

// BenchmarkExec executes /bin/true in one container, with an idle gap before each.
func BenchmarkExec(b *testing.B) {
	dir := b.TempDir()
	bundle := trueBundle(b, dir)
	bundle.Spec.Process.Args = []string{"/bin/busybox", "sleep", "1000"}
	store := &Store{root: b.TempDir()}
	sb, err := store.Run(context.Background(), "bench", bundle, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = sb.Delete(context.Background(), &DeleteOptions{Force: true}) }()
	for b.Loop() {
		b.StopTimer()
		time.Sleep(20 * time.Millisecond)
		b.StartTimer()
		x, err := sb.Exec(context.Background(), &specs.Process{Args: []string{"/bin/true"}, Cwd: "/"}, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := x.Wait(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}
