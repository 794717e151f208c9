package bundle_test

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	h "adl.run/adl-runtime/tests/harness"
)

func TestProcess_Args(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("printf", "[%s]", "a b", "", "$HOME", "ü\n", `"'\`))
	if got, want := b.Out(), "[a b][][$HOME][ü\n][\"'\\]"; got != want {
		t.Errorf("arguments arrived as %q, want %q", got, want)
	}
}

func TestProcess_ArgsIsSearchedInTheContainersPath(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("tool"))
	b.Spec.Process.Env = []string{"PATH=/nothing:/opt/bin:/bin"}
	b.File("/opt/bin/tool", "#!/bin/sh\necho found $0\n")
	h.Must(t, os.Chmod(b.In("/opt/bin/tool"), 0o755))
	if got := b.Out(); got != "found /opt/bin/tool" {
		t.Errorf("%q", got)
	}
}

func TestProcess_ArgsWithoutAPath(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun searches a path of its own")
	for _, env := range [][]string{nil, {"PATH="}} {
		b := h.New(t, h.Args("true"), h.Cwd("/bin"))
		b.Spec.Process.Env = env
		b.Run().Refused(t, "true", "executable file not found in $PATH")
	}
}

func TestProcess_ArgsRelativeToCwd(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("./tool"), h.Cwd("/opt/bin"))
	b.File("/opt/bin/tool", "#!/bin/sh\npwd\n")
	h.Must(t, os.Chmod(b.In("/opt/bin/tool"), 0o755))
	if got := b.Out(); got != "/opt/bin" {
		t.Errorf("%q", got)
	}
}

func TestProcess_Env(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("env"))
	b.Spec.Process.Env = []string{"PATH=/bin", "A=1", "B=two words", "EMPTY=", "EQ=a=b", "HOME=/h"}
	got := h.Lines(b.Out(h.Environ("SECRET_OF_THE_HOST=1")))
	for _, want := range b.Spec.Process.Env {
		if !slices.Contains(got, want) {
			t.Errorf("no %q in the environment %q", want, got)
		}
	}
	if len(got) != len(b.Spec.Process.Env) {
		t.Errorf("environment %q, want exactly %q", got, b.Spec.Process.Env)
	}
}

func TestProcess_EnvHomeFromPasswd(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun sets HOME by other rules")
	b := h.New(t, h.Sh("echo $HOME"), h.User(1000, 1000))
	if got := b.Out(); got != "/home/user" {
		t.Errorf("HOME is %q, want the one of etc/passwd in the rootfs", got)
	}
}

func TestProcess_Cwd(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("pwd"), h.Cwd("/mnt"))
	if got := b.Out(); got != "/mnt" {
		t.Errorf("%q", got)
	}
}

func TestProcess_CwdIsCreated(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("pwd; stat -c '%a %u:%g' ."), h.Cwd("/made/for/me"))
	if got := b.Out(); got != "/made/for/me\n755 0:0" {
		t.Errorf("%q", got)
	}
}

func TestProcess_CwdIsOnAMount(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("pwd; ls"), h.Cwd("/data/sub"))
	h.Must(t, os.MkdirAll(b.Work+"/src/sub/x", 0o755))
	b.Set(h.Mount("/data", "bind", b.Work+"/src", "bind"))
	if got := b.Out(); got != "/data/sub\nx" {
		t.Errorf("%q", got)
	}
}

func TestProcess_CwdUnreachable(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("pwd"), h.Cwd("/etc/passwd"))
	r := b.Run()
	if r.Code == 0 {
		t.Errorf("cwd is a regular file, but the container ran: %+v", r)
	}
}

// Only root may enter the directory, but the runtime enters it before it changes
// the user, as runc does.
func TestProcess_CwdOfAnotherUser(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("pwd"), h.Cwd("/private"), h.User(1000, 1000))
	h.Must(t, os.Mkdir(b.In("/private"), 0o700))
	if got := b.Out(); got != "/private" {
		t.Errorf("%q", got)
	}
}

// A home on a file system that root may not enter, but the user may (NFS with
// root_squash): here a directory of the user's, for a root without capabilities.
func TestProcess_CwdOfTheUser(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("pwd"), h.Cwd("/home/user"), h.User(1000, 1000), h.AllCaps())
	h.Must(t, os.MkdirAll(b.In("/home/user"), 0o755))
	h.Must(t, os.Chown(b.In("/home/user"), 1000, 1000))
	h.Must(t, os.Chmod(b.In("/home/user"), 0o700))
	if got := b.Out(); got != "/home/user" {
		t.Errorf("%q", got)
	}
}

func TestProcess_User(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("grep -E '^(Uid|Gid|Groups):' /proc/self/status | tr '\t' ' '"), h.User(1000, 2000, 3000, 4000))
	want := "Uid: 1000 1000 1000 1000\nGid: 2000 2000 2000 2000\nGroups: 3000 4000"
	got := strings.TrimRight(strings.ReplaceAll(b.Out(), "  ", " "), " ")
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestProcess_UserHasNoGroupsOfTheCaller(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("grep ^Groups: /proc/self/status"))
	withGroups := func(c *command) {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Groups: []uint32{12, 34}}}
	}
	if got := strings.Fields(b.Out(withGroups)); len(got) != 1 {
		t.Errorf("supplementary groups leaked: %q", got)
	}
}

func TestProcess_Umask(t *testing.T) {
	t.Parallel()
	for _, umask := range []uint32{0o022, 0o077, 0} {
		b := h.New(t, h.Sh("umask; mkdir /tmp/d; stat -c %a /tmp/d"), h.Writable())
		b.Spec.Process.User.Umask = h.Ptr(umask)
		want := fmt.Sprintf("%04o\n%o", umask, 0o777&^umask)
		if got := b.Out(); got != want {
			t.Errorf("umask %o: got %q, want %q", umask, got, want)
		}
	}
}

func TestProcess_UmaskDefault(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("umask"))
	if got := b.Out(); got != "0022" {
		t.Errorf("%q", got)
	}
}

// Numbers from include/uapi/linux/capability.h.
const (
	capChown  = 1 << 0
	capKill   = 1 << 5
	capBind   = 1 << 10
	capChroot = 1 << 18
)

func TestProcess_Capabilities(t *testing.T) {
	t.Parallel()
	type sets struct{ Inh, Prm, Eff, Bnd, Amb uint64 }
	names := func(n ...string) []string { return n }
	cases := []struct {
		name string
		uid  uint32
		nnp  bool
		caps specs.LinuxCapabilities
		want sets
	}{
		{"root, three sets", 0, true, specs.LinuxCapabilities{
			Bounding: names("CAP_CHOWN", "CAP_KILL"), Permitted: names("CAP_CHOWN", "CAP_KILL"), Effective: names("CAP_CHOWN", "CAP_KILL"),
		}, sets{Prm: capChown | capKill, Eff: capChown | capKill, Bnd: capChown | capKill}},
		{"root, none", 0, true, specs.LinuxCapabilities{}, sets{}},
		// capabilities(7): without no_new_privs an execve by uid 0 gains the bounding set.
		{
			"root, bounding only", 0, false,
			specs.LinuxCapabilities{Bounding: names("CAP_CHOWN", "CAP_KILL")},
			sets{Prm: capChown | capKill, Eff: capChown | capKill, Bnd: capChown | capKill},
		},
		{
			"root, bounding only, no new privileges", 0, true,
			specs.LinuxCapabilities{Bounding: names("CAP_CHOWN", "CAP_KILL")},
			sets{Bnd: capChown | capKill},
		},
		{"user loses permitted", 1000, false, specs.LinuxCapabilities{
			Bounding: names("CAP_CHOWN", "CAP_KILL"), Permitted: names("CAP_CHOWN"), Effective: names("CAP_CHOWN"),
		}, sets{Bnd: capChown | capKill}},
		{"user keeps ambient", 1000, true, specs.LinuxCapabilities{
			Bounding:    names("CAP_NET_BIND_SERVICE", "CAP_KILL"),
			Permitted:   names("CAP_NET_BIND_SERVICE", "CAP_KILL"),
			Effective:   names("CAP_NET_BIND_SERVICE", "CAP_KILL"),
			Inheritable: names("CAP_NET_BIND_SERVICE"), Ambient: names("CAP_NET_BIND_SERVICE"),
		}, sets{Inh: capBind, Prm: capBind, Eff: capBind, Bnd: capBind | capKill, Amb: capBind}},
		{"user with inheritable only", 1000, false, specs.LinuxCapabilities{
			Bounding: names("CAP_SYS_CHROOT"), Permitted: names("CAP_SYS_CHROOT"), Effective: names("CAP_SYS_CHROOT"), Inheritable: names("CAP_SYS_CHROOT"),
		}, sets{Inh: capChroot, Bnd: capChroot}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := h.New(t, h.Args("cat", "/proc/self/status"), h.Caps(c.caps), h.NoNewPrivileges(c.nnp), h.User(c.uid, 0))
			status := b.Out()
			want := map[string]uint64{"CapInh": c.want.Inh, "CapPrm": c.want.Prm, "CapEff": c.want.Eff, "CapBnd": c.want.Bnd, "CapAmb": c.want.Amb}
			for field, bits := range want {
				if got := h.StatusField(t, status, field); got != fmt.Sprintf("%016x", bits) {
					t.Errorf("%s is %s, want %016x", field, got, bits)
				}
			}
		})
	}
}

func TestProcess_Rlimits(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("cat", "/proc/self/limits"), h.Rlimits(
		specs.POSIXRlimit{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 200},
		specs.POSIXRlimit{Type: "RLIMIT_CORE", Soft: 0, Hard: 0},
		specs.POSIXRlimit{Type: "RLIMIT_STACK", Soft: 4 << 20, Hard: 16 << 20},
		specs.POSIXRlimit{Type: "RLIMIT_NPROC", Soft: 50, Hard: 60},
	))
	limits := b.Out()
	for name, want := range map[string]string{
		"Max open files": "100 200 files", "Max core file size": "0 0 bytes",
		"Max stack size": "4194304 16777216 bytes", "Max processes": "50 60 processes",
	} {
		if got := limitLine(limits, name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// limitLine returns the soft limit, hard limit and unit of a /proc/PID/limits line.
func limitLine(limits, name string) string {
	for _, line := range h.Lines(limits) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.Join(strings.Fields(rest), " ")
		}
	}
	return ""
}

// Go raises its own soft RLIMIT_NOFILE to the hard one at start; the container must
// not get the raised value.
func TestProcess_RlimitsInherited(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "runc", "runc 1.1.5 passes on the limit that the Go runtime raised, fixed in 1.1.9")
	b := h.New(t, h.Args("cat", "/proc/self/limits"), h.Rlimits())
	wrapped := func(c *command) {
		c.Args = append([]string{"sh", "-c", `ulimit -S -n 333; ulimit -H -n 999; exec "$0" "$@"`}, append([]string{c.Path}, c.Args[1:]...)...)
		c.Path = "/bin/sh"
	}
	if got := limitLine(b.Out(wrapped), "Max open files"); got != "333 999 files" {
		t.Errorf("Max open files: %q, want the inherited \"333 999 files\"", got)
	}
}

func TestProcess_NoNewPrivileges(t *testing.T) {
	t.Parallel()
	for _, on := range []bool{true, false} {
		b := h.New(t, h.Args("cat", "/proc/self/status"), h.NoNewPrivileges(on))
		want := map[bool]string{true: "1", false: "0"}[on]
		if got := h.StatusField(t, b.Out(), "NoNewPrivs"); got != want {
			t.Errorf("noNewPrivileges %v: %q", on, got)
		}
	}
}

func TestProcess_OOMScoreAdj(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("cat", "/proc/self/oom_score_adj"))
	b.Spec.Process.OOMScoreAdj = h.Ptr(437)
	if got := b.Out(); got != "437" {
		t.Errorf("%q", got)
	}
}

func TestProcess_OOMScoreAdjInherited(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("cat", "/proc/self/oom_score_adj"))
	if got, want := b.Out(), strings.TrimSpace(h.ReadFile(t, "/proc/self/oom_score_adj")); got != want {
		t.Errorf("%q, want the caller's %q", got, want)
	}
}

func TestProcess_Stdin(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("cat"))
	if got := b.Out(h.Stdin("first\nsecond")); got != "first\nsecond" {
		t.Errorf("%q", got)
	}
}

func TestProcess_StdoutAndStderr(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("echo out; echo err >&2"))
	r := b.Run().OK(t)
	if r.Stdout != "out\n" || r.Stderr != "err\n" {
		t.Errorf("stdout %q, stderr %q", r.Stdout, r.Stderr)
	}
}

func TestProcess_ExitStatus(t *testing.T) {
	t.Parallel()
	for _, code := range []int{0, 1, 7, 125, 255} {
		b := h.New(t, h.Sh(fmt.Sprintf("exit %d", code)))
		if r := b.Run(); r.Code != code || r.Stderr != "" {
			t.Errorf("exit %d: status %d, stderr %q", code, r.Code, r.Stderr)
		}
	}
}

func TestProcess_ExitStatusOfASignal(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("echo ready; exec sleep 100"))
	run := b.StartRun()
	run.WaitOutput("ready")
	b.Do("kill", lastArg(run), "KILL").OK(t)
	if r := run.Finish(); r.Code != 128+9 {
		t.Errorf("status %d, want 137", r.Code)
	}
}

// In the host's pid namespace init has no special protection, so any signal ends it.
func TestProcess_ExitStatusOfASignalInTheHostsPidNamespace(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("kill -TERM $$"), h.WithoutNamespace(specs.PIDNamespace))
	if r := b.Run(); r.Code != 128+15 {
		t.Errorf("status %d, want 143", r.Code)
	}
}

func TestProcess_SignalsAreForwarded(t *testing.T) {
	t.Parallel()
	for sig, code := range map[syscall.Signal]int{syscall.SIGTERM: 41, syscall.SIGHUP: 42, syscall.SIGUSR1: 43, syscall.SIGINT: 44} {
		if signal.Ignored(sig) { // by nohup(1), and so by everybody
			t.Logf("%v is ignored here", sig)
			continue
		}
		b := h.New(t, h.Sh("trap 'exit 41' TERM; trap 'exit 42' HUP; trap 'exit 43' USR1; trap 'exit 44' INT; echo ready; while :; do sleep 0.02; done"))
		run := b.StartRun()
		run.WaitOutput("ready")
		h.Must(t, run.Process.Signal(sig))
		if r := run.Finish(); r.Code != code {
			t.Errorf("%v: status %d, want %d", sig, r.Code, code)
		}
	}
}

// A background process of the container must not keep the foreground run waiting,
// nor outlive it.
func TestProcess_ForegroundRunEndsWithInit(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("sleep 1000 & setsid sleep 1000 & exit 3"))
	if r := b.Run(); r.Code != 3 {
		t.Errorf("status %d, want 3", r.Code)
	}
}

func TestProcess_IsPid1InASessionOfItsOwn(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("echo $$; cut -d' ' -f5,6 /proc/1/stat"))
	if got := b.Out(); got != "1\n1 1" {
		t.Errorf("pid, process group and session: %q, want 1 each", got)
	}
}

func TestProcess_SignalMaskAndDispositionsAreClean(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("cat", "/proc/self/status"))
	status := b.Out()
	for _, field := range []string{"SigBlk", "SigIgn", "SigPnd"} {
		if got := h.StatusField(t, status, field); got != "0000000000000000" {
			t.Errorf("%s is %s, want none", field, got)
		}
	}
}

// The runtime slows a thread of its own down by its timer slack, which is inherited.
func TestProcess_TimerSlackIsTheCallers(t *testing.T) {
	hook := filepath.Join(t.TempDir(), "hook")
	b := h.New(t, h.Args("cat", "/proc/self/timerslack_ns"), func(s *specs.Spec) {
		s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "cat /proc/self/timerslack_ns >>" + hook}}}}
	})
	const mine = 70_123 // ns
	runtime.LockOSThread()
	before, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	h.Must(t, err)
	h.Must(t, unix.Prctl(unix.PR_SET_TIMERSLACK, mine, 0, 0, 0))
	defer func() {
		h.Must(t, unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(before), 0, 0, 0))
		runtime.UnlockOSThread()
	}()
	for range 8 { // whichever thread starts it
		if got := b.Out(); got != strconv.Itoa(mine) {
			t.Errorf("timer slack %s ns, want %d", got, mine)
		}
	}
	if got := h.ReadFile(t, hook); got != strings.Repeat(strconv.Itoa(mine)+"\n", 8) {
		t.Errorf("timer slack of the hook is %q", got)
	}
}
