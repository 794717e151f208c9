package layer

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// tree is all that can be seen of a directory tree: a line for each path.
type tree map[string]string

// look describes the tree below dir, itself included. raw adds what only the files
// themselves show and not an overlay of them.
func look(tb testing.TB, dir string, raw bool) tree {
	tb.Helper()
	t := tree{}
	links := map[fileID]string{}
	var walkDir func(path string)
	walkDir = func(path string) {
		rel, _ := filepath.Rel(dir, path)
		line, isDir, err := describe(path, rel, links, raw)
		if err != nil {
			tb.Fatalf("look at %s: %v", path, err)
		}
		t[rel] = line
		if !isDir {
			return
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			tb.Fatal(err)
		}
		for _, e := range entries {
			walkDir(filepath.Join(path, e.Name()))
		}
	}
	walkDir(dir)
	return t
}

func describe(path, rel string, links map[fileID]string, raw bool) (string, bool, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return "", false, err
	}
	var b strings.Builder
	typ := st.Mode & unix.S_IFMT
	fmt.Fprintf(&b, "%o %d:%d atime %d mtime %d", st.Mode, st.Uid, st.Gid, st.Atim.Nano(), st.Mtim.Nano())
	switch typ {
	case unix.S_IFCHR, unix.S_IFBLK:
		fmt.Fprintf(&b, " device %d", st.Rdev)
	case unix.S_IFLNK:
		to, err := os.Readlink(path)
		if err != nil {
			return "", false, err
		}
		fmt.Fprintf(&b, " to %q", to)
	case unix.S_IFREG:
		data, err := content(path, st.Size)
		if err != nil {
			return "", false, err
		}
		b.WriteString(data)
	}
	if typ != unix.S_IFDIR && st.Nlink > 1 {
		id := idOf(&st)
		if links[id] == "" {
			links[id] = rel
		}
		fmt.Fprintf(&b, " linked with %s", links[id])
		if st.Rdev != 0 || typ != unix.S_IFCHR { // of whiteouts there is one more in the work directory
			fmt.Fprintf(&b, " (%d)", st.Nlink)
		}
	}
	if raw && (typ == unix.S_IFDIR || typ == unix.S_IFREG) {
		flags, err := flagsOf(path)
		if err != nil {
			return "", false, err
		}
		fmt.Fprintf(&b, " flags %#x", flags)
	}
	var attrs []string
	err := eachXattr(path, func(name string, value []byte) error {
		attrs = append(attrs, fmt.Sprintf(" %s=%q", name, value))
		return nil
	})
	slices.Sort(attrs)
	return b.String() + strings.Join(attrs, ""), typ == unix.S_IFDIR, err
}

func flagsOf(path string) (uint32, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NOATIME, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	return getFlags(fd) & userFlags, nil
}

// content tells size, text and where the holes are.
func content(path string, size int64) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOATIME, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	text := ""
	for at := int64(0); at < size; {
		start, err := f.Seek(at, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break
		}
		if err == nil {
			at, err = f.Seek(start, unix.SEEK_HOLE)
		}
		if err == nil {
			_, err = io.Copy(h, io.NewSectionReader(f, start, at-start))
		}
		if err != nil {
			return "", err
		}
		text += fmt.Sprintf(" [%d,%d)", start, at)
	}
	return fmt.Sprintf(" size %d%s %x", size, text, h.Sum(nil)[:6]), nil
}

func sameTree(tb testing.TB, what string, want, got tree) {
	tb.Helper()
	if d := cmp.Diff(want, got); d != "" {
		tb.Errorf("%s: differs (-want +got)\n%s", what, d)
	}
}

// script makes changes to files and stops at the first error.
type script struct {
	tb   testing.TB
	dir  string
	time int64
}

func (s *script) do(err error) {
	s.tb.Helper()
	if err != nil {
		s.tb.Fatal(err)
	}
}

func (s *script) path(name string) string { return filepath.Join(s.dir, name) }

func (s *script) write(name, text string) {
	s.tb.Helper()
	s.do(os.WriteFile(s.path(name), []byte(text), 0o644))
}

func (s *script) mkdir(name string) {
	s.tb.Helper()
	s.do(os.Mkdir(s.path(name), 0o755))
}

func (s *script) xattr(name, key, value string) {
	s.tb.Helper()
	err := unix.Lsetxattr(s.path(name), key, []byte(value), 0)
	if errors.Is(err, unix.ENOTSUP) && strings.HasPrefix(key, "user.") { // tmpfs before Linux 6.6
		return
	}
	s.do(err)
}

// stamp gives everything times with nanoseconds of its own. Access times are in the
// future, so that looking does not change them.
func (s *script) stamp() {
	s.tb.Helper()
	base := time.Now().Add(time.Hour).UnixNano()
	var paths []string
	s.do(filepath.WalkDir(s.dir, func(path string, _ fs.DirEntry, err error) error {
		paths = append(paths, path)
		return err
	}))
	for i := len(paths) - 1; i >= 0; i-- {
		s.time += 1234567891
		times := []unix.Timespec{unix.NsecToTimespec(base + s.time), unix.NsecToTimespec(1e18 + s.time)}
		s.do(unix.UtimesNanoAt(unix.AT_FDCWD, paths[i], times, unix.AT_SYMLINK_NOFOLLOW))
	}
}

