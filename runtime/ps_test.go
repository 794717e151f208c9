package runtime

import (
	"strings"
	"testing"
)

// The table is procps' (Debian 12).
const psTable = `UID        PID  PPID  C STIME TTY          TIME CMD
root         1     0  0 10:00 ?        00:00:01 /sbin/init
root     28950     1  0 10:01 ?        00:00:00 sleep 100
root     28951 28950  0 10:01 ?        00:00:00 sh -c echo 1

`

func TestWritePs(t *testing.T) {
	for _, tt := range []struct {
		pids  []int
		lines int
	}{{nil, 1}, {[]int{28950}, 2}, {[]int{28950, 28951, 4}, 3}, {[]int{0}, 1}} {
		var b strings.Builder
		if err := writePs(&b, psTable, tt.pids); err != nil {
			t.Error(err)
		}
		if got := b.String(); strings.Count(got, "\n") != tt.lines || !strings.HasPrefix(got, "UID        PID") {
			t.Errorf("%v: %q", tt.pids, got)
		}
	}
	for _, out := range []string{"", "COMMAND\nsh\n", "PID CMD\nx y\n"} {
		var b strings.Builder
		if err := writePs(&b, out, nil); err == nil {
			t.Errorf("%q was taken: %q", out, b.String())
		}
	}
}

func TestRunPs(t *testing.T) {
	if _, err := lookPath("ps"); err != nil {
		t.Skip("needs ps of procps: ", err)
	}
	out, err := runPs([]string{"-o", "pid", "-p", "1"})
	if err != nil || len(strings.Fields(out)) != 2 {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := runPs([]string{"--nope"}); err == nil || !strings.HasPrefix(err.Error(), "ps --nope: exit status 1: ") {
		t.Error(err)
	}
	t.Setenv("PATH", "/nowhere")
	if _, err := runPs(nil); err == nil || !strings.Contains(err.Error(), "not found in $PATH") {
		t.Error(err)
	}
}
