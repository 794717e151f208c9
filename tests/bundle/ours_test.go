package bundle_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	h "adl.run/adl-runtime/tests/harness"
)

const ownVerb = "a verb or form of this project's own"

func TestRun_ABundleByItsPath(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, ownVerb)
	b := h.New(t, h.Sh("echo out; echo err >&2; exit 7"))
	b.WriteSpec()
	for _, c := range []struct{ dir, arg string }{
		{b.Dir, "."}, {b.Dir, "./"}, {filepath.Dir(b.Dir), "bundle/"}, {b.Work, "../bundle"}, {"/", b.Dir}, {"/", b.Dir + "/"},
	} {
		r := b.DoWith([]string{"run", c.arg}, h.Dir(c.dir))
		if r.Code != 7 || r.Stdout != "out\n" || r.Stderr != "err\n" {
			t.Errorf("run %s in %s: %+v", c.arg, c.dir, r)
		}
	}
}

// Two runs of one bundle at the same time have ids of their own; the cgroup must
// not be shared either, so cgroupsPath is left out.
func TestRun_ABundleByItsPathTwice(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, ownVerb)
	b := h.New(t, h.Sh("echo hi"))
	b.Spec.Linux.CgroupsPath = ""
	b.WriteSpec()
	for i, r := range race(b, 4, func(int) []string { return []string{"run", b.Dir + "/"} }) {
		if r.Code != 0 || r.Stdout != "hi\n" || r.Stderr != "" {
			t.Errorf("run %d: %+v", i, r)
		}
	}
}

func TestRun_ANameIsAnID(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("echo", "hi"))
	b.WriteSpec()
	b.Track("bundle")
	// "bundle" has no slash: it is the id, and the bundle is the working directory.
	if r := b.DoWith([]string{"run", "bundle"}, h.Dir(b.Dir)).OK(t); r.Stdout != "hi\n" {
		t.Errorf("%q", r.Stdout)
	}
	b.DoWith([]string{"run", "bundle"}, h.Dir(filepath.Dir(b.Dir))).Fails(t, "config.json")
}

func TestRun_AMissingBundleByItsPath(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, ownVerb)
	b := h.New(t)
	b.Do("run", b.Work+"/missing/").Fails(t, "no such file or directory").OneLine(t)
}

func TestRun_DryRun(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, ownVerb)
	b := h.New(t, h.Sh("echo must not run"), h.Cwd("/made"), h.Mount("/new/target", "tmpfs", "tmpfs"))
	b.WriteSpec()
	before := listing(t, b.Dir)
	r := b.Do("run", "--dry-run", b.Dir).OK(t)
	for _, want := range []string{"mounts[0] /proc", "mounts[7] /new/target", "process.args", "execve(", "root.path"} {
		if !strings.Contains(r.Stdout, want) {
			t.Errorf("the listing of %d lines lacks %q", len(h.Lines(r.Stdout)), want)
		}
	}
	if strings.Contains(r.Stdout, "\nmust not run") || r.Stderr != "" {
		t.Errorf("the process ran, or stderr %q", r.Stderr)
	}
	if after := listing(t, b.Dir); after != before {
		t.Errorf("the bundle changed:\n%s\nbefore:\n%s", after, before)
	}
	if _, err := os.Lstat(b.Root); err == nil {
		t.Error("--root was made")
	}
	b.CheckNothingLeft()
}

// The same bundle gives the same listing, but for the keyring, which is named after
// the generated id.
func TestRun_DryRunIsStable(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, ownVerb)
	b := h.New(t)
	b.WriteSpec()
	keyring := regexp.MustCompile(`"_ses\.[^"]*"`)
	list := func() []string {
		return h.Lines(keyring.ReplaceAllString(b.Do("run", "--dry-run", b.Dir).OK(t).Stdout, "KEYRING"))
	}
	first, second := list(), list()
	if len(first) < 10 || len(first) != len(second) {
		t.Fatalf("%d and %d lines", len(first), len(second))
	}
	for i := range first {
		if first[i] != second[i] {
			t.Errorf("line %d:\n%s\n%s", i, first[i], second[i])
		}
	}
}

func TestRun_DryRunOfABadBundle(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, ownVerb)
	b := h.New(t, h.Cwd("relative"))
	b.WriteSpec()
	b.Do("run", "--dry-run", b.Dir).Fails(t, "process.cwd").OneLine(t)
}

// listing names every file below dir with its mode and size.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	h.Must(t, filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil {
			out.WriteString(path + " " + info.Mode().String() + " " + info.ModTime().String() + "\n")
		}
		return err
	}))
	return out.String()
}

// The descriptor that arrives must be a pidfd of the container's init.
func TestRun_PidfdSocket(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "--pidfd-socket came with runc 1.2")
	b := h.New(t, h.Args("sleep", "1000"))
	sock := b.ListenConsole()
	c, r := b.TryCreate([]string{"--pidfd-socket", sock.Path})
	r.OK(t)
	f := os.NewFile(uintptr(sock.ReceiveFD()), "pidfd")
	defer f.Close()
	if pid := h.PidOfPidfd(t, f); pid != c.Pid {
		t.Errorf("the pidfd is of process %d, want %d", pid, c.Pid)
	}
	c.Delete("--force")
}
