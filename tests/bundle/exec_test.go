package bundle_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	h "adl.run/adl-runtime/tests/harness"
)

// sleeping is a running container that does nothing by itself.
func sleeping(t *testing.T, mutators ...h.Mutate) (*h.Bundle, *h.Container) {
	t.Helper()
	b := h.New(t, append([]h.Mutate{h.Args("sleep", "1000")}, mutators...)...)
	return b, b.Launch()
}

// inside runs `exec FLAGS... ID ARGS...`.
func inside(b *h.Bundle, c *h.Container, flags []string, args ...string) h.Result {
	return b.Do(append(append(append([]string{"exec"}, flags...), c.ID), args...)...)
}

// execSh executes a script that must exit with 0, and returns its output.
func execSh(t *testing.T, b *h.Bundle, c *h.Container, flags []string, script string) string {
	t.Helper()
	return strings.TrimSuffix(inside(b, c, flags, "/bin/sh", "-c", script).OK(t).Stdout, "\n")
}

// refused fails the test unless exec failed as runc's does: status 255, and text in one
// line on stderr.
func refused(t *testing.T, r h.Result, text string) {
	t.Helper()
	message := strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(r.Stderr) // as it was before the log quoted it
	if r.Code != 255 || !strings.Contains(message, text) || !strings.Contains(r.Stderr, "exec failed: ") {
		t.Errorf("%s: status %d, stderr %q, want 255 and %q", strings.Join(r.Args, " "), r.Code, r.Stderr, text)
	}
	if h.Reference() == "" {
		r.OneLine(t)
	}
}

func TestExec_Status(t *testing.T) {
	t.Parallel()
	b, c := sleeping(t)
	for script, want := range map[string]int{"exit 0": 0, "exit 42": 42, "kill -9 $$": 137, "kill -15 $$": 143} {
		if r := inside(b, c, nil, "sh", "-c", script); r.Code != want || r.Stdout+r.Stderr != "" {
			t.Errorf("%s: %+v, want %d", script, r, want)
		}
	}
}

// What follows the id is the command's, flags and all.
func TestExec_Args(t *testing.T) {
	t.Parallel()
	b, c := sleeping(t)
	if got := inside(b, c, nil, "printf", "[%s]", "-t", "--user", "5", "a b", "").OK(t).Stdout; got != "[-t][--user][5][a b][]" {
		t.Errorf("%q", got)
	}
	if got := b.DoWith([]string{"exec", c.ID, "cat"}, h.Stdin("through\n")).OK(t).Stdout; got != "through\n" {
		t.Errorf("stdin: %q", got)
	}
}

func TestExec_DoubleDash(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "its manual has the two dashes, runc 1.1.5 executes them")
	b, c := sleeping(t)
	if got := inside(b, c, nil, "--", "echo", "--", "x").OK(t).Stdout; got != "-- x\n" {
		t.Errorf("%q", got)
	}
}

func TestExec_JoinsTheContainer(t *testing.T) {
	t.Parallel()
	b, c := sleeping(t, h.Namespace(specs.CgroupNamespace, ""))
	script := "for n in mnt pid net ipc uts cgroup; do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup; hostname; readlink /proc/self/root"
	lines := h.Lines(execSh(t, b, c, nil, script))
	for i, name := range []string{"mnt", "pid", "net", "ipc", "uts", "cgroup"} {
		if want := h.NsLink(t, c.Pid, name); lines[i] != want {
			t.Errorf("%s is %s, want init's, %s", name, lines[i], want)
		}
	}
	for _, line := range lines[6 : len(lines)-2] {
		if !strings.HasSuffix(line, ":/") {
			t.Errorf("not in the container's cgroup: %s", line)
		}
	}
	if got := lines[len(lines)-2:]; !slices.Equal(got, []string{"adl", "/"}) {
		t.Errorf("hostname and root: %q", got)
	}
}

func TestExec_JoinsAUserNamespace(t *testing.T) {
	t.Parallel()
	b := withUserns(t, h.New(t, h.Args("sleep", "1000")))
	c := b.Launch()
	script := "readlink /proc/self/ns/user; cat /proc/self/uid_map; id -u; id -G"
	lines := h.Lines(execSh(t, b, c, nil, script))
	if lines[0] != h.NsLink(t, c.Pid, "user") || !strings.Contains(lines[1], strconv.Itoa(mappedRoot)) || lines[2] != "0" {
		t.Errorf("%q", lines)
	}
	if got := execSh(t, b, c, []string{"-u", "1000:1000", "-g", "5"}, "id -u; id -G; stat -c %u /proc/self/"); got != "1000\n1000 5\n1000" {
		t.Errorf("another user: %q", got)
	}
	r := inside(b, c, []string{"-u", "70000"}, "true")
	if r.Code != 255 {
		t.Errorf("a user that is not mapped: %+v", r)
	}
	if h.Reference() == "runc" {
		return // it wants a terminal of the caller's for -t
	}
	if got := execSh(t, b, c, []string{"-t"}, "tty; stat -L -c %u:%a /dev/pts/0"); got != "/dev/pts/0\r\n0:620\r" {
		t.Errorf("terminal: %q", got)
	}
}

