package bundle_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	h "adl.run/adl-runtime/tests/harness"
)

// containerState is what `state` and `list --format json` print, by runc's keys.
type containerState struct {
	Version     string            `json:"ociVersion"`
	ID          string            `json:"id"`
	Pid         int               `json:"pid"`
	Status      string            `json:"status"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Created     time.Time         `json:"created"`
	Annotations map[string]string `json:"annotations"`
	Owner       string            `json:"owner"`
}

func stateOf(t *testing.T, b *h.Bundle, id string) containerState {
	t.Helper()
	var s containerState
	if out := b.Do("state", id).OK(t).Stdout; json.Unmarshal([]byte(out), &s) != nil {
		t.Fatalf("state printed %q", out)
	}
	return s
}

// gone checks that a command failed because the container does not exist; managers
// look for these words.
func gone(t *testing.T, r h.Result) {
	t.Helper()
	if h.Reference() == "crun" { // crun says which file it could not open
		r.Fails(t, "No such file or directory")
		return
	}
	r.Fails(t, "does not exist")
}

// sleeper is a container that says "ready" and stays until it is killed; TERM ends
// it with 15.
func sleeper(t *testing.T, mutators ...h.Mutate) *h.Bundle {
	t.Helper()
	return h.New(t, append([]h.Mutate{h.Sh("trap 'exit 15' TERM; trap 'exit 10' USR1; echo ready; while :; do sleep 0.02; done")}, mutators...)...)
}

func TestVerbs_Lifecycle(t *testing.T) {
	t.Parallel()
	b := sleeper(t)
	c := b.Create()
	if s := stateOf(t, b, c.ID); s.Status != "created" || s.Pid != c.Pid {
		t.Errorf("after create: %+v", s)
	}
	if out := c.Stdout(); out != "" {
		t.Errorf("the process ran before start: %q", out)
	}
	c.Start()
	c.WaitOutput("ready")
	if s := stateOf(t, b, c.ID); s.Status != "running" || s.Pid != c.Pid {
		t.Errorf("after start: %+v", s)
	}
	c.Kill("TERM")
	if code := c.WaitExit(); code != 15 {
		t.Errorf("status %d, want 15", code)
	}
	if s := stateOf(t, b, c.ID); s.Status != "stopped" || s.Pid != 0 {
		t.Errorf("after kill: %+v", s)
	}
	c.Delete()
	gone(t, b.Do("state", c.ID))
}

// A zombie is stopped, even while its parent has not waited for it.
func TestVerbs_UnreapedInitIsStopped(t *testing.T) {
	t.Parallel()
	b := h.New(t)
	c := b.Launch()
	h.Eventually(t, "init is still there", func() bool { return !h.Alive(c.Pid) })
	if s := stateOf(t, b, c.ID); s.Status != "stopped" {
		t.Errorf("%+v", s)
	}
	c.Delete()
}

func TestVerbs_State(t *testing.T) {
	t.Parallel()
	b := h.New(t)
	b.Spec.Annotations = map[string]string{"org.example.a": "1", "org.example.b": "two"}
	begin := time.Now()
	c := b.Create()
	s := stateOf(t, b, c.ID)
	if h.Reference() == "crun" { // crun prints root.path as it is
		s.Rootfs = b.Rootfs
	}
	want := containerState{Version: s.Version, ID: c.ID, Pid: c.Pid, Status: "created", Bundle: b.Dir, Rootfs: b.Rootfs, Created: s.Created, Annotations: b.Spec.Annotations, Owner: s.Owner}
	if fmt.Sprint(s) != fmt.Sprint(want) {
		t.Errorf("got  %+v\nwant %+v", s, want)
	}
	if !strings.HasPrefix(s.Version, "1.") && h.Reference() != "crun" {
		t.Errorf("ociVersion %q", s.Version)
	}
	if s.Created.Before(begin.Add(-time.Second)) || s.Created.After(time.Now().Add(time.Second)) {
		t.Errorf("created %v, not now", s.Created)
	}
	c.Delete()
}

func TestVerbs_DeleteOfACreatedContainer(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun wants --force")
	b := sleeper(t)
	c := b.Create()
	c.Delete()
	if code := c.WaitExit(); code != 137 {
		t.Errorf("status %d, want 137", code)
	}
}

func TestVerbs_DeleteOfARunningContainerIsRefused(t *testing.T) {
	t.Parallel()
	b := sleeper(t)
	c := b.Launch()
	c.WaitOutput("ready")
	r := b.Do("delete", c.ID).Fails(t, c.ID)
	if h.Reference() != "crun" && !strings.Contains(r.Stderr, "is not stopped: running") {
		t.Errorf("stderr %q", r.Stderr)
	}
	if s := stateOf(t, b, c.ID); s.Status != "running" {
		t.Errorf("%+v", s)
	}
	c.Delete("--force")
	if code := c.WaitExit(); code != 137 {
		t.Errorf("status %d, want 137", code)
	}
}

func TestVerbs_DeleteOfAMissingContainer(t *testing.T) {
	t.Parallel()
	b := h.New(t)
	gone(t, b.Do("delete", "adl-test-missing"))
	if r := b.Do("delete", "--force", "adl-test-missing").OK(t); r.Stdout+r.Stderr != "" {
		t.Errorf("delete --force wrote %q", r.Stdout+r.Stderr)
	}
}

func TestVerbs_OfAMissingContainer(t *testing.T) {
	t.Parallel()
	b := h.New(t)
	for _, args := range [][]string{{"state"}, {"start"}, {"kill"}} {
		gone(t, b.Do(append(args, "adl-test-missing")...))
	}
}

func TestVerbs_StartTwice(t *testing.T) {
	t.Parallel()
	b := sleeper(t)
	c := b.Launch()
	c.WaitOutput("ready")
	r := b.Do("start", c.ID)
	r.Refused(t, "running", "cannot start an already running container")
	c.Kill("KILL")
	c.WaitExit()
	b.Do("start", c.ID).Refused(t, "stopped", "cannot start a container that has stopped")
}

func TestVerbs_DuplicateID(t *testing.T) {
	t.Parallel()
	b := sleeper(t)
	c := b.Launch()
	for _, verb := range []string{"create", "run"} {
		b.Do(verb, "--bundle", b.Dir, c.ID).Fails(t, "exist")
	}
	if s := stateOf(t, b, c.ID); s.Status != "running" || s.Pid != c.Pid {
		t.Errorf("the first container was disturbed: %+v", s)
	}
	c.Delete("--force")
}

func TestVerbs_KillSignalNames(t *testing.T) {
	t.Parallel()
	for signal, code := range map[string]int{"": 15, "TERM": 15, "SIGTERM": 15, "15": 15, "USR1": 10, "10": 10, "term": 15, "KILL": 137, "SIGKILL": 137, "9": 137} {
		if signal == "term" && h.Reference() == "crun" {
			continue // crun 1.8.1 takes an unknown name for signal 0
		}
		b := sleeper(t)
		c := b.Launch()
		c.WaitOutput("ready")
		if signal == "" {
			b.Do("kill", c.ID).OK(t)
		} else {
			c.Kill(signal)
		}
		if got := c.WaitExit(); got != code {
			t.Errorf("kill %q: status %d, want %d", signal, got, code)
		}
		c.Delete()
	}
}

func TestVerbs_KillUnknownSignal(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun 1.8.1 takes an unknown name for signal 0")
	b := sleeper(t)
	c := b.Launch()
	c.WaitOutput("ready")
	for _, signal := range []string{"NOSUCH", "SIG", "1000", "TERM "} {
		r := b.Do("kill", c.ID, signal)
		if r.Code == 0 || r.Stderr == "" {
			t.Errorf("kill %q: status %d, stderr %q", signal, r.Code, r.Stderr)
		}
	}
	if s := stateOf(t, b, c.ID); s.Status != "running" {
		t.Errorf("%+v", s)
	}
	c.Delete("--force")
}

// containerd compares this text to tell "already gone" from an error.
func TestVerbs_KillOfAStoppedContainer(t *testing.T) {
	t.Parallel()
	b := h.New(t)
	c := b.Launch()
	c.WaitExit()
	r := b.Do("kill", c.ID, "KILL")
	if r.Code != 1 || !strings.Contains(r.Stderr, "container not running") && h.Reference() != "crun" {
		t.Errorf("status %d, stderr %q; want 1 and \"container not running\"", r.Code, r.Stderr)
	}
	c.Delete()
}

func TestVerbs_KillOfACreatedContainer(t *testing.T) {
	t.Parallel()
	b := h.New(t)
	c := b.Create()
	c.Kill("KILL")
	if code := c.WaitExit(); code != 137 {
		t.Errorf("status %d, want 137", code)
	}
	c.Delete()
}

func TestVerbs_KillAll(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("setsid sleep 1000 & echo ready; exec sleep 1001"), h.WithoutNamespace(specs.PIDNamespace))
	c := b.Launch()
	c.WaitOutput("ready")
	h.Eventually(t, "no second process", func() bool { return b.AdoptProcesses() == 2 })
	b.Do("kill", "--all", c.ID, "KILL").OK(t)
	if code := c.WaitExit(); code != 137 {
		t.Errorf("status %d, want 137", code)
	}
	c.Delete()
}

func TestVerbs_PidFile(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("sleep", "1000"))
	c := b.Create()
	text := h.ReadFile(t, filepath.Join(b.Work, c.ID+".pid"))
	if text != strconv.Itoa(stateOf(t, b, c.ID).Pid) {
		t.Errorf("the pid file holds %q, without a newline the state's pid is wanted", text)
	}
	left, err := filepath.Glob(filepath.Join(b.Work, ".*"))
	if h.Must(t, err); len(left) > 0 {
		t.Errorf("temporary files stay: %q", left)
	}
	c.Delete()
}

func TestVerbs_PidFileInAMissingFolder(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("sleep", "1000"))
	b.WriteSpec()
	r := b.Do("create", "--bundle", b.Dir, "--pid-file", b.Work+"/missing/pid", b.NewID())
	if r.Code != 1 || !strings.Contains(r.Stderr, "no such file or directory") && h.Reference() != "crun" {
		t.Errorf("status %d, stderr %q", r.Code, r.Stderr)
	}
	b.CheckNothingLeft()
}

func TestVerbs_RunDetach(t *testing.T) {
	t.Parallel()
	b := sleeper(t)
	b.WriteSpec()
	id, pidFile := b.NewID(), b.Work+"/pid"
	run := b.Command([]string{"--root", b.Root, "run", "--detach", "--bundle", b.Dir, "--pid-file", pidFile, id})
	run.Finish().OK(t)
	c := b.Adopt(id, pidFile)
	run.WaitOutput("ready")
	if s := stateOf(t, b, id); s.Status != "running" || s.Pid != c.Pid {
		t.Errorf("%+v", s)
	}
	b.Do("kill", id, "TERM").OK(t)
	c.Cmd = run
	if code := c.WaitExit(); code != 15 {
		t.Errorf("status %d, want 15", code)
	}
	c.Delete()
}

func TestVerbs_RunDeletesTheContainer(t *testing.T) {
	t.Parallel()
	b := h.New(t)
	run := b.StartRun()
	run.Finish().OK(t)
	gone(t, b.Do("state", lastArg(run)))
	b.CheckNothingLeft()
}

func TestVerbs_RunKeep(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "--keep came with crun 1.9")
	b := h.New(t, h.Sh("exit 4"))
	b.WriteSpec()
	id := b.NewID()
	if r := b.Do("run", "--keep", "--bundle", b.Dir, id); r.Code != 4 {
		t.Errorf("status %d, want 4: %s", r.Code, r.Stderr)
	}
	if s := stateOf(t, b, id); s.Status != "stopped" {
		t.Errorf("%+v", s)
	}
	b.Do("delete", id).OK(t)
}

func TestVerbs_RunPidFile(t *testing.T) {
	t.Parallel()
	b := sleeper(t)
	b.WriteSpec()
	id := b.NewID()
	run := b.Command([]string{"--root", b.Root, "run", "--bundle", b.Dir, "--pid-file", b.Work + "/pid", id})
	run.WaitOutput("ready")
	h.Eventually(t, "no pid file", func() bool { text, _ := os.ReadFile(b.Work + "/pid"); return len(text) > 0 })
	if got, want := h.ReadFile(t, b.Work+"/pid"), strconv.Itoa(stateOf(t, b, id).Pid); got != want {
		t.Errorf("pid file %q, want %q", got, want)
	}
	b.Do("kill", id, "TERM").OK(t)
	if r := run.Finish(); r.Code != 15 {
		t.Errorf("status %d, want 15", r.Code)
	}
}

// When the foreground run itself is killed, delete --force still removes everything.
func TestVerbs_RunKilled(t *testing.T) {
	t.Parallel()
	b := sleeper(t)
	b.WriteSpec()
	id := b.NewID()
	run := b.Command([]string{"--root", b.Root, "run", "--bundle", b.Dir, "--pid-file", b.Work + "/pid", id})
	run.WaitOutput("ready")
	h.Eventually(t, "no pid file", func() bool { text, _ := os.ReadFile(b.Work + "/pid"); return len(text) > 0 })
	h.Must(t, run.Process.Kill())
	run.Finish()
	b.Adopt(id, b.Work+"/pid")
	b.Do("delete", "--force", id).OK(t)
}

func TestVerbs_NoSubreaper(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("exit 3"))
	b.WriteSpec()
	if r := b.Do("run", "--no-subreaper", "--bundle", b.Dir, b.NewID()); r.Code != 3 {
		t.Errorf("status %d, want 3: %s", r.Code, r.Stderr)
	}
}

func TestVerbs_NoNewKeyring(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("exit 3"))
	b.WriteSpec()
	if r := b.Do("run", "--no-new-keyring", "--bundle", b.Dir, b.NewID()); r.Code != 3 {
		t.Errorf("status %d, want 3: %s", r.Code, r.Stderr)
	}
}

// fdFiles opens n files that hold "file 0", "file 1", ….
func fdFiles(t *testing.T, b *h.Bundle, n int) []*os.File {
	t.Helper()
	var files []*os.File
	for i := range n {
		path := fmt.Sprintf("%s/fd%d", b.Work, i)
		h.WriteFile(t, path, fmt.Sprintf("file %d\n", i), 0o644)
		f, err := os.Open(path)
		h.Must(t, err)
		t.Cleanup(func() { f.Close() })
		files = append(files, f)
	}
	return files
}

func TestVerbs_PreserveFds(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"run", "create"} {
		b := h.New(t, h.Sh("cat <&3 <&4; cat <&3; ls /proc/$$/fd; true"))
		files := fdFiles(t, b, 3)
		b.WriteSpec()
		id := b.NewID()
		args := []string{"--root", b.Root, verb, "--preserve-fds", "2", "--bundle", b.Dir, "--pid-file", b.Work + "/pid", id}
		cmd := b.Command(args, h.ExtraFiles(files...))
		cmd.Finish().OK(t)
		if verb == "create" {
			c := b.Adopt(id, b.Work+"/pid")
			b.Do("start", id).OK(t)
			c.Cmd = cmd
			c.WaitExit()
		}
		if got := cmd.Stdout(); got != "file 1\nfile 0\n0\n1\n2\n3\n4\n" {
			t.Errorf("%s: %q; descriptors 3 and 4 must be there, and no other", verb, got)
		}
	}
}

// sd_listen_fds(3)
func TestVerbs_ListenFds(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun does not set LISTEN_PID")
	b := h.New(t, h.Sh("echo $LISTEN_FDS $LISTEN_PID; cat <&3; ls /proc/$$/fd; true"))
	asTheirs := func(c *command) {
		c.Args = append([]string{"sh", "-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@"`}, append([]string{c.Path}, c.Args[1:]...)...)
		c.Path = "/bin/sh"
	}
	got := b.Out(h.ExtraFiles(fdFiles(t, b, 2)...), asTheirs)
	if got != "1 1\nfile 0\n0\n1\n2\n3" {
		t.Errorf("%q", got)
	}
}

