package layer

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel/btrfs"
)

// kind is a driver on a filesystem.
type kind struct {
	name   string
	fs     string
	config Config
	memory bool
	// subvolume: the lower directory is one.
	subvolume bool
}

func kinds() []kind {
	return []kind{
		{name: "overlay on ext4", fs: "ext4", config: Config{Driver: Overlay}},
		{name: "overlay on tmpfs", fs: "tmpfs", config: Config{Driver: Overlay}},
		{name: "overlay on xfs", fs: "xfs", config: Config{Driver: Overlay}},
		{name: "overlay on btrfs", fs: "btrfs", config: Config{Driver: Overlay}},
		{name: "overlay on ext4 with userxattr", fs: "ext4", config: Config{Driver: Overlay, UserXattr: true}},
		{name: "overlay with a limit on ext4", fs: "ext4-prjquota", config: Config{Driver: Overlay, Size: 64 << 20}},
		{name: "overlay with a limit on xfs", fs: "xfs-prjquota", config: Config{Driver: Overlay, Size: 64 << 20}},
		{name: "overlay in memory", fs: "ext4", memory: true, config: Config{Driver: Overlay}},
		{name: "overlay in memory with a limit", fs: "ext4", memory: true, config: Config{Driver: Overlay, Size: 64 << 20}},
		{name: "btrfs on a subvolume", fs: "btrfs", subvolume: true, config: Config{Driver: Btrfs}},
		{name: "btrfs on a directory", fs: "btrfs", config: Config{Driver: Btrfs}},
	}
}

// eachKind runs a test for every kind, with a root and a lower directory of its own.
func eachKind(t *testing.T, test func(t *testing.T, f *fixture)) {
	needRoot(t)
	for _, k := range kinds() {
		t.Run(k.name, func(t *testing.T) { test(t, newFixture(t, &k)) })
	}
}

// fixture is a layer root and what layers in it are made of.
type fixture struct {
	testing.TB
	kind   *kind
	root   *Root
	lower  string
	config Config
}

func newFixture(tb testing.TB, k *kind) *fixture {
	tb.Helper()
	dir := filesystem(tb, k.fs)
	f := &fixture{TB: tb, kind: k, lower: filepath.Join(dir, "lower"), config: k.config}
	if k.subvolume {
		f.check(subvolume(f.lower))
	} else {
		f.check(os.Mkdir(f.lower, 0o755))
	}
	lowerTree(tb, f.lower)
	f.config.Lowers = []string{f.lower}
	f.config.Owner = Owner{Store: "/run/store", ID: "c1"}
	open := Open
	if k.memory {
		open = OpenMemory
		tb.Cleanup(func() { _ = unix.Unmount(f.root.dir, unix.MNT_DETACH) })
	}
	var err error
	f.root, err = open(filepath.Join(dir, "a", "root"))
	f.check(err)
	return f
}

func (f *fixture) check(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) new() *Layer {
	f.Helper()
	l, err := f.root.New(&f.config)
	f.check(err)
	return l
}

func (f *fixture) next(l *Layer, parents ...string) *Layer {
	f.Helper()
	n, err := l.Next(parents)
	f.check(err)
	return n
}

// on are the parents of a layer that stands on l.
func on(l *Layer) []string { return append([]string{l.Key()}, l.Meta().Parents...) }

// keep makes what is in l a committed layer, and l is not used any more.
func (f *fixture) keep(l *Layer, user string) *Layer {
	f.Helper()
	kept := l
	var err error
	if f.config.Driver == Btrfs {
		kept, err = l.Snapshot()
		f.check(err)
		f.check(l.Discard())
	} else {
		f.check(l.Commit())
	}
	f.check(f.root.Hold(kept.Key(), user))
	return kept
}

func (f *fixture) empty() {
	f.Helper()
	f.check(f.root.Empty(context.Background(), Pace{}))
	if n, err := f.root.TrashLen(); n != 0 || err != nil {
		f.Errorf("%d in the trash after Empty, %v", n, err)
	}
}

