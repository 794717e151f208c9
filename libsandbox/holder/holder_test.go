package holder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
	"adl.run/adl-runtime/libsandbox/shell"
)

// dialer is in the environment of this program where it is to ask a holder, as another user.
const dialer = "HOLDER_TEST_DIAL"

func TestMain(m *testing.M) {
	if path := os.Getenv(dialer); path != "" {
		fmt.Println(dialAndList(path))
		os.Exit(0)
	}
	before := descriptors()
	code := m.Run()
	after := descriptors()
	for end := time.Now().Add(5 * time.Second); after > before+2 && time.Now().Before(end); after = descriptors() { // the poller's
		time.Sleep(10 * time.Millisecond) // who waits for the last client's end may be on the way
	}
	if code == 0 && after > before+2 {
		fmt.Fprintf(os.Stderr, "%d descriptors are left open\n", after-before)
		code = 1
	}
	os.Exit(code)
}

func descriptors() int {
	fds, _ := os.ReadDir("/proc/self/fd")
	return len(fds)
}

func dialAndList(path string) error {
	fd, err := dial(path)
	if err != nil {
		return err
	}
	_, err = NewClient(fd).Sessions()
	return err
}

func dial(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// served is a holder in this process, of shells of this machine.
type served struct {
	t     *testing.T
	path  string
	life  *exec.Cmd // what the sessions are in
	ended chan error
}

func serve(t *testing.T) *served {
	t.Helper()
	if _, err := exec.LookPath("bash"); err != nil {
		t.Skip("bash is not installed")
	}
	dir, err := os.MkdirTemp("", "holder")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &served{t: t, path: filepath.Join(dir, "sock"), life: exec.Command("sleep", "1000"), ended: make(chan error, 1)}
	if err := errors.Join(os.Chmod(dir, 0o711), s.life.Start()); err != nil {
		t.Fatal(err)
	}
	listener := s.listen()
	o := &Options{Listener: listener, New: func(_ context.Context, q *Settings) (*shell.Session, error) { return newSession(t, q) }}
	o.Watch = func() (int, error) {
		fd, err := unix.PidfdOpen(s.life.Process.Pid, 0)
		if err == nil && unix.Kill(s.life.Process.Pid, 0) != nil {
			unix.Close(fd)
			err = unix.ESRCH
		}
		return fd, err
	}
	go func() { s.ended <- Serve(o) }()
	t.Cleanup(s.stop)
	return s
}

func (s *served) listen() int {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: s.path}), os.Chmod(s.path, 0o777), unix.Listen(fd, 64))
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return fd
}

// stop ends what the sessions are in, and so the holder.
func (s *served) stop() {
	_ = s.life.Process.Kill()
	_ = s.life.Wait()
	select {
	case err := <-s.ended:
		s.ended <- err
		if err != nil {
			s.t.Error(err)
		}
	case <-time.After(10 * time.Second):
		s.t.Error("the holder does not end")
	}
}

func newSession(t *testing.T, q *Settings) (*shell.Session, error) {
	home := t.TempDir()
	dir, err := os.MkdirTemp("", "session")
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	args := q.Args
	if len(args) == 0 {
		args = []string{"bash"}
	}
	return shell.New(&shell.Options{Args: args, Env: append(os.Environ(), q.Env...), Home: home, Dir: d, Jobs: 8, Start: startLocal})
}

// startLocal starts a shell of this machine, by way of another that moves the descriptor.
func startLocal(_ context.Context, o *shell.StartOptions) (*shell.Process, error) {
	cmd := exec.Command("bash", append([]string{"-c", `exec 100<&3 3<&-; exec "$@"`, "bash"}, o.Args...)...)
	cmd.Env, cmd.Dir, cmd.ExtraFiles = o.Env, o.Cwd, []*os.File{o.Dir}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = o.Stdin, o.Stdout, o.Stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &shell.Process{Pid: cmd.Process.Pid, Wait: func() (unix.WaitStatus, error) {
		_ = cmd.Wait()
		return unix.WaitStatus(cmd.ProcessState.Sys().(syscall.WaitStatus)), nil
	}}, nil
}