func TestVerbs_PreserveFdsThatAreNotOpen(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun does not check")
	b := h.New(t)
	b.WriteSpec()
	r := b.Do("run", "--preserve-fds", "5", "--bundle", b.Dir, b.NewID())
	r.Refused(t, "preserve-fds", "unable to stat preserved-fd")
}

func TestVerbs_List(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("sleep", "1000"))
	if r := b.Do("list", "--quiet").OK(t); r.Stdout != "" {
		t.Errorf("list of nothing: %q", r.Stdout)
	}
	var none []containerState
	h.Must(t, json.Unmarshal([]byte(b.Do("list", "--format", "json").OK(t).Stdout), &none))
	if len(none) != 0 {
		t.Errorf("list of nothing: %+v", none)
	}
	one := b.Create()
	two := newInSameRoot(t, b).Launch()
	ids := []string{one.ID, two.ID}
	slices.Sort(ids)
	got := h.Lines(b.Do("list", "-q").OK(t).Stdout)
	if h.Reference() == "crun" { // crun lists in the order of the directory
		slices.Sort(got)
	}
	if !slices.Equal(got, ids) {
		t.Errorf("list -q: %q, want %q", got, ids)
	}
	var states []containerState
	h.Must(t, json.Unmarshal([]byte(b.Do("list", "-f", "json").OK(t).Stdout), &states))
	for _, s := range states {
		want := map[string]containerState{
			one.ID: {ID: one.ID, Pid: one.Pid, Status: "created"},
			two.ID: {ID: two.ID, Pid: two.Pid, Status: "running"},
		}[s.ID]
		if s.ID != want.ID || s.Pid != want.Pid || s.Status != want.Status || !strings.HasSuffix(s.Bundle, "/bundle") || s.Owner != "root" || s.Created.IsZero() {
			t.Errorf("list -f json: %+v", s)
		}
	}
	if len(states) != 2 {
		t.Errorf("%d entries, want 2", len(states))
	}
	checkTable(t, b.Do("list").OK(t).Stdout, one, two)
	two.Delete("--force")
	one.Delete("--force")
}

