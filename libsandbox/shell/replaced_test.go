package shell

import (
	"context"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// killed kills the shell between two commands.
func (s *Session) killed(t *testing.T) {
	t.Helper()
	s.run(t, "x=lost")
	pid := s.Pid()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); running(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the shell does not die")
		}
	}
}

// A command that ends its shell is executed once, also where it came upon a dead one, and
// so is what is started in the background.
func TestOnceAfterDeath(t *testing.T) {
	for name, args := range shells() {
		t.Run(name, func(t *testing.T) {
			generation := "1"
			s := session(t, &Options{Args: args, Generation: func() string { return generation }})
			s.killed(t)
			generation = "2"
			if r := s.run(t, "echo once; exit 3"); string(r.Stdout) != "once\n" || r.ExitStatus != 3 || !r.Restarted {
				t.Errorf("%q, %+v", r.Stdout, r)
			}
			for _, next := range []string{"2", "3"} {
				s.killed(t)
				generation = next
				j, err := s.Start(t.Context(), &Command{Text: "echo job; exit 4"})
				if err != nil {
					t.Fatal(err)
				}
				st, err := j.Wait(t.Context())
				buf := make([]byte, 100)
				n, _ := j.Read(Stdout, 0, buf)
				if err != nil || st.ExitStatus != 4 || string(buf[:n]) != "job\n" {
					t.Errorf("generation %s: %+v, %v, %q", next, st, err, buf[:n])
				}
			}
		})
	}
}

// Parking finds a dead shell, and the next command says so. One that is slow lives on.
func TestParkDeadAndSlow(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		park := func() {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			if err := s.Park(ctx); err != nil {
				t.Fatal(err)
			}
			if err := s.Unpark(); err != nil {
				t.Fatal(err)
			}
		}
		s.killed(t)
		park()
		if r := s.run(t, "echo $x; x=kept"); string(r.Stdout) != "\n" || !r.Restarted {
			t.Errorf("%q, %+v", r.Stdout, r)
		}
		pid := s.Pid()
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(100*time.Millisecond, func() { _ = unix.Kill(pid, unix.SIGCONT) })
		park()
		if r := s.run(t, "echo $x"); string(r.Stdout) != "kept\n" || r.Restarted {
			t.Errorf("%q, %+v", r.Stdout, r)
		}
	})
}

// What ends the start of a shell is what the caller is told.
func TestStartCancelled(t *testing.T) {
	for name, args := range shells() {
		s := session(t, &Options{Args: args})
		ctx, cancel := context.WithCancel(t.Context())
		start := s.o.Start
		s.o.Start = func(c context.Context, o *StartOptions) (*Process, error) {
			p, err := start(c, o)
			cancel()
			return p, err
		}
		if _, err := s.Run(ctx, &Command{Text: "true"}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		if r := s.run(t, "echo on"); string(r.Stdout) != "on\n" {
			t.Errorf("%s: %q", name, r.Stdout)
		}
	}
}

// TestRefused: a shell that cannot redirect commands any more is replaced, and its successor
// gets the command.
func TestRefused(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		for _, text := range []string{"ulimit -n 3", "set -r 2>/dev/null || ulimit -n 4"} {
			s.run(t, "cd /usr; export A=kept")
			s.run(t, text)
			r := s.runCommand(t, &Command{Text: "ls /dev/fd/ >/dev/null; echo $A; pwd; echo end >&2; exit 5", Timeout: 5 * time.Second})
			if string(r.Stdout) != "kept\n/usr\n" || string(r.Stderr) != "end\n" || r.ExitStatus != 5 || !r.Restarted {
				t.Errorf("after %q: %+v, %q, %q", text, *r, r.Stdout, r.Stderr)
			}
		}
		s.want(t, "echo /dev/null: no >&2; false", "", 1)
		s.alive(t)
	})
}
