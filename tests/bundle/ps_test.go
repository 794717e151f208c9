package bundle_test

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	h "adl.run/adl-runtime/tests/harness"
)

// family is a container with three processes, and their ids.
func family(t *testing.T) (*h.Bundle, *h.Container, []int) {
	t.Helper()
	b := h.New(t, h.Sh("sleep 1000 & sleep 1001 & echo ready; wait"))
	c := b.Launch()
	c.WaitOutput("ready")
	var pids []int
	h.Eventually(t, "not three processes", func() bool {
		pids = nil
		out := b.Do("ps", "--format", "json", c.ID).OK(t).Stdout
		if err := json.Unmarshal([]byte(out), &pids); err != nil || !strings.HasSuffix(out, "]\n") {
			t.Fatalf("%v: %q", err, out)
		}
		return len(pids) == 3
	})
	return b, c, pids
}

func TestPs(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("ps"); err != nil {
		t.Skip("needs ps (Debian package procps)")
	}
	h.NotFor(t, "crun", "crun passes other options to ps")
	b, c, pids := family(t)
	if !slices.Contains(pids, c.Pid) {
		t.Errorf("%v lacks init %d", pids, c.Pid)
	}
	for _, args := range [][]string{nil, {"-ef"}, {"aux"}, {"-o", "pid,args"}, {"-e", "-o", "ppid,pid,comm"}} {
		r := b.Do(append([]string{"ps", c.ID}, args...)...).OK(t)
		lines := h.Lines(r.Stdout)
		column := slices.Index(strings.Fields(lines[0]), "PID")
		if column < 0 {
			t.Fatalf("%v: no PID in %q", args, lines[0])
		}
		if len(args) > 0 && args[0] == "-o" { // only the processes of the caller's terminal
			continue
		}
		var got []int
		for _, line := range lines[1:] {
			pid, err := strconv.Atoi(strings.Fields(line)[column])
			h.Must(t, err)
			got = append(got, pid)
		}
		slices.Sort(got)
		if !slices.Equal(got, pids) {
			t.Errorf("%v: processes %v, want %v", args, got, pids)
		}
	}
	c.Delete("--force")
}

func TestPs_BadInput(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun takes no other options for ps")
	b, c, _ := family(t)
	b.Do("ps", "-f", "xml", c.ID).Refused(t, "invalid format option", "invalid format option")
	b.Do("ps", c.ID, "-o", "comm").Refused(t, "couldn't find PID field", "couldn't find PID field")
	b.Do("ps", c.ID, "--no-such-option").Refused(t, "exit status 1", "exit status 1")
	c.Delete("--force")
}

func TestPs_OfAStoppedContainer(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun 1.8.1 dies of SIGSEGV")
	b := h.New(t)
	c := b.Launch()
	c.WaitExit()
	if r := b.Do("ps", "-f", "json", c.ID).OK(t); r.Stdout != "null\n" {
		t.Errorf("%q", r.Stdout)
	}
	c.Delete()
}
