package shell

import (
	"context"
	"testing"

	"golang.org/x/sys/unix"
)

// Nothing is read from the stdin of the process that the sessions are in, which may be
// where its requests come from.
func TestStdinOfTheProcess(t *testing.T) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[1])
	saved, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(saved)
	if err := unix.Dup3(p[0], 0, 0); err != nil {
		t.Fatal(err)
	}
	unix.Close(p[0])
	defer unix.Dup3(saved, 0, 0)
	if _, err := unix.Write(p[1], []byte("a request")); err != nil {
		t.Fatal(err)
	}
	for _, args := range shells() {
		for range 10 {
			s := session(t, &Options{Args: args})
			s.run(t, "(sleep 0.002; echo late) &") // what is late becomes a job, as a rule
			if _, err := s.Start(context.Background(), &Command{Text: "echo job"}); err != nil {
				t.Fatal(err)
			}
			if err := s.Park(context.Background()); err != nil {
				t.Fatal(err)
			}
			if err := s.Unpark(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := pending(0); n != len("a request") {
		t.Errorf("%d bytes are left of %d", n, len("a request"))
	}
}

// TestStdinIsNull: a command without input has /dev/null for stdin, and sees that.
func TestStdinIsNull(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		s.want(t, "test -c /dev/stdin", "", 0)
		s.want(t, "test -p /dev/stdin", "", 1)
	})
}
