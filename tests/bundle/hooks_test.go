package bundle_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	h "adl.run/adl-runtime/tests/harness"
)

// hookBundle is a bundle with a folder that is the same path on the host and in
// the container, where hooks leave their traces.
type hookBundle struct {
	*h.Bundle
	dir string
}

func newHookBundle(t *testing.T, mutators ...h.Mutate) hookBundle {
	b := h.New(t, mutators...)
	dir := filepath.Join(b.Work, "hooks")
	h.Must(t, os.Mkdir(dir, 0o777))
	b.Set(h.Mount(dir, "bind", dir, "bind"))
	return hookBundle{b, dir}
}

// hook appends "name" to the log, and saves its stdin, environment, mount
// namespace and working directory.
func (b hookBundle) hook(name, more string) specs.Hook {
	script := fmt.Sprintf(`cd_was=$(pwd); echo %[1]s >>%[2]s/log; cat >%[2]s/%[1]s.state; env >%[2]s/%[1]s.env; readlink /proc/self/ns/mnt >%[2]s/%[1]s.ns; echo "$cd_was" >%[2]s/%[1]s.cwd; %[3]s`, name, b.dir, more)
	return specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"PATH=/usr/bin:/bin", "HOOK=" + name}}
}

func (b hookBundle) read(t *testing.T, name string) string {
	t.Helper()
	return strings.TrimSpace(h.ReadFile(t, filepath.Join(b.dir, name)))
}

func (b hookBundle) log(t *testing.T) []string {
	t.Helper()
	return strings.Fields(b.read(t, "log"))
}

func (b hookBundle) all() specs.Hooks {
	return specs.Hooks{
		Prestart:        []specs.Hook{b.hook("prestart", "")}, //nolint:staticcheck // deprecated, but managers still write it
		CreateRuntime:   []specs.Hook{b.hook("createRuntime", ""), b.hook("createRuntime2", "")},
		CreateContainer: []specs.Hook{b.hook("createContainer", "")},
		StartContainer:  []specs.Hook{b.hook("startContainer", "")},
		Poststart:       []specs.Hook{b.hook("poststart", "")},
		Poststop:        []specs.Hook{b.hook("poststop", "")},
	}
}

func TestHooks_OrderAndTime(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun's start does not wait for the startContainer hooks")
	b := newHookBundle(t, h.Sh("echo ready; sleep 1000"))
	b.Set(h.HookSet(b.all()))
	created := []string{"prestart", "createRuntime", "createRuntime2", "createContainer"}
	started := append(slices.Clone(created), "startContainer", "poststart")
	if h.Reference() == "runc" { // runc runs poststart hooks at the end of create
		created = append(created, "poststart")
		started = append(slices.Clone(created), "startContainer")
	}
	c := b.Create()
	if got := b.log(t); !slices.Equal(got, created) {
		t.Errorf("after create: %q, want %q", got, created)
	}
	c.Start()
	c.WaitOutput("ready")
	if got := b.log(t); !slices.Equal(got, started) {
		t.Errorf("after start: %q, want %q", got, started)
	}
	c.Delete("--force")
	if got, want := b.log(t), append(started, "poststop"); !slices.Equal(got, want) {
		t.Errorf("after delete: %q, want %q", got, want)
	}
}

// config.md: createContainer hooks run in the container's namespaces before
// pivot_root, startContainer hooks inside, all others in the runtime's namespaces.
func TestHooks_Namespaces(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "the wrapper that crun needs runs every command in its own mount namespace")
	b := newHookBundle(t, h.Sh("echo ready; sleep 1000"))
	b.Set(h.HookSet(b.all()))
	c := b.Launch()
	c.WaitOutput("ready")
	inside := h.NsLink(t, c.Pid, "mnt")
	c.Delete("--force")
	host := h.NsLink(t, os.Getpid(), "mnt")
	for _, name := range []string{"prestart", "createRuntime", "poststart", "poststop"} {
		if got := b.read(t, name+".ns"); got != host {
			t.Errorf("%s ran in %s, not in the runtime's mount namespace", name, got)
		}
	}
	for _, name := range []string{"createContainer", "startContainer"} {
		if got := b.read(t, name+".ns"); got != inside {
			t.Errorf("%s ran in %s, not in the container's mount namespace", name, got)
		}
	}
}

