package shell

import (
	"context"
	"strings"
	"testing"
	"time"
)

func TestTerminal(t *testing.T) {
	eachShellWith(t, Options{Terminal: true}, func(t *testing.T, s *Session) {
		if err := s.Resize(33, 77); err != nil {
			t.Fatal(err)
		}
		s.want(t, "echo out; echo err >&2", "out\r\nerr\r\n", 0)
		s.want(t, "x=1; test -t 0 && test -t 1 && test -t 2", "", 0)
		s.want(t, "stty size; echo $x", "33 77\r\n1\r\n", 0)
		s.want(t, "exit_status() { return 3; }; exit_status", "", 3)
		done := make(chan string)
		go func() {
			r, err := s.Run(context.Background(), &Command{Text: "read a; echo got $a; read b; echo $b", Timeout: 10 * time.Second})
			done <- string(r.Stdout)
			if err != nil || r.TimedOut {
				t.Errorf("%+v, %v", r, err)
			}
		}()
		for _, line := range []string{"first\n", "second\n"} {
			time.Sleep(50 * time.Millisecond)
			if _, err := s.Write([]byte(line)); err != nil {
				t.Error(err)
			}
		}
		if out := <-done; !strings.Contains(out, "got first\r\n") || !strings.HasSuffix(out, "second\r\n") {
			t.Errorf("%q", out)
		}
		if err := s.Resize(10, 20); err != nil {
			t.Error(err)
		}
		s.want(t, "stty size", "10 20\r\n", 0)
		r := s.runCommand(t, &Command{Text: "echo part; sleep 100", Timeout: 50 * time.Millisecond})
		if !r.TimedOut || r.Restarted || !strings.HasPrefix(string(r.Stdout), "part\r\n") {
			t.Errorf("%+v %q", *r, r.Stdout)
		}
		s.want(t, "echo $x", "1\r\n", 0)
		if r := s.want(t, "exit 4", "", 4); !r.Restarted {
			t.Errorf("%+v", *r)
		}
		s.want(t, "stty size; seq 1000 | tail -1", "10 20\r\n1000\r\n", 0)
		if r := s.run(t, "(sleep 0.1; echo late) & echo now"); !strings.HasSuffix(string(r.Stdout), "now\r\n") { // bash says [1] before
			t.Errorf("%q", r.Stdout)
		}
	})
}

// TestInterruptByTyping: ^C reaches the command, and the session goes on.
func TestInterruptByTyping(t *testing.T) {
	eachShellWith(t, Options{Terminal: true}, func(t *testing.T, s *Session) {
		s.want(t, "x=1", "", 0)
		time.AfterFunc(100*time.Millisecond, func() { _, _ = s.Write([]byte{3}) })
		begun := time.Now()
		r := s.runCommand(t, &Command{Text: "sleep 20; echo no", Timeout: 10 * time.Second})
		if r.TimedOut || r.ExitStatus != 130 || strings.Contains(string(r.Stdout), "no") || time.Since(begun) > 5*time.Second {
			t.Errorf("%+v %q", *r, r.Stdout)
		}
		s.want(t, "echo $x", "1\r\n", 0)
	})
}
