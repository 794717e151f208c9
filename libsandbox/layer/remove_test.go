package layer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// deep makes n directories, each in the one before, and a file in the last.
func deep(tb testing.TB, dir string, n int) {
	tb.Helper()
	fd, err := openDir(unix.AT_FDCWD, dir)
	for i := 0; err == nil && i < n; i++ {
		if err = unix.Mkdirat(fd, "d", 0o755); err != nil {
			break
		}
		var in int
		in, err = openDir(fd, "d")
		unix.Close(fd)
		fd = in
	}
	if err == nil {
		err = unix.Mknodat(fd, "file", unix.S_IFREG|0o644, 0)
		unix.Close(fd)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// fewDescriptors makes 40 descriptors all that the process may have.
func fewDescriptors(t *testing.T) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 40, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &old) })
}

// TestDeepTree: a tree deeper than paths can be and descriptors can be open is copied
// and deleted.
func TestDeepTree(t *testing.T) {
	needRoot(t)
	f := newFixture(t, &kinds()[1])
	l := f.new()
	const depth = 5000
	deep(t, f.root.upper(l.Key()), depth)
	fewDescriptors(t)
	copied, stats, err := l.Copy()
	f.check(err)
	if stats.Files != depth+1 {
		t.Errorf("%d files copied, want %d", stats.Files, depth+1)
	}
	f.check(copied.Discard())
	f.check(l.Discard())
	f.empty()
	f.nothingLeft()
}

// TestDeepSubvolumes: subvolumes in subvolumes are deleted, some of them read-only.
func TestDeepSubvolumes(t *testing.T) {
	needRoot(t)
	f := newFixture(t, &kind{fs: "btrfs", config: Config{Driver: Btrfs}})
	l := f.new()
	path := written(l)
	var readOnly []string
	for i := range 60 {
		path = filepath.Join(path, "sub")
		f.check(subvolume(path))
		if i%3 == 0 {
			readOnly = append(readOnly, path)
		}
		f.check(os.WriteFile(filepath.Join(path, "file"), nil, 0o600))
	}
	slices.Reverse(readOnly)
	for _, path := range readOnly {
		f.check(setReadOnly(path))
	}
	fewDescriptors(t)
	f.check(l.Discard())
	f.empty()
	f.nothingLeft()
}