// The path of a createContainer hook is the runtime's, that of a startContainer
// hook the container's.
func TestHooks_Paths(t *testing.T) {
	t.Parallel()
	b := newHookBundle(t)
	h.WriteFile(t, b.dir+"/host-tool", "#!/bin/sh\necho ran >"+b.dir+"/host\n", 0o755)
	b.File("/opt/tool", "#!/bin/sh\necho ran >"+b.dir+"/inside\n")
	h.Must(t, os.Chmod(b.In("/opt/tool"), 0o755))
	b.Set(h.HookSet(specs.Hooks{
		CreateContainer: []specs.Hook{{Path: b.dir + "/host-tool"}},
		StartContainer:  []specs.Hook{{Path: "/opt/tool"}},
	}))
	b.Out()
	if b.read(t, "host") != "ran" || b.read(t, "inside") != "ran" {
		t.Error("a hook did not run")
	}
}

func TestHooks_State(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun 1.8.1 leaves out the bundle, and has other statuses")
	b := newHookBundle(t, h.Sh("echo ready; sleep 1000"))
	b.Spec.Annotations = map[string]string{"org.example.key": "value"}
	b.Set(h.HookSet(b.all()))
	c := b.Launch()
	c.WaitOutput("ready")
	c.Delete("--force")
	for name, status := range map[string]specs.ContainerState{
		"prestart": "creating", "createRuntime": "creating", "createContainer": "creating",
		"startContainer": "created", "poststart": "running", "poststop": "stopped",
	} {
		var s specs.State
		if err := json.Unmarshal([]byte(b.read(t, name+".state")), &s); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if s.ID != c.ID || s.Bundle != b.Dir || s.Version == "" {
			t.Errorf("%s: %+v", name, s)
		}
		if h.Reference() == "runc" && name == "poststart" {
			status = "created" // see TestHooks_OrderAndTime
		}
		if s.Status != status {
			t.Errorf("%s: status %q, want %q", name, s.Status, status)
		}
		if s.Annotations["org.example.key"] != "value" {
			t.Errorf("%s: annotations %q", name, s.Annotations)
		}
		if wantPid := name == "prestart" || name == "createRuntime" || name == "poststart"; wantPid && s.Pid != c.Pid {
			t.Errorf("%s: pid %d, want %d", name, s.Pid, c.Pid)
		}
	}
}

func TestHooks_ArgsAndEnv(t *testing.T) {
	t.Parallel()
	b := newHookBundle(t)
	show := func(name string) specs.Hook {
		return specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", "echo \"$0 $1\" >" + b.dir + "/" + name + ".args; env >" + b.dir + "/" + name + ".env", "zero", "one"}, Env: []string{"ONLY=this", "PATH=/usr/bin:/bin"}}
	}
	b.Set(h.HookSet(specs.Hooks{CreateRuntime: []specs.Hook{show("createRuntime")}, CreateContainer: []specs.Hook{show("createContainer")}, StartContainer: []specs.Hook{show("startContainer")}}))
	b.Out()
	for _, name := range []string{"createRuntime", "createContainer", "startContainer"} {
		if got := b.read(t, name+".args"); got != "zero one" {
			t.Errorf("%s: args %q", name, got)
		}
		var extra []string
		for _, e := range h.Lines(b.read(t, name+".env")) {
			if key, _, _ := strings.Cut(e, "="); !slices.Contains([]string{"ONLY", "PATH", "PWD", "SHLVL", "_", "OLDPWD", "HOME"}, key) {
				extra = append(extra, e)
			}
		}
		if len(extra) > 0 {
			t.Errorf("%s: environment of the runtime leaked: %q", name, extra)
		}
	}
}