func checkTable(t *testing.T, table string, one, two *h.Container) {
	t.Helper()
	lines := h.Lines(table)
	header := []string{"ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"}
	if len(lines) != 3 || !slices.Equal(strings.Fields(lines[0]), header) && h.Reference() != "crun" {
		t.Fatalf("list: %q", lines)
	}
	for _, line := range lines[1:] {
		f := strings.Fields(line)
		want := []string{one.ID, strconv.Itoa(one.Pid), "created"}
		if f[0] == two.ID {
			want = []string{two.ID, strconv.Itoa(two.Pid), "running"}
		}
		if len(f) != 6 || !slices.Equal(f[:3], want) || f[5] != "root" {
			t.Errorf("list: %q, want %q at the front and root at the end", f, want)
		}
	}
}

// newInSameRoot makes a second bundle whose containers live under b's --root.
func newInSameRoot(t *testing.T, b *h.Bundle) *h.Bundle {
	t.Helper()
	second := h.New(t, h.Args("sleep", "1000"))
	second.Root = b.Root
	return second
}

// Other programs' files and half-made entries may not make list or state fail.
func TestVerbs_ListWithForeignEntries(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun 1.8.1 fails on a regular file under --root")
	b := h.New(t, h.Args("sleep", "1000"))
	c := b.Create()
	foreignEntries(t, b)
	if got := h.Lines(b.Do("list", "-q").OK(t).Stdout); !slices.Contains(got, c.ID) {
		t.Errorf("list -q: %q lacks %s", got, c.ID)
	}
	if got := b.Do("list").OK(t).Stdout; !strings.Contains(got, c.ID) {
		t.Errorf("list: %q lacks %s", got, c.ID)
	}
	var states []containerState
	h.Must(t, json.Unmarshal([]byte(b.Do("list", "-f", "json").OK(t).Stdout), &states))
	if len(states) != 1 || states[0].ID != c.ID {
		t.Errorf("list -f json: %+v", states)
	}
	for _, id := range []string{"empty", "garbage", "file", "link"} {
		if r := b.Do("state", id); r.Code != 1 || r.Stdout != "" || r.Stderr == "" {
			t.Errorf("state %s: %+v", id, r)
		}
	}
	c.Delete("--force")
}