func (s *served) client() *Client {
	s.t.Helper()
	fd, err := dial(s.path)
	if err != nil {
		s.t.Fatal(err)
	}
	return NewClient(fd)
}

// run runs a command, and returns what it has written to both.
func (s *served) run(session, text string) (string, *shell.Result, error) {
	return s.ask(&Request{Settings: Settings{Name: session}, Text: text})
}

func (s *served) ask(q *Request) (string, *shell.Result, error) {
	out, err := os.CreateTemp("", "out")
	if err != nil {
		return "", nil, err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	fd, err := dial(s.path)
	if err != nil {
		return "", nil, err
	}
	c := NewClient(fd)
	defer c.Close()
	res, err := c.Run(q, out, out)
	raw, rerr := io.ReadAll(io.NewSectionReader(out, 0, 1<<30))
	return string(raw), res, errors.Join(err, rerr)
}

func (s *served) want(session, text, out string, status int) {
	s.t.Helper()
	got, res, err := s.run(session, text)
	if err != nil || got != out || res.ExitStatus != status {
		s.t.Errorf("%.40q: %.100q, %+v, %v; want %q, %d", text, got, res, err, out, status)
	}
}

func TestManyClients(t *testing.T) {
	s := serve(t)
	s.want("one", "x=kept; cd /; echo out; echo err >&2; (exit 4)", "out\nerr\n", 4)
	s.want("one", "echo $? $x $PWD", "4 kept /\n", 0)
	big := strings.Repeat("x", 3<<20)
	s.want("one", "y="+big+"; echo ${#y}", fmt.Sprintln(len(big)), 0)
	s.want("one", "head -c 5000000 /dev/zero | tr '\\0' y", strings.Repeat("y", 5_000_000), 0)
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for i := range 20 {
				text := fmt.Sprintf("%d-%d", n, i)
				got, res, err := s.run(fmt.Sprint("s", n%3), "echo "+text+"; (exit "+fmt.Sprint(n)+")")
				if err != nil || got != text+"\n" || res.ExitStatus != n {
					t.Errorf("%s: %q, %+v, %v", text, got, res, err)
				}
			}
		})
	}
	all.Wait()
	c := s.client()
	defer c.Close()
	list, err := c.Sessions()
	var names []string
	for _, i := range list {
		names = append(names, i.Name)
	}
	if d := cmp.Diff([]string{"one", "s0", "s1", "s2"}, names); d != "" || err != nil {
		t.Error(d, err)
	}
}

// A client that goes away, whenever it does, ends its command, and leaves nothing of it to
// the next.
func TestLostClients(t *testing.T) {
	s := serve(t)
	s.want("x", "v=1", "", 0)
	for stage := range 4 {
		for _, text := range []string{"echo lost; sleep 100", "echo lost", "yes lost", "head -c 300000 /dev/zero; sleep 100"} {
			c := s.client()
			if err := c.ask(&Request{Op: OpRun, Settings: Settings{Name: "x"}, Text: text}); err != nil {
				t.Fatal(err)
			}
			if stage > 0 {
				_, files, err := c.answer(kindBegun)
				if err != nil {
					t.Fatal(err)
				}
				kernel.Close(files...)
			}
			if stage > 1 {
				time.Sleep(time.Duration(stage) * 5 * time.Millisecond)
			}
			c.Close()
			s.want("x", "echo $v", "1\n", 0)
		}
	}
}

// A holder whose sessions' place has ended says so, and does not run what came too late.
func TestEnds(t *testing.T) {
	s := serve(t)
	s.want("x", "v=1", "", 0)
	late := s.client()
	defer late.Close()
	s.stop()
	if _, err := late.Sessions(); !errors.Is(err, ErrRefused) && !errors.Is(err, ErrStopped) {
		t.Errorf("after the end: %v", err)
	}
	if _, err := dial(s.path); err != unix.ECONNREFUSED {
		t.Errorf("a new connection: %v", err)
	}
}