// nothingLeft makes sure that the root is as empty as a new one.
func (f *fixture) nothingLeft() {
	f.Helper()
	if f.kind.memory {
		if fd, err := f.root.open(); !errors.Is(err, unix.ENOENT) {
			unix.Close(fd)
			f.Errorf("the tmpfs is still there: %v", err)
		}
		return
	}
	for _, dir := range []string{layersDir, trashDir} {
		entries, err := os.ReadDir(filepath.Join(f.root.dir, dir))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			f.Error(err)
		}
		for _, e := range entries {
			if dir != trashDir || e.Name() != lockFile {
				f.Errorf("%s contains %q", dir, e.Name())
			}
		}
	}
}

// written is the directory with what is in a layer.
func written(l *Layer) string {
	if l.Meta().Driver == Btrfs {
		return filepath.Join(l.full(), volumeDir)
	}
	return l.root.upper(l.Key())
}

// view mounts a layer and looks at it.
func (f *fixture) view(l *Layer) tree {
	f.Helper()
	dir := mountLayer(f, l)
	defer unmount(f, dir)
	return look(f, dir, false)
}

// TestLife: what a container sees is the lower directory, what it changes is gone after
// a reset, comes back with a snapshot, and the lower directory never changes.
func TestLife(t *testing.T) {
	eachKind(t, func(t *testing.T, f *fixture) {
		lower := look(t, f.lower, true)
		l := f.new()
		first := l.Meta().Parents
		dir := mountLayer(t, l)
		before := look(t, dir, false)
		sameTree(t, "a new layer", look(t, f.lower, false), before)
		change(t, dir)
		changed := look(t, dir, false)
		f.check(os.WriteFile(filepath.Join(dir, "new/null"), []byte("a device works"), 0))
		if out, err := exec.Command(filepath.Join(dir, "usr/bin/tool")).Output(); err != nil || string(out) != "changed\n" {
			t.Errorf("a program in the layer: %q, %v", out, err)
		}

		fresh := f.next(l, first...)
		sameTree(t, "the next layer", before, f.view(fresh))

		unmount(t, dir)
		kept := f.keep(l, "named")
		child := f.next(fresh, on(kept)...)
		dir = mountLayer(t, child)
		sameTree(t, "a layer on the kept one", changed, look(t, dir, false))
		(&script{tb: t, dir: dir}).write("etc/changed", "again")
		(&script{tb: t, dir: dir}).write("child", "only")
		other, err := f.root.New(&Config{Driver: f.config.Driver, UserXattr: f.config.UserXattr, Parents: on(kept), Owner: Owner{"/run/store", "c2"}})
		f.check(err)
		sameTree(t, "another layer on it", changed, f.view(other))
		unmount(t, dir)

		f.check(fresh.Discard())
		f.check(f.root.Release(kept.Key(), "named"))
		f.check(child.Discard())
		if _, err := f.root.Load(kept.Key()); err != nil {
			t.Errorf("a layer is gone while another stands on it: %v", err)
		}
		f.check(other.Discard())
		if _, err := f.root.Load(kept.Key()); !errors.Is(err, ErrNotExist) {
			t.Errorf("a layer without users is still there: %v", err)
		}
		f.empty()
		f.nothingLeft()
		sameTree(t, "the lower directory", lower, look(t, f.lower, true))
	})
}

