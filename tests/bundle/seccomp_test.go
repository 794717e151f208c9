package bundle_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	h "adl.run/adl-runtime/tests/harness"
)

// denied is a profile that lets everything pass but mkdir, which fails with errno.
func denied(action specs.LinuxSeccompAction, errno uint) *specs.LinuxSeccomp {
	s := &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow,
		Syscalls:      []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: action}},
	}
	if errno != 0 {
		s.Syscalls[0].ErrnoRet = &errno
	}
	return s
}

func TestSeccomp_Errno(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		edit func(*specs.Spec)
	}{
		{"root", func(*specs.Spec) {}},
		{"a user", func(s *specs.Spec) { s.Process.User = specs.User{UID: 1000, GID: 1000} }},
		{"no capabilities", func(s *specs.Spec) { s.Process.Capabilities = &specs.LinuxCapabilities{} }},
		{"a user without new privileges", func(s *specs.Spec) {
			s.Process.User = specs.User{UID: 1000, GID: 1000}
			s.Process.NoNewPrivileges = true
		}},
	} {
		b := h.New(t, h.Sh("grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status; mkdir /tmp/x 2>&1; echo end"), c.edit)
		b.Spec.Linux.Seccomp = denied(specs.ActErrno, uint(unix.EXDEV))
		out := b.Out()
		want := "NoNewPrivs:\t0\nSeccomp:\t2\n"
		if b.Spec.Process.NoNewPrivileges {
			want = "NoNewPrivs:\t1\nSeccomp:\t2\n"
		}
		if !strings.HasPrefix(out, want) || !strings.Contains(out, "cross-device") && !strings.Contains(out, "Invalid cross") || !strings.HasSuffix(out, "end") {
			t.Errorf("%s: %q", c.name, out)
		}
	}
}

// The capability that loading the filter takes does not stay.
func TestSeccomp_CapabilitiesAreTheSpecs(t *testing.T) {
	t.Parallel()
	show := "grep ^Cap /proc/self/status"
	for _, user := range []specs.User{{}, {UID: 1000, GID: 1000}} {
		plain := h.New(t, h.Sh(show))
		filtered := h.New(t, h.Sh(show))
		filtered.Spec.Linux.Seccomp = denied(specs.ActErrno, 0)
		plain.Spec.Process.User, filtered.Spec.Process.User = user, user
		if a, b := plain.Out(), filtered.Out(); a != b {
			t.Errorf("user %d: without a filter\n%s\nwith one\n%s", user.UID, a, b)
		}
	}
}

func TestSeccomp_Kill(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("mkdir /tmp/x; echo $?"))
	b.Spec.Linux.Seccomp = denied(specs.ActKillProcess, 0)
	if got := b.Out(); !strings.HasSuffix(got, "159") {
		t.Errorf("%q, want the status of a shell whose child has ended by SIGSYS", got)
	}
	own := h.New(t, h.Args("mkdir", "/tmp/x"))
	own.Spec.Linux.Seccomp = denied(specs.ActKillProcess, 0)
	if r := own.Run(); r.Code != 159 {
		t.Errorf("exit status %d, want 128 + SIGSYS", r.Code)
	}
}

// A profile need not allow what the runtime does: execve and what the program calls.
func TestSeccomp_TightProfile(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "others load the filter earlier, and need more calls")
	b := h.New(t, h.Args("true"))
	errno := uint(unix.ENOSYS)
	b.Spec.Linux.Seccomp = &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno, DefaultErrnoRet: &errno,
		Syscalls: []specs.LinuxSyscall{{Action: specs.ActAllow, Names: []string{
			"execve", "exit_group", "brk", "arch_prctl", "getrandom", "getuid", "mprotect", "prctl", "prlimit64", "readlink",
			"rseq", "set_robust_list", "set_tid_address",
		}}},
	}
	b.Run().OK(t)
	c := b.Create()
	c.Start()
	if code := c.WaitExit(); code != 0 {
		t.Errorf("created and started: exit status %d", code)
	}
}

