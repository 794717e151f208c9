package bundle_test

import (
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	h "adl.run/adl-runtime/tests/harness"
)

// tty describes the terminal of the container's standard streams.
const tty = "tty; stty size; for i in 0 1 2; do readlink /proc/self/fd/$i; done"

func TestProcess_TerminalByConsoleSocket(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Terminal(33, 101), h.Sh(tty+"; test -c /dev/console && echo console; read line; echo got:$line; exit 5"))
	sock := b.ListenConsole()
	c, r := b.TryCreate([]string{"--console-socket", sock.Path})
	r.OK(t)
	console := sock.Receive()
	if rows, cols := console.Size(); rows != 33 || cols != 101 {
		t.Errorf("the master's size is %dx%d, want consoleSize 33x101", rows, cols)
	}
	c.Start()
	console.WaitText("console\r\n")
	console.Type("word\n")
	console.WaitText("got:word")
	if code := c.WaitExit(); code != 5 {
		t.Errorf("status %d, want 5", code)
	}
	want := "/dev/pts/0\r\n33 101\r\n/dev/pts/0\r\n/dev/pts/0\r\n/dev/pts/0\r\n"
	if got := console.Text(); !strings.HasPrefix(got, want) {
		t.Errorf("terminal shows %q, want it to start with %q", got, want)
	}
	if r.Stdout != "" {
		t.Errorf("create wrote %q", r.Stdout)
	}
	c.Delete()
}

// The terminal must be the controlling one: the tty's special characters signal
// the foreground process group, and closing the master hangs it up.
func TestProcess_TerminalIsControlling(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Terminal(0, 0), h.Sh("trap 'echo caught INT' INT; trap 'exit 9' HUP; echo ready; : </dev/tty && echo tty opened; while :; do sleep 0.02; done"))
	sock := b.ListenConsole()
	c, r := b.TryCreate([]string{"--console-socket", sock.Path})
	r.OK(t)
	console := sock.Receive()
	c.Start()
	console.WaitText("tty opened")
	console.Type("\x03")
	console.WaitText("caught INT")
	h.Must(t, console.Close())
	if code := c.WaitExit(); code != 9 {
		t.Errorf("status %d, want 9: the shell's trap for the hang-up", code)
	}
}

// /dev/console is the terminal's own slave, whatever its name.
func TestProcess_TerminalIsDevConsole(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Terminal(0, 0), h.Sh("echo through console >/dev/console; stat -c %t:%T /dev/console /dev/pts/0; grep ' /dev/console ' /proc/self/mountinfo; echo end"))
	sock := b.ListenConsole()
	c, r := b.TryCreate([]string{"--console-socket", sock.Path})
	r.OK(t)
	console := sock.Receive()
	c.Start()
	console.WaitText("end")
	c.WaitExit()
	lines := strings.Split(strings.ReplaceAll(console.Text(), "\r\n", "\n"), "\n")
	if len(lines) < 4 || lines[0] != "through console" || lines[1] != lines[2] || !strings.Contains(lines[3], "devpts") {
		t.Errorf("terminal shows %q", lines)
	}
}

func TestProcess_TerminalOfAUser(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Terminal(0, 0), h.User(1000, 1000), h.Sh("stat -L -c '%u %a' /dev/pts/0; echo write >/dev/pts/0; echo end"))
	sock := b.ListenConsole()
	c, r := b.TryCreate([]string{"--console-socket", sock.Path})
	r.OK(t)
	console := sock.Receive()
	c.Start()
	console.WaitText("end")
	if got := console.Text(); !strings.HasPrefix(got, "1000 620\r\nwrite\r\n") {
		t.Errorf("terminal shows %q, want it owned by the user and writable", got)
	}
	c.WaitExit()
}

func TestProcess_TerminalWithoutSocketIsRefused(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Terminal(0, 0))
	_, r := b.TryCreate(nil)
	r.Fails(t, "console")
}

func TestProcess_SocketWithoutTerminalIsRefused(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun ignores --console-socket then")
	b := h.New(t)
	sock := b.ListenConsole()
	_, r := b.TryCreate([]string{"--console-socket", sock.Path})
	r.Fails(t, "console")
}