// TestCopy: a copy is exact, shows the same, and does not change when the original
// does.
func TestCopy(t *testing.T) {
	eachKind(t, func(t *testing.T, f *fixture) {
		if f.config.Driver == Btrfs {
			if _, _, err := f.new().Copy(); !errors.Is(err, ErrUnsupported) {
				t.Errorf("copy of a subvolume: %v", err)
			}
			return
		}
		base := f.new()
		dir := mountLayer(t, base)
		(&script{tb: t, dir: dir}).write("base", "of both")
		unmount(t, dir)
		f.check(base.Commit())
		l := f.next(base, on(base)...)
		dir = mountLayer(t, l)
		change(t, dir)
		seen := look(t, dir, false)
		upper := written(l)
		was := look(t, upper, true)

		copied, stats, err := l.Copy()
		f.check(err)
		sameTree(t, "the copy", was, look(t, written(copied), true))
		sameTree(t, "the original", was, look(t, upper, true))
		if stats.Files != len(was)-1 {
			t.Errorf("%d files copied, there are %d", stats.Files, len(was)-1)
		}
		if shares := strings.HasPrefix(f.kind.fs, "xfs") || f.kind.fs == "btrfs"; shares != (stats.Shared > 1<<26) || shares == (stats.Bytes > 0) {
			t.Errorf("%+v", stats)
		}
		change2 := script{tb: t, dir: dir}
		change2.write("large", "other")
		change2.write("etc/changed", "other")
		unmount(t, dir)
		sameTree(t, "a layer on the copy", seen, f.view(f.next(l, on(copied)...)))
	})
}

// TestSnapshot: of a subvolume in use, with subvolumes in it.
func TestSnapshot(t *testing.T) {
	eachKind(t, func(t *testing.T, f *fixture) {
		l := f.new()
		if f.config.Driver != Btrfs {
			if _, err := l.Snapshot(); !errors.Is(err, ErrUnsupported) {
				t.Errorf("snapshot of directories: %v", err)
			}
			return
		}
		if err := l.Commit(); !errors.Is(err, ErrUnsupported) {
			t.Errorf("commit of a subvolume: %v", err)
		}
		dir := mountLayer(t, l)
		change(t, dir)
		s := script{tb: t, dir: dir}
		for _, name := range []string{"sub", "etc/sub", "etc/sub/in", "new/a b:c"} {
			s.do(subvolume(s.path(name)))
			s.write(name+"/file", "in "+name)
		}
		s.mkdir("etc/sub/dir")
		s.do(subvolume(s.path("etc/sub/dir/third")))
		open, err := os.Create(s.path("open"))
		f.check(err)
		defer open.Close()
		s.stamp()
		s.do(setReadOnly(s.path("etc/sub/in")))
		seen := look(t, dir, false)

		kept, err := l.Snapshot()
		f.check(err)
		f.check(f.root.Hold(kept.Key(), "named"))
		data := written(kept)
		sameTree(t, "the snapshot", seen, look(t, data, false))
		for _, name := range []string{"x", "sub/x", "etc/sub/in/x"} {
			if err := os.WriteFile(filepath.Join(data, name), nil, 0o600); !errors.Is(err, unix.EROFS) {
				t.Errorf("writing %s: %v", name, err)
			}
		}
		s.write("etc/changed", "later")
		s.write("sub/file", "later")
		_, err = open.WriteString("still open for writing")
		f.check(err)
		child := f.next(l, on(kept)...)
		sameTree(t, "a layer on the snapshot", seen, f.view(child))
		below := script{tb: t, dir: mountLayer(t, child)}
		below.write("etc/sub/in/file", "writable")
		unmount(t, below.dir)
		sameTree(t, "the snapshot afterwards", seen, look(t, data, false))

		open.Close()
		unmount(t, dir)
		f.check(l.Discard())
		f.check(child.Discard())
		f.check(f.root.Release(kept.Key(), "named"))
		f.empty()
		f.nothingLeft()
	})
}

// subvolume makes one at path.
func subvolume(path string) error {
	dir, err := openDir(unix.AT_FDCWD, filepath.Dir(path))
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return btrfs.Create(dir, filepath.Base(path))
}

func setReadOnly(path string) error {
	fd, err := openDir(unix.AT_FDCWD, path)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return btrfs.SetReadOnly(fd, true)
}
