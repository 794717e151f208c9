package libsandbox

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// cowBox is a sandbox with two cow volumes on directories of the host, which stay as they
// were.
func cowBox(t *testing.T, edit func(*Config)) (l *layered, unspoiled func()) {
	t.Helper()
	c := boxed(t)
	dirs := []string{t.TempDir(), filepath.Join(t.TempDir(), `odd:name,with\`+strings.Repeat("x", 200))}
	if err := os.Mkdir(dirs[1], 0o755); err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		if err := os.WriteFile(filepath.Join(d, "file"), []byte("host\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c.Volumes = []string{dirs[0] + ":/one:cow"}
	c.Change = func(s *specs.Spec) error { // its name cannot be part of a Volume
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/two/deep", Type: TypeCow, Source: dirs[1]})
		return nil
	}
	if edit != nil {
		edit(c)
	}
	return newBox(t, c), func() {
		t.Helper()
		for _, d := range dirs {
			names, err := os.ReadDir(d)
			text, rerr := os.ReadFile(filepath.Join(d, "file"))
			if err != nil || rerr != nil || len(names) != 1 || string(text) != "host\n" {
				t.Errorf("%s was written to: %v, %q, %v, %v", d, names, text, err, rerr)
			}
		}
	}
}

// withCow adds a cow volume.
func withCow(t *testing.T) func(*specs.Spec) {
	dir := t.TempDir()
	return func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/cow", Type: TypeCow, Source: dir})
	}
}

const (
	cowSpoil = "echo spoiled >/one/file; rm /two/deep/file; mkdir /one/d; echo x >/one/d/x; echo y >/two/deep/y; echo z >/z"
	cowLook  = "cat /one/file /two/deep/file 2>/dev/null; ls /one /two/deep; ls /z 2>/dev/null || true"
	cowFirst = "host\nhost\n/one:\nfile\n\n/two/deep:\nfile"
	cowNow   = "spoiled\n/one:\nd\nfile\n\n/two/deep:\ny\n/z"
)

func TestCowVolumes(t *testing.T) {
	for _, upper := range []string{"disk", "tmpfs"} {
		t.Run(upper, func(t *testing.T) {
			l, unspoiled := cowBox(t, func(c *Config) { c.Layer.Upper = upper })
			for _, mode := range []ResetMode{"", ResetRestart, ResetKeepInit, ResetKeepInit} {
				if mode != "" {
					l.reset(mode)
				}
				if got := l.sh(cowLook); got != cowFirst {
					t.Errorf("%s: at first:\n%s", mode, got)
				}
				l.sh(cowSpoil)
				if got := l.sh(cowLook); got != cowNow {
					t.Errorf("%s: now:\n%s", mode, got)
				}
			}
			l.gone()
			noLayers(t, filepath.Join(l.root, "memory"))
			unspoiled()
		})
	}
}

// Snapshots and forks have what was written to cow volumes.
func TestCowSnapshots(t *testing.T) {
	l, unspoiled := cowBox(t, nil)
	l.sh(cowSpoil)
	for _, keep := range []string{"", "busybox sleep 1000 >/open &"} { // by reference, by copy
		s, err := l.Snapshot(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Volumes) != 2 {
			t.Errorf("%+v", s)
		}
		if got := l.sh(cowLook); got != cowNow {
			t.Errorf("after a snapshot %q:\n%s", s.Method, got)
		}
		l.sh("rm -r /one/d; echo later >/two/deep/later; " + keep)
		if err := l.Restore(t.Context(), s.Name); err != nil {
			t.Fatal(err)
		}
		if got := l.sh(cowLook); got != cowNow {
			t.Errorf("restored %q:\n%s", s.Method, got)
		}
		// What was made between two snapshots and removed before the second is gone.
		l.sh("echo 1 >/one/between")
		if _, err = l.Snapshot(t.Context(), "between"+keep[:min(1, len(keep))]); err != nil {
			t.Fatal(err)
		}
		l.sh("rm /one/between")
	}
	now, err := l.Fork(t.Context(), "now", nil)
	if err != nil {
		t.Fatal(err)
	}
	old, err := l.Fork(t.Context(), "old", &ForkOptions{Snapshot: "1"})
	if err != nil {
		t.Fatal(err)
	}
	twice, err := now.Fork(t.Context(), "twice", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, sb := range []*Sandbox{now, old, twice} {
		f := &layered{sb, t, l.root}
		if got := f.sh(cowLook); got != cowNow {
			t.Errorf("fork %s:\n%s", sb.ID(), got)
		}
		f.sh("rm -r /one/* /two/deep/*")
		f.reset(ResetRestart)
		if got := f.sh(cowLook); got != cowNow {
			t.Errorf("fork %s, reset:\n%s", sb.ID(), got)
		}
	}
	l.reset(ResetRestart)
	if got := l.sh(cowLook); got != cowFirst {
		t.Errorf("reset:\n%s", got)
	}
	if err := GC(t.Context(), l.root); err != nil {
		t.Fatal(err)
	}
	if err := l.Restore(t.Context(), "1"); err != nil {
		t.Fatal(err)
	}
	if got := l.sh(cowLook); got != cowNow {
		t.Errorf("restored after gc:\n%s", got)
	}
	if err := l.DeleteSnapshot("1"); err != nil {
		t.Fatal(err)
	}
	for _, sb := range []*Sandbox{now, old, twice} {
		if err := sb.Delete(t.Context(), &DeleteOptions{Force: true}); err != nil {
			t.Fatal(err)
		}
	}
	l.gone()
	unspoiled()
}

// What a failure leaves is given up.
func TestCowFailures(t *testing.T) {
	l, unspoiled := cowBox(t, nil)
	l.sh(cowSpoil)
	store := l.store
	for _, mode := range []ResetMode{ResetKeepInit, ResetRestart} { // the latter leaves no init
		store.step = func(name string) {
			if name == "layered" {
				_ = unix.Mount("none", filepath.Join(l.root, "layers"), "tmpfs", 0, "") // nothing can be found any more
			}
		}
		err := l.Reset(t.Context(), &ResetOptions{Mode: mode})
		store.step = nil
		if uerr := unix.Unmount(filepath.Join(l.root, "layers"), unix.MNT_DETACH); uerr != nil {
			t.Fatal(uerr)
		}
		if err == nil {
			t.Errorf("%s: no error", mode)
		}
	}
	l.reset(ResetRestart)
	if got := l.sh(cowLook); got != cowFirst {
		t.Errorf("reset:\n%s", got)
	}
	if err := GC(t.Context(), l.root); err != nil {
		t.Fatal(err)
	}
	l.sh(cowSpoil)
	l.gone()
	unspoiled()
}

func TestCowRefused(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		source string
		layer  string
		want   string
	}{
		{dir, "none", "mounts[0] /cow: type cow: it needs a layer: the root filesystem is written to otherwise"},
		{"/dev/null", "overlay", "mounts[0] /cow: type cow: lowers[0] /dev/null: not a directory"},
	} {
		b := pausing(t, func(s *specs.Spec) {
			s.Mounts = append([]specs.Mount{{Destination: "/cow", Type: TypeCow, Source: c.source}}, s.Mounts...)
		})
		layers := layerDir(t)
		_, err := (&Store{root: t.TempDir()}).Run(t.Context(), "x", b, &CreateOptions{Layer: &LayerOptions{Driver: c.layer, Root: layers}})
		if err == nil || err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
		if err := EmptyTrash(t.Context(), layers); err != nil {
			t.Error(err)
		}
		noLayers(t, layers)
	}
}