func TestProcess_RunWithATerminal(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun 1.8.1 copies the window size only when it changes")
	until := `until test "$(stty size 2>/dev/null)" = "%s"; do sleep 0.02; done; echo now %s; `
	b := h.New(t, h.Terminal(0, 0), h.Sh("tty; stty size; "+strings.ReplaceAll(until, "%s", "20 70")+"read line; echo got:$line; "+strings.ReplaceAll(until, "%s", "21 71")+"exit 6"))
	console, slave := h.OpenPTY(t)
	console.SetSize(20, 70)
	run := b.StartRun(h.OnTerminal(slave))
	h.Must(t, slave.Close())
	console.WaitText("now 20 70\r\n")
	console.SetSize(21, 71)
	h.Must(t, run.Process.Signal(syscall.SIGWINCH))
	console.Type("word\r")
	console.WaitText("got:word\r\n")
	console.WaitText("now 21 71")
	if r := run.Finish(); r.Code != 6 {
		t.Errorf("status %d, want 6: %q", r.Code, console.Text())
	}
	want := "/dev/pts/0\r\n20 70\r\n"
	if h.Reference() != "" { // runc and crun may start the process before they copy the size
		want = "/dev/pts/0\r\n"
	}
	if got := console.Text(); !strings.HasPrefix(got, want) {
		t.Errorf("terminal shows %q", got)
	}
}

// The caller's terminal is raw while the container runs, so that control-C reaches
// the container's own terminal, and cooked again afterwards.
func TestProcess_RunRestoresTheCallersTerminal(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Terminal(0, 0), h.Sh("trap 'echo caught; exit 4' INT; echo ready; while :; do sleep 0.02; done"))
	console, slave := h.OpenPTY(t)
	defer slave.Close()
	before := h.Termios(t, slave)
	run := b.StartRun(h.OnTerminal(slave))
	console.WaitText("ready")
	if h.Termios(t, slave) == before {
		t.Error("the caller's terminal is not raw while the container runs")
	}
	console.Type("\x03")
	if r := run.Finish(); r.Code != 4 {
		t.Errorf("status %d, want 4", r.Code)
	}
	if h.Termios(t, slave) != before {
		t.Error("the caller's terminal was not restored")
	}
}

func TestProcess_RunWithATerminalPassesAllOutput(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Terminal(0, 0), h.Sh("seq 1 20000; echo the end"))
	console, slave := h.OpenPTY(t)
	run := b.StartRun(h.OnTerminal(slave))
	h.Must(t, slave.Close())
	run.Finish()
	console.WaitText("20000\r\nthe end\r\n")
	if n := strings.Count(console.Text(), "\r\n"); n != 20001 {
		t.Errorf("%d lines arrived, want 20001", n)
	}
}

// A pipe is no terminal: `run` makes one anyway and copies, or says why it cannot.
func TestProcess_RunWithATerminalOnAPipe(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Terminal(0, 0), h.Sh("test -t 1 && echo is a tty"))
	r := b.Run()
	if r.Code == 0 && !strings.Contains(r.Stdout, "is a tty") || r.Code != 0 && r.Stderr == "" {
		t.Errorf("neither a terminal nor an error: %+v", r)
	}
}

func TestProcess_DetachedRunWithATerminal(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Terminal(10, 20), h.Sh("stty size; read x; exit 3"))
	b.WriteSpec()
	sock := b.ListenConsole()
	id := b.NewID()
	b.Do("run", "--detach", "--bundle", b.Dir, "--pid-file", b.Work+"/pid", "--console-socket", sock.Path, id).OK(t)
	console := sock.Receive()
	c := b.Adopt(id, b.Work+"/pid")
	console.WaitText("10 20")
	console.Type("\n")
	if code := c.WaitExit(); code != 3 {
		t.Errorf("status %d, want 3", code)
	}
	c.Delete()
}

func TestProcess_NoTerminalMeansNoDevConsole(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("test -e /dev/console && echo yes; tty; exit 0"))
	if got := b.Out(); got != "not a tty" {
		t.Errorf("%q", got)
	}
}

// A console socket whose queue is full is an error, not a wait without end.
func TestProcess_ConsoleSocketThatDoesNotAccept(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun waits for ever")
	b := h.New(t, h.Terminal(0, 0))
	path := b.Work + "/console.sock"
	listener, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	h.Must(t, err)
	defer unix.Close(listener)
	h.Must(t, unix.Bind(listener, &unix.SockaddrUnix{Name: path}))
	h.Must(t, unix.Listen(listener, 0))
	for {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		h.Must(t, err)
		defer unix.Close(fd)
		if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err == unix.EAGAIN {
			break
		} else {
			h.Must(t, err)
		}
	}
	b.WriteSpec()
	if r := b.Do("create", "--bundle", b.Dir, "--console-socket", path, b.NewID()); r.Code != 1 || !strings.Contains(r.Stderr, path) {
		t.Errorf("%+v", r)
	}
	b.CheckNothingLeft()
}
