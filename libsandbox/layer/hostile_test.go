package layer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNames(t *testing.T) {
	r, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{
		"", ".", "..", "../../etc", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF",
		"0123456789abcde/", "0123456789abcde\x00", "../0123456789abc", "trash/../layers",
	} {
		_, err := r.Load(key)
		for _, err := range []error{err, r.Hold(key, "named"), r.Release(key, "named")} {
			if !errors.Is(err, ErrInvalidName) {
				t.Errorf("key %q: %v", key, err)
			}
		}
		for _, parents := range [][]string{{key}, {"0123456789abcdef", key}} {
			if _, err := r.New(&Config{Driver: Overlay, Parents: parents}); !errors.Is(err, ErrInvalidName) {
				t.Errorf("parents %q: %v", parents, err)
			}
			if _, err := (&Layer{root: r, meta: Meta{Driver: Overlay}}).Next(parents); !errors.Is(err, ErrInvalidName) {
				t.Errorf("next on %q: %v", parents, err)
			}
		}
	}
	for _, user := range []string{"", ".", "..", "../x", "a/b", "a,b:c", "a b", "ä", "a\x00", ".hidden", strings.Repeat("a", 256)} {
		for _, err := range []error{r.Hold("0123456789abcdef", user), r.Release("0123456789abcdef", user)} {
			if !errors.Is(err, ErrInvalidName) {
				t.Errorf("user %q: %v", user, err)
			}
		}
	}
	if err := r.Hold("0123456789abcdef", "layer-0123456789abcdef"); !errors.Is(err, ErrInvalidName) {
		t.Errorf("a user that is a layer: %v", err)
	}
	if entries, _ := os.ReadDir(r.dir); len(entries) != 0 {
		t.Errorf("left %v", entries)
	}
}

func TestBadConfig(t *testing.T) {
	needRoot(t)
	f := newFixture(t, &kinds()[1])
	file := filepath.Join(f.lower, "attr")
	for _, c := range []struct {
		config Config
		want   error
		text   string
	}{
		{Config{}, ErrInvalidName, `driver ""`},
		{Config{Driver: "none", Lowers: []string{f.lower}}, ErrInvalidName, `driver "none"`},
		{Config{Driver: Overlay}, nil, "a layer needs a lower directory"},
		{Config{Driver: Overlay, Lowers: []string{""}}, ErrInvalidName, "lowers[0]"},
		{Config{Driver: Overlay, Lowers: []string{"relative"}}, ErrInvalidName, "lowers[0]"},
		{Config{Driver: Overlay, Lowers: []string{f.lower, "/a\xff"}}, ErrInvalidName, "lowers[1]"},
		{Config{Driver: Overlay, Lowers: []string{f.lower, "/a\x00b"}}, ErrInvalidName, "lowers[1]"},
		{Config{Driver: Overlay, Lowers: []string{f.lower, "/not/there"}}, unix.ENOENT, "lowers[1] /not/there"},
		{Config{Driver: Overlay, Lowers: []string{file}}, unix.ENOTDIR, "lowers[0]"},
		{Config{Driver: Btrfs, Lowers: []string{f.lower, f.lower}}, ErrUnsupported, "2 lower directories"},
		{Config{Driver: Btrfs, Lowers: []string{f.lower}}, ErrUnsuitable, "not on btrfs"},
		{Config{Driver: Overlay, Lowers: []string{f.lower}, Parents: []string{"0123456789abcdef"}}, ErrGone, "0123456789abcdef"},
	} {
		l, err := f.root.New(&c.config)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%+v: %v, %v, want %v with %q", c.config, l, err, c.want, c.text)
		}
	}
	if all, err := f.root.Layers(); len(all) != 0 || err != nil {
		t.Errorf("left: %v, %v", all, err)
	}
	if n, err := f.root.TrashLen(); n != 0 || err != nil {
		t.Errorf("%d in the trash, %v", n, err)
	}
}

