package libsandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
	"adl.run/adl-runtime/spec"
)

// everything is a bundle that uses every feature that has ops of its own.
func everything(t *testing.T, dir string) *spec.Bundle {
	t.Helper()
	busybox(t, dir)
	root := filepath.Join(dir, "rootfs")
	for _, d := range []string{"etc", "skel/sub"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "skel/sub/file"), []byte("x"), 0o640); err != nil {
		t.Fatal(err)
	}
	return bundle(t, dir, featureful(dir))
}

func featureful(dir string) *specs.Spec {
	s := spec.Default(false)
	p := s.Process
	p.Terminal = false
	p.Args = []string{"busybox", "sleep", "100"}
	p.Cwd = "/made/by/create"
	p.User = specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{5, 6}}
	adj := 100
	p.OOMScoreAdj = &adj
	s.Hostname, s.Domainname = "host", "domain"
	s.Mounts = append(s.Mounts,
		specs.Mount{Destination: "/skel", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup", "ro"}},
		specs.Mount{Destination: "/bound/dir", Type: "bind", Source: dir, Options: []string{"rbind", "rro", "rslave"}},
		specs.Mount{Destination: "/bound/file", Source: "/etc/hostname", Options: []string{"bind", "ro", "private"}},
		specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro"}},
	)
	s.Root.Readonly = true
	s.Linux.RootfsPropagation = "rslave"
	s.Linux.Sysctl = map[string]string{"net.ipv4.ip_forward": "1"}
	s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/deep/fuse", Type: "c", Major: 10, Minor: 229}}
	cgroup := specs.LinuxNamespace{Type: specs.CgroupNamespace}
	if !slices.Contains(s.Linux.Namespaces, cgroup) { // the default on v2 has it
		s.Linux.Namespaces = append(s.Linux.Namespaces, cgroup)
	}
	s.Linux.CgroupsPath = fmt.Sprintf("/adl-fault-%d", os.Getpid())
	hook := []specs.Hook{{Path: "/bin/true"}}
	s.Hooks = &specs.Hooks{CreateRuntime: hook, CreateContainer: hook, Poststop: hook}
	return s
}

// host is what a container could leave behind.
type host struct{ mounts, cgroups, children, files string }

func lookAtHost(t *testing.T, store string) host {
	t.Helper()
	var h host
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if strings.Contains(line, filepath.Dir(store)) { // other tests mount, too
			h.mounts += line
		}
	}
	own := fmt.Sprintf("adl-fault-%d*", os.Getpid()) // another run of the tests has its own
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*/" + own)
	v2, _ := filepath.Glob("/sys/fs/cgroup/" + own)
	h.cgroups = strings.Join(append(dirs, v2...), "\n")
	tasks, _ := filepath.Glob("/proc/self/task/*/children")
	for _, f := range tasks {
		raw, _ := os.ReadFile(f)
		h.children += string(raw)
	}
	fds, _ := os.ReadDir("/proc/self/fd")
	h.children += fmt.Sprintf(" %d descriptors", len(fds))
	entries, _ := os.ReadDir(store)
	for _, e := range entries {
		h.files += e.Name() + " "
	}
	return h
}

func (h host) compare(t *testing.T, after host) {
	t.Helper()
	for _, d := range []struct{ what, before, after string }{
		{"mounts", h.mounts, after.mounts},
		{"cgroups", h.cgroups, after.cgroups},
		{"children and descriptors", h.children, after.children},
		{"store", h.files, after.files},
	} {
		if d.before != d.after {
			t.Errorf("%s changed from\n%s\nto\n%s", d.what, d.before, d.after)
		}
	}
}

// TestEachOpFails makes every op of a program fail once. Create and Run must return
// an error that names the op's note, and leave nothing. Of what an earlier case has
// gone through in full, the later ones take the first op of each note.
func TestEachOpFails(t *testing.T) {
	covered := map[string]bool{}
	for _, c := range []struct {
		name string
		run  bool
		o    CreateOptions
		edit func(*specs.Spec)
	}{
		{name: "create"},
		{name: "run", run: true},
		{name: "terminal", run: true, o: CreateOptions{KeepConsole: true}, edit: func(s *specs.Spec) {
			s.Process.Terminal = true
			s.Process.ConsoleSize = &specs.Box{Height: 24, Width: 80}
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
			}
			store := &Store{root: t.TempDir()}
			do := store.Create
			if c.run {
				do = store.Run
			}
			failEachOp(t, store, covered, func() (*Sandbox, error) { return do(t.Context(), "fault", b, &c.o) })
		})
	}
}

// failEachOp calls create, which works unharmed, with each op failing whose note is
// new, and adds the notes to covered.
func failEachOp(t *testing.T, store *Store, covered map[string]bool, create func() (*Sandbox, error)) {
	t.Helper()
	eachOpFails(t, store, covered, 50, func() (func() error, error) {
		sb, err := create()
		return func() error {
			if sb.Console() != nil {
				sb.Console().Close()
			}
			defer reapChildren()
			return sb.Delete(t.Context(), &DeleteOptions{Force: true})
		}, err
	})
}