// foreignEntries puts things that are no containers under --root.
func foreignEntries(t *testing.T, b *h.Bundle) {
	t.Helper()
	b.Foreign("empty", "garbage", "file", "link", "wrong", ".hidden")
	for _, d := range []string{"empty", "garbage", "wrong", ".hidden"} {
		h.Must(t, os.MkdirAll(filepath.Join(b.Root, d), 0o700))
	}
	h.WriteFile(t, filepath.Join(b.Root, "garbage/state.json"), "{\"id\":", 0o600)
	h.WriteFile(t, filepath.Join(b.Root, "wrong/state.json"), "[1,2]", 0o600)
	h.WriteFile(t, filepath.Join(b.Root, "file"), "x", 0o600)
	h.Must(t, os.Symlink("/nonexistent", filepath.Join(b.Root, "link")))
}

// What a killed create left must go away completely.
func TestVerbs_DeleteForceOfHalfMadeEntries(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "runc and crun fail on a broken state file and leave the directory")
	b := h.New(t)
	foreignEntries(t, b)
	for _, id := range []string{"empty", "garbage", "wrong"} {
		b.Do("delete", "--force", id).OK(t)
		if _, err := os.Lstat(filepath.Join(b.Root, id)); err == nil {
			t.Errorf("%s is still there", id)
		}
	}
}