func TestRelativeRoot(t *testing.T) {
	for _, dir := range []string{"", "relative", "./x", "/a\x00b"} {
		if _, err := Open(dir); !errors.Is(err, ErrUnsuitable) {
			t.Errorf("%q: %v", dir, err)
		}
		if _, err := OpenMemory(dir); !errors.Is(err, ErrUnsuitable) {
			t.Errorf("%q in memory: %v", dir, err)
		}
	}
}

// TestUnsuitableRoots: filesystems that cannot hold layers, and directories that others
// can write to.
func TestUnsuitableRoots(t *testing.T) {
	needRoot(t)
	lower := t.TempDir()
	try := func(dir, text string) {
		t.Helper()
		r, err := Open(dir)
		if err == nil {
			_, err = r.New(&Config{Driver: Overlay, Lowers: []string{lower}})
		}
		if !errors.Is(err, ErrUnsuitable) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want %q", dir, err, text)
		}
		if entries, _ := os.ReadDir(filepath.Join(dir, layersDir)); len(entries) != 0 {
			t.Errorf("%s: left %v", dir, entries)
		}
	}
	f := newFixture(t, &kinds()[1])
	try(filepath.Join(mountLayer(t, f.new()), "etc"), "on overlay")
	for _, mode := range []os.FileMode{0o770, 0o702, 0o1777} {
		dir := t.TempDir()
		f.check(os.Chmod(dir, mode.Perm()))
		try(dir, "others may write")
	}
	dir := t.TempDir()
	f.check(os.Chown(dir, 1000, 0))
	try(dir, "others may write")

	ram := t.TempDir()
	f.check(unix.Mount("ramfs", ram, "ramfs", 0, "mode=0755"))
	defer func() { _ = unix.Unmount(ram, 0) }()
	try(filepath.Join(ram, "root"), "on ramfs")
}

func TestRootOnFat(t *testing.T) {
	dir := ownFilesystem(t, "vfat", 20<<20)
	r, err := Open(dir)
	if err == nil {
		_, err = r.New(&Config{Driver: Overlay, Lowers: []string{t.TempDir()}})
	}
	if !errors.Is(err, ErrUnsuitable) || !strings.Contains(err.Error(), "fat") {
		t.Error(err)
	}
}

// TestBtrfsLowers: on another filesystem, and on another btrfs.
func TestBtrfsLowers(t *testing.T) {
	needRoot(t)
	f := newFixture(t, &kind{fs: "btrfs", config: Config{Driver: Btrfs}})
	for _, lower := range []string{t.TempDir(), ownFilesystem(t, "btrfs", 130<<20)} {
		f.config.Lowers = []string{lower}
		if _, err := f.root.New(&f.config); !errors.Is(err, ErrUnsuitable) || !strings.Contains(err.Error(), "same btrfs") {
			t.Errorf("%s: %v", lower, err)
		}
	}
	f.empty()
	f.nothingLeft()
}

// TestBtrfsBaseHidesMounts: what is mounted below a lower directory is not part of it.
func TestBtrfsBaseHidesMounts(t *testing.T) {
	needRoot(t)
	f := newFixture(t, &kind{fs: "btrfs", config: Config{Driver: Btrfs}})
	below := look(t, f.lower, true)
	at := filepath.Join(f.lower, "etc")
	f.check(unix.Mount("tmpfs", at, "tmpfs", 0, ""))
	l := f.new()
	f.check(unix.Unmount(at, 0))
	sameTree(t, "the layer", below, look(t, written(l), true))
	sameTree(t, "the lower directory", below, look(t, f.lower, true))
}