func TestExec_Env(t *testing.T) {
	t.Parallel()
	b, c := sleeping(t, h.Env("PATH=/bin", "A=config", "B=config", "HOME=/h"))
	got := h.Lines(execSh(t, b, c, []string{"-e", "A=1,2,3", "-e", "C= two words ", "-e", "D==="}, "env"))
	for _, want := range []string{"PATH=/bin", "A=1,2,3", "B=config", "C= two words ", "D===", "HOME=/h"} {
		if !slices.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	if slices.Contains(got, "A=config") {
		t.Errorf("the later one does not win: %q", got)
	}
	refused(t, inside(b, c, []string{"-e", "NAME"}, "true"), `"NAME"`)
}

func TestExec_BothFormsOfAFlag(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "runc wants one or the other")
	b, c := sleeping(t)
	if got := execSh(t, b, c, []string{"-e", "A=1", "--env", "B=2", "-g", "5", "--additional-gids", "6"}, "echo $A $B; id -G"); got != "1 2\n0 5 6" {
		t.Errorf("%q", got)
	}
}

func TestExec_Home(t *testing.T) {
	t.Parallel()
	b, c := sleeping(t)
	for user, want := range map[string]string{"0": "/root", "1000": "/home/user", "77": "/"} {
		if got := execSh(t, b, c, []string{"--user", user}, "echo $HOME"); got != want {
			t.Errorf("HOME of %s is %q, want %s", user, got, want)
		}
	}
}

func TestExec_Cwd(t *testing.T) {
	t.Parallel()
	b, c := sleeping(t, h.Cwd("/mnt"))
	if got := execSh(t, b, c, nil, "pwd"); got != "/mnt" {
		t.Errorf("the container's: %q", got)
	}
	if got := execSh(t, b, c, []string{"--cwd", "/etc"}, "pwd"); got != "/etc" {
		t.Errorf("--cwd: %q", got)
	}
	refused(t, inside(b, c, []string{"--cwd", "/nope"}, "true"), "no such file or directory")
	refused(t, inside(b, c, []string{"--cwd", "/etc/passwd"}, "true"), "not a directory")
	refused(t, inside(b, c, []string{"--cwd", "rel"}, "true"), "absolute")
}

// The process's own directory in /proc exists only once it is in the pid namespace.
func TestExec_CwdInProcSelf(t *testing.T) {
	t.Parallel()
	b, c := sleeping(t)
	got := strings.TrimSuffix(inside(b, c, []string{"--cwd", "/proc/self"}, "sh", "-c", "[ $(pwd) = /proc/$$ ] && echo own").OK(t).Stdout, "\n")
	if got != "own" {
		t.Errorf("%q", got)
	}
}

func TestExec_User(t *testing.T) {
	t.Parallel()
	b, c := sleeping(t, h.User(7, 8, 9))
	for _, k := range []struct {
		flags []string
		want  string
	}{
		{nil, "7\n8 9"},
		{[]string{"-u", "1000"}, "1000\n8 9"},
		{[]string{"--user", "1000:50"}, "1000\n50 9"},
		{[]string{"-u", "0:0", "-g", "5", "-g", "6"}, "0\n0 5 6 9"},
	} {
		if got := execSh(t, b, c, k.flags, "id -u; id -G"); got != k.want {
			t.Errorf("%q: %q, want %q", k.flags, got, k.want)
		}
	}
}

// CVE-2026-30892: what is not a user's number from the first to the last character is
// no user, and never another one.
func TestExec_UserThatIsNone(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "runc 1.1.5 makes root of 4294967296, and accepts signs and nothing at all")
	b, c := sleeping(t, h.User(7, 8))
	for _, user := range []string{
		"", ":", "x", "root", "user", "-1", "+1", " 1", "1 ", "1x", "0x0", "0b1", "1_0", "1.0", "4294967295", "4294967296",
		"18446744073709551616", "1:", ":1", "1:x", "1:-1", "1:4294967295", "1:2:3", "1:1 ", "\t0", "0\n", "٣",
	} {
		refused(t, inside(b, c, []string{"--user", user}, "echo", "ran"), "--user "+strconv.Quote(user))
	}
	for _, gid := range []string{"x", "-1", "4294967295", "", "5,6"} {
		refused(t, inside(b, c, []string{"-g", gid}, "echo", "ran"), "--additional-gids "+strconv.Quote(gid))
	}
}

