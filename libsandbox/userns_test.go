package libsandbox

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
	"adl.run/adl-runtime/spec"
)

// mappedRoot is the host's id of the root in the tests' user namespaces.
const mappedRoot = 200000

// withUser gives s a new user namespace.
func withUser(s *specs.Spec) {
	maps := []specs.LinuxIDMapping{{HostID: mappedRoot, Size: 65536}}
	s.Linux.UIDMappings, s.Linux.GIDMappings = maps, maps
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
}

// give lets everything in dir belong to the root of the tests' user namespaces, and lets
// that pass the directories above.
func give(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = os.Lchown(p, mappedRoot, mappedRoot)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestEachOpOfAUserNamespaceFails is TestEachOpFails for containers that more than one
// process sets up.
func TestEachOpOfAUserNamespaceFails(t *testing.T) {
	covered := map[string]bool{}
	for _, c := range []struct {
		name string
		run  bool
		edit func(*specs.Spec)
	}{
		{"create", false, func(s *specs.Spec) {
			withUser(s)
			s.Linux.Sysctl = nil
			s.Mounts = append(s.Mounts,
				specs.Mount{Destination: "/mapped", Type: "bind", Source: s.Root.Path, Options: []string{"rbind", "idmap"}},
				specs.Mount{
					Destination: "/mapped2", Type: "bind", Source: s.Root.Path, Options: []string{"rbind", "ro"},
					UIDMappings: []specs.LinuxIDMapping{{Size: 10}}, GIDMappings: []specs.LinuxIDMapping{{Size: 10}},
				})
		}},
		{"run", true, withUser},
		{"time", true, func(s *specs.Spec) {
			withUser(s)
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1000}}
		}},
		{"only time", true, func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {Nanosecs: 1}}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			b := everything(t, dir)
			give(t, b.Rootfs())
			c.edit(b.Spec)
			b.Spec.Linux.Devices[0].Path = "/dev/fuse"
			if err := spec.Validate(b); err != nil {
				t.Fatal(err)
			}
			store := &Store{root: t.TempDir()}
			do := store.Create
			if c.run {
				do = store.Run
			}
			failEachOp(t, store, covered, func() (*Sandbox, error) { return do(t.Context(), "fault", b, nil) })
		})
	}
}

// A helper that is killed says nothing, and its parent must not go on.
func TestKilledHelper(t *testing.T) {
	dir := t.TempDir()
	b := scripted(t, dir, "true", withUser)
	give(t, b.Rootfs())
	store := &Store{root: t.TempDir()}
	before := lookAtHost(t, store.root)
	store.tamper = func(p *program.Program) {
		i := slices.IndexFunc(p.Ops, func(o program.Op) bool { return o.Call == unix.SYS_UNSHARE })
		p.Ops[i] = program.Op{Call: unix.SYS_EXIT_GROUP, Note: p.Ops[i].Note}
	}
	_, err := store.Run(t.Context(), "box", b, nil)
	if want := fmt.Sprintf("linux.namespaces[%d] user: the helper process was killed", len(b.Spec.Linux.Namespaces)-1); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	before.compare(t, lookAtHost(t, store.root))
}

// What the runtime makes for the container belongs to the container's root.
func TestMadeForAUserNamespace(t *testing.T) {
	dir := t.TempDir()
	script := `stat -c '%u:%g %a %n' /real/deep /dangle/. /skel/sub /skel/sub/file /skel/host; echo 3 > /dangle/new`
	b := scripted(t, dir, script, func(s *specs.Spec) {
		withUser(s)
		s.Root.Readonly = false
		s.Mounts = append(s.Mounts,
			specs.Mount{Destination: "/dangle", Type: "tmpfs", Source: "tmpfs"},
			specs.Mount{Destination: "/skel", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup"}})
	})
	root := b.Rootfs()
	for name, text := range map[string]string{"skel/sub/file": "x", "skel/host": "y", "real/mark": ""} {
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("real/deep/er", filepath.Join(root, "dangle")); err != nil {
		t.Fatal(err)
	}
	give(t, root)
	if err := os.Lchown(filepath.Join(root, "skel/sub/file"), mappedRoot+7, mappedRoot+8); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(filepath.Join(root, "skel/host"), 0, 0); err != nil { // nobody, in there
		t.Fatal(err)
	}
	got := output(t, &Store{root: t.TempDir()}, b, CreateOptions{})
	want := `
0:0 755 /real/deep
0:0 1777 /dangle/.
0:0 755 /skel/sub
7:8 640 /skel/sub/file
65534:65534 640 /skel/host
`
	if d := cmp.Diff(want, "\n"+got); d != "" {
		t.Errorf("made (-want +got):\n%s", d)
	}
}
