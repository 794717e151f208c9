package shell

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestDeath(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		for _, c := range []struct {
			text   string
			status int
			signal unix.Signal
		}{
			{"echo out; exit 3", 3, 0},
			{"echo out; exec true", 0, 0},
			{"echo out; exec sh -c 'sleep 0.4; exit 5'", 5, 0},
			{"echo out; exec sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; exit 6'", 6, 0},
			{"set -e; echo out; false", 1, 0},
			{"echo out; kill -9 $$", 137, unix.SIGKILL},
			{"trap 'echo bye >&2' EXIT; echo out; exit 4", 4, 0},
		} {
			s.want(t, "export A=\"it's\nkept\"; B=lost; cd /usr/bin", "", 0)
			s.run(t, "export C=2; cd /usr")
			r := s.want(t, c.text, "out\n", c.status)
			if r.Signal != c.signal || !r.Restarted || r.Dir != "/usr" {
				t.Errorf("%q: %+v", c.text, *r)
			}
			r = s.want(t, "echo $?$A$C$B; pwd; export OLDPWD", "0it's kept2\n/usr\n", 0)
			if r.Restarted {
				t.Errorf("after %q: %+v", c.text, *r)
			}
		}
	})
}

func TestDeathWhileIdle(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		s.run(t, "export A=kept; cd /usr")
		time.Sleep(20 * time.Millisecond) // variables are told after the end
		pid := s.Pid()
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for n := 0; running(pid) && n < 100; n++ {
			time.Sleep(time.Millisecond)
		}
		r := s.want(t, "echo $A; pwd", "kept\n/usr\n", 0)
		if !r.Restarted {
			t.Errorf("%+v", *r)
		}
		s.alive(t)
	})
}

// TestGeneration: a shell that dies with what it stood on is not lost.
func TestGeneration(t *testing.T) {
	generation := "1"
	var mu sync.Mutex
	o := Options{Generation: func() string { mu.Lock(); defer mu.Unlock(); return generation }}
	s := sessionOf(t, "dash", &o)
	s.run(t, "export A=old; cd /usr; x=1")
	mu.Lock()
	generation = "2"
	mu.Unlock()
	pid := s.Pid()
	_ = unix.Kill(pid, unix.SIGKILL)
	for n := 0; running(pid) && n < 100; n++ {
		time.Sleep(time.Millisecond)
	}
	if r := s.want(t, "echo $A$x; pwd", "\n"+s.home+"\n", 0); r.Restarted {
		t.Errorf("%+v", *r)
	}
}

func sessionOf(t *testing.T, name string, o *Options) *Session {
	o.Args = shells()[name]
	return session(t, o)
}

// TestHostile: after whatever a command does, the session answers.
func TestHostile(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		fd := strconv.Itoa(DirFD)
		for _, text := range []string{
			"echo 7 >&4", "echo 7 >&3; echo 7 >&10", "exec 3>&- 4>&- 9>&-",
			"for i in $(ls /proc/$$/fd); do eval \"echo 7 >&$i\"; done", "for i in $(ls /proc/$$/fd); do eval \"exec $i>&-\"; done",
			"echo 1 0 >/proc/self/fd/" + fd + "/s", "echo junk >/proc/self/fd/" + fd + "/s", "head -c 100000 /dev/zero >/proc/self/fd/" + fd + "/s",
			"echo junk >/proc/self/fd/" + fd + "/x", "cat /proc/self/fd/" + fd + "/null", "exec " + fd + ">&-", "exec 10>&- 11>&- 12>&-",
			"alias eval=false; alias .=false; alias echo=false; alias command=false; alias export=false", "unalias -a",
			"command() { echo fake; }", "unset -f command", "echo() { printf 'x%s\\n' \"$*\"; }", "unset -f echo", "trap 'echo x' 0 1 2 3 15", "trap - 0 1 2 3 15",
			"set -x", "set +x", "set -v", "set +v", "set -f", "set +f", "set -a", "set +a", "set -u", "set +u", "set -C", "set +C", "set -n", "IFS=0123456789", "unset IFS",
			"PATH=", "PATH=/usr/bin:/bin:/usr/sbin:/sbin", "PS1='$(echo x >&2; exit 3)'; PS2=; PS4=; PROMPT_COMMAND=false", "unset PS1 PS2 PS4 PROMPT_COMMAND",
			"umask 0777", "umask 022", "ulimit -n 64", "readonly PWD OLDPWD", "cd /tmp && mkdir -p gone.$$ && cd gone.$$ && rmdir ../gone.$$", "cd /",
			"kill -INT $$; kill -QUIT $$; kill -TERM $$; kill -HUP $$", "(kill -9 $$)", "kill -PIPE $$", "sleep 0.01 & wait", "set +i", "set -m", "set +m", "exec 0<&-", "exec <&-; cat",
			strings.Repeat("(", 1000), strings.Repeat("echo x;", 1000), strings.Repeat("a", 200_000), "return 300", "exit 300", "exit -1", "set -- a b c; shift 5", "BASH_ENV=/dev/null; ENV=/dev/null",
			"fg", "bg", "suspend", "exec >/dev/full; echo x", "ulimit -f 0; echo x >f", "sleep 0.001 & sleep 0.001 & sleep 0.001 &", "true | (sleep 0.01; true) &",
		} {
			r := s.runCommand(t, &Command{Text: text, Timeout: 10 * time.Second})
			if r.TimedOut {
				t.Errorf("%.100q: %+v", text, *r)
			}
			a, b := s.run(t, "printf ok"), s.run(t, "false")
			if string(a.Stdout) != "ok" && !strings.Contains(text, "command()") && !strings.Contains(text, "PATH") || b.ExitStatus != 1 && !strings.Contains(text, "command()") {
				t.Errorf("after %.100q (%+v): %+v %+v", text, *r, *a, *b)
			}
		}
		s.run(t, "exit")
		s.alive(t)
	})
}

