package shell

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// starter is in the environment of this program where it is to become a shell.
const starter = "SHELL_TEST_STARTER"

func TestMain(m *testing.M) {
	if path := os.Getenv(starter); path != "" {
		fmt.Fprintln(os.Stderr, becomeShell(path))
		os.Exit(127)
	}
	before := descriptors()
	code := m.Run()
	if after := descriptors(); code == 0 && after > before+2 { // the poller's
		fmt.Fprintf(os.Stderr, "%d descriptors are left open\n", after-before)
		code = 1
	}
	if left := childrenOf(os.Getpid()); code == 0 && len(left) > 0 {
		fmt.Fprintf(os.Stderr, "processes are left: %v\n", left)
		code = 1
	}
	os.Exit(code)
}

// descriptors is how many this process has open.
func descriptors() int {
	fds, _ := os.ReadDir("/proc/self/fd")
	return len(fds)
}

// becomeShell does what Process asks for, and executes the arguments.
func becomeShell(path string) error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	if err := unix.Dup3(3, DirFD, 0); err != nil {
		return err
	}
	unix.Close(3)
	os.Unsetenv(starter)
	return unix.Exec(path, os.Args, os.Environ())
}

// startLocal starts a shell on this machine.
func startLocal(_ context.Context, o *StartOptions) (*Process, error) {
	path, err := exec.LookPath(o.Args[0])
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args, cmd.Dir = o.Args, o.Cwd
	cmd.Env = append(append([]string{}, o.Env...), starter+"="+path)
	cmd.ExtraFiles = []*os.File{o.Dir}
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	p := &Process{}
	if o.Terminal {
		if p.Console, err = openTerminal(cmd); err != nil {
			return nil, err
		}
	} else {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = o.Stdin, o.Stdout, o.Stdout
	}
	err = cmd.Start()
	if o.Terminal {
		cmd.Stdin.(*os.File).Close()
	}
	if err != nil {
		return nil, err
	}
	p.Pid = cmd.Process.Pid
	p.Wait = func() (unix.WaitStatus, error) {
		_ = cmd.Wait()
		return unix.WaitStatus(cmd.ProcessState.Sys().(syscall.WaitStatus)), nil
	}
	return p, nil
}

// shells are the kinds of shells that are known.
func shells() map[string][]string {
	return map[string][]string{"bash": {"bash"}, "dash": {"dash"}, "ash": {"busybox", "ash"}}
}

// eachShell runs a test with every shell on this machine.
func eachShell(t *testing.T, f func(t *testing.T, s *Session)) {
	t.Helper()
	eachShellWith(t, Options{}, f)
}

func eachShellWith(t *testing.T, o Options, f func(t *testing.T, s *Session)) {
	t.Helper()
	for name, args := range shells() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := o
			o.Args = args
			f(t, session(t, &o))
		})
	}
}

// session makes a session with a shell of this machine.
func session(t testing.TB, o *Options) *Session {
	t.Helper()
	if _, err := exec.LookPath(o.Args[0]); err != nil {
		t.Skipf("%s is not installed", o.Args[0])
	}
	dir := t.TempDir()
	d := filepath.Join(dir, "session")
	home := filepath.Join(dir, "home")
	for _, name := range []string{d, home} {
		if err := os.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if o.Dir, err = os.Open(d); err != nil {
		t.Fatal(err)
	}
	if o.Home == "" {
		o.Home = home
	}
	o.Start = startLocal
	o.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + home}, o.Env...)
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if left, _ := os.ReadDir(d); len(left) != 0 {
			t.Errorf("left in the directory: %v", left)
		}
	})
	return s
}

// run runs a command that must not fail on this side.
func (s *Session) run(t testing.TB, text string) *Result {
	t.Helper()
	return s.runCommand(t, &Command{Text: text})
}

func (s *Session) runCommand(t testing.TB, c *Command) *Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	r, err := s.Run(ctx, c)
	if err != nil {
		t.Fatalf("%.200q: %v", c.Text, err)
	}
	return r
}

// want runs a command and compares its stdout and status.
func (s *Session) want(t testing.TB, text, stdout string, status int) *Result {
	t.Helper()
	r := s.run(t, text)
	if string(r.Stdout) != stdout || r.ExitStatus != status {
		t.Errorf("%.200q: stdout %.200q, status %d, want %.200q, %d; stderr %.300q, %+v", text, r.Stdout, r.ExitStatus, stdout, status, r.Stderr, *r)
	}
	return r
}

// alive says whether the session answers, in the shell that it had.
func (s *Session) alive(t testing.TB) {
	t.Helper()
	r := s.want(t, "echo ok", "ok\n", 0)
	if r.Restarted || len(r.Stderr) != 0 {
		t.Errorf("echo ok: %+v", r)
	}
}

// openTerminal gives a command a pseudo terminal, and returns its master.
func openTerminal(cmd *exec.Cmd) (*os.File, error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		return nil, err
	}
	fd, err := unix.IoctlRetInt(int(master.Fd()), unix.TIOCGPTPEER)
	if err != nil {
		return nil, err
	}
	slave := os.NewFile(uintptr(fd), "slave")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr.Setctty = true
	return master, nil
}
