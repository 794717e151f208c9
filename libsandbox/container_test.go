package libsandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/spec"
)

// busybox makes the root filesystem of a bundle in dir, with a copy of busybox: never
// a link, for a test's container may change the file.
func busybox(tb testing.TB, dir string) (bin string) {
	tb.Helper()
	if os.Getuid() != 0 {
		tb.Skip("needs root: makes containers")
	}
	raw, err := os.ReadFile("/usr/bin/busybox")
	if err != nil {
		tb.Skip("needs busybox-static: " + err.Error())
	}
	bin = filepath.Join(dir, "rootfs/bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "busybox"), raw, 0o755); err != nil {
		tb.Fatal(err)
	}
	return bin
}

// bundle is the bundle in dir with spec s.
func bundle(tb testing.TB, dir string, s *specs.Spec) *spec.Bundle {
	tb.Helper()
	b := &spec.Bundle{Dir: dir, Spec: s}
	if err := spec.Validate(b); err != nil {
		tb.Fatal(err)
	}
	var err error
	if b.Raw, err = json.Marshal(s); err != nil {
		tb.Fatal(err)
	}
	return b
}

// scripted returns a bundle in dir that runs a script in busybox's shell: the default
// spec, changed by edit.
func scripted(t *testing.T, dir, script string, edit func(*specs.Spec)) *spec.Bundle {
	t.Helper()
	bin := busybox(t, dir)
	for _, name := range []string{"sh", "cat", "ls", "readlink", "sleep", "true", "stat", "hostname"} {
		if err := os.Symlink("busybox", filepath.Join(bin, name)); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
	}
	s := spec.Default(false)
	s.Process.Terminal = false
	s.Process.Args = []string{"/bin/sh", "-c", script}
	s.Linux.CgroupsPath = fmt.Sprintf("/adl-fault-%d-%s", os.Getpid(), filepath.Base(dir))
	if edit != nil {
		edit(s)
	}
	return bundle(t, dir, s)
}

// output runs the container and returns what it has written.
func output(t *testing.T, store *Store, b *spec.Bundle, o CreateOptions) string {
	t.Helper()
	before := lookAtHost(t, store.root)
	out, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	o.Stdout, o.Stderr = out, out
	sb, err := store.Run(context.Background(), "box", b, &o)
	if err != nil {
		t.Fatal(err)
	}
	ws, err := sb.Wait(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := sb.Delete(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	out.Close()
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	if ws.ExitStatus() != 0 {
		t.Fatalf("ended with %v: %s", ws, text)
	}
	before.compare(t, lookAtHost(t, store.root))
	return string(text)
}

// tmpfs mounts one on the host.
func tmpfs(t *testing.T, dir string, flags uintptr) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", dir, "tmpfs", flags, "size=16m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("umount %s: %v", dir, err)
		}
	})
}

func TestStateWhileCreating(t *testing.T) {
	b := scripted(t, t.TempDir(), "true", nil)
	store := &Store{root: t.TempDir()}
	seen := map[string]specs.ContainerState{}
	store.step = func(name string) {
		sb, err := (&Store{root: store.root}).Load("c")
		if err != nil {
			return // not recorded yet
		}
		s, err := sb.State()
		if err != nil {
			t.Error(err)
			return
		}
		seen[name] = s.Status
	}
	sb, err := store.Create(t.Context(), "c", b, nil)
	if err != nil {
		t.Fatal(err)
	}
	store.step = nil
	if err := sb.Delete(t.Context(), &DeleteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	reapChildren()
	for _, name := range []string{"recorded", "started", "at-barrier"} {
		if seen[name] != specs.StateCreating {
			t.Errorf("%s: status %q", name, seen[name])
		}
	}
	if seen["published"] != specs.StateCreated {
		t.Errorf("published: status %q", seen["published"])
	}
}