// A symlink under --root is never followed: what it points at must stay.
func TestVerbs_DeleteForceDoesNotFollowASymlink(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun 1.8.1 deletes what the symlink points at")
	b := h.New(t)
	v := b.NewVictim()
	h.Must(t, os.MkdirAll(b.Root, 0o700))
	b.Foreign("link")
	h.Must(t, os.Symlink(v.Dir, filepath.Join(b.Root, "link")))
	b.Do("delete", "--force", "link")
}

func TestVerbs_RootIsPrivate(t *testing.T) {
	t.Parallel()
	b := h.New(t)
	c := b.Create()
	for path := filepath.Join(b.Root, c.ID); path != filepath.Dir(b.Root); path = filepath.Dir(path) {
		info, err := os.Stat(path)
		h.Must(t, err)
		if info.Mode().Perm()&0o066 != 0 {
			t.Errorf("%s has mode %v, open to others", path, info.Mode())
		}
	}
	c.Delete()
}

func TestVerbs_Spec(t *testing.T) {
	t.Parallel()
	b := h.New(t)
	dir := b.Work + "/new"
	h.Must(t, os.Mkdir(dir, 0o755))
	b.DoWith([]string{"spec"}, h.Dir(dir)).OK(t)
	var s specs.Spec
	h.Must(t, json.Unmarshal([]byte(h.ReadFile(t, dir+"/config.json")), &s))
	if s.Process == nil || !slices.Equal(s.Process.Args, []string{"sh"}) || !s.Process.Terminal || s.Root == nil || s.Root.Path != "rootfs" || !s.Root.Readonly || len(s.Mounts) == 0 {
		t.Errorf("%+v", s)
	}
	b.DoWith([]string{"spec"}, h.Dir(dir)).Fails(t, "exist")
}

