package shell

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestBytes(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		s.want(t, `printf '\000a\000\200\377'; printf '\\x80' >&2`, "\x00a\x00\x80\xff", 0)
		if r := s.run(t, `printf '\200\377' >&2`); string(r.Stderr) != "\x80\xff" || len(r.Stdout) != 0 {
			t.Errorf("%q %q", r.Stdout, r.Stderr)
		}
		s.want(t, "printf %s '\x01\x7f\x80\x81\x82\x88\xff'", "\x01\x7f\x80\x81\x82\x88\xff", 0)
		if _, err := s.Run(context.Background(), &Command{Text: "echo a\x00b"}); !errors.Is(err, errNUL) {
			t.Errorf("NUL: %v", err)
		}
		s.alive(t)
	})
}

// TestDash: a command that looks like an option is one that is not found.
func TestDash(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		for _, text := range []string{"-x foo", "--help", "-- echo no", "-c 'echo no'", "-"} {
			word := strings.Fields(text)[0]
			r := s.want(t, text, "", 127)
			if !strings.Contains(string(r.Stderr), word+": ") || !strings.Contains(string(r.Stderr), "not found") {
				t.Errorf("%q: %q", text, r.Stderr)
			}
			if r := s.runCommand(t, &Command{Text: text, Isolated: true}); r.ExitStatus != 127 || len(r.Stdout) != 0 {
				t.Errorf("%q isolated: %+v", text, *r)
			}
			j, err := s.Start(context.Background(), &Command{Text: text})
			if err != nil {
				t.Fatal(err)
			}
			if st, err := j.Wait(context.Background()); err != nil || st.ExitStatus != 127 {
				t.Errorf("%q in the background: %+v, %v", text, st, err)
			}
		}
		s.alive(t)
	})
}

func TestMerge(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		r := s.runCommand(t, &Command{Text: "echo 1; echo 2 >&2; echo 3", Merge: true})
		if string(r.Stdout) != "1\n2\n3\n" || len(r.Stderr) != 0 || r.Job != 0 {
			t.Errorf("%+v", r)
		}
	})
}

func TestReopenStdout(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		s.want(t, "set -C; echo a >/dev/stdout; echo b >/proc/self/fd/1; set +C", "a\nb\n", 0)
		if r := s.want(t, "echo e >/dev/stderr", "", 0); string(r.Stderr) != "e\n" {
			t.Errorf("%q", r.Stderr)
		}
	})
}

func TestLimit(t *testing.T) {
	eachShellWith(t, Options{Limit: 1000}, func(t *testing.T, s *Session) {
		r := s.run(t, "i=0; while [ $i -lt 3000 ]; do echo $((i+1000)); i=$((i+1)); done; head -c 100000 /dev/zero >&2")
		var all strings.Builder
		for i := range 3000 {
			all.WriteString(string(rune('0'+(i+1000)/1000)) + string(rune('0'+i/100%10)) + string(rune('0'+i/10%10)) + string(rune('0'+i%10)) + "\n")
		}
		want := all.String()[:500] + all.String()[all.Len()-500:]
		if string(r.Stdout) != want || r.DroppedStdout != int64(all.Len()-1000) {
			t.Errorf("kept %q, dropped %d", r.Stdout, r.DroppedStdout)
		}
		if len(r.Stderr) != 1000 || r.DroppedStderr != 99000 {
			t.Errorf("stderr: %d, %d", len(r.Stderr), r.DroppedStderr)
		}
		if r := s.run(t, "head -c 1000 /dev/zero"); len(r.Stdout) != 1000 || r.DroppedStdout != 0 {
			t.Errorf("%d, %d", len(r.Stdout), r.DroppedStdout)
		}
	})
}