func TestExec_Capabilities(t *testing.T) {
	t.Parallel()
	b, c := sleeping(t)
	status := execSh(t, b, c, []string{"-c", "CAP_NET_RAW", "-c", "CAP_CHOWN"}, "cat /proc/self/status")
	for _, field := range []string{"CapBnd", "CapPrm", "CapEff"} {
		if got := h.StatusField(t, status, field); got != "0000000020002421" {
			t.Errorf("%s is %s", field, got)
		}
	}
	for _, field := range []string{"CapInh", "CapAmb"} {
		if got := h.StatusField(t, status, field); got != "0000000000000000" {
			t.Errorf("%s is %s", field, got)
		}
	}
}

// Ambient ones are added where the container has inheritable ones to go with them.
func TestExec_AmbientCapabilities(t *testing.T) {
	t.Parallel()
	set := []string{"CAP_CHOWN", "CAP_KILL"}
	b, c := sleeping(t, h.Caps(specs.LinuxCapabilities{Bounding: set, Effective: set[:1], Permitted: set[:1], Inheritable: set, Ambient: set[:1]}))
	status := execSh(t, b, c, []string{"--user", "1000", "--cap", "CAP_KILL"}, "cat /proc/self/status")
	for field, want := range map[string]string{"CapAmb": "0000000000000021", "CapEff": "0000000000000021", "CapInh": "0000000000000021"} {
		if got := h.StatusField(t, status, field); got != want {
			t.Errorf("%s is %s, want %s", field, got, want)
		}
	}
}

func TestExec_CapabilityThatIsNone(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "runc ignores it with a warning")
	b, c := sleeping(t)
	refused(t, inside(b, c, []string{"--cap", "CAP_BOGUS"}, "true"), `--cap "CAP_BOGUS": unknown capability`)
}

func TestExec_NoNewPrivileges(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{false, true} {
		b, c := sleeping(t, h.NoNewPrivileges(on))
		for _, k := range []struct {
			flags []string
			want  bool
		}{{nil, on}, {[]string{"--no-new-privs"}, true}, {[]string{"--no-new-privs=false"}, false}} {
			status := execSh(t, b, c, k.flags, "cat /proc/self/status")
			if got := h.StatusField(t, status, "NoNewPrivs"); got != map[bool]string{false: "0", true: "1"}[k.want] {
				t.Errorf("container %v, %q: %s", on, k.flags, got)
			}
		}
	}
}

func TestExec_LimitsOfTheContainer(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "runc", "runc 1.1.5 now and then has the hard limit of open files for the soft one")
	b, c := sleeping(t, h.Rlimits(specs.POSIXRlimit{Type: "RLIMIT_NOFILE", Soft: 77, Hard: 88}, specs.POSIXRlimit{Type: "RLIMIT_NPROC", Soft: 3, Hard: 4}), h.User(54321, 1))
	b.Spec.Process.User.UID = 54321
	if got := execSh(t, b, c, nil, "ulimit -n; ulimit -Hn; umask; while read a b c; do [ $b = processes ] && echo $c; done < /proc/self/limits; true"); got != "77\n88\n0022\n3 4 processes" {
		t.Errorf("%q", got)
	}
}

func TestExec_ProcessFile(t *testing.T) {
	t.Parallel()
	b, c := sleeping(t)
	p := specs.Process{
		Args: []string{"/bin/sh", "-c", "id -u; id -G; pwd; echo $X; grep CapPrm: /proc/self/status; tty"},
		Env:  []string{"PATH=/bin", "X=from the file"}, Cwd: "/etc",
		User:         specs.User{UID: 5, GID: 6, AdditionalGids: []uint32{7}},
		Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_CHOWN"}},
	}
	file := filepath.Join(b.Work, "process.json")
	raw, err := json.Marshal(p)
	h.Must(t, err)
	h.WriteFile(t, file, string(raw), 0o600)
	want := "5\n6 7\n/etc\nfrom the file\nCapPrm:\t0000000000000000\nnot a tty\n"
	r := inside(b, c, []string{"-p", file})
	if r.Stdout != want || r.Stderr != "" {
		t.Errorf("%+v, want %q", r, want)
	}
	// Relative to the caller's directory.
	if r := b.DoWith([]string{"exec", "--process", "process.json", c.ID}, h.Dir(b.Work)); r.Stdout != want {
		t.Errorf("%+v", r)
	}
}

func TestExec_ProcessFileThatIsNone(t *testing.T) {
	t.Parallel()
	b, c := sleeping(t)
	file := filepath.Join(b.Work, "process.json")
	for text, want := range map[string]string{
		"":                         "",
		"{":                        "",
		"[]":                       "",
		`{"args":"true"}`:          "",
		`{"cwd":"/"}`:              "args",
		`{"args":["true"]}`:        "wd",
		`{"args":["x"],"cwd":"x"}`: "absolute",
		`{"args":["true"],"cwd":"/","user":{"uid":-1}}`:               "",
		`{"args":["true"],"cwd":"/","rlimits":[{"type":"RLIMIT_X"}]}`: "RLIMIT_X",
	} {
		h.WriteFile(t, file, text, 0o600)
		refused(t, inside(b, c, []string{"-p", file}), want)
	}
	refused(t, inside(b, c, []string{"-p", file + "x"}), "no such file")
	refused(t, inside(b, c, nil), "empty")
}