// The written spec must run as it is.
func TestVerbs_SpecRuns(t *testing.T) {
	t.Parallel()
	b := h.New(t)
	b.Do("spec", "--bundle", b.Dir).OK(t)
	var s specs.Spec
	h.Must(t, json.Unmarshal([]byte(h.ReadFile(t, b.Dir+"/config.json")), &s))
	s.Process.Terminal, s.Process.Args, s.Linux.CgroupsPath = false, []string{"echo", "hi"}, b.Cgroup
	b.Spec = &s
	if got := b.Out(); got != "hi" {
		t.Errorf("%q", got)
	}
}

func TestVerbs_Features(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun 1.8.1 has no features verb")
	b := h.New(t)
	var f struct {
		OCIVersionMin string   `json:"ociVersionMin"`
		OCIVersionMax string   `json:"ociVersionMax"`
		Hooks         []string `json:"hooks"`
		MountOptions  []string `json:"mountOptions"`
		Linux         struct {
			Namespaces   []string        `json:"namespaces"`
			Capabilities []string        `json:"capabilities"`
			Cgroup       map[string]bool `json:"cgroup"`
		} `json:"linux"`
	}
	h.Must(t, json.Unmarshal([]byte(b.Do("features").OK(t).Stdout), &f))
	if f.OCIVersionMin != "1.0.0" || !strings.HasPrefix(f.OCIVersionMax, "1.") {
		t.Errorf("versions %q to %q", f.OCIVersionMin, f.OCIVersionMax)
	}
	for what, pair := range map[string][2][]string{
		"hooks":            {f.Hooks, {"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}},
		"mountOptions":     {f.MountOptions, {"ro", "rro", "rbind", "nosuid", "tmpcopyup", "rslave", "noatime"}},
		"linux.namespaces": {f.Linux.Namespaces, {"pid", "network", "ipc", "uts", "mount", "cgroup"}},
		"capabilities":     {f.Linux.Capabilities, {"CAP_CHOWN", "CAP_BPF"}},
	} {
		for _, want := range pair[1] {
			if !slices.Contains(pair[0], want) {
				t.Errorf("%s lacks %s", what, want)
			}
		}
	}
	if !f.Linux.Cgroup["v1"] || !f.Linux.Cgroup["v2"] || !f.Linux.Cgroup["systemd"] {
		t.Errorf("linux.cgroup: %v", f.Linux.Cgroup)
	}
}

func TestVerbs_Version(t *testing.T) {
	t.Parallel()
	b := h.New(t)
	out := b.Do("--version").OK(t).Stdout
	name := map[string]string{"": "adl-runtime version ", "runc": "runc version ", "crun": "crun version "}[h.Reference()]
	if !strings.HasPrefix(out, name) || !strings.Contains(out, "\nspec: 1.") {
		t.Errorf("%q", out)
	}
}

func TestVerbs_LogInJSON(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("no-such-tool"))
	log := b.Work + "/log.json"
	b.WriteSpec()
	r := b.Do("--log", log, "--log-format", "json", "run", "--bundle", b.Dir, b.NewID())
	if r.Code != 1 && r.Code != 127 {
		t.Errorf("status %d", r.Code)
	}
	var last struct{ Level, Msg, Time string }
	for _, line := range h.Lines(h.ReadFile(t, log)) {
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
	}
	if last.Level != "error" || !strings.Contains(last.Msg, "no-such-tool") {
		t.Errorf("%+v", last)
	}
	if _, err := time.Parse(time.RFC3339, last.Time); err != nil {
		t.Error(err)
	}
	if h.Reference() != "crun" && !strings.Contains(r.Stderr, "no-such-tool") {
		t.Errorf("stderr %q: the error must be there as well", r.Stderr)
	}
}

func TestVerbs_LogInText(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun's text log has a form of its own")
	b := h.New(t)
	log := b.Work + "/log"
	h.WriteFile(t, log, "earlier\n", 0o644)
	b.Do("--log", log, "state", "adl-test-missing").Fails(t, "does not exist")
	got := h.ReadFile(t, log)
	if !strings.HasPrefix(got, "earlier\n") || !strings.Contains(got, "level=error") || !strings.Contains(got, `msg="container does not exist`) && !strings.Contains(got, "does not exist") {
		t.Errorf("%q: want the error appended", got)
	}
}

func TestVerbs_LogFormatUnknown(t *testing.T) {
	t.Parallel()
	b := h.New(t)
	b.Do("--log-format", "xml", "list").Fails(t, "xml")
}

// race runs n commands at the same moment and returns their results.
func race(b *h.Bundle, n int, args func(i int) []string) []h.Result {
	results := make([]h.Result, n)
	cmds := make([]*h.Cmd, n)
	for i := range cmds {
		cmds[i] = b.Command(append([]string{"--root", b.Root}, args(i)...))
	}
	var wg sync.WaitGroup
	for i, c := range cmds {
		wg.Go(func() { results[i] = c.Finish() })
	}
	wg.Wait()
	return results
}

func TestVerbs_ConcurrentCreateOfOneID(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "runc", "runc 1.1.5 has no lock for an id: two commands can both make it")
	b := h.New(t, h.Args("sleep", "1000"))
	b.WriteSpec()
	id := b.NewID()
	pidFile := func(i int) string { return fmt.Sprintf("%s/pid%d", b.Work, i) }
	won := -1
	for i, r := range race(b, 8, func(i int) []string {
		return []string{"create", "--bundle", b.Dir, "--pid-file", pidFile(i), id}
	}) {
		switch {
		case r.Code == 0 && won >= 0:
			t.Errorf("commands %d and %d both made %s", won, i, id)
		case r.Code == 0:
			won = i
		case h.Reference() == "" && !strings.Contains(r.Stderr, "exist"):
			t.Errorf("command %d lost with %q", i, r.Stderr)
		}
	}
	if won < 0 {
		t.Fatal("no command made the container")
	}
	c := b.Adopt(id, pidFile(won))
	if s := stateOf(t, b, id); s.Status != "created" || s.Pid != c.Pid {
		t.Errorf("%+v, want pid %d", s, c.Pid)
	}
	b.Do("delete", "--force", id).OK(t)
}