func TestLargeCommand(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		word := strings.Repeat("it's \\ \"$HOME\" ", 100)
		text := "cat <<'END' | wc -c\n" + strings.Repeat(word+"\n", 5_000_000/len(word)) + "END\n"
		begun := time.Now()
		r := s.run(t, text)
		if n, _ := strconv.Atoi(strings.TrimSpace(string(r.Stdout))); n != len(text)-len("cat <<'END' | wc -c\nEND\n") {
			t.Errorf("%q for a command of %d bytes", r.Stdout, len(text))
		}
		t.Logf("%d bytes: %v", len(text), time.Since(begun))
		s.run(t, ": '"+strings.Repeat("x", 5_000_000)+"'")
		s.alive(t)
	})
}

func TestIsolated(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		s.want(t, "x=1; cd /", "", 0)
		for _, c := range []struct {
			text, out string
			status    int
		}{
			{"x=2; cd /usr; echo $x; exit 4", "2\n", 4},
			{"echo '", "", 2},
			{"echo a # comment", "a\n", 0},
			{"kill -9 $(exec sh -c 'echo $PPID')", "", 137},
		} {
			r := s.runCommand(t, &Command{Text: c.text, Isolated: true})
			if string(r.Stdout) != c.out || r.ExitStatus != c.status && c.status != 2 || r.Restarted || r.Dir != "/" {
				t.Errorf("%q: %+v %q", c.text, *r, r.Stdout)
			}
		}
		s.want(t, "echo $x; pwd", "1\n/\n", 0)
		r := s.runCommand(t, &Command{Text: "sleep 100", Isolated: true, Timeout: 30 * time.Millisecond})
		if !r.TimedOut || r.Restarted {
			t.Errorf("%+v", *r)
		}
		s.alive(t)
	})
}

func TestPark(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		link := s.home + "/link"
		s.want(t, "ln -s /usr/bin "+link+"; cd /usr; cd "+link+"; (exit 3)", "", 3)
		if err := s.Park(context.Background()); err != nil {
			t.Fatal(err)
		}
		if dir := s.shell.directory(""); dir != "/" {
			t.Errorf("parked in %s", dir)
		}
		if err := s.Unpark(); err != nil {
			t.Fatal(err)
		}
		s.want(t, "echo $? $PWD $OLDPWD; pwd -P", "3 "+link+" /usr\n/usr/bin\n", 0)
		s.want(t, "cd -; unset OLDPWD", "/usr\n", 0)
		for range 3 {
			if err := s.Park(context.Background()); err != nil {
				t.Fatal(err)
			}
			if err := s.Unpark(); err != nil {
				t.Fatal(err)
			}
		}
		s.want(t, "echo ${OLDPWD-unset}; pwd", "unset\n/usr\n", 0)
	})
}

func TestClose(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		s.run(t, "sleep 1000 & echo $! >pids; setsid sleep 1000 & echo $! >>pids")
		failed := make(chan error)
		go func() {
			_, err := s.Run(context.Background(), &Command{Text: "sleep 100"})
			failed <- err
		}()
		time.Sleep(20 * time.Millisecond)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-failed; !errors.Is(err, ErrClosed) {
			t.Errorf("the command that ran: %v", err)
		}
		if left := gone(t, s.home+"/pids"); len(left) > 0 {
			t.Errorf("still run: %v", left)
		}
		if _, err := s.Run(context.Background(), &Command{Text: "true"}); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

func TestStartFails(t *testing.T) {
	for name, o := range map[string]Options{
		"no program":      {Args: []string{"cat", "/no/such/file"}},
		"no working dir":  {Args: []string{"dash"}, Home: "/no/such/dir"},
		"not interactive": {Args: []string{"sleep", "0.01"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := session(t, &o)
			begun := time.Now()
			_, err := s.Run(context.Background(), &Command{Text: "true"})
			if err == nil || !strings.Contains(err.Error(), o.Args[0]) || time.Since(begun) > 10*time.Second {
				t.Errorf("%v", err)
			}
			t.Log(err)
		})
	}
}

func TestParallel(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for j := range 25 {
					want := strconv.Itoa(i*100 + j)
					if r, err := s.Run(context.Background(), &Command{Text: "echo " + want}); err != nil || string(r.Stdout) != want+"\n" {
						t.Errorf("%s: %+v, %v", want, r, err)
					}
				}
			})
		}
		wg.Wait()
	})
}

// TestClosedSaved: a command that closes one of the descriptors that the shell has saved
// ends, if need be with the shell, and does not print for ever.
func TestClosedSaved(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		for fd := 10; fd < 15; fd++ {
			s.run(t, "cd /usr")
			r := s.run(t, "exec "+strconv.Itoa(fd)+">&-; echo closed")
			if len(r.Stdout) > 100 || len(r.Stderr)+int(r.DroppedStderr) > 64<<20 || r.Duration > 2*time.Second || r.Dir != "/usr" {
				t.Errorf("%d: %d and %d bytes, %+v", fd, len(r.Stdout), len(r.Stderr), r.Duration)
			}
			s.want(t, "pwd", "/usr\n", 0)
		}
	})
}
