package bundle_test

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	h "adl.run/adl-runtime/tests/harness"
)

func TestCp(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, ownVerb)
	b := h.New(t, writable, h.Sh("mkfifo /fifo; mkdir /tree; ln /fifo /tree/fifo; echo in > /tree/file; ln -s file /tree/link; echo ready; sleep 1000"))
	c := b.Launch()
	c.WaitOutput("ready")
	host := t.TempDir()
	h.Must(t, os.MkdirAll(filepath.Join(host, "d/e"), 0o755))
	h.Must(t, os.WriteFile(filepath.Join(host, "d/e/file"), []byte("text\n"), 0o640))
	h.Must(t, os.WriteFile(filepath.Join(host, "d/a:b"), []byte("colon\n"), 0o644))
	quiet := func(r h.Result) {
		t.Helper()
		if r.OK(t); r.Stdout+r.Stderr != "" {
			t.Errorf("%+v", r)
		}
	}
	quiet(b.DoWith([]string{"cp", "d", c.ID + ":/new"}, h.Dir(host)))
	quiet(b.DoWith([]string{"cp", "./d/a:b", c.ID + ":/"}, h.Dir(host)))
	quiet(b.DoWith([]string{"cp", c.ID + ":new/e/file", "--archive", "."}, h.Dir(host)))
	quiet(b.DoWith([]string{"cp", "-L", c.ID + ":tree/link", "followed"}, h.Dir(host)))
	quiet(b.DoWith([]string{"cp", c.ID + ":tree/link", "kept"}, h.Dir(host)))
	if got := inLayer(t, b, c.ID, "cat /new/e/file '/a:b'; stat -c '%a %u' /new/e/file"); got != "text\ncolon\n640 0\n" {
		t.Errorf("in the container: %q", got)
	}
	if got := h.ReadFile(t, filepath.Join(host, "file")) + h.ReadFile(t, filepath.Join(host, "followed")); got != "text\nin\n" {
		t.Errorf("on the host: %q", got)
	}
	if to, err := os.Readlink(filepath.Join(host, "kept")); to != "file" || err != nil {
		t.Errorf("the symlink is %q, %v", to, err)
	}
	if r := b.DoWith([]string{"cp", c.ID + ":/tree", host}); r.Code != 0 || !strings.Contains(r.Stderr, "/tree/fifo is a FIFO, and is left out") {
		t.Errorf("%+v", r)
	}
	stream := b.Do("cp", c.ID+":/new/.", "-").OK(t).Stdout
	var names []string
	for r := tar.NewReader(strings.NewReader(stream)); ; {
		hdr, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		h.Must(t, err)
		names = append(names, hdr.Name)
	}
	if len(names) != 4 || names[0] != "./" {
		t.Errorf("the stream has %q", names)
	}
	quiet(b.DoWith([]string{"cp", "-", c.ID + ":/tmp"}, h.Stdin(stream)))
	if got := inLayer(t, b, c.ID, "cat /tmp/e/file"); got != "text\n" {
		t.Errorf("unpacked: %q", got)
	}
	b.Do("pause", c.ID).OK(t)
	quiet(b.DoWith([]string{"cp", "d/e/file", c.ID + ":/paused"}, h.Dir(host)))
	b.Do("resume", c.ID).OK(t)
	for _, bad := range []struct {
		args []string
		want string
	}{
		{[]string{c.ID + ":/x", c.ID + ":/y"}, "cp: both are in a container"},
		{[]string{"x", "y"}, "cp: neither is in a container"},
		{[]string{c.ID + ":/fifo", host}, "cp: /fifo: is a FIFO"},
		{[]string{c.ID + ":/none", host}, "cp: /none: no such file or directory"},
		{[]string{"nobody:/x", host}, "container does not exist"},
		{[]string{host, c.ID + ":"}, "cp: a path is empty"},
		{[]string{"one"}, `\"cp\" requires exactly 2 argument(s)`},
	} {
		if r := b.Do(append([]string{"cp"}, bad.args...)...); r.Code != 1 || !strings.Contains(r.Stderr, bad.want) {
			t.Errorf("%q: %+v", bad.args, r)
		}
	}
	c.Kill("KILL")
	h.Eventually(t, "the container does not stop", func() bool { return stateOf(t, b, c.ID).Status == "stopped" })
	if r := b.Do("cp", c.ID+":/new", host); r.Code != 1 || !strings.Contains(r.Stderr, "the container is stopped") {
		t.Errorf("of a stopped container: %+v", r)
	}
}
