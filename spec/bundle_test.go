package spec

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// newBundle makes a bundle directory with a rootfs and the given config.json.
func newBundle(t *testing.T, config []byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "rootfs"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, configName), config, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestOpen(t *testing.T) {
	want := Default(false)
	raw, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	dir := newBundle(t, raw)
	check := func(b *Bundle, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if b.Dir != dir {
			t.Errorf("Dir is %q, want %q", b.Dir, dir)
		}
		if diff := cmp.Diff(want, b.Spec); diff != "" {
			t.Error(diff)
		}
		if string(b.Raw) != string(raw) {
			t.Errorf("Raw is not the file's content: %s", b.Raw)
		}
		if got := b.Rootfs(); got != filepath.Join(dir, "rootfs") {
			t.Errorf("Rootfs is %q", got)
		}
	}
	check(Open(dir))
	check(Open(dir + "//./x/../"))
	t.Chdir(dir)
	check(Open("."))
	check(Open(""))
}

func TestOpenErrors(t *testing.T) {
	empty := t.TempDir()
	file := filepath.Join(newBundle(t, nil), configName)
	for _, c := range []struct {
		dir, want string
		errno     error
	}{
		{empty, "open " + empty + "/config.json: no such file or directory", syscall.ENOENT},
		{empty + "/none", "open " + empty + "/none/config.json: no such file or directory", syscall.ENOENT},
		{file, "open " + file + "/config.json: not a directory", syscall.ENOTDIR},
		{newBundle(t, []byte("{")), "config.json:1:2: unexpected end of the file, expected a name in double quotes", nil},
		{newBundle(t, []byte("{}")), "ociVersion: missing", nil},
	} {
		b, err := Open(c.dir)
		if err == nil || b != nil {
			t.Errorf("%s: opened", c.dir)
			continue
		}
		if err.Error() != c.want {
			t.Errorf("got %s\nwant %s", err, c.want)
		}
		if c.errno != nil && !errors.Is(err, c.errno) {
			t.Errorf("%v: the errno is lost", err)
		}
	}
}

func TestRootfs(t *testing.T) {
	for _, c := range []struct {
		root *specs.Root
		want string
	}{
		{nil, ""},
		{&specs.Root{}, ""},
		{&specs.Root{Path: "rootfs"}, "/b/rootfs"},
		{&specs.Root{Path: "./a/../../x/"}, "/x"},
		{&specs.Root{Path: "."}, "/b"},
		{&specs.Root{Path: "/r//s/"}, "/r/s"},
	} {
		b := &Bundle{Dir: "/b", Spec: &specs.Spec{Root: c.root}}
		if got := b.Rootfs(); got != c.want {
			t.Errorf("%+v: %q, want %q", c.root, got, c.want)
		}
	}
}

func TestValidateID(t *testing.T) {
	for _, id := range []string{"a", "A_9", "x+y-z.w", ".a", "a.", "...", "-", "--help", "_", strings.Repeat("a", maxID)} {
		if err := ValidateID(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	const invalid = "invalid container id format"
	for _, c := range []struct{ id, want string }{
		{"", "container id cannot be empty"},
		{".", invalid + `: "."`},
		{"..", invalid + `: ".."`},
		{"a/b", invalid + `: "a/b"`},
		{"../a", invalid + `: "../a"`},
		{"/", invalid + `: "/"`},
		{"a b", invalid + `: "a b"`},
		{"a\n", invalid + `: "a\n"`},
		{"a\x00", invalid + `: "a\x00"`},
		{"a,b", invalid + `: "a,b"`},
		{"a:b", invalid + `: "a:b"`},
		{"é", invalid + `: "é"`},
		{strings.Repeat("a", maxID+1), invalid + ": longer than 1024 bytes"},
	} {
		if err := ValidateID(c.id); err == nil || err.Error() != c.want {
			t.Errorf("%q: %v, want %s", c.id, err, c.want)
		}
	}
}
