package managers

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"adl.run/adl-runtime/tests/harness"
)

// startDaemon starts a daemon with its output in dir/log, waits until ready says so,
// and has the cleanup end it.
func startDaemon(t *testing.T, dir string, ready func() bool, program string, args ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, "log"))
	harness.Must(t, err)
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Env = withoutProxies(os.Environ())
	harness.Must(t, cmd.Start())
	log.Close()
	t.Cleanup(func() { stopDaemon(t, cmd, dir) })
	for deadline := time.Now().Add(limit(30 * time.Second)); !ready(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer:\n%s", program, tail(harness.ReadFile(t, log.Name())))
		}
	}
}

func stopDaemon(t *testing.T, cmd *exec.Cmd, dir string) {
	cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(limit(30*time.Second), func() {
		t.Errorf("%s had to be killed", cmd.Path)
		cmd.Process.Kill()
	})
	cmd.Wait()
	timer.Stop()
	if t.Failed() {
		t.Logf("%s:\n%s", cmd.Path, tail(harness.ReadFile(t, filepath.Join(dir, "log"))))
	}
}

// withoutProxies keeps a daemon from asking anyone but this machine.
func withoutProxies(list []string) []string {
	var keep []string
	for _, e := range list {
		name, _, _ := strings.Cut(strings.ToLower(e), "=")
		if !strings.HasSuffix(name, "_proxy") {
			keep = append(keep, e)
		}
	}
	return keep
}

// tail is the end of a log.
func tail(text string) string {
	const most = 6000
	if len(text) > most {
		return "…" + text[len(text)-most:]
	}
	return text
}