func TestExec_NotFound(t *testing.T) {
	t.Parallel()
	b, c := sleeping(t)
	// The texts by which podman, conmon and Docker know 127 and 126 from other errors.
	refused(t, inside(b, c, nil, "no-such-program"), "executable file not found in $PATH")
	refused(t, inside(b, c, nil, "/no/such/program"), "no such file or directory")
	refused(t, inside(b, c, nil, "/etc/passwd"), "permission denied")
	refused(t, b.Do("exec", "adl-test-missing", "true"), "does not exist")
}

func TestExec_DirectoryAsProgram(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "runc", "runc 1.1.5 says permission denied, later ones what it is")
	b, c := sleeping(t)
	refused(t, inside(b, c, nil, "/etc"), "is a directory: permission denied")
}

func TestExec_BadScript(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "runc", "runc 1.1.5 says it on two lines")
	b := h.New(t, h.Args("sleep", "1000"))
	b.File("/run.sh", "#!/no/such/interpreter\n")
	h.Must(t, os.Chmod(b.In("/run.sh"), 0o755))
	refused(t, inside(b, b.Launch(), nil, "/run.sh"), "exec /run.sh: no such file or directory")
}

func TestExec_Usage(t *testing.T) {
	t.Parallel()
	b := h.New(t)
	b.Do("exec").Fails(t, "requires a minimum of 1 argument")
	b.Do("exec", "--no-such-flag", "id", "true").Fails(t, "flag provided but not defined")
}

// The container's state, and what exec says to each.
func TestExec_States(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun says it in other words")
	b := h.New(t, h.Args("sleep", "1000"))
	c := b.Create()
	if got := execSh(t, b, c, nil, "echo in a created one"); got != "in a created one" {
		t.Errorf("%q", got)
	}
	c.Start()
	b.Do("pause", c.ID).OK(t)
	refused(t, inside(b, c, nil, "true"), "cannot exec in a paused container (use --ignore-paused to override)")
	x := b.Command([]string{"--root", b.Root, "exec", "--ignore-paused", c.ID, "echo", "resumed"})
	time.Sleep(100 * time.Millisecond)
	if got := x.Stdout(); got != "" {
		t.Errorf("in a paused container ran %q", got)
	}
	b.Do("resume", c.ID).OK(t)
	if r := x.Finish(); r.Code != 0 || r.Stdout != "resumed\n" {
		t.Errorf("%+v", r)
	}
	c.Kill("KILL")
	c.WaitExit()
	refused(t, inside(b, c, nil, "true"), "cannot exec in a stopped container")
	c.Delete()
	refused(t, inside(b, c, nil, "true"), "does not exist")
}

func TestExec_Detach(t *testing.T) {
	t.Parallel()
	b, c := sleeping(t)
	pidFile := filepath.Join(b.Work, "exec.pid")
	r := inside(b, c, []string{"--detach", "--pid-file", pidFile}, "sh", "-c", "sleep 1000 & wait").OK(t)
	if r.Stdout+r.Stderr != "" {
		t.Errorf("%+v", r)
	}
	x := b.Adopt(c.ID, pidFile)
	if x.Pid == c.Pid || h.NsLink(t, x.Pid, "pid") != h.NsLink(t, c.Pid, "pid") {
		t.Errorf("pid %d, init is %d", x.Pid, c.Pid)
	}
	if text := h.ReadFile(t, pidFile); text != strconv.Itoa(x.Pid) {
		t.Errorf("pid file %q", text)
	}
	if entries, _ := filepath.Glob(filepath.Join(b.Work, ".exec.pid*")); len(entries) > 0 {
		t.Errorf("left beside the pid file: %q", entries)
	}
	// The end of the container is the end of it.
	c.Kill("KILL")
	if code := x.WaitExit(); code != 137 {
		t.Errorf("status %d, want 137", code)
	}
	c.WaitExit()
	c.Delete()
}

func TestExec_PidFileThatCannotBe(t *testing.T) {
	t.Parallel()
	b, c := sleeping(t)
	refused(t, inside(b, c, []string{"--pid-file", "/no/such/dir/pid"}, "sleep", "1000"), "no such file or directory")
	if left := strings.Count(execSh(t, b, c, nil, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"), "sleep 1000"); left != 1 {
		t.Errorf("%d times sleep, want init only", left)
	}
}

func TestExec_PidfdSocket(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "--pidfd-socket came with runc 1.2")
	b, c := sleeping(t)
	sock := b.ListenConsole()
	pidFile := filepath.Join(b.Work, "exec.pid")
	inside(b, c, []string{"-d", "--pidfd-socket", sock.Path, "--pid-file", pidFile}, "sleep", "1000").OK(t)
	x := b.Adopt(c.ID, pidFile)
	f := os.NewFile(uintptr(sock.ReceiveFD()), "pidfd")
	defer f.Close()
	if pid := h.PidOfPidfd(t, f); pid != x.Pid {
		t.Errorf("the pidfd is of process %d, want %d", pid, x.Pid)
	}
	c.Kill("KILL")
	x.WaitExit() // before, init does not end
	b2, c2 := sleeping(t)
	refused(t, inside(b2, c2, []string{"--pidfd-socket", "/no/such/socket"}, "sleep", "1000"), "pidfd socket")
}

