package bundle_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	h "adl.run/adl-runtime/tests/harness"
)

const ownLayers = "layers are this project's own"

// layers are the flags for a layer below the test's directory; where that is on an
// overlay itself, in memory.
func layers(t *testing.T, b *h.Bundle) []string {
	t.Helper()
	h.OursOnly(t, ownLayers)
	root := filepath.Join(b.Work, "layers")
	h.Must(t, os.MkdirAll(root, 0o700))
	h.HostMount(t, "none", root, "tmpfs", 0, "size=64m,mode=700")
	return []string{"--layer", "overlay", "--layer-root", root}
}

func writable(s *specs.Spec) { s.Root.Readonly = false }

// inLayer is the output of a command in the container.
func inLayer(t *testing.T, b *h.Bundle, id, script string) string {
	t.Helper()
	return b.Do("exec", id, "sh", "-c", script).OK(t).Stdout
}

func TestReset_UnderTheCommandLine(t *testing.T) {
	t.Parallel()
	h.Since(t, "5.12", "changing the root filesystem of a running container")
	b := h.New(t, writable, h.Args("sleep", "1000"))
	b.File("file", "first\n")
	flags := layers(t, b)
	id := b.NewID()
	b.WriteSpec()
	b.Do(append([]string{"run", "-d", "-b", b.Dir}, append(flags, id)...)...).OK(t)
	const spoil, look = "echo changed > /file; echo > /made; sleep 1000 &", "cat /file; ls /made 2>/dev/null; true"
	for _, mode := range []string{"--restart", "--keep-init", ""} {
		inLayer(t, b, id, spoil)
		args := []string{"reset", id}
		if mode != "" {
			args = append(args, mode)
		}
		if r := b.Do(args...).OK(t); r.Stdout+r.Stderr != "" {
			t.Errorf("%v wrote %q", args, r.Stdout+r.Stderr)
		}
		if got := inLayer(t, b, id, look); got != "first\n" {
			t.Errorf("%s: %q", mode, got)
		}
	}
	inLayer(t, b, id, "echo kept > /made")
	if r := b.Do("snapshot", "create", id, "one").OK(t); r.Stdout != "one\n" {
		t.Errorf("snapshot create: %q", r.Stdout)
	}
	if r := b.Do("snapshot", "create", id).OK(t); r.Stdout != "1\n" {
		t.Errorf("snapshot create without a name: %q", r.Stdout)
	}
	inLayer(t, b, id, "rm /made")
	fork := b.NewID()
	b.Do("fork", "--snapshot", "one", "--env", "A=b", "--pids-limit", "50", id, fork, "sleep", "999").OK(t)
	if got := inLayer(t, b, fork, "cat /made; echo $A; ps | grep -c '[s]leep 999'"); got != "kept\nb\n1\n" {
		t.Errorf("the fork has %q", got)
	}
	b.Do("reset", "--to", "one", id).OK(t)
	if got := inLayer(t, b, id, "cat /made"); got != "kept\n" {
		t.Errorf("to one: %q", got)
	}
	var all []struct {
		Name, Method string
	}
	h.Must(t, json.Unmarshal([]byte(b.Do("snapshot", "-f", "json", "list", id).OK(t).Stdout), &all))
	if len(all) != 2 || all[0].Name != "one" || all[1].Name != "1" || all[0].Method != "reference" {
		t.Errorf("%+v", all)
	}
	b.Do("snapshot", "delete", id, "one").OK(t)
	b.Do("delete", "--force", id).OK(t)
	if got := inLayer(t, b, fork, "cat /made"); got != "kept\n" {
		t.Errorf("the fork without the container it is of: %q", got)
	}
	b.Do("delete", "--force", fork).OK(t)
	b.Do("gc", "--layer-root", flags[3]).OK(t)
	if left, _ := filepath.Glob(flags[3] + "/layers/*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if got := h.ReadFile(t, b.In("file")); got != "first\n" {
		t.Errorf("the bundle's file is %q", got)
	}
}