func TestLargeOutput(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		var n counter
		begun := time.Now()
		s.runCommand(t, &Command{Text: "yes '' | head -c 100000000", Stdout: &n})
		if n != 100_000_000 {
			t.Errorf("%d bytes of newlines", n)
		}
		if took := time.Since(begun); took > time.Minute { // a second, but for a slow machine
			t.Errorf("100 MB of newlines took %v", took)
		}
		if r := s.run(t, "yes '' | head -c 20000000"); r.DroppedStdout != 20_000_000-DefaultLimit || len(r.Stdout) != DefaultLimit {
			t.Errorf("%d kept, %d dropped", len(r.Stdout), r.DroppedStdout)
		}
		s.alive(t)
	})
}

// counter counts what is written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

func TestStreaming(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		r, w := io.Pipe()
		go func() {
			defer w.Close()
			s.runCommand(t, &Command{Text: "echo first; while [ ! -e go ]; do sleep 0.01; done; echo second", Stdout: w})
		}()
		buf := make([]byte, 100)
		n, err := r.Read(buf)
		if err != nil || string(buf[:n]) != "first\n" {
			t.Fatalf("%q, %v", buf[:n], err)
		}
		if err := os.WriteFile(s.home+"/go", nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if rest, err := io.ReadAll(r); err != nil || string(rest) != "second\n" {
			t.Errorf("%q, %v", rest, err)
		}
		failing := writerFunc(func([]byte) (int, error) { return 0, io.ErrClosedPipe })
		if _, err := s.Run(context.Background(), &Command{Text: "echo x; sleep 100", Stdout: failing}); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("a writer that fails: %v", err)
		}
		s.alive(t)
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestStdin(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		s.want(t, "cat; echo end", "end\n", 0)
		s.want(t, "read x; echo $?", "1\n", 0)
		r := s.runCommand(t, &Command{Text: "read x; cat; echo $x", Input: []byte("one\ntwo\x00\xff\n")})
		if string(r.Stdout) != "two\x00\xff\none\n" {
			t.Errorf("%q", r.Stdout)
		}
		big := bytes.Repeat([]byte("0123456789"), 100_000)
		r = s.runCommand(t, &Command{Text: "cat", Stdin: bytes.NewReader(big)})
		if !bytes.Equal(r.Stdout, big) {
			t.Errorf("%d bytes come back of %d", len(r.Stdout), len(big))
		}
		// Read in part, and not at all.
		s.runCommand(t, &Command{Text: "head -c 3", Stdin: bytes.NewReader(big)})
		s.runCommand(t, &Command{Text: ":", Stdin: bytes.NewReader(big)})
		s.runCommand(t, &Command{Text: "'", Stdin: bytes.NewReader(big)})
		pr, pw := io.Pipe() // that never ends
		defer pw.Close()
		s.runCommand(t, &Command{Text: "echo x", Stdin: pr})
		s.alive(t)
	})
}

func TestExecution(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		ctx := context.Background()
		x, err := s.Begin(ctx, &Command{Text: "echo out; echo err >&2; sleep 0.05; echo more; sleep 0.2 & exit_status() { return 3; }; exit_status"})
		if err != nil {
			t.Fatal(err)
		}
		res, err := x.Wait(ctx)
		if err != nil || res.ExitStatus != 3 {
			t.Fatalf("%+v, %v", res, err)
		}
		buf := make([]byte, pending(x.Stdout))
		n, _ := unix.Read(x.Stdout, buf)
		if string(buf[:n]) != "out\nmore\n" {
			t.Errorf("%q", buf[:n])
		}
		dup, err := unix.Dup(x.Stdout)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(dup)
		job := x.End()
		if job == 0 || s.Job(job) == nil {
			t.Errorf("job %d", job)
		}
		s.alive(t)
		if x, err = s.Begin(ctx, &Command{Text: "echo unread"}); err != nil {
			t.Fatal(err)
		}
		if _, err := x.Wait(ctx); err != nil {
			t.Error(err)
		}
		if job := x.End(); job != 0 {
			t.Errorf("job %d", job)
		}
		s.alive(t)
		if x, err = s.Begin(ctx, &Command{Text: "echo a; sleep 100"}); err != nil {
			t.Fatal(err)
		}
		x.End()
		s.alive(t)
	})
}