// Foreground: signals are handed on, and the status is the process's.
func TestExec_Signals(t *testing.T) {
	t.Parallel()
	b, c := sleeping(t)
	x := b.Command([]string{"--root", b.Root, "exec", c.ID, "sh", "-c", "trap 'echo caught; exit 9' TERM; trap 'echo usr1' USR1; echo ready; while :; do sleep 0.02; done"})
	x.WaitOutput("ready")
	h.Must(t, x.Process.Signal(syscall.SIGUSR1))
	x.WaitOutput("usr1")
	h.Must(t, x.Process.Signal(syscall.SIGTERM))
	if r := x.Finish(); r.Code != 9 || !strings.HasSuffix(r.Stdout, "caught\n") {
		t.Errorf("%+v", r)
	}
}

// The process ends with its container, also in the foreground of a command.
func TestExec_EndsWithTheContainer(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"kill", "delete"} {
		b, c := sleeping(t)
		x := b.Command([]string{"--root", b.Root, "exec", c.ID, "sh", "-c", "echo ready; sleep 1000"})
		x.WaitOutput("ready")
		if how == "kill" {
			c.Kill("KILL")
		} else {
			c.Delete("--force")
		}
		if r := x.Finish(); r.Code != 137 {
			t.Errorf("%s: %+v", how, r)
		}
		c.WaitExit()
	}
}

// So it does where the pid namespace is the host's and the kernel does not see to it.
func TestExec_EndsWithAContainerInTheHostsPidNamespace(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "runc", "runc 1.1.5 wants /proc mounted")
	b, c := sleeping(t, h.WithoutNamespace(specs.PIDNamespace), h.WithoutMount("/proc"), func(s *specs.Spec) {
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = nil, nil
	})
	pidFile := filepath.Join(b.Work, "exec.pid")
	inside(b, c, []string{"-d", "--pid-file", pidFile}, "sh", "-c", "sleep 1000 & sleep 1000").OK(t)
	x := b.Adopt(c.ID, pidFile)
	if n := b.AdoptProcesses(); n != 3 && h.Reference() == "" {
		t.Errorf("%d processes in the cgroup, want 3", n)
	}
	c.Delete("--force")
	h.Eventually(t, "the process lives on", func() bool { return !h.Alive(x.Pid) })
}

// The end of `run` is the end of what was executed meanwhile.
func TestExec_EndsWithRun(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("echo ready; read line; exit 3"))
	in, out, err := os.Pipe()
	h.Must(t, err)
	run := b.StartRun(func(c *command) { c.Stdin = in })
	h.Must(t, in.Close())
	run.WaitOutput("ready")
	x := b.Command([]string{"--root", b.Root, "exec", lastArg(run), "sh", "-c", "echo inside; sleep 1000"})
	x.WaitOutput("inside")
	h.Must(t, out.Close())
	if r := run.Finish(); r.Code != 3 {
		t.Errorf("%+v", r)
	}
	if r := x.Finish(); r.Code != 137 {
		t.Errorf("%+v", r)
	}
	b.CheckNothingLeft()
}

func TestExec_KillAll(t *testing.T) {
	t.Parallel()
	b, c := sleeping(t)
	pidFile := filepath.Join(b.Work, "exec.pid")
	inside(b, c, []string{"-d", "--pid-file", pidFile}, "sleep", "1000").OK(t)
	x := b.Adopt(c.ID, pidFile)
	b.Do("kill", "--all", c.ID, "TERM").OK(t)
	if code := x.WaitExit(); code != 143 {
		t.Errorf("status %d, want 143", code)
	}
}

func TestExec_PreserveFDs(t *testing.T) {
	t.Parallel()
	b, c := sleeping(t)
	name := filepath.Join(b.Work, "given")
	h.WriteFile(t, name, "hello\n", 0o644)
	var files []*os.File
	for range 3 {
		f, err := os.Open(name)
		h.Must(t, err)
		defer f.Close()
		files = append(files, f)
	}
	r := b.DoWith([]string{"exec", "--preserve-fds", "2", c.ID, "sh", "-c", "cat <&4; ls /proc/$$/fd; true"}, h.ExtraFiles(files...))
	if r.Stdout != "hello\n0\n1\n2\n3\n4\n" {
		t.Errorf("%+v", r)
	}
}