// What the caller has left open is the container's where it says so, and never a hook's.
func TestHooks_NoDescriptors(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "runc", "runc 1.1 hands createContainer hooks the container's descriptors")
	b := newHookBundle(t)
	show := func(name string) specs.Hook {
		return specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", "for f in /proc/self/fd/*; do readlink $f; done >" + b.dir + "/" + name + ".fds; true"}, Env: []string{"PATH=/usr/bin:/bin"}}
	}
	b.Set(h.HookSet(specs.Hooks{CreateRuntime: []specs.Hook{show("createRuntime")}, CreateContainer: []specs.Hook{show("createContainer")}, Poststart: []specs.Hook{show("poststart")}, Poststop: []specs.Hook{show("poststop")}}))
	open, err := os.Open("/etc/passwd")
	h.Must(t, err)
	defer open.Close()
	b.WriteSpec()
	b.DoWith([]string{"run", "--preserve-fds", "2", "--bundle", b.Dir, b.NewID()}, h.ExtraFiles(open, open, open)).OK(t)
	for _, name := range []string{"createRuntime", "createContainer", "poststart", "poststop"} {
		if got := b.read(t, name+".fds"); got == "" || strings.Contains(got, "/etc/passwd") {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func TestHooks_RuntimeHooksRunInTheBundle(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun runs hooks in its own working directory")
	b := newHookBundle(t)
	b.Set(h.HookSet(specs.Hooks{CreateRuntime: []specs.Hook{b.hook("createRuntime", "")}}))
	b.WriteSpec()
	b.DoWith([]string{"run", "--bundle", b.Dir, b.NewID()}, h.Dir(b.Work)).OK(t)
	if got := b.read(t, "createRuntime.cwd"); got != b.Dir {
		t.Errorf("cwd %q, want the bundle", got)
	}
}

func failing(b hookBundle, name string) specs.Hook {
	return b.hook(name, "echo complaint of the hook >&2; exit 3")
}

// A failing hook before start fails create, and nothing stays.
func TestHooks_FailureBeforeStart(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"prestart", "createRuntime", "createContainer"} {
		b := newHookBundle(t)
		hooks := specs.Hooks{Poststop: []specs.Hook{b.hook("poststop", "")}}
		second := b.hook("never", "")
		switch name {
		case "prestart":
			hooks.Prestart = []specs.Hook{failing(b, name), second} //nolint:staticcheck // as above
		case "createRuntime":
			hooks.CreateRuntime = []specs.Hook{failing(b, name), second}
		case "createContainer":
			hooks.CreateContainer = []specs.Hook{failing(b, name), second}
		}
		b.Set(h.HookSet(hooks))
		c, r := b.TryCreate(nil)
		r.Refused(t, "hooks."+name+"[0]", "exit status 3")
		if slices.Contains(b.log(t), "never") {
			t.Errorf("%s: the next hook ran after a failure", name)
		}
		if r := b.Do("state", c.ID); r.Code == 0 {
			t.Errorf("%s: the container exists: %s", name, r.Stdout)
		}
		b.CheckNothingLeft()
	}
}

func TestHooks_FailureOfStartContainer(t *testing.T) {
	t.Parallel()
	b := newHookBundle(t, h.Args("echo", "must not run"))
	b.Set(h.HookSet(specs.Hooks{StartContainer: []specs.Hook{failing(b, "startContainer")}}))
	r := b.Run()
	r.Refused(t, "hooks.startContainer[0]", "exit status 3")
	if r.Stdout != "" {
		t.Errorf("the process ran: %q", r.Stdout)
	}
}

// Up to version 1.2.0 of the specification a failing poststart hook is a warning, and
// the next one runs.
func TestHooks_OldPoststartOnlyWarns(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "runc", "runc runs poststart hooks at the end of create, and stops at the first that fails")
	b := newHookBundle(t, h.Args("sleep", "1000"))
	b.Spec.Version = "1.0.2"
	b.Set(h.HookSet(specs.Hooks{Poststart: []specs.Hook{failing(b, "poststart"), b.hook("poststart", "")}}))
	c := b.Create()
	if r := b.Do("start", c.ID); r.Code != 0 || !strings.Contains(r.Stderr, "poststart") {
		t.Errorf("start: %d, %q", r.Code, r.Stderr)
	}
	if s := stateOf(t, b.Bundle, c.ID); s.Status != "running" {
		t.Errorf("%+v", s)
	}
	c.Delete("--force")
}

// runtime.md, step 9 (since version 1.3.0 of the specification): error, and the container is stopped.
func TestHooks_FailureOfPoststart(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun 1.8.1 only warns, as older versions of the specification said")
	h.NotFor(t, "runc", "runc runs poststart hooks at the end of create")
	b := newHookBundle(t, h.Args("sleep", "1000"))
	b.Spec.Version = "1.3.0" // older specs only warn, as TestHooks_OldPoststartOnlyWarns shows
	b.Set(h.HookSet(specs.Hooks{Poststart: []specs.Hook{failing(b, "poststart")}, Poststop: []specs.Hook{b.hook("poststop", "")}}))
	c := b.Create()
	b.Do("start", c.ID).Refused(t, "hooks.poststart[0]", "exit status 3")
	h.Eventually(t, "init still runs", func() bool { return !h.Alive(c.Pid) })
	if s := stateOf(t, b.Bundle, c.ID); s.Status != "stopped" {
		t.Errorf("%+v", s)
	}
	c.Delete()
	if got := b.log(t); !slices.Contains(got, "poststop") {
		t.Errorf("hooks that ran: %q, want poststop among them", got)
	}
}

func TestHooks_FailureOfPoststopOnlyWarns(t *testing.T) {
	t.Parallel()
	b := newHookBundle(t, h.Sh("exit 5"))
	b.Set(h.HookSet(specs.Hooks{Poststop: []specs.Hook{failing(b, "poststop"), b.hook("second", "")}}))
	c := b.Launch()
	if code := c.WaitExit(); code != 5 {
		t.Errorf("status %d, want 5", code)
	}
	r := b.Do("delete", c.ID)
	if h.Reference() != "runc" { // runc 1.1.5 stops at the first failing poststop hook
		r.OK(t)
		if !slices.Contains(b.log(t), "second") {
			t.Error("the next poststop hook did not run")
		}
	}
	if r := b.Do("state", c.ID); r.Code == 0 {
		t.Error("the container still exists")
	}
}

func TestHooks_Timeout(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"createRuntime", "createContainer", "startContainer"} {
		b := newHookBundle(t)
		slow := b.hook(name, "exec sleep 1000")
		slow.Timeout = h.Ptr(1)
		hooks := specs.Hooks{}
		switch name {
		case "createRuntime":
			hooks.CreateRuntime = []specs.Hook{slow}
		case "createContainer":
			hooks.CreateContainer = []specs.Hook{slow}
		case "startContainer":
			hooks.StartContainer = []specs.Hook{slow}
		}
		b.Set(h.HookSet(hooks))
		begin := time.Now()
		b.Run().Refused(t, "hooks."+name+"[0]", "timeout")
		if d := time.Since(begin); d < time.Second || d > 15*time.Second {
			t.Errorf("%s: ended after %v, want about 1 s", name, d)
		}
	}
}

func TestHooks_MissingPath(t *testing.T) {
	t.Parallel()
	b := newHookBundle(t)
	b.Set(h.HookSet(specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/no/such/hook"}}}))
	b.Run().Refused(t, "hooks.createRuntime[0]", "/no/such/hook")
}

// A createRuntime hook may change the container's namespaces before the process
// starts: that is how networks are plugged in.
func TestHooks_CreateRuntimeSeesTheNamespaces(t *testing.T) {
	t.Parallel()
	b := newHookBundle(t, h.Args("sleep", "1000"))
	script := fmt.Sprintf(`pid=$(sed 's/.*"pid": *\([0-9]*\).*/\1/' | tail -1); readlink /proc/$pid/ns/net >%s/net`, b.dir)
	b.Set(h.HookSet(specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", script}}}}))
	c := b.Create()
	if got, want := b.read(t, "net"), h.NsLink(t, c.Pid, "net"); got != want {
		t.Errorf("the hook saw %q, want the container's %q", got, want)
	}
	c.Delete("--force")
}

// The programs of startContainer hooks are the image's: they run with no more than
// the process has, and in its cgroup.
func TestHooks_StartContainerIsConfined(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun runs them with all capabilities")
	script := "{ grep -E '^(CapEff|CapBnd|NoNewPrivs|Uid|Groups)' /proc/self/status; grep -E ':(devices|pids):|^0::' /proc/self/cgroup; } >/tmp/seen"
	b := h.New(t, h.Writable(), h.User(1000, 1000, 7), h.HookSet(specs.Hooks{StartContainer: []specs.Hook{
		{Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"PATH=/bin"}},
	}}))
	b.Out()
	seen := h.ReadFile(t, b.In("/tmp/seen"))
	for field, want := range map[string]string{"CapEff": "0000000000000000", "CapBnd": "0000000020000420", "NoNewPrivs": "1", "Groups": "7"} {
		if got := strings.TrimSpace(h.StatusField(t, seen, field)); got != want {
			t.Errorf("%s is %q, want %q", field, got, want)
		}
	}
	if n := strings.Count(seen, b.Cgroup+"\n"); n < 1 || n != strings.Count(seen, ":/") || !strings.Contains(seen, "Uid:\t1000\t1000") {
		t.Errorf("the hook is not in %s as 1000: %s", b.Cgroup, seen)
	}
}

// A hook that never ends must not keep anybody from ending the container.
func TestHooks_AContainerWhoseStartHangsCanBeKilled(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("sleep", "1000"))
	pidFile := b.Work + "/hook.pid"
	b.Set(h.HookSet(specs.Hooks{Poststart: []specs.Hook{
		{Path: "/bin/sh", Args: []string{"sh", "-c", "echo $$ >" + pidFile + ".tmp; mv " + pidFile + ".tmp " + pidFile + "; exec sleep 5"}, Env: []string{"PATH=/bin:/usr/bin"}},
	}}))
	c := b.Create()
	start := b.Command([]string{"--root", b.Root, "start", c.ID})
	h.Eventually(t, "the hook runs", func() bool { _, err := os.Stat(pidFile); return err == nil })
	began := time.Now()
	c.Kill("KILL")
	if code := c.WaitExit(); code != 128+9 {
		t.Errorf("status %d", code)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("kill waited %v for the hook", took)
	}
	start.Finish()
	c.Delete("--force")
}
