package shell

import (
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// gone waits until the processes whose pids a file has are gone, and says which are not.
func gone(t *testing.T, path string) (left []int) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			t.Fatalf("%s: %q", path, text)
		}
		for n := 0; running(pid); n++ {
			if n == 100 {
				left = append(left, pid)
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	return left
}

// running says whether a process exists and is no zombie.
func running(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestTimeout(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		s.want(t, "x=kept; cd /usr; sleep 1000 & echo $! >"+s.home+"/before", "", 0)
		for i, text := range []string{
			"echo part; sleep 100; echo no",
			"echo part; while :; do :; done",
			"echo part; while :; do sleep 0.01; done",
			"echo part; sleep 100 | cat; echo no",
			"echo part; (sleep 100; echo no)",
			"echo part; trap '' TERM; sleep 100; echo no; trap - TERM",
			"echo part; sh -c 'trap \"\" INT TERM HUP; sleep 100; sleep 100'",
			"echo part; setsid sh -c 'echo $$ >>" + s.home + "/pids; sleep 100' & sleep 100",
			"echo part; (setsid sh -c 'echo $$ >>" + s.home + "/pids; exec >/dev/null 2>&1; sleep 100' &) ; sleep 100",
			"echo part; sleep 100 & echo $! >>" + s.home + "/pids; wait",
			"echo part; kill -STOP $$; sleep 100",
		} {
			begun := time.Now()
			r := s.runCommand(t, &Command{Text: text, Timeout: 200 * time.Millisecond})
			if !r.TimedOut || r.Restarted || string(r.Stdout) != "part\n" || r.Dir != "/usr" || time.Since(begun) > 2*time.Second {
				t.Errorf("%d %q: %v %+v %q %q", i, text, time.Since(begun), *r, r.Stdout, r.Stderr)
			}
			s.want(t, "echo $x", "kept\n", 0)
		}
		if left := gone(t, s.home+"/pids"); len(left) > 0 {
			t.Errorf("still run: %v", left)
		}
		before, _ := os.ReadFile(s.home + "/before")
		if pid, _ := strconv.Atoi(strings.TrimSpace(string(before))); !running(pid) {
			t.Error("a job of an earlier command was killed")
		}
	})
}

// TestTimeoutDeaf: dash and ash that do not listen to SIGINT are replaced, bash lives on.
func TestTimeoutDeaf(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		s.want(t, "export A=kept; B=1; cd /usr", "", 0)
		r := s.runCommand(t, &Command{Text: "echo part; trap '' INT; while :; do :; done", Timeout: 30 * time.Millisecond})
		if !r.TimedOut || r.Restarted == s.shellIsBash() || string(r.Stdout) != "part\n" || r.ExitStatus == 0 {
			t.Errorf("%+v", *r)
		}
		want := "kept 1\n/usr\n"
		if r.Restarted {
			want = "kept \n/usr\n"
		}
		s.want(t, "echo $A $B; pwd", strings.ReplaceAll(want, " \n", "\n"), 0)
	})
}

func (s *Session) shellIsBash() bool { return s.args[0] == "bash" }