func TestExec_PreserveFDsThatAreNotThere(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "runc", "runc 1.1.5 hands its own descriptors on instead")
	b, c := sleeping(t)
	refused(t, inside(b, c, []string{"--preserve-fds", "2"}, "true"), "--preserve-fds: descriptor 3")
}

func TestExec_Terminal(t *testing.T) {
	t.Parallel()
	b, c := sleeping(t)
	console, slave := h.OpenPTY(t)
	console.SetSize(20, 70)
	until := `until test "$(stty size)" = "%s"; do sleep 0.02; done; echo now %s; `
	script := "tty; " + strings.ReplaceAll(until, "%s", "20 70") + "read line; echo got:$line; " + strings.ReplaceAll(until, "%s", "21 71") + "exit 6"
	x := b.Command([]string{"--root", b.Root, "exec", "-t", c.ID, "sh", "-c", script}, h.OnTerminal(slave))
	h.Must(t, slave.Close())
	console.WaitText("now 20 70\r\n")
	console.SetSize(21, 71)
	h.Must(t, x.Process.Signal(syscall.SIGWINCH))
	console.Type("word\r")
	console.WaitText("now 21 71")
	if r := x.Finish(); r.Code != 6 {
		t.Errorf("%+v: %q", r, console.Text())
	}
	for _, want := range []string{"/dev/pts/0\r\n", "got:word\r\n"} {
		if !strings.Contains(console.Text(), want) {
			t.Errorf("terminal shows %q, want %q in it", console.Text(), want)
		}
	}
}

// The terminal is the process's controlling one: control-C reaches it, and the caller's
// terminal is raw meanwhile and cooked again afterwards.
func TestExec_TerminalIsControlling(t *testing.T) {
	t.Parallel()
	b, c := sleeping(t)
	console, slave := h.OpenPTY(t)
	defer slave.Close()
	before := h.Termios(t, slave)
	x := b.Command([]string{"--root", b.Root, "exec", "--tty", c.ID, "sh", "-c", "trap 'echo caught; exit 4' INT; : </dev/tty && echo ready; while :; do sleep 0.02; done"}, h.OnTerminal(slave))
	console.WaitText("ready")
	console.Type("\x03")
	if r := x.Finish(); r.Code != 4 {
		t.Errorf("%+v: %q", r, console.Text())
	}
	if h.Termios(t, slave) != before {
		t.Error("the caller's terminal was not restored")
	}
}

func TestExec_ConsoleSocket(t *testing.T) {
	t.Parallel()
	b, c := sleeping(t)
	file, pidFile := filepath.Join(b.Work, "process.json"), filepath.Join(b.Work, "exec.pid")
	raw, err := json.Marshal(specs.Process{
		Terminal: true, ConsoleSize: &specs.Box{Height: 33, Width: 101}, User: specs.User{UID: 1000},
		Args: []string{"/bin/sh", "-c", "tty; stat -L -c '%u %a' /dev/pts/0; echo by name >/dev/pts/0; read line; exit 5"}, Env: []string{"PATH=/bin"}, Cwd: "/",
	})
	h.Must(t, err)
	h.WriteFile(t, file, string(raw), 0o600)
	sock := b.ListenConsole()
	r := inside(b, c, []string{"-d", "-p", file, "--console-socket", sock.Path, "--pid-file", pidFile}).OK(t)
	if r.Stdout+r.Stderr != "" {
		t.Errorf("%+v", r)
	}
	console := sock.Receive()
	x := b.Adopt(c.ID, pidFile)
	console.WaitText("by name\r\n")
	if rows, cols := console.Size(); h.Reference() == "" && (rows != 33 || cols != 101) {
		t.Errorf("size %dx%d, want consoleSize", rows, cols)
	}
	console.Type("\n")
	if code := x.WaitExit(); code != 5 {
		t.Errorf("status %d", code)
	}
	if got := console.Text(); !strings.HasPrefix(got, "/dev/pts/0\r\n1000 620\r\nby name\r\n") {
		t.Errorf("terminal shows %q", got)
	}
}

