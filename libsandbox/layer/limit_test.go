package layer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestLimit: a layer with a limit takes that much and no more, layers beside it and on
// it have their own, and what is deleted is free again.
func TestLimit(t *testing.T) {
	for _, k := range kinds() {
		if k.config.Size == 0 {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			k.config.Size = 8 << 20
			f := newFixture(t, &k)
			l := f.new()
			dir := mountLayer(t, l)
			fill(t, dir, 8<<20)
			files(t, dir, 8<<20)
			f.check(os.Remove(filepath.Join(dir, "fill")))
			f.check(os.WriteFile(filepath.Join(dir, "some"), make([]byte, 2<<20), 0o600))
			unmount(t, dir)
			f.check(l.Commit())
			f.check(f.root.Hold(l.Key(), "named"))
			n := f.next(l, on(l)...)
			if n.Meta().Size != 8<<20 {
				t.Errorf("the next layer's limit is %d", n.Meta().Size)
			}
			dir = mountLayer(t, n)
			fill(t, dir, 8<<20)
			unmount(t, dir)
			copied, _, err := n.Copy()
			f.check(err)
			if copied.Meta().Size != 0 {
				t.Errorf("a copy has a limit of %d", copied.Meta().Size)
			}
			f.check(copied.Discard())
			f.check(n.Discard())
			f.check(f.root.Release(l.Key(), "named"))
			f.empty()
			f.nothingLeft()
			mounts, err := os.ReadFile("/proc/self/mountinfo")
			f.check(err)
			if strings.Contains(string(mounts), f.root.dir) {
				t.Errorf("left mounted:\n%s", mounts)
			}
		})
	}
}

// fill writes until there is no space, and expects that to be at about size bytes.
func fill(t *testing.T, dir string, size int) {
	t.Helper()
	file, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	block, n := make([]byte, 64<<10), 0
	for err == nil && n < 4*size {
		var w int
		w, err = file.Write(block)
		n += w
	}
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) || n < size/2 || n > size {
		t.Errorf("wrote %d bytes to a layer of %d: %v", n, size, err)
	}
}

// files makes empty files until there may be no more.
func files(t *testing.T, dir string, size int64) {
	t.Helper()
	for n := int64(0); n < 2*maxFiles(size); n++ {
		name := filepath.Join(dir, "etc", strconv.FormatInt(n, 10))
		err := unix.Mknod(name, unix.S_IFREG|0o600, 0)
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if n > maxFiles(size) {
			t.Fatalf("%d files in a layer of %d bytes", n, size)
		}
	}
	entries, _ := os.ReadDir(filepath.Join(dir, "etc"))
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err == nil {
			_ = os.Remove(filepath.Join(dir, "etc", e.Name()))
		}
	}
}

func TestNoLimit(t *testing.T) {
	for _, fs := range []string{"ext4", "xfs", "tmpfs", "btrfs"} {
		t.Run(fs, func(t *testing.T) {
			f := newFixture(t, &kind{fs: fs, config: Config{Driver: Overlay, Size: 1 << 20}})
			_, err := f.root.New(&f.config)
			if !errors.Is(err, ErrNoLimit) || !strings.Contains(err.Error(), "prjquota") {
				t.Errorf("overlay: %v", err)
			}
			f.config.Driver = Btrfs
			if _, err := f.root.New(&f.config); fs == "btrfs" && !errors.Is(err, ErrNoLimit) {
				t.Errorf("btrfs: %v", err)
			}
			f.config.Size = -1
			if _, err := f.root.New(&f.config); err == nil {
				t.Error("a negative size")
			}
			if all, err := f.root.Layers(); len(all) != 0 || err != nil {
				t.Errorf("left: %v, %v", all, err)
			}
		})
	}
}

// TestNoInodes makes layers on filesystems with one inode more each time: wherever
// there is none, an error comes back and nothing is left.
func TestNoInodes(t *testing.T) {
	needRoot(t)
	lower := t.TempDir()
	failures := 0
	for inodes := 1; ; inodes++ {
		dir := filepath.Join(t.TempDir(), "mnt")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("mode=0755,nr_inodes=%d", inodes)); err != nil {
			t.Fatal(err)
		}
		done := makeWithInodes(t, filepath.Join(dir, "root"), lower)
		if err := unix.Unmount(dir, 0); err != nil {
			t.Fatal(err)
		}
		if done {
			break
		}
		if failures++; failures > 40 {
			t.Fatal("a layer takes more than 40 inodes")
		}
	}
	if failures < 10 {
		t.Errorf("only %d failures", failures)
	}
}

