package shell

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSoak mixes commands that break things with commands whose results are checked: no
// output may be lost, or be another command's. SHELL_SOAK is how long, 2s without.
func TestSoak(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("SHELL_SOAK"))
	if err != nil {
		length = 2 * time.Second
	}
	eachShell(t, func(t *testing.T, s *Session) {
		end := time.Now().Add(length)
		rng := rand.New(rand.NewPCG(1, 2))
		n := 0
		for ; time.Now().Before(end) && !t.Failed(); n++ {
			soakStep(t, s, rng, n)
		}
		t.Logf("%d commands", n)
	})
}

// soakStep runs a command that may break something, and one that is checked.
func soakStep(t *testing.T, s *Session, rng *rand.Rand, n int) {
	late := fmt.Sprintf("late%d", n)
	switch texts := []string{
		"exit 3", "kill -9 $$", "exec true", "set -e; false", "echo 'x", "(sleep 0.05; echo " + late + "; echo " + late + " >&2) &",
		"sleep 0.01 & sleep 0.02 & true", "seq 100000", "exec 3>&- 4>&-", "cd /tmp", "cd /nonexistent", "return 3", "false", "exec >/dev/null",
	}; rng.IntN(6) {
	case 0, 1:
		s.run(t, texts[rng.IntN(len(texts))])
	case 2:
		s.runCommand(t, &Command{Text: "echo " + late + "; sleep 10", Timeout: time.Duration(rng.IntN(20)+1) * time.Millisecond})
	case 3:
		if pid := s.Pid(); pid != 0 && rng.IntN(4) == 0 {
			_ = unix.Kill(pid, unix.SIGKILL)
			for range 1000 { // or it dies in the next command
				if !running(pid) {
					break
				}
				time.Sleep(100 * time.Microsecond)
			}
		}
	case 4:
		if _, err := s.Start(context.Background(), &Command{Text: "echo " + late + "; sleep 0.03; echo " + late}); err != nil {
			t.Errorf("start: %v", err)
		}
	case 5:
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rng.IntN(3000))*time.Microsecond)
		_, _ = s.Run(ctx, &Command{Text: "echo " + late + "; sleep 0.002; echo " + late})
		cancel()
	}
	size := rng.IntN(1 << rng.IntN(18))
	text := fmt.Sprintf("echo out%d; echo err%d >&2; head -c %d /dev/zero; (exit %d)", n, n, size, n%256)
	want := fmt.Sprintf("out%d\n%s", n, strings.Repeat("\x00", size))
	r := s.run(t, text)
	if string(r.Stdout) != want || string(r.Stderr) != fmt.Sprintf("err%d\n", n) || r.ExitStatus != n%256 {
		t.Errorf("%q: %d bytes %.100q, stderr %.200q, status %d, restarted %v, signal %v", text, len(r.Stdout), r.Stdout, r.Stderr, r.ExitStatus, r.Restarted, r.Signal)
	}
}
