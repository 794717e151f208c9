package libsandbox

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// skips collects what is not copied.
func skips(to *[]string) *CopyOptions {
	return &CopyOptions{Archive: true, Skipped: func(path, what string) { *to = append(*to, path+" is "+what) }}
}

// TestCopyTree copies one of everything to a container and back.
func TestCopyTree(t *testing.T) {
	l := filesIn(t, nil)
	from, back := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "back")
	if err := os.Mkdir(from, 0o755); err != nil {
		t.Fatal(err)
	}
	everyFile(t, from)
	var skipped []string
	if err := l.CopyTo(t.Context(), from, "/copy", skips(&skipped)); err != nil {
		t.Fatal(err)
	}
	if len(skipped) != 4 || !strings.Contains(strings.Join(skipped, "\n"), from+"/fifo is a FIFO") {
		t.Errorf("skipped %q", skipped)
	}
	if err := l.CopyFrom(t.Context(), "/copy", back, skips(&skipped)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"fifo", "socket", "null", "block"} {
		if err := os.Remove(filepath.Join(from, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Removexattr(filepath.Join(from, "caps"), "trusted.test"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Removexattr(filepath.Join(from, "sub"), "trusted.test"); err != nil {
		t.Fatal(err)
	}
	ts := []unix.Timespec{{Sec: 8000, Nsec: 123456789}, {Sec: 8000, Nsec: 123456789}}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, from, ts, 0); err != nil {
		t.Fatal(err)
	}
	want := inventory(t, from)
	if d := cmp.Diff(want, inventory(t, l.onHost("/copy/."))); d != "" {
		t.Errorf("in the container (-original +copy):\n%s", d)
	}
	if d := cmp.Diff(want, inventory(t, back)); d != "" {
		t.Errorf("back on the host (-original +copy):\n%s", d)
	}
	var a, b unix.Stat_t
	if unix.Stat(back+"/hard", &a) != nil || unix.Stat(back+"/sub/plain", &b) != nil || a.Ino != b.Ino {
		t.Errorf("a hard link has become a copy")
	}
}

// TestCopyTreeByTar does the same with streams, and compares with what tar(1) says.
func TestCopyTreeByTar(t *testing.T) {
	l := filesIn(t, nil)
	from, back := filepath.Join(t.TempDir(), "from"), t.TempDir()
	if err := os.Mkdir(from, 0o755); err != nil {
		t.Fatal(err)
	}
	everyFile(t, from)
	for _, name := range []string{"fifo", "socket", "null", "block"} {
		if err := os.Remove(filepath.Join(from, name)); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := exec.Command("tar", "--xattrs", "--format=pax", "-C", filepath.Dir(from), "-c", "from").Output()
	if err != nil {
		t.Skip("needs tar: " + err.Error())
	}
	if err := l.CopyTarTo(t.Context(), bytes.NewReader(stream), "/tmp", &CopyOptions{Archive: true}); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := l.CopyTarFrom(t.Context(), "/tmp/from", &out, &CopyOptions{Archive: true}); err != nil {
		t.Fatal(err)
	}
	untar := exec.Command("tar", "--xattrs", "--xattrs-include=*", "-C", back, "-xp")
	untar.Stdin = &out
	if text, err := untar.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	strip := func(list []string) []string {
		for i, line := range list { // a stream of ours has whole seconds
			list[i], _, _ = strings.Cut(regexp.MustCompile(`\.\d{9}\b`).ReplaceAllString(line, ""), " trusted.test")
		}
		return list
	}
	want := strip(inventory(t, from))
	drop := func(list []string) []string { return list[1:] } // the top's time was changed above
	if d := cmp.Diff(drop(want), drop(strip(inventory(t, l.onHost("/tmp/from/."))))); d != "" {
		t.Errorf("in the container (-original +copy):\n%s", d)
	}
	if d := cmp.Diff(drop(want), drop(strip(inventory(t, filepath.Join(back, "from"))))); d != "" {
		t.Errorf("back on the host (-original +copy):\n%s", d)
	}
}

// TestCopyGoesWhere is the table of the documentation: what is at dst decides.
func TestCopyGoesWhere(t *testing.T) {
	l := filesIn(t, nil)
	host := t.TempDir()
	for name, text := range map[string]string{"file": "new", "d/a": "a", "d/e/b": "b", "there/old": "old", "there/file": "was"} {
		path := filepath.Join(host, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"link": "file", "dlink": "d", "dangling": "nowhere"} {
		if err := os.Symlink(to, filepath.Join(host, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		src, dst string
		follow   bool
		want     string // what is in x and there, or the end of the error
	}{
		{"file", "x", false, "x=new there/file=was there/old=old"},
		{"file", "x/", false, "x/: directory: no such file or directory"},
		{"file", "x/y", false, "x/y: no such file or directory"},
		{"file", "there", false, "there/file=new there/old=old"},
		{"file", "there/", false, "there/file=new there/old=old"},
		{"file", "there/old", false, "there/file=was there/old=new"},
		{"file", "there/old/", false, "there/old/: not a directory"},
		{"file", "tlink", false, "there/file=new there/old=old"},
		{"d", "x", false, "x/a=a x/e/b=b there/file=was there/old=old"},
		{"d", "x/", false, "x/a=a x/e/b=b there/file=was there/old=old"},
		{"d/.", "x", false, "x/a=a x/e/b=b there/file=was there/old=old"},
		{"d", "there", false, "there/d/a=a there/d/e/b=b there/file=was there/old=old"},
		{"d/", "there/", false, "there/d/a=a there/d/e/b=b there/file=was there/old=old"},
		{"d/.", "there", false, "there/a=a there/e/b=b there/file=was there/old=old"},
		{"d", "there/old", false, "there/old: is no directory, so none can be copied to it"},
		{"link", "x", false, "x->file there/file=was there/old=old"},
		{"link", "there", false, "there/file=was there/link->file there/old=old"},
		{"link", "there/old", false, "there/file=was there/old->file"},
		{"link", "x", true, "x=new there/file=was there/old=old"},
		{"link", "there", true, "there/file=was there/link=new there/old=old"},
		{"dlink", "x", true, "x/a=a x/e/b=b there/file=was there/old=old"},
		{"dlink/", "x", false, "x/a=a x/e/b=b there/file=was there/old=old"},
		{"dlink/.", "there", false, "there/a=a there/e/b=b there/file=was there/old=old"},
		{"dangling", "x", false, "x->nowhere there/file=was there/old=old"},
		{"dangling", "x", true, "dangling: no such file or directory"},
		{"nothing", "x", false, "nothing: no such file or directory"},
		{"there", "x", false, "x/file=was x/old=old there/file=was there/old=old"},
	} {
		o := &CopyOptions{FollowLink: c.follow}
		prepare := func(dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(dir, os.DirFS(host)); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("there", filepath.Join(dir, "tlink")); err != nil {
				t.Fatal(err)
			}
		}
		in := l.onHost("/w")
		prepare(in)
		err := l.CopyTo(t.Context(), host+"/"+c.src, "/w/"+c.dst, o)
		checkGone(t, "to", c.src, c.dst, c.want, listed(t, in), err)
		out := filepath.Join(t.TempDir(), "w")
		prepare(out)
		prepare(in)
		err = l.CopyFrom(t.Context(), "/w/"+c.src, out+"/"+c.dst, o)
		checkGone(t, "from", c.src, c.dst, c.want, listed(t, out), err)
	}
}

// listed is what is in x and there below dir: file=content and symlink->target.
func listed(t *testing.T, dir string) string {
	t.Helper()
	var list []string
	for _, top := range []string{"x", "there"} {
		err := filepath.WalkDir(filepath.Join(dir, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			name, _ := filepath.Rel(dir, path)
			raw, _ := os.ReadFile(path)
			name += "=" + string(raw)
			if to, err := os.Readlink(path); err == nil {
				name, _ = filepath.Rel(dir, path)
				name += "->" + to
			}
			list = append(list, name)
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
	return strings.Join(list, " ")
}

func checkGone(t *testing.T, way, src, dst, want, got string, err error) {
	t.Helper()
	switch {
	case !strings.Contains(want, "="):
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %s to %s: %v, want %s", way, src, dst, err, want)
		}
	case err != nil || got != want:
		t.Errorf("%s: %s to %s: %v, %s, want %s", way, src, dst, err, got, want)
	}
}

// TestCopyModes: without Archive files are the container's root's, and nothing is setuid.
func TestCopyModes(t *testing.T) {
	l := filesInUser(t, nil)
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(dir, 0o3777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/s", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]uint32{dir: 0o3771, dir + "/s": 0o6711} {
		if err := errors.Join(unix.Chown(path, 12, 34), unix.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		archive bool
		to      string
		in, out string
	}{
		{false, "/plain", "d 3771 0:0,s 711 0:0", "d 3771 0:0,s 711 0:0"},
		{true, "/archive", "d 3771 12:34,s 6711 12:34", "d 3771 12:34,s 6711 12:34"},
		{false, "/tmp/plain", "d 3771 0:0,s 711 0:0", "d 3771 0:0,s 711 0:0"},
		{true, "/tmp/archive", "d 3771 12:34,s 6711 12:34", "d 3771 12:34,s 6711 12:34"},
	} {
		o := &CopyOptions{Archive: c.archive}
		if err := l.WriteFile(c.to+"/x", nil, &WriteOptions{Parents: true}); err != nil {
			t.Fatal(err)
		}
		if err := l.CopyTo(t.Context(), dir, c.to, o); err != nil {
			t.Fatal(err)
		}
		got := l.sh(fmt.Sprintf("cd %s; stat -c '%%n %%a %%u:%%g' d; cd d; stat -c '%%n %%a %%u:%%g' s", c.to))
		if got = strings.ReplaceAll(got, "\n", ","); got != c.in {
			t.Errorf("%s: %s, want %s", c.to, got, c.in)
		}
		back := t.TempDir()
		if err := l.CopyFrom(t.Context(), c.to+"/d", back, o); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("sh", "-c", "cd $0; stat -c '%n %a %u:%g' d; cd d; stat -c '%n %a %u:%g' s", back).Output()
		if got := strings.ReplaceAll(strings.TrimSpace(string(out)), "\n", ","); got != c.out || err != nil {
			t.Errorf("back from %s: %s, want %s", c.to, got, c.out)
		}
		var tarred bytes.Buffer
		if err := l.CopyTarFrom(t.Context(), c.to+"/d/s", &tarred, o); err != nil {
			t.Fatal(err)
		}
		if h, err := tar.NewReader(&tarred).Next(); err != nil || c.archive && (h.Uid != 12 || h.Gid != 34) || !c.archive && h.Uid != 0 {
			t.Errorf("%s: the stream has %+v, %v", c.to, h, err)
		}
	}
	if err := os.Chown(dir+"/s", 70000, 0); err != nil {
		t.Fatal(err)
	}
	if err := l.CopyTo(t.Context(), dir, "/far", &CopyOptions{Archive: true}); err == nil || !strings.HasSuffix(err.Error(), "/far/s: chown: user id 70000: not mapped") {
		t.Error(err)
	}
}

// tarOf makes a stream.
func tarOf(t *testing.T, headers ...tar.Header) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		text := strings.Repeat("x", int(h.Size))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// TestHostileTar: a stream can put files below its directory and nowhere else.
func TestHostileTar(t *testing.T) {
	l := filesIn(t, nil)
	outside := t.TempDir()
	l.sh("mkdir -p /d/real; ln -s /tmp /d/abs; ln -s ../tmp /d/up; ln -s real /d/rel; ln -s /first /d/file; mkdir /d/dir; busybox mkfifo /d/fifo")
	for _, c := range []struct {
		name string
		list []tar.Header
		want string // the end of the error
	}{
		{"up", []tar.Header{{Name: "../x"}}, `has ".." in its name`},
		{"up inside", []tar.Header{{Name: "a/../x"}}, `has ".." in its name`},
		{"link up", []tar.Header{{Name: "x", Typeflag: tar.TypeLink, Linkname: "../first"}}, `has ".." in its name`},
		{"link to nothing", []tar.Header{{Name: "x", Typeflag: tar.TypeLink, Linkname: "none"}}, "no such file or directory"},
		{"through an absolute symlink", []tar.Header{{Name: "abs/x"}}, "invalid cross-device link"},
		{"through a symlink up", []tar.Header{{Name: "up/x"}}, "invalid cross-device link"},
		{"through its own symlink", []tar.Header{{Name: "s", Typeflag: tar.TypeSymlink, Linkname: outside}, {Name: "s/x"}}, "invalid cross-device link"},
		{"a directory for a symlink", []tar.Header{{Name: "rel", Typeflag: tar.TypeDir}}, "not a directory"},
		{"a directory for a file", []tar.Header{{Name: "f"}, {Name: "f", Typeflag: tar.TypeDir}}, "not a directory"},
		{"a file for a directory", []tar.Header{{Name: "dir"}}, "is a directory"},
		{"a device", []tar.Header{{Name: "x", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 5}}, "x: is a device"},
		{"a FIFO", []tar.Header{{Name: "x", Typeflag: tar.TypeFifo}}, "x: is a FIFO"},
		{"an owner", []tar.Header{{Name: "x", Uid: 1 << 32}}, "out of range"},
		{"the top as a file", []tar.Header{{Name: "."}}, "which a regular file cannot replace"},
		{"a type", []tar.Header{{Name: "x", Typeflag: 'V'}}, "type 'V': unknown"},
	} {
		err := l.CopyTarTo(t.Context(), tarOf(t, c.list...), "/d", nil)
		if err == nil || !strings.HasSuffix(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
	err := l.CopyTarTo(t.Context(), tarOf(
		t, tar.Header{Name: "/lead/ing", Size: 3}, tar.Header{Name: "./rel/x", Size: 1}, tar.Header{Name: "file", Size: 2}, tar.Header{Name: "fifo", Size: 2},
		tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o700}, tar.Header{Name: "dir/", Typeflag: tar.TypeDir, Mode: 0o700},
		tar.Header{Name: "also", Typeflag: tar.TypeLink, Linkname: "/lead/ing"},
		tar.Header{Name: "zeros", Typeflag: tar.TypeSymlink, Linkname: "/dev/zero"},
	), "/d", nil)
	if err != nil {
		t.Error(err)
	}
	want := "/d/lead 755 1|/d/lead/ing 644 2|/d/also 644 2|/d/real/x 644 1|/d/file 644 1|/d/fifo 644 1|/d/zeros 777 1|"
	got := l.sh(`for f in /d/lead /d/lead/ing /d/also /d/real/x /d/file /d/fifo /d/zeros; do stat -c '%n %a %h' $f; done | busybox tr '\n' '|'; cat /first >&2`)
	if got, _, _ = strings.Cut(got, "first"); got != strings.Replace(want, "/d/lead 755 1", "/d/lead 755 2", 1) && got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := l.sh("stat -c %a /d /d/dir"); got != "755\n755" {
		t.Errorf("directories that were there have modes %s", got)
	}
	l.reads("/first", "first\n")
	if names, _ := os.ReadDir(outside); len(names) != 0 {
		t.Errorf("on the host: %v", names)
	}
	for name, stream := range map[string]io.Reader{
		"none": strings.NewReader(strings.Repeat("none", 200)), "cut": io.LimitReader(tarOf(t, tar.Header{Name: "cut", Size: 5000}), 2000),
	} {
		if err := l.CopyTarTo(t.Context(), stream, "/d", nil); err == nil || !strings.Contains(err.Error(), "tar stream: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := l.CopyTarTo(t.Context(), tarOf(t), "/first", nil); !errors.Is(err, unix.ENOTDIR) {
		t.Error(err)
	}
	if err := l.CopyTarTo(t.Context(), tarOf(t, tar.Header{Name: "x"}), "/proc/sys", nil); err == nil || !strings.HasSuffix(err.Error(), "it is on a file system of the kernel (proc)") {
		t.Error(err)
	}
}

// TestCopyHoles: what is nothing takes no space, neither there nor back.
func TestCopyHoles(t *testing.T) {
	l := filesIn(t, nil)
	host := t.TempDir()
	f, err := os.Create(host + "/sparse")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(64<<20), func() error { _, err := f.WriteAt([]byte("end"), 64<<20-3); return err }(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if err := l.CopyTo(t.Context(), host+"/sparse", "/dev/shm/a", nil); err != nil {
		t.Fatal(err)
	}
	var stream bytes.Buffer
	if err := l.CopyTarFrom(t.Context(), "/dev/shm/a", &stream, nil); err != nil {
		t.Fatal(err)
	}
	if err := l.CopyTarTo(t.Context(), &stream, "/tmp", nil); err != nil {
		t.Fatal(err)
	}
	if err := l.CopyFrom(t.Context(), "/tmp/a", host+"/back", nil); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{l.onHost("/dev/shm/a"), l.onHost("/tmp/a"), host + "/back"} {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil || st.Size != 64<<20 || st.Blocks > 2048 {
			t.Errorf("%s: %d bytes in %d blocks, %v", path, st.Size, st.Blocks, err)
		}
	}
	if out, err := exec.Command("cmp", host+"/sparse", host+"/back").CombinedOutput(); err != nil {
		t.Errorf("%s", out)
	}
}

// TestCopyThatCannotBe: limits hold, and what is on its way can be given up.
func TestCopyThatCannotBe(t *testing.T) {
	l := filesIn(t, func(s *specs.Spec) {
		s.Root.Readonly = true
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dir", Type: "tmpfs", Source: "tmpfs", Options: []string{"size=64k"}})
	})
	host := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(host, make([]byte, 1<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	for dst, want := range map[string]error{"/new": unix.EROFS, "/dir/": unix.ENOSPC, "/dev/null": unix.EINVAL, "/proc/sys/x": nil, "/nothing/x": unix.ENOENT} {
		err := l.CopyTo(t.Context(), host, dst, nil)
		if err == nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", dst, err, want)
		}
	}
	if err := l.CopyTarTo(t.Context(), tarOf(t, tar.Header{Name: "x", Size: 1 << 20}), "/dir", nil); !errors.Is(err, unix.ENOSPC) {
		t.Error(err)
	}
	for _, src := range []string{"/dev/null", "/proc", "/proc/self", "/sys/kernel"} {
		if err := l.CopyFrom(t.Context(), src, t.TempDir(), nil); err == nil {
			t.Errorf("%s was copied", src)
		}
		if err := l.CopyTarFrom(t.Context(), src, io.Discard, nil); err == nil {
			t.Errorf("%s was copied to a stream", src)
		}
	}
	if err := l.CopyFrom(t.Context(), "/dev", t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), ": is ") {
		t.Errorf("a directory with devices: %v", err)
	}
	var skipped []string
	all := t.TempDir()
	if err := l.CopyFrom(t.Context(), "/", all, skips(&skipped)); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"/proc is on a file system of the kernel", "/sys is on a file system of the kernel", "/dev/null is a device"} {
		if !strings.Contains(strings.Join(skipped, "\n"), want) {
			t.Errorf("%s: not among %q", want, skipped)
		}
	}
	if raw, err := os.ReadFile(all + "/first"); string(raw) != "first\n" || err != nil {
		t.Errorf("%q, %v", raw, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.CopyTo(ctx, host, "/dir", nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := l.CopyTarFrom(ctx, "/first", io.Discard, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if err := l.CopyTarTo(ctx, tarOf(t), "/dir", nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestCopyIntoItself: a volume is the same directory on both sides.
func TestCopyIntoItself(t *testing.T) {
	volume := t.TempDir()
	if err := os.Mkdir(volume+"/sub", 0o755); err != nil {
		t.Fatal(err)
	}
	l := filesIn(t, func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dir", Type: "bind", Source: volume, Options: []string{"bind"}})
	})
	for _, dst := range []string{"/dir", "/dir/new", "/dir/sub", "/dir/sub/new"} {
		if err := l.CopyTo(t.Context(), volume, dst, nil); !errors.Is(err, errInItself) {
			t.Errorf("%s: %v", dst, err)
		}
	}
	l.write("/dir/seen", "by both", nil)
	if raw, err := os.ReadFile(volume + "/seen"); string(raw) != "by both" || err != nil {
		t.Errorf("%q, %v", raw, err)
	}
	if err := l.CopyFrom(t.Context(), "/dir/seen", volume+"/copy", nil); err != nil {
		t.Error(err)
	}
	l.reads("/dir/copy", "by both")
}

// TestCopyToMountedFile: a file that is mounted, as managers mount /etc/hosts, is written
// to.
func TestCopyToMountedFile(t *testing.T) {
	host := t.TempDir()
	for _, name := range []string{"hosts", "new/file"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(host, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(host, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	l := filesIn(t, func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dir/file", Type: "bind", Source: host + "/hosts", Options: []string{"bind"}})
	})
	if err := l.CopyTo(t.Context(), host+"/new/.", "/dir", nil); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(host + "/hosts"); string(raw) != "new/file" || err != nil {
		t.Errorf("%q, %v", raw, err)
	}
	l.reads("/dir/file", "new/file")
	if err := os.Symlink("x", host+"/file"); err != nil {
		t.Fatal(err)
	}
	if err := l.CopyTo(t.Context(), host+"/file", "/dir/", nil); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a symlink in its place: %v", err)
	}
}

// TestCopyRace copies in and out while somebody in the container exchanges directories,
// symlinks to the host, files and devices. It may fail, but nothing of the host is ever
// read or written.
func TestCopyRace(t *testing.T) {
	l := filesIn(t, nil)
	outside, in := t.TempDir(), filepath.Join(t.TempDir(), "tree")
	if err := errors.Join(os.MkdirAll(in+"/a/b", 0o755), os.WriteFile(in+"/a/b/file", []byte("mine"), 0o644), os.MkdirAll(outside+"/b", 0o755),
		os.WriteFile(outside+"/b/file", []byte("host"), 0o640), os.WriteFile(outside+"/file", []byte("host"), 0o640)); err != nil {
		t.Fatal(err)
	}
	before := inventory(t, outside)
	l.sh(fmt.Sprintf(`mkdir -p /race/tree/a/b /race/tree/z; echo -n mine > /race/tree/a/b/file; ln -s %s /race/tree/s; ln -s %s /race/tree/a/s
busybox mkfifo /race/tree/a/b/fifo; ln -s %s/file /race/tree/a/b/link`, outside, outside, outside))
	if err := unix.Mknod(l.onHost("/race/tree/z/zero"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))); err != nil {
		t.Fatal(err)
	}
	defer l.exchange("/race/tree/a", "/race/tree/s")()
	defer l.exchange("/race/tree/a/b", "/race/tree/a/s")()
	defer l.exchange("/race/tree/a/b/fifo", "/race/tree/a/b/file")()
	defer l.exchange("/race/tree/z/zero", "/race/tree/a/b/file")()
	o := &CopyOptions{Skipped: func(string, string) {}}
	done := map[string]int{}
	for began := time.Now(); time.Since(began) < 2*time.Second || len(done) < 4 && time.Since(began) < 20*time.Second; {
		back := t.TempDir()
		var stream bytes.Buffer
		for way, err := range map[string]error{
			"to":   l.CopyTo(t.Context(), in+"/.", "/race/tree", o),
			"from": l.CopyFrom(t.Context(), "/race/tree", back, o),
			"out":  l.CopyTarFrom(t.Context(), "/race/tree/a", &stream, o),
			"in":   l.CopyTarTo(t.Context(), tarOf(t, tar.Header{Name: "a/b/file", Size: 4}, tar.Header{Name: "a/b/x/y"}), "/race/tree", o),
		} {
			if err == nil {
				done[way]++
			}
		}
		if bytes.Contains(stream.Bytes(), []byte("host\x00")) {
			t.Fatal("the stream has a file of the host")
		}
		if out, err := exec.Command("grep", "-r", "host", back).Output(); err == nil {
			t.Fatalf("copied from the host: %s", out)
		}
		_ = os.RemoveAll(back)
	}
	if done["to"] == 0 || done["from"] == 0 || done["out"] == 0 || done["in"] == 0 {
		t.Errorf("too few copies succeeded: %v", done)
	}
	if d := cmp.Diff(before, inventory(t, outside)); d != "" {
		t.Errorf("on the host (-before +after)\n%s", d)
	}
}

// reading calls f before the first byte is read.
type reading struct {
	io.Reader
	f func()
}

func (r *reading) Read(p []byte) (int, error) {
	if r.f != nil {
		r.f()
		r.f = nil
	}
	return r.Reader.Read(p)
}

// TestCopyEndsWithAReset: what is copied when the root filesystem becomes another one
// neither gets lost nor into the snapshot.
func TestCopyEndsWithAReset(t *testing.T) {
	l := runLayered(t, &Store{root: t.TempDir()}, "r", sleeping(t, nil), nil)
	for name, f := range map[string]func() error{
		"restart":   func() error { return l.Reset(t.Context(), &ResetOptions{Mode: ResetRestart}) },
		"keep-init": func() error { return l.Reset(t.Context(), &ResetOptions{Mode: ResetKeepInit}) },
		"snapshot": func() error {
			s, err := l.Snapshot(t.Context(), "s")
			if err == nil && s.Method != ByReference {
				t.Logf("snapshot by %s: %s", s.Method, s.Why)
			}
			return err
		},
	} {
		stream := &reading{tarOf(t, tar.Header{Name: "late", Size: 3}), func() {
			if err := f(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}}
		err := l.CopyTarTo(t.Context(), stream, "/dir", nil)
		if name == "snapshot" && err == nil {
			continue // by copy: it is the same root filesystem
		}
		if !errors.Is(err, errRenewed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := l.Reset(t.Context(), &ResetOptions{To: "s"}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.ReadFile("/dir/late"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("the snapshot has it: %v", err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				if err := l.WriteFile("/dir/file", []byte("new"), nil); err != nil && !errors.Is(err, ErrNotRunning) {
					t.Errorf("write while it is reset: %v", err)
				}
			}
		}
	}()
	for i := range 20 {
		mode := [...]ResetMode{ResetKeepInit, ResetRestart}[i%2]
		l.reset(mode)
	}
	close(stop)
	<-done
	l.reset("")
	l.reads("/dir/file", "below\n")
	l.gone()
}

// TestFilesOfOthers: in a volume with files of users that the container does not know,
// this process does not do for it what its own root may not.
func TestFilesOfOthers(t *testing.T) {
	volume := t.TempDir()
	for name, mode := range map[string]os.FileMode{"secret": 0o600, "public": 0o666, "own": 0o600} {
		path := filepath.Join(volume, name)
		if err := errors.Join(os.WriteFile(path, []byte(name), 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Chown(volume+"/own", mappedRoot+5, mappedRoot+5), os.Mkdir(volume+"/shut", 0o700), os.Mkdir(volume+"/free", 0o700),
		os.Chmod(volume+"/free", 0o777), os.Chmod(volume, 0o755), os.WriteFile(volume+"/free/theirs", nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	l := filesInUser(t, func(s *specs.Spec) {
		s.Mounts = append(s.Mounts, specs.Mount{Destination: "/dir", Type: "bind", Source: volume, Options: []string{"bind"}})
	})
	l.sh("busybox ln -s /dir/secret /link")
	l.reads("/dir/public", "public")
	l.write("/dir/own", "written", nil)
	l.write("/dir/free/new", "new", nil)
	copyTo := func(dst string) error { return l.CopyTo(t.Context(), volume+"/public", dst, nil) }
	for name, err := range map[string]error{
		"read of a secret":         func() error { _, err := l.ReadFile("/link"); return err }(),
		"write to a secret":        l.WriteFile("/link", nil, nil),
		"write to all":             l.WriteFile("/dir/public", nil, nil),
		"new file":                 l.WriteFile("/dir/new", nil, nil),
		"new directory":            l.WriteFile("/dir/a/new", nil, &WriteOptions{Parents: true}),
		"copy of a secret":         l.CopyFrom(t.Context(), "/dir/secret", t.TempDir(), nil),
		"copy of a shut directory": l.CopyFrom(t.Context(), "/dir/shut", t.TempDir(), nil),
		"copy to a secret":         copyTo("/link"),
		"copy to a directory":      copyTo("/dir/copy"),
		"replaced":                 copyTo("/dir/free/theirs"),
		"replaced in a tree":       l.CopyTarTo(t.Context(), tarOf(t, tar.Header{Name: "theirs"}), "/dir/free", nil),
	} {
		if !errors.Is(err, unix.EACCES) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := copyTo("/dir/free/copy"); err != nil {
		t.Error(err)
	}
}

// FuzzTar unpacks any stream in a directory with symlinks out of it. Nothing is made or
// changed elsewhere.
func FuzzTar(f *testing.F) {
	if os.Getuid() != 0 {
		f.Skip("needs root: makes files as a container's root")
	}
	var stream bytes.Buffer
	w := tar.NewWriter(&stream)
	for _, h := range []tar.Header{
		{Name: "up/x", Typeflag: tar.TypeReg, Size: 3, Mode: 0o644},
		{Name: "abs/file", Typeflag: tar.TypeLink, Linkname: "up/file"},
		{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "s", Typeflag: tar.TypeSymlink, Linkname: "../outside"},
		{Name: "s/file", Typeflag: tar.TypeReg},
	} {
		if err := w.WriteHeader(&h); err != nil {
			f.Fatal(err)
		}
		if _, err := w.Write(make([]byte, h.Size)); err != nil {
			f.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			f.Fatal(err)
		}
		f.Add(bytes.Clone(stream.Bytes()))
	}
	ids, err := kernel.ReadIDMap(os.Getpid(), "uid_map")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		in, outside := filepath.Join(dir, "in"), filepath.Join(dir, "outside")
		if err := errors.Join(os.Mkdir(in, 0o755), os.Mkdir(outside, 0o755), os.WriteFile(outside+"/file", []byte("host"), 0o644),
			os.Symlink("../outside", in+"/up"), os.Symlink(outside, in+"/abs"), os.Symlink("../outside/file", in+"/file")); err != nil {
			t.Fatal(err)
		}
		before := inventory(t, outside)
		to := &landing{dst: "/", at: "/", o: &CopyOptions{Skipped: func(string, string) {}}, base: open(t, in)}
		to.to = &place{root: open(t, dir), entry: -1, sb: &Sandbox{}, uids: ids, gids: ids}
		defer to.to.close()
		defer to.close()
		_ = eachInTar(t.Context(), bytes.NewReader(data), to.o, to.put)
		_ = to.finish()
		if d := cmp.Diff(before, inventory(t, outside)); d != "" {
			t.Errorf("outside (-before +after)\n%s", d)
		}
		if names, err := os.ReadDir(dir); err != nil || len(names) != 2 {
			t.Errorf("beside it: %v, %v", names, err)
		}
	})
}