// acl is user 1000's right to read and write, in the kernel's own form.
const acl = "\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x06\x00\xe8\x03\x00\x00" +
	"\x04\x00\x04\x00\xff\xff\xff\xff" + "\x10\x00\x06\x00\xff\xff\xff\xff" + "\x20\x00\x04\x00\xff\xff\xff\xff"

// capability is cap_net_bind_service=ep, version 2.
const capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// lowerTree makes a root filesystem.
func lowerTree(tb testing.TB, dir string) {
	tb.Helper()
	s := script{tb: tb, dir: dir}
	for _, d := range []string{"etc", "usr", "usr/bin", "gone", "gone/in", "again", "moved", "moved/deep", "deep"} {
		s.mkdir(d)
	}
	for _, f := range []string{
		"etc/passwd", "etc/changed", "etc/deleted", "usr/bin/tool", "gone/in/file", "again/old", "moved/deep/file",
		"moved/other", "mode", "owner", "attr", "linked", "time", "appended",
	} {
		s.write(f, "lower "+f)
	}
	s.do(os.Link(s.path("linked"), s.path("etc/linked2")))
	s.do(os.Symlink("etc/passwd", s.path("symlink")))
	s.do(os.Symlink("/nowhere", s.path("dangling")))
	s.do(os.Chmod(s.path("usr/bin/tool"), 0o755|fs.ModeSetuid))
	s.xattr("attr", "user.lower", "1")
	s.do(os.Chown(dir, 12, 34))
	s.do(os.Chmod(dir, 0o751))
	s.xattr(".", "trusted.root", "of the root")
	s.xattr(".", "system.posix_acl_default", acl)
	s.stamp()
}

// change does to a root filesystem all that can be done to one.
func change(tb testing.TB, dir string) {
	tb.Helper()
	s := script{tb: tb, dir: dir}
	s.write("etc/changed", "upper")
	s.do(os.Remove(s.path("etc/deleted")))
	s.do(os.RemoveAll(s.path("gone")))
	s.do(os.RemoveAll(s.path("again"))) // and made anew: opaque
	s.mkdir("again")
	s.write("again/new", "new")
	s.move("moved", "etc/moved")
	s.write("etc/moved/deep/new", "new")
	s.do(os.Chmod(s.path("mode"), 0o600))
	s.do(os.Chown(s.path("owner"), 1000, 1001))
	s.do(os.Lchown(s.path("dangling"), 7, 8))
	s.xattr("attr", "user.upper", "two\x00bytes")
	s.xattr("attr", "trusted.upper", strings.Repeat("long", 200))
	s.xattr("dangling", "trusted.of-symlink", "x")
	s.xattr("mode", "security.capability", capability)
	s.do(os.Remove(s.path("linked")))
	s.mkdir("new")
	s.xattr("new", "system.posix_acl_default", acl)
	s.write("new/file", "new")
	s.xattr("new/file", "system.posix_acl_access", acl)
	s.do(os.Chmod(s.path("new"), 0o775|fs.ModeSetgid|fs.ModeSticky))
	s.write("new/suid", "x")
	s.do(os.Chown(s.path("new/suid"), 5, 6))
	s.do(os.Chmod(s.path("new/suid"), 0o755|fs.ModeSetuid|fs.ModeSetgid))
	for _, name := range []string{"new/link", "etc/link", "link"} {
		s.do(os.Link(s.path("new/file"), s.path(name)))
	}
	s.do(os.Symlink(strings.Repeat("x/", 450), s.path("new/symlink")))
	s.do(os.Link(s.path("new/symlink"), s.path("new/symlink2")))
	s.do(unix.Mknod(s.path("new/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	s.do(unix.Mknod(s.path("new/disk"), unix.S_IFBLK|0o600, int(unix.Mkdev(7, 200))))
	s.do(unix.Mkfifo(s.path("new/fifo"), 0o640))
	s.do(unix.Mknod(s.path("new/socket"), unix.S_IFSOCK|0o755, 0))
	s.write("new/"+strings.Repeat("n", 255), "a long name")
	s.write("new/\xff\xfe name\n,:\\", "a strange name")
	s.write("empty", "")
	s.sparse("sparse")
	s.write("large", strings.Repeat("0123456789abcdef", 1<<16))
	s.write("usr/bin/tool", "#!/bin/sh\necho changed\n")
	s.do(os.Chmod(s.path("."), 0o755))
	s.xattr(".", "trusted.root", "changed")
	s.stamp()
}

// move renames a directory, as mv does where the filesystem does not.
func (s *script) move(from, to string) {
	s.tb.Helper()
	err := os.Rename(s.path(from), s.path(to))
	if errors.Is(err, unix.EXDEV) {
		out, cerr := exec.Command("cp", "-a", s.path(from), s.path(to)).CombinedOutput()
		if err = cerr; err != nil {
			s.tb.Log(string(out))
		} else {
			err = os.RemoveAll(s.path(from))
		}
	}
	s.do(err)
}

// sparse makes a file with holes before, between and after data.
func (s *script) sparse(name string) {
	s.tb.Helper()
	f, err := os.Create(s.path(name))
	s.do(err)
	defer f.Close()
	for _, at := range []int64{1 << 20, 4 << 20} {
		_, err = f.WriteAt([]byte(strings.Repeat("d", 64<<10)), at)
		s.do(err)
	}
	s.do(f.Truncate(1 << 26))
	s.do(f.Sync())
}