// TestLockedFiles: flags of chattr(1) are copied, and do not keep files.
func TestLockedFiles(t *testing.T) {
	needRoot(t)
	f := newFixture(t, &kinds()[0])
	l := f.new()
	s := script{tb: t, dir: f.root.upper(l.Key())}
	s.mkdir("dir")
	s.mkdir("dir/in")
	for _, name := range []string{"file", "dir/file", "dir/in/file", "append", "nodump"} {
		s.write(name, name)
	}
	s.do(os.Link(s.path("file"), s.path("dir/link")))
	s.stamp()
	for name, flags := range map[string]uint32{"file": 0x10, "append": 0x20, "nodump": 0xc0, "dir/in": 0x20, "dir": 0x10, ".": 0x10} {
		fd, err := unix.Open(s.path(name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		s.do(err)
		s.do(setFlags(fd, flags, userFlags))
		unix.Close(fd)
	}
	want := look(t, s.dir, true)
	copied, _, err := l.Copy()
	f.check(err)
	sameTree(t, "the copy", want, look(t, f.root.upper(copied.Key()), true))
	f.check(copied.Discard())
	f.check(l.Discard())
	f.empty()
	f.nothingLeft()
}

// TestEmptyWhileWritten: a process that has kept hold of directories in the trash moves
// them about; nothing but the trash is deleted.
func TestEmptyWhileWritten(t *testing.T) {
	needRoot(t)
	f := newFixture(t, &kinds()[1])
	bystander := f.new()
	f.check(os.WriteFile(filepath.Join(written(bystander), "file"), nil, 0o600))
	l := f.new()
	upper := f.root.upper(l.Key())
	const n = 200
	for i := range n {
		f.check(os.MkdirAll(filepath.Join(upper, strconv.Itoa(i), "a", "b", "c"), 0o755))
	}
	top, err := openDir(unix.AT_FDCWD, upper)
	f.check(err)
	defer unix.Close(top)
	f.check(l.Discard())

	stop := make(chan struct{})
	var attackers sync.WaitGroup
	for a := range 2 {
		attackers.Go(func() {
			for i := a; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				from, to := strconv.Itoa(i%n), strconv.Itoa((i*7+1)%n)
				_ = unix.Renameat(top, from+"/a", top, to+"/x")
				_ = unix.Renameat(top, to+"/x/b", top, from+"/b")
				_ = unix.Mkdirat(top, from, 0o755)
				_ = unix.Mkdirat(top, from+"/a", 0o755)
			}
		})
	}
	for range 20 {
		_ = f.root.Empty(context.Background(), Pace{}) // may fail
	}
	close(stop)
	attackers.Wait()
	f.empty()
	if _, err := os.Stat(filepath.Join(written(bystander), "file")); err != nil {
		t.Errorf("another layer: %v", err)
	}
	f.check(bystander.Discard())
	f.empty()
	f.nothingLeft()
}

// TestPace: pauses, and an end when the context is done.
func TestPace(t *testing.T) {
	needRoot(t)
	f := newFixture(t, &kinds()[1])
	l := f.new()
	for i := range 100 {
		f.check(os.WriteFile(filepath.Join(f.root.upper(l.Key()), strconv.Itoa(i)), nil, 0o600))
	}
	f.check(l.Discard())
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := f.root.Empty(ctx, Pace{Files: 1, Pause: time.Hour}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a context that is done: %v", err)
	}
	if n, err := f.root.TrashLen(); n != 1 || err != nil {
		t.Errorf("%d in the trash, %v, want 1", n, err)
	}
	begin := time.Now()
	f.check(f.root.Empty(context.Background(), Pace{Files: 10, Pause: 10 * time.Millisecond}))
	if d := time.Since(begin); d < 90*time.Millisecond {
		t.Errorf("100 files in %v with a pause of 10 ms after every tenth", d)
	}
	f.nothingLeft()
}

// TestOneDeleter: a second one is told that there is one.
func TestOneDeleter(t *testing.T) {
	needRoot(t)
	f := newFixture(t, &kinds()[1])
	f.check(f.new().Discard())
	f.empty()
	lock, err := os.Open(filepath.Join(f.root.dir, trashDir))
	f.check(err)
	f.check(unix.Flock(int(lock.Fd()), unix.LOCK_EX))
	if err := f.root.Empty(context.Background(), Pace{}); !errors.Is(err, ErrBusy) {
		t.Errorf("while another empties: %v", err)
	}
	lock.Close()
	f.empty()
}

// TestEmptyMany: a trash that has piled up is emptied by several, but for what cannot be
// deleted.
func TestEmptyMany(t *testing.T) {
	needRoot(t)
	f := newFixture(t, &kinds()[1])
	stuck := f.new()
	for range 10 * manyLayers {
		f.check(f.new().Discard())
	}
	mount := filepath.Join(f.root.upper(stuck.Key()), "mount")
	f.check(os.Mkdir(mount, 0o755))
	f.check(unix.Mount("tmpfs", mount, "tmpfs", 0, ""))
	f.check(stuck.Discard())
	mount = filepath.Join(f.root.dir, trashDir, stuck.Key(), upperDir, "mount")
	defer func() { _ = unix.Unmount(mount, unix.MNT_DETACH) }()
	if err := f.root.Empty(context.Background(), Pace{}); !errors.Is(err, unix.EBUSY) || !strings.Contains(err.Error(), stuck.Key()) {
		t.Errorf("%v, want EBUSY of layer %s", err, stuck.Key())
	}
	if n, err := f.root.TrashLen(); n != 1 || err != nil {
		t.Errorf("%d in the trash, %v, want 1", n, err)
	}
	f.check(unix.Unmount(mount, unix.MNT_DETACH))
	f.empty()
	f.nothingLeft()
}

// TestEmptyNothing: where no layer was ever made, there is nothing to do, and nothing is
// made.
func TestEmptyNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "root")
	for _, open := range []func(string) (*Root, error){Open, OpenMemory} {
		r, err := open(dir)
		if err != nil {
			t.Fatal(err)
		}
		all, err := r.Layers()
		if len(all) != 0 || err != nil {
			t.Errorf("layers: %v, %v", all, err)
		}
		if n, err := r.TrashLen(); n != 0 || err != nil {
			t.Errorf("%d in the trash, %v", n, err)
		}
		if err := r.Empty(context.Background(), Pace{}); err != nil {
			t.Error(err)
		}
		if _, err := r.Load("0123456789abcdef"); !errors.Is(err, ErrNotExist) {
			t.Error(err)
		}
		if err := r.Hold("0123456789abcdef", "x"); !errors.Is(err, ErrGone) {
			t.Error(err)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the root was made: %v", err)
	}
}