// Whoever stays with a container in the foreground goes on with the next init, and has its
// output and its status.
func TestReset_FollowedInTheForeground(t *testing.T) {
	t.Parallel()
	h.Since(t, "5.12", "changing the root filesystem of a running container")
	b := h.New(t, writable, h.Sh("if [ -e /go ]; then exit 7; fi; echo begun; while [ ! -e /end ]; do sleep 0.01; done; exit 3"))
	flags := layers(t, b)
	id := b.NewID()
	b.WriteSpec()
	run := b.Command(append([]string{"--root", b.Root, "run", "-b", b.Dir}, append(flags, id)...))
	for n := 1; n <= 3; n++ {
		h.Eventually(t, "init has not begun", func() bool { return strings.Count(run.Stdout(), "begun\n") == n })
		if n < 3 {
			b.Do("reset", id).OK(t)
		}
	}
	b.Do("reset", "--keep-init", id).OK(t)
	inLayer(t, b, id, "touch /end")
	if r := run.Finish(); r.Code != 3 || r.Stdout != "begun\nbegun\nbegun\n" {
		t.Errorf("%+v", r)
	}
	b.Do("gc", "--layer-root", flags[3]).OK(t)
	if left, _ := filepath.Glob(flags[3] + "/layers/*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// The terminal of a container that keeps its init stays what it is; an init that is
// started again gets another, by the same socket.
func TestReset_Terminal(t *testing.T) {
	t.Parallel()
	h.Since(t, "5.12", "changing the root filesystem of a running container")
	b := h.New(t, writable, h.Terminal(24, 80), h.Sh("tty; test -c /dev/console && echo console; while read line; do tty; echo got:$line; done"))
	flags := layers(t, b)
	sock := b.ListenConsole()
	c, r := b.TryCreate(append(flags, "--console-socket", sock.Path))
	r.OK(t)
	console := sock.Receive()
	c.Start()
	console.WaitText("console\r\n")
	inLayer(t, b, c.ID, "touch /made")
	b.Do("reset", c.ID).OK(t)
	console.Type("one\n")
	console.WaitText("/dev/pts/0\r\ngot:one")
	if got := inLayer(t, b, c.ID, "ls /made 2>/dev/null; test -c /dev/console && echo console"); got != "console\n" {
		t.Errorf("%q", got)
	}
	b.Do("reset", "--restart", c.ID).OK(t)
	next := sock.Receive()
	next.WaitText("console\r\n")
	next.Type("two\n")
	next.WaitText("got:two")
	b.Do("delete", "--force", c.ID).OK(t)
}

func TestLayer_ByAnnotation(t *testing.T) {
	t.Parallel()
	b := h.New(t, writable, h.Sh("cat /above /file; echo > /new"))
	b.File("file", "rootfs\n")
	flags := layers(t, b)
	lower := filepath.Join(b.Work, "lower")
	h.Must(t, os.Mkdir(lower, 0o755))
	h.WriteFile(t, filepath.Join(lower, "above"), "above\n", 0o644)
	b.Spec.Annotations = map[string]string{"run.adl.layer": "overlay", "run.adl.lower": lower}
	b.WriteSpec()
	id := b.NewID()
	if r := b.Do("run", "-b", b.Dir, "--layer-root", flags[3], id).OK(t); r.Stdout != "above\nrootfs\n" {
		t.Errorf("%+v", r)
	}
	if _, err := os.Lstat(b.In("new")); err == nil {
		t.Error("the bundle's root filesystem was written to")
	}
	// The flag says more than the annotation.
	if r := b.Do("run", "-b", b.Dir, "--layer", "none", b.NewID()).OK(t); r.Stdout != "rootfs\n" {
		t.Errorf("%+v", r)
	}
	h.Must(t, os.Remove(b.In("new")))
}

func TestLayer_InMemoryWithALimit(t *testing.T) {
	t.Parallel()
	b := h.New(t, writable, h.Sh("dd if=/dev/zero of=/big bs=1M count=8 2>&1 | grep -o 'No space left on device'; df -h / | tail -1 | awk '{print $2}'"))
	flags := layers(t, b)
	b.WriteSpec()
	r := b.Do(append([]string{"run", "-b", b.Dir, "--layer-upper", "tmpfs:size=4m"}, append(flags, b.NewID())...)...).OK(t)
	if r.Stdout != "No space left on device\n4.0M\n" {
		t.Errorf("%+v", r)
	}
	b.Do("gc", "--layer-root", flags[3]).OK(t)
	if raw := h.ReadFile(t, "/proc/self/mountinfo"); strings.Contains(raw, flags[3]+"/memory") {
		t.Error("the tmpfs is still mounted")
	}
}

func TestLayer_BadInput(t *testing.T) {
	t.Parallel()
	b := h.New(t, writable, h.Args("sleep", "1000"))
	flags := layers(t, b)
	b.WriteSpec()
	root := flags[3]
	onOverlay := filepath.Join(b.Work, "merged")
	for _, d := range []string{"merged", "layers/u", "layers/w"} {
		h.Must(t, os.MkdirAll(filepath.Join(b.Work, d), 0o700))
	}
	h.HostMount(t, "none", onOverlay, "overlay", 0, "lowerdir="+b.Rootfs+",upperdir="+root+"/u,workdir="+root+"/w")
	for _, c := range []struct {
		flags []string
		want  string
	}{
		{[]string{"--layer", "zfs"}, "must be overlay, btrfs or none"},
		{[]string{"--layer", "btrfs", "--layer-root", root}, "btrfs"},
		{[]string{"--layer", "overlay", "--layer-root", onOverlay}, "overlay"},
		{[]string{"--layer", "overlay", "--layer-root", root, "--layer-size", "1x"}, "--layer-size: size"},
		{[]string{"--layer", "overlay", "--layer-root", root, "--layer-upper", "ram"}, "must be disk, tmpfs or"},
		{[]string{"--layer-size", "1m"}, "no layer"},
	} {
		b.Do(append([]string{"run", "-b", b.Dir}, append(c.flags, b.NewID())...)...).Fails(t, c.want).OneLine(t)
	}
	if left, _ := filepath.Glob(root + "/layers/*"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	c := b.Launch()
	b.Do("reset", c.ID).Fails(t, "--layer").OneLine(t)
	b.Do("reset", "--to", "../x", c.ID).Fails(t, "no layer").OneLine(t)
	b.Do("reset", "--keep-init", "--restart", c.ID).Fails(t, "--restart").OneLine(t)
	b.Do("snapshot", "list", c.ID).Fails(t, "no layer").OneLine(t)
	b.Do("snapshot", "make", c.ID).Fails(t, "snapshot make").OneLine(t)
	b.Do("snapshot", "delete", c.ID).Fails(t, "name of a snapshot").OneLine(t)
	b.Do("fork", c.ID, b.NewID()).Fails(t, "no layer").OneLine(t)
	b.Do("fork", "--memory", "x", c.ID, b.NewID()).Fails(t, "--memory: size").OneLine(t)
	b.Do("fork", "--cpus", "0", c.ID, b.NewID()).Fails(t, "--cpus").OneLine(t)
	b.Do("fork", "--env", "x", c.ID, b.NewID()).Fails(t, "must be name=value").OneLine(t)
	c.Kill("KILL")
	c.WaitExit()
	c.Delete()
}