func TestVerbs_ConcurrentKillStateDelete(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun has no lock against a concurrent delete")
	b := h.New(t, h.Args("sleep", "1000"))
	c := b.Launch()
	verbs := [][]string{{"state", c.ID}, {"kill", c.ID, "KILL"}, {"delete", "--force", c.ID}, {"list", "-q"}}
	for _, r := range race(b, 16, func(i int) []string { return verbs[i%len(verbs)] }) {
		verb := r.Args[3]
		if r.Code != 0 && (verb == "list" || r.Stderr == "") {
			t.Errorf("%s: status %d, stderr %q", verb, r.Code, r.Stderr)
		}
	}
	if r := b.Do("delete", "--force", c.ID); r.Code != 0 {
		t.Errorf("%+v", r)
	}
	gone(t, b.Do("state", c.ID))
}

func TestVerbs_ConcurrentContainers(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("echo hi; exit 9"))
	b.Spec.Linux.CgroupsPath = ""
	b.WriteSpec()
	for i, r := range race(b, 8, func(int) []string { return []string{"run", "--bundle", b.Dir, b.NewID()} }) {
		if r.Code != 9 || r.Stdout != "hi\n" {
			t.Errorf("run %d: %+v", i, r)
		}
	}
}

// delete --force removes a container whose record is damaged: what it made is in another.
func TestVerbs_DeleteForceOfADamagedRecord(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "the record is ours")
	for _, damage := range []func(string) error{
		func(path string) error { return os.WriteFile(path, []byte("{"), 0o600) },
		os.Remove,
	} {
		b := sleeper(t)
		c := b.Launch()
		h.Must(t, damage(filepath.Join(b.Root, c.ID, "init.json")))
		b.Do("delete", "--force", c.ID).OK(t)
		c.WaitExit()
		b.CheckNothingLeft()
	}
}
