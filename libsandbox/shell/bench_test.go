package shell

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"testing"
)

// BenchmarkRun is a command in a session, BenchmarkBare the same in a bash that is fed
// by a pipe and says the end of each command in its output: the floor.
func BenchmarkRun(b *testing.B) {
	for name, args := range shells() {
		for _, c := range []struct{ name, text string }{{"builtin", ":"}, {"echo", "echo x"}, {"true", "/bin/true"}, {"1MB", "head -c 1000000 /dev/zero"}} {
			b.Run(name+"/"+c.name, func(b *testing.B) {
				s := session(b, &Options{Args: args})
				s.run(b, ":")
				cmd := &Command{Text: c.text}
				ctx := context.Background()
				for b.Loop() {
					if _, err := s.Run(ctx, cmd); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkBare(b *testing.B) {
	for _, c := range []struct{ name, text string }{{"builtin", ":"}, {"true", "/bin/true"}, {"1MB", "head -c 1000000 /dev/zero"}} {
		b.Run(c.name, func(b *testing.B) {
			cmd := exec.Command("bash", "--norc")
			in, err := cmd.StdinPipe()
			if err != nil {
				b.Fatal(err)
			}
			out, err := cmd.StdoutPipe()
			if err != nil {
				b.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			r := bufio.NewReaderSize(out, 1<<16)
			for b.Loop() {
				if _, err := fmt.Fprintf(in, "%s\necho end\n", c.text); err != nil {
					b.Fatal(err)
				}
				if _, err := r.ReadString('\n'); err != nil {
					b.Fatal(err)
				}
			}
			in.Close()
			_ = cmd.Wait()
		})
	}
}

func BenchmarkThroughput(b *testing.B) {
	s := session(b, &Options{Args: []string{"bash"}})
	const size = 256 << 20
	b.SetBytes(size)
	for b.Loop() {
		if r := s.runCommand(b, &Command{Text: fmt.Sprintf("head -c %d /dev/zero", size), Stdout: io.Discard}); r.ExitStatus != 0 {
			b.Fatalf("%+v", *r)
		}
	}
}