func TestStop(t *testing.T) {
	s := serve(t)
	s.want("one", "v=1", "", 0)
	s.want("two", "v=2", "", 0)
	stop := func(name string) error {
		c := s.client()
		defer c.Close()
		return c.Stop(name)
	}
	if err := stop("none"); err == nil || !strings.Contains(err.Error(), `no session "none"`) {
		t.Error(err)
	}
	if err := stop("one"); err != nil {
		t.Error(err)
	}
	s.want("one", "echo $v", "\n", 0)
	s.want("two", "echo $v", "2\n", 0)
	if err := stop(""); err != nil {
		t.Error(err)
	}
	select {
	case err := <-s.ended:
		s.ended <- err
	case <-time.After(5 * time.Second):
		t.Error("the holder goes on")
	}
}

// TestStopRace: a request that comes when the holder has been told to end was not seen by
// it, for all that its client can tell: it can go to the next one.
func TestStopRace(t *testing.T) {
	for range 50 {
		s := serve(t)
		s.want("x", "v=1", "", 0)
		stop, late, busy := s.client(), s.client(), s.client()
		if _, err := busy.Start(&Request{Settings: Settings{Name: "x"}, Text: "sleep 1000"}); err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() { done <- stop.Stop("") }()
		_, err := late.Sessions()
		for n := 0; err == nil && n < 1000; n++ {
			late.Close()
			fd, derr := dial(s.path)
			if late = NewClient(fd); derr != nil {
				err = derr
				break
			}
			_, err = late.Sessions()
		}
		if !errors.Is(err, ErrRefused) && err != unix.ECONNREFUSED {
			t.Errorf("while the holder ends: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("stop: %v", err)
		}
		for _, c := range []*Client{stop, late, busy} {
			c.Close()
		}
		s.stop()
	}
}

func TestParked(t *testing.T) {
	s := serve(t)
	s.want("x", "cd /usr; cd /dev; (exit 3)", "", 3)
	c := s.client()
	if err := c.Park(); err != nil {
		t.Fatal(err)
	}
	var pid int
	{
		c := s.client()
		list, err := c.Sessions()
		c.Close()
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		pid = list[0].Pid
	}
	if dir, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); dir != "/" || err != nil {
		t.Errorf("the parked shell is in %q, %v", dir, err)
	}
	c.Close()
	s.want("x", "echo $? $PWD $OLDPWD", "3 /dev /usr\n", 0)
}

func TestRefusals(t *testing.T) {
	s := serve(t)
	s.want("x", "v=1", "", 0)
	for _, q := range []*Request{
		{Settings: Settings{Name: "x", Args: []string{"dash"}}},
		{Settings: Settings{Name: "x", Env: []string{"A=1"}}},
		{Settings: Settings{Name: "x", Dir: "/"}},
		{Settings: Settings{Name: "x", Terminal: true}},
	} {
		if _, _, err := s.ask(q); err == nil || !strings.Contains(err.Error(), `session "x" exists`) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	for _, f := range []fields{{"0", "list"}, {version, "none"}, {""}, {version, "output", "x"}} {
		c := s.client()
		if err := send(c.fd, f); err != nil {
			t.Error(err)
		}
		if _, _, err := c.answer(kindAnswer); err == nil || errors.Is(err, errLost) {
			t.Errorf("%q: %v", f, err)
		}
		c.Close()
	}
	s.want("x", "echo $v", "1\n", 0)
}

// Whoever is neither root nor the holder's user is not answered, whatever the mode of the
// socket.
func TestOtherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	s := serve(t)
	for uid, want := range map[uint32]string{0: "<nil>", 65534: ""} {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), dialer+"="+s.path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || want != "" && got != want || want == "" && got != ErrRefused.Error() && got != errLost.Error() {
			t.Errorf("user %d: %q, %v", uid, got, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	q, _, _, err := (&Request{Op: OpRun, Settings: Settings{Name: "x", Env: []string{"A=1"}}, Text: "true"}).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(q.encode())
	f.Add([]byte("\x05"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := decode(raw)
		if err != nil {
			return
		}
		again, err := decode(got.encode())
		if d := cmp.Diff(got, again); d != "" || err != nil {
			t.Error(d, err)
		}
		_, _ = parseRequest(got, nil)
		_ = parseResult(got)
		_ = parseSessions(got)
	})
}