// TestNothingRunsOn: after a timeout no more of a command is executed, wherever in it the
// shell was, and whatever its programs do with signals. Those that end by themselves when
// they are interrupted have the shell go on, and so do those that have to be killed.
func TestNothingRunsOn(t *testing.T) {
	programs := []string{
		"sleep 9", "sh -c 'trap \"\" INT; sleep 9; sleep 9'", "sh -c 'trap \"exit 0\" INT; sleep 9 & wait'", "(sleep 9; echo no)", "sleep 9 | sleep 9",
		"{ sleep 9; echo no; } | cat", "eval 'sleep 9; echo no'", "while :; do :; done", "while :; do sleep 0.001; done", "for i in 1 2 3; do sleep 9; echo no; done",
		"f", "f | cat", "x=$(sleep 9; echo no)", ": $(sleep 9)", "{ sleep 9 & wait; }", "wait_for() { f || echo no; echo no; }; wait_for",
		"setsid sh -c 'trap \"\" INT; sleep 9; sleep 9'", "until sleep 9; do echo no; done", "if sleep 9; then echo no; else echo no; fi",
		"case $(sleep 9) in *) echo no;; esac", "/bin/true; /bin/true; /bin/true; sleep 9", "read x <>" + "/proc/self/fd/1; echo no", ". ./file",
		"i=0; while [ $i -lt 1000 ]; do /bin/true; i=$((i+1)); done; sleep 9",
	}
	eachShell(t, func(t *testing.T, s *Session) {
		s.want(t, "f() { sleep 9; echo no; }; echo 'sleep 9; echo no' >file; x=kept", "", 0)
		for n, program := range programs {
			for m, text := range []string{
				program + "; echo no", program + " || echo no; echo no", "! " + program + " && echo no\necho no", "g() { " + program + "\necho no\n}; g; g || g; echo no",
				"for a in 1 2 3 4; do " + program + "; echo no; done; echo no", "while :; do " + program + "; echo no; done",
			} {
				if s.shellIsBash() && (strings.HasPrefix(text, "g()") || slices.Contains([]string{"f", "wait_for() { f || echo no; echo no; }; wait_for", ". ./file"}, program)) {
					continue // which it may come out of late: see the package comment
				}
				limit := time.Duration(1+(n*7+m*13)%40) * time.Millisecond
				r := s.runCommand(t, &Command{Text: text, Timeout: limit})
				if !r.TimedOut || strings.Contains(string(r.Stdout), "no") || r.Restarted {
					t.Errorf("%q after %v: %q, %q, %+v", text, limit, r.Stdout, r.Stderr, *r)
				}
				if r.Job != 0 {
					t.Errorf("%q after %v: a job is left", text, limit)
				}
			}
			s.want(t, "echo \"$?\" >/dev/null; f() { sleep 9; echo no; }; echo ok", "ok\n", 0)
		}
		for _, text := range []string{"trap 'echo int' INT; sleep 9; echo no; echo no", "trap '' INT; f() { sleep 9; echo no; }; f; echo no"} {
			if r := s.runCommand(t, &Command{Text: text, Timeout: 40 * time.Millisecond}); !r.TimedOut || strings.Contains(string(r.Stdout), "no") || s.shellIsBash() && r.Restarted {
				t.Errorf("%q: %q, %+v", text, r.Stdout, *r)
			}
		}
	})
}

// TestLeaves: a shell that has been stopped goes on as if nothing had been. ash is not
// sent SIGINT while it is busy, as it may not come back from that.
func TestLeaves(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		s.want(t, "x=kept", "", 0)
		if s.shell.ash != (s.args[0] == "busybox") {
			t.Fatalf("it is taken for an ash: %v", s.shell.ash)
		}
		for _, text := range []string{
			"while :; do while :; do :; done; echo no; done", "command eval 'while :; do :; done'; echo no",
			"sleep 1000 & while :; do printf ''; done", "case $(while :; do :; done) in *) echo no;; esac",
		} {
			r := s.runCommand(t, &Command{Text: text, Timeout: 30 * time.Millisecond})
			if !r.TimedOut || r.Restarted || r.ExitStatus != 130 || len(r.Stdout) > 0 {
				t.Errorf("%q: %+v, %q", text, *r, r.Stdout)
			}
			s.want(t, "for i in 1; do break; done; case x in x) continue;; esac 2>/dev/null; echo $x", "kept\n", 0)
		}
	})
}

func TestIdleTimeout(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		r := s.runCommand(t, &Command{Text: "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.05; done", IdleTimeout: 300 * time.Millisecond})
		if r.TimedOut || len(r.Stdout) != 16 {
			t.Errorf("%+v", *r)
		}
		r = s.runCommand(t, &Command{Text: "echo a; sleep 100", IdleTimeout: 100 * time.Millisecond})
		if !r.TimedOut || string(r.Stdout) != "a\n" {
			t.Errorf("%+v", *r)
		}
		s.alive(t)
	})
}