func TestExec_ConsoleSocketRefused(t *testing.T) {
	t.Parallel()
	b, c := sleeping(t)
	refused(t, inside(b, c, []string{"-d", "-t"}, "true"), "cannot allocate tty if")
	refused(t, inside(b, c, []string{"-d", "--console-socket", "/x"}, "true"), "cannot use console socket if")
	refused(t, inside(b, c, []string{"-t", "--console-socket", "/x"}, "true"), "cannot use console socket if")
	refused(t, inside(b, c, []string{"-d", "-t", "--console-socket", b.Work + "/nobody"}, "sleep", "1000"), "no such file or directory")
	if left := strings.Count(execSh(t, b, c, nil, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"), "sleep 1000"); left != 1 {
		t.Errorf("%d times sleep, want init only", left)
	}
}

func TestExec_SubCgroup(t *testing.T) {
	t.Parallel()
	b, c := sleeping(t)
	dir := b.CgroupV1("pids")
	h.Must(t, os.Mkdir(filepath.Join(dir, "sub"), 0o755))
	h.Must(t, os.Mkdir(dir+"-sibling", 0o755))
	t.Cleanup(func() { _ = os.Remove(dir + "-sibling") })
	own := b.Cgroup[1:]
	for flag, want := range map[string]string{"pids:sub": "/sub", "pids:/sub/": "/sub", "pids:/": "", "/": ""} {
		got := execSh(t, b, c, []string{"--cgroup", flag}, "grep :pids: /proc/self/cgroup")
		if !strings.HasSuffix(got, own+want) {
			t.Errorf("--cgroup %s: %s, want %s at its end", flag, got, own+want)
		}
	}
	for _, flag := range []string{"..", "/..", "sub/../..", "pids:..", "pids:../" + filepath.Base(dir) + "-sibling"} {
		if r := inside(b, c, []string{"--cgroup", flag}, "true"); h.Reference() == "" || !strings.Contains(flag, "sibling") { // runc #5457
			refused(t, r, "sub cgroup path")
		}
	}
	refused(t, inside(b, c, []string{"--cgroup", "missing"}, "true"), "no such file or directory")
	refused(t, inside(b, c, []string{"--cgroup", "bogus:/"}, "true"), "unknown controller")
	refused(t, inside(b, c, []string{"--cgroup", "a", "--cgroup", "b"}, "true"), "missing")
	if h.Reference() == "" {
		refused(t, inside(b, c, []string{"--cgroup", ":a"}, "true"), "--cgroup")
		refused(t, inside(b, c, []string{"--cgroup", "pids:/", "--cgroup", "pids:sub"}, "true"), "--cgroup")
	}
}

func TestExec_LabelsAreNotDropped(t *testing.T) {
	t.Parallel()
	b, c := sleeping(t)
	for _, flags := range [][]string{{"--apparmor", "no-such-profile"}, {"--process-label", "no:such:label"}} {
		if r := inside(b, c, flags, "true"); r.Code != 255 || r.Stderr == "" {
			t.Errorf("%q: %+v", flags, r)
		}
	}
}

// CVE-2024-21626 and its like: neither the runtime's descriptors nor its caller's are
// there, as numbers, as a working directory or as a program.
func TestExec_NoLeakedDescriptors(t *testing.T) {
	t.Parallel()
	b, c := sleeping(t)
	b.Symlink("/bin", "/nothing") // so that the rootfs is not empty of links
	top, err := os.Open("/")
	h.Must(t, err)
	defer top.Close()
	given := h.ExtraFiles(top, top, top, top, top, top)
	if r := b.DoWith([]string{"exec", c.ID, "sh", "-c", "ls /proc/$$/fd; true"}, given); r.Stdout != "0\n1\n2\n" {
		t.Errorf("%+v", r)
	}
	for fd := 3; fd < 20; fd++ {
		path := fmt.Sprintf("/proc/self/fd/%d", fd)
		if r := b.DoWith([]string{"exec", "--cwd", path, c.ID, "sh", "-c", "ls; pwd"}, given); r.Code == 0 && h.Reference() == "" || strings.Contains(r.Stdout, "lib") {
			t.Errorf("cwd %s: %+v", path, r)
		}
		if r := b.DoWith([]string{"exec", c.ID, path + "/bin/echo", "ran"}, given); r.Code == 0 {
			t.Errorf("%s: %+v", path, r)
		}
	}
	// Also through symlinks of the image's making.
	execSh(t, b, c, []string{"--cwd", "/tmp"}, "true")
}

func TestExec_CwdSymlinkToADescriptor(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("sleep", "1000"))
	for fd := 3; fd < 12; fd++ {
		b.Symlink(fmt.Sprintf("/proc/self/fd/%d", fd), fmt.Sprintf("/way%d", fd))
	}
	c := b.Launch()
	for fd := 3; fd < 12; fd++ {
		if r := inside(b, c, []string{"--cwd", fmt.Sprintf("/way%d", fd)}, "sh", "-c", "pwd; ls"); r.Code == 0 {
			t.Errorf("fd %d: %+v", fd, r)
		}
	}
}