// TestStrangePaths: what overlayfs gives a meaning to may be in paths.
func TestStrangePaths(t *testing.T) {
	needRoot(t)
	for _, name := range []string{"a:b", "a,b", `a\b`, `a\:b`, "a b", "a\nb", `\`, "ü,:=", `a"b`} {
		t.Run(fmt.Sprintf("%q", name), func(t *testing.T) {
			dir := filesystem(t, "tmpfs")
			lowers := []string{filepath.Join(dir, name), filepath.Join(dir, name+"2")}
			for i, lower := range lowers {
				if err := os.Mkdir(lower, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(lower, fmt.Sprint(i)), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			r, err := Open(filepath.Join(dir, name+"root"))
			if err != nil {
				t.Fatal(err)
			}
			f := fixture{TB: t, root: r, config: Config{Driver: Overlay, Lowers: lowers, Owner: Owner{name, name}}}
			l := f.new()
			at := mountLayer(t, l)
			for _, file := range []string{"0", "1"} {
				if _, err := os.Stat(filepath.Join(at, file)); err != nil {
					t.Error(err)
				}
			}
			(&script{tb: t, dir: at}).write("file", "x")
			unmount(t, at)
			if _, err := os.Stat(filepath.Join(r.upper(l.Key()), "file")); err != nil {
				t.Error(err)
			}
			loaded, err := r.Load(l.Key())
			f.check(err)
			if m := loaded.Meta(); m.Owner != f.config.Owner || m.Lowers[0].Path != lowers[0] || m.Lowers[1].Path != lowers[1] {
				t.Errorf("read back: %+v", m)
			}
			f.check(l.Discard())
		})
	}
}

// TestChangedLower: a layer is not made again for a directory that took the place of
// another.
func TestChangedLower(t *testing.T) {
	needRoot(t)
	f := newFixture(t, &kinds()[1])
	l := f.new()
	f.check(l.Commit())
	f.check(f.root.Hold(l.Key(), "named"))
	f.check(os.Rename(f.lower, f.lower+".old"))
	fork := Config{Driver: Overlay, Parents: on(l)}
	try := func(want error) {
		t.Helper()
		if _, err := l.Next(nil); !errors.Is(err, want) || !strings.Contains(err.Error(), f.lower) {
			t.Errorf("next: %v, want %v", err, want)
		}
		if _, err := f.root.New(&fork); !errors.Is(err, want) || !strings.Contains(err.Error(), f.lower) {
			t.Errorf("new: %v, want %v", err, want)
		}
	}
	try(unix.ENOENT)
	f.check(os.Mkdir(f.lower, 0o755))
	try(ErrLowerChanged)
	f.check(os.Remove(f.lower))
	f.check(os.Rename(f.lower+".old", f.lower))
	f.check(f.next(l).Discard())
	fork.Lowers = []string{filepath.Dir(f.lower)}
	if _, err := f.root.New(&fork); !errors.Is(err, ErrLowerChanged) {
		t.Errorf("other lowers than the parent's: %v", err)
	}
}

// TestForeignMeta: a layer.json that this package did not write leads nowhere.
func TestForeignMeta(t *testing.T) {
	needRoot(t)
	f := newFixture(t, &kinds()[1])
	good := f.new()
	for key, text := range map[string]string{
		"0000000000000001": `{"version":2,"driver":"overlay","lowers":[{"path":"/"}]}`,
		"0000000000000002": `{"version":1,"driver":"zfs","lowers":[{"path":"/"}]}`,
		"0000000000000003": `{"version":1,"driver":"overlay","lowers":[]}`,
		"0000000000000004": `{"version":1,"driver":"overlay","lowers":[{"path":"/"}],"parents":["../../../../../etc"]}`,
		"0000000000000005": `{"version":1,`,
	} {
		dir := filepath.Join(f.root.dir, layersDir, key)
		f.check(os.Mkdir(dir, 0o700))
		f.check(os.WriteFile(filepath.Join(dir, metaFile), []byte(text), 0o600))
		if l, err := f.root.Load(key); err == nil || errors.Is(err, ErrNotExist) || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v, %v", text, l, err)
		}
	}
	all, err := f.root.Layers()
	if len(all) != 1 || all[0].Key != good.Key() || err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("layers %v, %v", all, err)
	}
}
