package libsandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inRoot makes p below the directory root.
func inRoot(t *testing.T, root, p string, file bool) error {
	t.Helper()
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	return makeInRoot(fd, p, file)
}

// tree lists everything below dir, with the targets of symlinks.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		to, _ := os.Readlink(path)
		fmt.Fprintf(&b, "%s %v %s\n", rel, d.Type(), to)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestMakeInRoot(t *testing.T) {
	links := map[string]string{
		"abs": "/made/abs", "rel": "made/rel", "up": "../../../made/up", "sub/up": "../made/sub-up", "sub/deep": "../../../../../made/deep",
		"chain": "chain2", "chain2": "/sub/chain3", "sub/chain3": "../made/chain",
		"loop": "loop2", "loop2": "/loop", "self": "self", "selfdir": "selfdir/x", "root": "/", "dots": "..", "here": ".",
		"file-link": "/file/x", "to-dir": "/sub/dir", "via": "to-dir/../made-beside", "slashes": "//made///slashes//", "dot-in": "/made/./dot/../dots",
		"host": "/HOST/escape",
	}
	cases := []struct {
		path string
		file bool
		want string // what exists afterwards, below the root
		err  error
	}{
		{"/plain/dir", false, "plain/dir", nil},
		{"/plain/file", true, "plain/file", nil},
		{"/sub/dir", false, "sub/dir", nil},
		{"/file", true, "file", nil},
		{"relative", false, "relative", nil},
		{"/a//b/./c/", false, "a/b/c", nil},
		{"/../../a/../climb", false, "climb", nil},
		{"/", false, "", nil},
		{"/abs", false, "made/abs", nil},
		{"/abs", true, "made/abs", nil},
		{"/abs/below", true, "made/abs/below", nil},
		{"/rel", false, "made/rel", nil},
		{"/up/x", false, "made/up/x", nil},
		{"/sub/up", false, "made/sub-up", nil},
		{"/sub/deep/y", true, "made/deep/y", nil},
		{"/chain", true, "made/chain", nil},
		{"/root/under", false, "under", nil},
		{"/root", false, "", nil},
		{"/dots/dots/under", true, "under", nil},
		{"/here/here/under", true, "under", nil},
		{"/slashes", false, "made/slashes", nil},
		{"/dot-in", true, "made/dots", nil},
		{"/via", false, "sub/made-beside", nil},
		{"/via/x", true, "sub/made-beside/x", nil},
		{"/loop", false, "", unix.ELOOP},
		{"/loop/x", true, "", unix.ELOOP},
		{"/self", true, "", unix.ELOOP},
		{"/selfdir", false, "", unix.ELOOP},
		{"/file/x", false, "", unix.ENOTDIR},
		{"/file-link", true, "", unix.ENOTDIR},
		{"/" + strings.Repeat("n", 300), false, "", unix.ENAMETOOLONG},
	}
	for _, c := range cases {
		base := t.TempDir()
		root := filepath.Join(base, "a/root")
		if err := os.MkdirAll(filepath.Join(root, "sub/dir"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "file"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		for name, to := range links {
			if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
				t.Fatal(err)
			}
		}
		err := inRoot(t, root, c.path, c.file)
		if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%s (file %v): %v, want %v", c.path, c.file, err, c.err)
			continue
		}
		if err == nil {
			st, err := os.Lstat(filepath.Join(root, c.want))
			if err != nil || c.file != st.Mode().IsRegular() || !c.file != st.IsDir() {
				t.Errorf("%s (file %v): want %q, there is %v, %v\n%s", c.path, c.file, c.want, st, err, tree(t, root))
			}
		}
		if left := tree(t, base); strings.Count(left, "\n") != strings.Count(tree(t, root), "\n")+2 {
			t.Errorf("%s: outside the root:\n%s", c.path, left)
		}
	}
}

// TestMakeInRootRace exchanges a directory with a symlink that leads outside, again
// and again, while targets are made below it (CVE-2021-30465, CVE-2024-45310).
func TestMakeInRootRace(t *testing.T) {
	base := t.TempDir()
	root, outside := filepath.Join(base, "root"), filepath.Join(base, "outside")
	for _, d := range []string{"root/dir/sub", "root/other/sub", "root/hold/sub", "outside/sub"} {
		if err := os.MkdirAll(filepath.Join(base, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"link": "../outside", "abs": outside, "dangling": "/dir/sub/x/y"} {
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	inside, err := os.OpenRoot(root) // must not hide what came to lie outside
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	stop := make(chan struct{})
	var attackers sync.WaitGroup
	for _, pair := range [][2]string{{"dir", "link"}, {"dir", "other"}, {"hold/sub", "abs"}, {"dangling", "link"}} {
		attackers.Go(func() {
			a, b := filepath.Join(root, pair[0]), filepath.Join(root, pair[1])
			for {
				select {
				case <-stop:
					return
				default:
					_ = unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
				}
			}
		})
	}
	want := tree(t, outside)
	made, failed := 0, map[string]int{}
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		for _, p := range []string{"/dir/sub/target", "/dangling/target", "/link/target", "/dir/new/a/b", "/hold/sub/target/x"} {
			if err := inRoot(t, root, p, made%2 == 0); err != nil {
				failed[err.Error()]++
			} else {
				made++
			}
			for _, d := range []string{"dir/new", "other/new", "dir/sub/target", "other/sub/target", "outside/sub/target", "hold/sub/target"} {
				_ = inside.RemoveAll(d)
			}
		}
	}
	close(stop)
	attackers.Wait()
	if got := tree(t, outside); got != want {
		t.Errorf("outside the root there is\n%swas\n%s", got, want)
	}
	if got, _ := os.ReadDir(base); len(got) != 2 {
		t.Errorf("beside the root: %v", got)
	}
	if made == 0 || len(failed) == 0 {
		t.Errorf("the race was none: %d made, failed %v", made, failed)
	}
}