// makeWithInodes says whether there were enough for a layer and a copy of it.
func makeWithInodes(t *testing.T, dir, lower string) bool {
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	l, err := r.New(&Config{Driver: Overlay, Lowers: []string{lower}, Owner: Owner{"/s", "c"}})
	left := 0
	if err == nil {
		left = 1
		for _, name := range []string{"a", "b"} {
			err = errors.Join(err, os.WriteFile(filepath.Join(r.upper(l.Key()), name), nil, 0o600))
		}
		if err == nil {
			_, _, err = l.Copy()
		}
		if err == nil {
			return true
		}
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("%v, want %v", err, unix.ENOSPC)
	}
	if all, err := r.Layers(); len(all) != left || err != nil {
		t.Errorf("layers %v, %v, want %d", all, err, left)
	}
	if n, err := r.TrashLen(); n != 0 || err != nil {
		t.Errorf("%d in the trash, %v", n, err)
	}
	return false
}

// TestFullDisk: a copy that does not fit leaves nothing, and takes no space afterwards.
func TestFullDisk(t *testing.T) {
	dir := ownFilesystem(t, "ext4", 24<<20)
	r, err := Open(filepath.Join(dir, "root"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := r.New(&Config{Driver: Overlay, Lowers: []string{t.TempDir()}, Owner: Owner{"/s", "c"}})
	if err != nil {
		t.Fatal(err)
	}
	block := bytes.Repeat([]byte("x"), 1<<20)
	for n := range 12 {
		if err := os.WriteFile(filepath.Join(r.upper(l.Key()), strconv.Itoa(n)), block, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before := free(t, dir)
	c, stats, err := l.Copy()
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("%v, %+v, %v", c, stats, err)
	}
	all, err := r.Layers()
	if n, terr := r.TrashLen(); n != 0 || len(all) != 1 || err != nil || terr != nil {
		t.Errorf("left: %v, %d in the trash, %v, %v", all, n, err, terr)
	}
	if now := free(t, dir); now < before-64<<10 {
		t.Errorf("%d bytes free, %d before", now, before)
	}
	err = nil
	for n := 0; err == nil; n++ {
		err = os.WriteFile(filepath.Join(r.upper(l.Key()), "more"+strconv.Itoa(n)), block[:64<<10], 0o600)
	}
	for n := 0; err == nil || n < 10; n++ {
		err = os.Mkdir(filepath.Join(r.upper(l.Key()), "dir"+strconv.Itoa(n)), 0o700)
	}
	if n, err := l.Next(nil); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("next: %v, %v", n, err)
	}
	if all, err := r.Layers(); len(all) != 1 || err != nil {
		t.Errorf("left: %v, %v", all, err)
	}
	if err := l.Discard(); err != nil {
		t.Errorf("discard on a full disk: %v", err)
	}
	if err := r.Empty(t.Context(), Pace{}); err != nil {
		t.Errorf("empty on a full disk: %v", err)
	}
}

// free is what the filesystem has left, once it has written all that it puts off.
func free(t *testing.T, dir string) int64 {
	t.Helper()
	fd, err := openDir(unix.AT_FDCWD, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var fs unix.Statfs_t
	_ = unix.IoctlSetInt(fd, 0x9408, 0) // BTRFS_IOC_SYNC wakes up who deletes subvolumes
	if err := errors.Join(unix.Syncfs(fd), unix.Fstatfs(fd, &fs)); err != nil {
		t.Fatal(err)
	}
	return int64(fs.Bavail) * fs.Bsize
}

// TestSpaceIsFreed: of a parent when its last child goes, and not before.
func TestSpaceIsFreed(t *testing.T) {
	for _, name := range []string{"ext4", "btrfs"} {
		t.Run(name, func(t *testing.T) {
			dir := ownFilesystem(t, name, 200<<20)
			f := fixture{TB: t, lower: filepath.Join(dir, "lower"), config: Config{Driver: Overlay, Owner: Owner{"/s", "c"}}}
			if name == "btrfs" {
				f.config.Driver = Btrfs
				f.check(subvolume(f.lower))
			} else {
				f.check(os.Mkdir(f.lower, 0o755))
			}
			var err error
			f.config.Lowers = []string{f.lower}
			f.root, err = Open(filepath.Join(dir, "root"))
			f.check(err)
			l := f.new()
			at := mountLayer(t, l)
			f.check(os.WriteFile(filepath.Join(at, "file"), bytes.Repeat([]byte("0123456789abcdef"), 2<<20), 0o600))
			unmount(t, at)
			kept := f.keep(l, "named")
			children := []*Layer{f.next(kept, on(kept)...), f.next(kept, on(kept)...)}
			f.check(f.root.Release(kept.Key(), "named"))
			f.check(children[0].Discard())
			f.empty()
			used := free(t, dir)
			f.check(children[1].Discard())
			f.empty()
			for range 100 { // btrfs frees in the background
				if free(t, dir)-used > 30<<20 {
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
			t.Errorf("%d bytes free with the last child, %d without", used, free(t, dir))
		})
	}
}
