package shell

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// output is all that is kept of a job's output.
func (j *Job) output(s Stream) string {
	buf := make([]byte, 1<<20)
	n, _ := j.Read(s, 0, buf)
	return string(buf[:n])
}

func wait(t *testing.T, j *Job) Status {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	st, err := j.Wait(ctx)
	if err != nil {
		t.Fatalf("job %d: %v", j.Number, err)
	}
	return st
}

// TestLateOutput: what a background child writes after its command is nobody else's, and
// is kept.
func TestLateOutput(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		begun := time.Now()
		r := s.want(t, "echo now; (sleep 0.2; echo late; echo late2 >&2) &", "now\n", 0)
		if r.Job == 0 || time.Since(begun) > 150*time.Millisecond && r.Duration > 150*time.Millisecond {
			t.Errorf("%+v", *r)
		}
		for range 20 {
			s.want(t, "echo other", "other\n", 0)
			time.Sleep(5 * time.Millisecond)
		}
		j := s.Job(r.Job)
		wait(t, j)
		if out, err := j.output(Stdout), j.output(Stderr); out != "late\n" || err != "late2\n" {
			t.Errorf("%q %q", out, err)
		}
		time.Sleep(250 * time.Millisecond)
		s.alive(t)
	})
}

func TestJobs(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		ctx := context.Background()
		s.want(t, "x=1; cd /usr; (exit 6)", "", 6)
		j, err := s.Start(ctx, &Command{Text: "echo $x; pwd; echo e >&2; x=2; cat; exit 3", Input: []byte("in")})
		if err != nil {
			t.Fatal(err)
		}
		if st := wait(t, j); st.ExitStatus != 3 || st.Signal != 0 || st.Stdout != 9 || st.Stderr != 2 {
			t.Errorf("%+v", st)
		}
		if out, err := j.output(Stdout), j.output(Stderr); out != "1\n/usr\nin" || err != "e\n" {
			t.Errorf("%q %q", out, err)
		}
		s.want(t, "echo $? $x", "6 1\n", 0)
		sleeper, err := s.Start(ctx, &Command{Text: "echo begun; sleep 1000; echo no"})
		if err != nil {
			t.Fatal(err)
		}
		if st := sleeper.Status(); st.Ended {
			t.Errorf("%+v", st)
		}
		s.alive(t)
		if r := s.runCommand(t, &Command{Text: "sleep 100", Timeout: 50 * time.Millisecond}); !r.TimedOut {
			t.Errorf("%+v", *r)
		}
		if st := sleeper.Status(); st.Ended {
			t.Errorf("a timeout has ended another job: %+v", st)
		}
		if err := sleeper.Signal(unix.SIGTERM); err != nil {
			t.Error(err)
		}
		if st := wait(t, sleeper); st.ExitStatus != 128+15 {
			t.Errorf("%+v", st)
		}
		if out := sleeper.output(Stdout); out != "begun\n" {
			t.Errorf("%q", out)
		}
		// What it has started was sent the signal, too, and may take longer to end.
		for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
			err := sleeper.Signal(unix.SIGTERM)
			if err == unix.ESRCH {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("signal to a job that has ended: %v", err)
			}
		}
		if n := len(s.Jobs()); n != 2 {
			t.Errorf("%d jobs", n)
		}
	})
}

func TestJobUnbalanced(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		for _, text := range []string{"echo 'x", "${x:?no}", "exit 1", "kill -9 $(exec sh -c 'echo $PPID')", "exec false", ")"} {
			j, err := s.Start(context.Background(), &Command{Text: text})
			if err != nil {
				t.Errorf("%q: %v", text, err)
				continue
			}
			if st := wait(t, j); st.ExitStatus == 0 {
				t.Errorf("%q: %+v", text, st)
			}
		}
		s.alive(t)
	})
}

// TestJobBounded: an endless writer is read, and the last bytes are kept.
func TestJobBounded(t *testing.T) {
	eachShellWith(t, Options{JobLimit: 1000, Jobs: 3}, func(t *testing.T, s *Session) {
		ctx := context.Background()
		j, err := s.Start(ctx, &Command{Text: "i=10000; while [ $i -lt 15000 ]; do echo $i; i=$((i+1)); done"})
		if err != nil {
			t.Fatal(err)
		}
		if st := wait(t, j); st.Stdout != 30000 {
			t.Errorf("%+v", st)
		}
		buf := make([]byte, 12)
		n, first := j.Read(Stdout, 0, buf)
		if first != 29000 || n != 12 || string(buf) != "833\n14834\n14" {
			t.Errorf("%d %d %q", n, first, buf)
		}
		n, first = j.Read(Stdout, 29994, buf)
		if n != 6 || first != 29994 || string(buf[:n]) != "14999\n" {
			t.Errorf("%d %d %q", n, first, buf[:n])
		}
		if n, first = j.Read(Stdout, 30000, buf); n != 0 || first != 30000 {
			t.Errorf("%d %d", n, first)
		}
		for range 5 {
			s.run(t, "sleep 1000 &")
		}
		if n := len(s.Jobs()); n != 3 {
			t.Errorf("%d jobs are remembered", n)
		}
		s.alive(t)
	})
}