func TestSeccomp_StartContainerHook(t *testing.T) {
	t.Parallel()
	b := newHookBundle(t, h.Sh("cat /filter"), h.Writable())
	b.Set(h.HookSet(specs.Hooks{StartContainer: []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "grep ^Seccomp: /proc/self/status >/filter"}}}}))
	b.Spec.Linux.Seccomp = denied(specs.ActErrno, 0)
	if got := b.Out(); got != "Seccomp:\t2" {
		t.Errorf("the hook has %q", got)
	}
}

func TestSeccomp_BadInput(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "the words are this project's")
	index := func(n uint) specs.LinuxSyscall {
		return specs.LinuxSyscall{Names: []string{"mkdir"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: n, Op: specs.OpEqualTo}}}
	}
	for _, c := range []struct {
		field string
		s     specs.LinuxSeccomp
	}{
		{"linux.seccomp.defaultAction", specs.LinuxSeccomp{DefaultAction: "SCMP_ACT_MAYBE"}},
		{"linux.seccomp.architectures[0]", specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{"SCMP_ARCH_VAX"}}},
		{"linux.seccomp.flags[0]", specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"NOPE"}}},
		{"linux.seccomp.syscalls[0].args[0].index", specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{index(6)}}},
	} {
		b := h.New(t, h.Args("true"))
		b.Spec.Linux.Seccomp = &c.s
		b.Run().Refused(t, c.field, "-")
	}
}

// An unknown name in a profile is a call that this kernel lacks, too.
func TestSeccomp_UnknownCallIsSkipped(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("echo", "fine"))
	b.Spec.Linux.Seccomp = denied(specs.ActErrno, 0)
	b.Spec.Linux.Seccomp.Syscalls = append(b.Spec.Linux.Seccomp.Syscalls, specs.LinuxSyscall{Names: []string{"no_such_call"}, Action: specs.ActKillProcess})
	if got := b.Out(); got != "fine" {
		t.Errorf("%q", got)
	}
}

// agent answers for SCMP_ACT_NOTIFY.
type agent struct {
	path string
	got  chan specs.ContainerProcessState
	errs chan error
}

func newAgent(t *testing.T) *agent {
	t.Helper()
	a := &agent{path: filepath.Join(t.TempDir(), "agent.sock"), got: make(chan specs.ContainerProcessState, 4), errs: make(chan error, 4)}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: a.path, Net: "unix"})
	h.Must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				return
			}
			go func() { a.errs <- a.serve(conn) }()
		}
	}()
	return a
}

func (a *agent) serve(conn *net.UnixConn) error {
	defer conn.Close()
	buf, oob := make([]byte, 64<<10), make([]byte, 64)
	n, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
	if err != nil {
		return err
	}
	var s specs.ContainerProcessState
	if err := json.Unmarshal(buf[:n], &s); err != nil {
		return err
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(msgs) != 1 {
		return errors.Join(err, errors.New("no control message"))
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return errors.Join(err, errors.New("not one descriptor"))
	}
	defer unix.Close(fds[0])
	a.got <- s
	return answer(fds[0])
}

// answer waits for a call. To close the listener then makes it fail with ENOSYS
// (seccomp_unotify(2)).
func answer(fd int) error {
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000); err != nil || n != 1 {
		return errors.Join(err, errors.New("no call came"))
	}
	return nil
}

func (a *agent) state(t *testing.T) specs.ContainerProcessState {
	t.Helper()
	select {
	case s := <-a.got:
		return s
	case <-time.After(10 * time.Second):
		t.Fatal("the agent was told nothing")
		panic("unreachable")
	}
}

func notified(path string) *specs.LinuxSeccomp {
	s := denied(specs.ActNotify, 0)
	s.ListenerPath, s.ListenerMetadata = path, "meta data"
	return s
}

func TestSeccomp_Notify(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	b := h.New(t, h.Sh("mkdir /tmp/x 2>&1"))
	b.Spec.Linux.Seccomp = notified(a.path)
	r := b.Run()
	if !strings.Contains(r.Stdout, "not implemented") {
		t.Errorf("%+v", r)
	}
	s := a.state(t)
	if s.Metadata != "meta data" || !slices.Equal(s.Fds, []string{specs.SeccompFdName}) || s.Pid == 0 || s.State.ID == "" || s.State.Bundle != b.Dir || s.State.Status != specs.StateCreating {
		t.Errorf("the agent was told %+v", s)
	}
	if err := <-a.errs; err != nil {
		t.Error(err)
	}
}

