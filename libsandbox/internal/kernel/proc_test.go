package kernel

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func itoa(n int) string { return strconv.Itoa(n) }

// statLine is /proc/PID/stat of Linux 6.18, but for the name.
const statLine = "4242 (%s) S 1 4242 4242 0 -1 4194560 156 0 0 0 0 0 0 0 20 0 1 0 8437 2777088 421 18446744073709551615 " +
	"1 1 0 0 0 0 0 4096 0 1 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"

func TestParseStat(t *testing.T) {
	for _, name := range []string{
		"sleep", "", ")", "(", "a b", "x) R 1 (y", ") Z 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 99 (", ")))))", "new\nline", "\xff\xfe",
		"kworker/0:1-events (x)",
	} {
		state, start, err := parseStat(fmt.Appendf(nil, statLine, name))
		if state != 'S' || start != 8437 || err != nil {
			t.Errorf("name %q: state %c, start %d, %v", name, state, start, err)
		}
	}
	for _, line := range []string{
		"", "\n", ")", "1 (x)", "1 (x) S", "1 (x) S 1 2 3", "no parenthesis at all",
		strings.Replace(fmt.Sprintf(statLine, "x"), "8437", "-1", 1),
		strings.Replace(fmt.Sprintf(statLine, "x"), "8437", "99999999999999999999", 1),
		fmt.Sprintf(statLine, "x")[:60],
	} {
		if state, start, err := parseStat([]byte(line)); err == nil {
			t.Errorf("%q: state %c, start %d and no error", line, state, start)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte(fmt.Sprintf(statLine, "x")))
	f.Add([]byte("1 () S"))
	f.Fuzz(func(_ *testing.T, line []byte) { _, _, _ = parseStat(line) })
}

// sleeper starts a process whose executable, and so whose name, is name.
func sleeper(t *testing.T, name string) *exec.Cmd {
	t.Helper()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip("needs sleep: " + err.Error())
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(sleep, path); err != nil {
		t.Fatal(err)
	}
	cmd := &exec.Cmd{Path: path, Args: []string{"sleep", "100"}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = cmd.Process.Release() // for a test that has reaped it by itself
	})
	return cmd
}

// A process is named by whoever runs it; its name must not pass for the fields
// behind it.
func TestIdentifyNastyName(t *testing.T) {
	plain, err := Identify(sleeper(t, "plain").Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"x) Z 1 (y", ")) X 0 0 0", "a\nb) Z 3"} {
		id, err := Identify(sleeper(t, name).Process.Pid)
		if err != nil || !id.Alive() || id.Start < plain.Start || id.Start > plain.Start+6000 {
			t.Errorf("%q: %+v alive %v, %v; the one before it %+v", name, id, id.Alive(), err, plain)
		}
	}
}

func TestProcessID(t *testing.T) {
	cmd := sleeper(t, "s")
	noLeak(t)
	id, err := Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := id.Open()
	if err != nil || !id.Alive() {
		t.Fatalf("a process that runs: alive %v, open %v", id.Alive(), err)
	}
	defer unix.Close(fd)
	// The pid of another process, as after a reuse.
	for _, other := range []ProcessID{{id.Pid, id.Start + 1}, {id.Pid, 0}, {os.Getpid(), id.Start + 1}, {1, id.Start}} {
		if got, err := other.Open(); !errors.Is(err, unix.ESRCH) || got != -1 || other.Alive() {
			t.Errorf("%+v: descriptor %d, alive %v, %v", other, got, other.Alive(), err)
		}
	}
	for _, pid := range []int{0, -1, -id.Pid, 1 << 30} {
		other := ProcessID{pid, id.Start}
		if got, err := other.Open(); err == nil || got != -1 || other.Alive() {
			t.Errorf("pid %d: descriptor %d, alive %v, %v", pid, got, other.Alive(), err)
		}
	}
	if gone, _ := WaitExit(fd, 0); gone {
		t.Error("the process has exited before it was killed")
	}
	_ = unix.Kill(id.Pid, unix.SIGKILL)
	if gone, err := WaitExit(fd, 10_000); !gone || err != nil {
		t.Fatalf("exited %v, %v", gone, err)
	}
	checkZombie(t, id)
	if _, err := unix.Wait4(id.Pid, nil, 0, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := id.Open(); !errors.Is(err, unix.ESRCH) || id.Alive() {
		t.Errorf("reaped: alive %v, open %v", id.Alive(), err)
	}
	if _, err := Identify(id.Pid); !errors.Is(err, unix.ESRCH) {
		t.Errorf("reaped: identify %v", err)
	}
}

// TestProcessIDOfSession: the number of a process that is gone is kept by others, as
// the number of their session.
func TestProcessIDOfSession(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sleep 100 & echo; read x")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe() // for read to wait
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	id, err := Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	_, _ = cmd.Process.Wait()
	if err := unix.Kill(-id.Pid, 0); err != nil {
		t.Fatalf("the session has no other process: %v", err)
	}
	if _, err := id.Open(); !errors.Is(err, unix.ESRCH) || id.Alive() {
		t.Errorf("alive %v, open %v", id.Alive(), err)
	}
}

// checkZombie: a zombie does not run, but still has its pid.
func checkZombie(t *testing.T, id ProcessID) {
	t.Helper()
	if id.Alive() {
		t.Error("a zombie is alive")
	}
	z, err := id.Open()
	if err != nil {
		t.Errorf("a zombie cannot be opened: %v", err)
		return
	}
	unix.Close(z)
	if again, err := Identify(id.Pid); again != id || err != nil {
		t.Errorf("a zombie is %+v, %v, was %+v", again, err, id)
	}
}

func TestWaitExitOr(t *testing.T) {
	cmd := sleeper(t, "s")
	noLeak(t)
	id, err := Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := id.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var wake [2]int
	if err := unix.Pipe2(wake[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(wake[0])
	if gone, err := WaitExitOr(fd, wake[0], 1); gone || err != nil {
		t.Errorf("timeout: exited %v, %v", gone, err)
	}
	unix.Close(wake[1])
	if gone, err := WaitExitOr(fd, wake[0], -1); gone || err != nil {
		t.Errorf("woken: exited %v, %v", gone, err)
	}
	_ = unix.Kill(id.Pid, unix.SIGKILL)
	if gone, _ := WaitExit(fd, 10_000); !gone {
		t.Fatal("the process does not end")
	}
	if gone, err := WaitExitOr(fd, wake[0], -1); !gone || err != nil {
		t.Errorf("both: exited %v, %v", gone, err)
	}
}