// eachOpFails is failEachOp for whatever runs a program; finish ends what it has made.
// So many ops at least must be reached.
func eachOpFails(t *testing.T, store *Store, covered map[string]bool, least int, do func() (finish func() error, err error)) {
	t.Helper()
	before := lookAtHost(t, store.root)
	var notes []string
	failed := 0
	for n := 0; n == 0 || n < len(notes); n++ { // op 0 makes the way for faults
		if n > 0 && covered[notes[n]] && notes[n] == notes[n-1] {
			continue
		}
		var note, text string
		store.tamper = func(p *program.Program) {
			if notes == nil {
				for i := range p.Ops {
					notes = append(notes, p.Texts[p.Ops[i].Note])
				}
			}
			note, text = p.Texts[p.Ops[n].Note], p.Texts[p.Ops[n].Fault]
			if n > 0 {
				p.Ops[n] = failing(p.Ops[n])
			}
		}
		finish, err := do()
		switch {
		case err == nil:
			// Not every path goes through every op: what runs only where a file is
			// missing, or behind the start, does not run here.
			if err := finish(); err != nil {
				t.Fatalf("op %d (%s): %v", n, note, err)
			}
		case n == 0:
			t.Fatal(err)
		case !errors.Is(err, unix.EXDEV) || !strings.HasPrefix(err.Error(), note+": ") || text != "" && !strings.Contains(err.Error(), text):
			t.Fatalf("op %d (%s) failed with %v", n, note, err)
		default:
			failed++
		}
		before.compare(t, lookAtHost(t, store.root))
		if t.Failed() {
			t.Fatalf("op %d (%s)", n, note)
		}
	}
	for _, note := range notes {
		covered[note] = true
	}
	if failed < least {
		t.Errorf("only %d ops were reached", failed)
	}
}

// failing is op turned into one that does nothing but fail.
func failing(op program.Op) program.Op {
	return program.Op{
		Call: program.Test, Note: op.Note, Fault: op.Fault, Dst: op.Dst,
		Args: [6]program.Arg{program.Num(0), program.Num(0), program.Num(1), program.Num(0), program.Num(int(unix.EXDEV))},
	}
}

func reapChildren() {
	for {
		if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != nil || pid <= 0 {
			return
		}
	}
}

// TestKilledAtEachStep kills the process that creates a container with SIGKILL at
// each step of the creation. ForceDelete must then remove everything.
func TestKilledAtEachStep(t *testing.T) {
	if os.Getenv("ADL_TEST_KILL_DIR") != "" {
		createAndDie()
	}
	dir := t.TempDir()
	s := featureful(dir)
	s.Linux.IntelRdt = &specs.LinuxIntelRdt{L3CacheSchema: "L3:0=f", EnableMonitoring: true}
	everything(t, dir)
	b := bundle(t, dir, s)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), b.Raw, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) }()
	store := rdtStore(t)
	before := lookAtHost(t, store.root)
	for step := 1; ; step++ {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestKilledAtEachStep$")
		cmd.Env = append(os.Environ(), "ADL_TEST_KILL_DIR="+dir, "ADL_TEST_KILL_STORE="+store.root, "ADL_TEST_KILL_RESCTRL="+store.resctrl.Dir, fmt.Sprintf("ADL_TEST_KILL_STEP=%d", step))
		out, err := cmd.CombinedOutput()
		killed := false
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			killed = exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
		}
		if err != nil && !killed {
			t.Fatalf("step %d: %v\n%s", step, err, out)
		}
		if _, err := store.List(); err != nil {
			t.Fatalf("step %d: list: %v", step, err)
		}
		if sb, err := store.Load("victim"); err == nil {
			if _, err := sb.State(); err != nil {
				t.Fatalf("step %d: state: %v", step, err)
			}
		}
		if err := store.ForceDelete(context.Background(), "victim"); err != nil {
			t.Fatalf("step %d: delete: %v", step, err)
		}
		waitForChildren(t)
		before.compare(t, lookAtHost(t, store.root))
		if left := rdtGroups(t, store); left != "" {
			t.Fatalf("step %d: resctrl group %s is left", step, left)
		}
		if !killed {
			if step < 9 {
				t.Fatalf("the creation has %d steps only", step)
			}
			return
		}
	}
}

// waitForChildren reaps what the dead process has left to us: an init that has seen
// the end of its parent ends by itself.
func waitForChildren(t *testing.T) {
	t.Helper()
	for {
		if _, err := unix.Wait4(-1, nil, 0, nil); err == unix.ECHILD {
			return
		} else if err != nil && err != unix.EINTR {
			t.Fatal(err)
		}
	}
}

// createAndDie is the process that is killed.
func createAndDie() {
	var at, n int
	_, _ = fmt.Sscan(os.Getenv("ADL_TEST_KILL_STEP"), &at)
	store := &Store{root: os.Getenv("ADL_TEST_KILL_STORE"), resctrl: playResctrl(os.Getenv("ADL_TEST_KILL_RESCTRL")), step: func(string) {
		if n++; n == at {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
	}}
	b, err := spec.Open(os.Getenv("ADL_TEST_KILL_DIR"))
	if err == nil {
		_, err = store.Create(context.Background(), "victim", b, nil)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}