func TestSeccomp_NotifyExec(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	b := h.New(t, h.Sh("sleep 1000"))
	b.Spec.Linux.Seccomp = notified(a.path)
	c := b.Launch()
	first := a.state(t) // init's; it never makes a directory
	r := b.Do("exec", c.ID, "mkdir", "/tmp/y")
	if r.Code == 0 || !strings.Contains(r.Stderr, "not implemented") {
		t.Errorf("%+v", r)
	}
	if s := a.state(t); s.State.Status != specs.StateRunning || s.Pid == first.Pid || s.State.Pid != first.Pid {
		t.Errorf("the agent was told %+v", s)
	}
	c.Delete("--force")
}

func TestSeccomp_NotifyWithoutAgent(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("true"))
	b.Spec.Linux.Seccomp = notified(filepath.Join(t.TempDir(), "nobody"))
	_, r := b.TryCreate(nil)
	r.Refused(t, "linux.seccomp.listenerPath", "-")
}

func TestSeccomp_Exec(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("sleep 1000"))
	b.Spec.Linux.Seccomp = denied(specs.ActErrno, 0)
	c := b.Launch()
	for _, flags := range [][]string{nil, {"--user", "1000:1000"}, {"--no-new-privs"}} {
		args := append(append([]string{"exec"}, flags...), c.ID, "grep", "^Seccomp:", "/proc/self/status")
		if r := b.Do(args...).OK(t); r.Stdout != "Seccomp:\t2\n" {
			t.Errorf("exec %v: %+v", flags, r)
		}
	}
	c.Delete("--force")
}

// What Docker and podman give every container.
func TestSeccomp_DefaultProfiles(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"docker", "podman"} {
		raw, err := os.ReadFile("../../libsandbox/security/seccomp/testdata/" + name + ".json")
		h.Must(t, err)
		b := h.New(t, h.Sh("grep ^Seccomp: /proc/self/status; unshare -U true 2>&1; ls / >/dev/null && echo end"))
		h.Must(t, json.Unmarshal(raw, &b.Spec.Linux.Seccomp))
		out := b.Out()
		if !strings.HasPrefix(out, "Seccomp:\t2\n") || !strings.HasSuffix(out, "end") {
			t.Errorf("%s: %q", name, out)
		}
	}
}

// The hook has no listener, and so no flags for one.
func TestSeccomp_NotifyAndHook(t *testing.T) {
	t.Parallel()
	a := newAgent(t)
	b := h.New(t, h.Args("true"), h.HookSet(specs.Hooks{StartContainer: []specs.Hook{{Path: "/bin/true"}}}))
	b.Spec.Linux.Seccomp = notified(a.path)
	b.Spec.Linux.Seccomp.Flags = []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagWaitKillableRecv}
	b.Run().OK(t)
}

// In a pid namespace that others are in, a container that waits for its start has no
// more capabilities than its process will have: they may trace it.
func TestSeccomp_SharedPidNamespace(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "runc 1.1 loads the profile before it has finished, and needs more calls")
	host := h.New(t, h.Sh("sleep 1000"))
	first := host.Launch()
	b := h.New(t, h.Args("true"))
	for i, ns := range b.Spec.Linux.Namespaces {
		if ns.Type == specs.PIDNamespace {
			b.Spec.Linux.Namespaces[i].Path = fmt.Sprintf("/proc/%d/ns/pid", first.Pid)
		}
	}
	b.Spec.Process.NoNewPrivileges = false
	b.Spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL"}, Permitted: []string{"CAP_KILL"}, Effective: []string{"CAP_KILL"}}
	b.Spec.Linux.Seccomp = denied(specs.ActErrno, 0)
	c := b.Create()
	status := h.ReadFile(t, fmt.Sprintf("/proc/%d/status", c.Pid))
	for _, want := range []string{"CapPrm:\t0000000000000020\n", "CapEff:\t0000000000000020\n", "Seccomp:\t2\n"} {
		if !strings.Contains(status, want) {
			t.Errorf("no %q in\n%s", want, status)
		}
	}
	c.Start()
	if code := c.WaitExit(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	first.Delete("--force")
}