// HOME comes from a file of the container, which may be anything.
func TestExec_HostilePasswd(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(b *h.Bundle) error{
		"fifo": func(b *h.Bundle) error { return unix.Mkfifo(b.In("/etc/passwd"), 0o644) },
		"device": func(b *h.Bundle) error {
			return unix.Mknod(b.In("/etc/passwd"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5)))
		},
		"to the host": func(b *h.Bundle) error { return os.Symlink("/proc/1/root/etc/passwd", b.In("/etc/passwd")) },
		"upwards":     func(b *h.Bundle) error { return os.Symlink("../../../../../../../../etc/passwd", b.In("/etc/passwd")) },
		"loop":        func(b *h.Bundle) error { return os.Symlink("passwd", b.In("/etc/passwd")) },
		"huge": func(b *h.Bundle) error {
			f, err := os.Create(b.In("/etc/passwd"))
			f.Truncate(1 << 40)
			f.Close()
			return err
		},
		"other fields": func(b *h.Bundle) error {
			return os.WriteFile(b.In("/etc/passwd"), []byte("x:x:0:0:/a\n::0::\nroot:x:00:0::/b:\n"), 0o644)
		},
	} {
		h.NotFor(t, "runc", "runc 1.1.5 opens whatever is there")
		b := h.New(t, h.Args("sleep", "1000"), h.Env("PATH=/bin", "HOME=/h"))
		h.Must(t, os.Remove(b.In("/etc/passwd")))
		h.Must(t, make(b))
		c := b.Launch()
		file := filepath.Join(b.Work, "process.json")
		h.WriteFile(t, file, `{"args":["/bin/sh","-c","echo $HOME"],"cwd":"/","env":["PATH=/bin"]}`, 0o600)
		if r := inside(b, c, []string{"-p", file}); r.Code != 0 || r.Stdout != "/\n" {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// CVE-2019-5736: the container's processes look at whoever joins them, as fast as they
// can. They must never see the runtime's executable.
func TestExec_ExeIsNeverTheRuntime(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "runc", "runc 1.1.5 shows a read-only bind mount of itself")
	b := h.New(t, h.Sh("while :; do for p in /proc/[0-9]*; do readlink $p/exe; done; done | while read l; do case $l in /bin/busybox) ;; *) echo $l;; esac; done"), h.AllCaps("CAP_SYS_PTRACE"))
	c := b.Launch()
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		inside(b, c, nil, "true").OK(t)
	}
	for _, line := range h.Lines(c.Stdout()) {
		if !strings.HasPrefix(line, "/memfd:adl-init") {
			t.Errorf("seen from inside: %s", line)
		}
	}
	if r := inside(b, c, nil, "/proc/self/exe"); r.Code == 0 {
		t.Errorf("/proc/self/exe as the program: %+v", r)
	}
	c.Delete("--force")
}

// CVE-2016-9962: a process that appears in the container has no more privileges than the
// container gives it, from the first moment that anybody inside could trace it.
func TestExec_NoPtraceWindow(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "runc and crun drop capabilities in the container's pid namespace")
	script := "while :; do cat /proc/[0-9]*/status 2>/dev/null; done | while read k v rest; do case $k in Uid:|CapPrm:|CapBnd:) echo $k $v;; esac; done"
	b := h.New(t, h.Sh(script), h.AllCaps("CAP_SYS_PTRACE", "CAP_KILL"))
	c := b.Launch()
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); {
		inside(b, c, []string{"--user", "1000"}, "true").OK(t)
	}
	seen := map[string]int{}
	for _, line := range h.Lines(c.Stdout()) {
		seen[line]++
	}
	for line := range seen {
		_, hex, ok := strings.Cut(line, " 00")
		caps, err := strconv.ParseUint(hex, 16, 64)
		if ok && len(hex) == 14 && (err != nil || caps&^0x80020 != 0) { // what is shorter was cut off by the end
			t.Errorf("seen from inside: %s", line)
		}
	}
	if seen["Uid: 1000"] == 0 {
		t.Logf("nobody was caught: %v", seen)
	}
	c.Delete("--force")
}

// Two hundred probes a second on one container: nothing stays behind, neither in the
// container nor in its cgroup, that would make the next one slower.
func TestExec_Probes(t *testing.T) {
	t.Parallel()
	b, c := sleeping(t)
	for range 4 {
		done := make(chan h.Result, 10)
		for range 10 {
			go func() { done <- inside(b, c, nil, "true") }()
		}
		for range 10 {
			if r := <-done; r.Code != 0 {
				t.Errorf("%+v", r)
			}
		}
	}
	if got := execSh(t, b, c, nil, "set -- /proc/[0-9]*; echo $#"); got != "2" { // init and this one
		t.Errorf("%s processes", got)
	}
	if names, err := os.ReadDir(filepath.Join(b.Root, c.ID)); err != nil || len(names) > 3 {
		t.Errorf("state: %v, %v", names, err)
	}
}

func TestExec_CPUAffinity(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "execCPUAffinity came with runc 1.3")
	b, c := sleeping(t, func(s *specs.Spec) { s.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "0", Final: "0"} })
	if got := h.StatusField(t, execSh(t, b, c, nil, "cat /proc/self/status"), "Cpus_allowed_list"); got != "0" {
		t.Errorf("CPUs %s", got)
	}
	b2 := h.New(t, func(s *specs.Spec) { s.Process.ExecCPUAffinity = &specs.CPUAffinity{Final: "x"} })
	b2.Run().Fails(t, "process.execCPUAffinity.final").Fails(t, "not a list of CPUs")
}