func TestCancel(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		s.run(t, "x=1")
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(50*time.Millisecond, cancel)
		r, err := s.Run(ctx, &Command{Text: "echo part; sleep 100"})
		if !errors.Is(err, context.Canceled) || string(r.Stdout) != "part\n" || r.TimedOut {
			t.Errorf("%+v, %v", r, err)
		}
		if _, err := s.Run(ctx, &Command{Text: "echo no"}); !errors.Is(err, context.Canceled) {
			t.Errorf("with a context that has ended: %v", err)
		}
		s.want(t, "echo $x", "1\n", 0)
	})
}

// TestUnbounded: output without an end is stopped in time, and a background child that
// writes without an end holds nothing up.
func TestUnbounded(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		begun := time.Now()
		r := s.runCommand(t, &Command{Text: "yes", Timeout: 200 * time.Millisecond})
		if !r.TimedOut || len(r.Stdout) == 0 || len(r.Stdout) > DefaultLimit {
			t.Errorf("%d, %d", len(r.Stdout), r.DroppedStdout)
		}
		r = s.runCommand(t, &Command{Text: "yes & sleep 0.1", Timeout: 20 * time.Second})
		if r.TimedOut || r.Job == 0 || time.Since(begun) > 10*time.Second {
			t.Errorf("%v, %+v", time.Since(begun), r.Job)
		}
		s.alive(t)
		if err := s.Job(r.Job).Signal(unix.SIGKILL); err != nil {
			t.Error(err)
		}
		if _, err := s.Job(r.Job).Wait(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

func TestForkBomb(t *testing.T) {
	group := "/sys/fs/cgroup/pids"
	if _, err := os.Stat(group + "/cgroup.procs"); err != nil || os.Getuid() != 0 {
		t.Skip("needs root and the pids controller of cgroup v1")
	}
	eachShell(t, func(t *testing.T, s *Session) {
		s.alive(t)
		dir, err := os.MkdirTemp(group, "shell-test")
		if err != nil {
			t.Skipf("cannot make a cgroup: %v", err)
		}
		t.Cleanup(func() {
			s.Close()
			for range 100 {
				if os.Remove(dir) == nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Errorf("%s is not empty", dir)
		})
		for name, text := range map[string]string{"pids.max": "48", "cgroup.procs": strconv.Itoa(s.Pid())} {
			if err := os.WriteFile(dir+"/"+name, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		r := s.runCommand(t, &Command{Text: "sleep 100 & sh -c 'b() { b | b & b; }; b' & wait", Timeout: 300 * time.Millisecond})
		for n := 0; ; n++ { // zombies are the shell's to reap
			now, _ := os.ReadFile(dir + "/cgroup.procs")
			if len(strings.Fields(string(now))) <= 1 {
				break
			}
			if n == 100 {
				t.Errorf("still there: %q", now)
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Logf("timed out %v, restarted %v after %v", r.TimedOut, r.Restarted, r.Duration)
		s.want(t, "echo ok", "ok\n", 0)
	})
}

// TestFreeze: with a terminal, everything stands still while it is looked through, and
// nothing afterwards. Otherwise a common command is not worth that.
func TestFreeze(t *testing.T) {
	for _, terminal := range []bool{false, true} {
		frozen, times := false, 0
		var s *Session
		o := Options{Terminal: terminal, Freeze: func(freeze bool) error {
			if freeze == frozen {
				t.Errorf("frozen twice: %v", freeze)
			}
			frozen = freeze
			times++
			sig := unix.SIGCONT
			if freeze {
				sig = unix.SIGSTOP
			}
			return signal(below([]int{s.Pid()}), sig)
		}}
		s = sessionOf(t, "bash", &o)
		s.run(t, "x=1")
		r := s.runCommand(t, &Command{Text: "trap '' INT; sh -c 'while :; do sleep 0.001; done'; trap - INT", Timeout: 50 * time.Millisecond})
		if !r.TimedOut || frozen || (times > 0) != terminal {
			t.Errorf("%+v; frozen %v, %d times, terminal %v", *r, frozen, times, terminal)
		}
		s.want(t, "echo ok", map[bool]string{false: "ok\n", true: "ok\r\n"}[terminal], 0)
	}
}
