package frame

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// AdoptOrphans makes the process the one that orphaned descendants are given
// to, as a container manager's monitor does: no process of a container can get
// away, and the bench reaps every init.
func AdoptOrphans() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("PR_SET_CHILD_SUBREAPER: %w", err)
	}
	return nil
}

// WaitPid waits for one child, for ever.
func WaitPid(pid int) (unix.WaitStatus, error) {
	var ws unix.WaitStatus
	for {
		if _, err := unix.Wait4(pid, &ws, 0, nil); err != unix.EINTR {
			return ws, err
		}
	}
}

// reapZombies collects the children that have ended and says whether any
// child, alive or dead, is left.
func reapZombies() (left bool) {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		switch {
		case err == unix.EINTR || pid > 0:
		case err == unix.ECHILD:
			return false
		default:
			return true
		}
	}
}

// Childless waits up to patience for the last child's end and names the
// children that stay.
func Childless(patience time.Duration) error {
	end := time.Now().Add(patience)
	for reapZombies() {
		if time.Now().After(end) {
			return fmt.Errorf("processes left: %s", describe(children()))
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// KillDescendants kills child after child until none is left: the children of
// a dead child become ours, see AdoptOrphans.
func KillDescendants(patience time.Duration) error {
	end := time.Now().Add(patience)
	for reapZombies() {
		pids := children()
		if time.Now().After(end) {
			return fmt.Errorf("processes that cannot be killed: %s", describe(pids))
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL) // ESRCH: it has ended
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// children scans /proc for the children of this process. The kernel's
// task/children file needs CONFIG_PROC_CHILDREN and this is not a hot path.
func children() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	self := os.Getpid()
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && parentOf(stat) == self {
			pids = append(pids, pid)
		}
	}
	return pids
}

// parentOf takes the parent's pid from the text of /proc/PID/stat, or 0. The
// command in parentheses may itself hold spaces and parentheses (proc_pid_stat(5)).
func parentOf(stat []byte) int {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	ppid, _ := strconv.Atoi(string(fields[1]))
	return ppid
}

// describe lists pids with their commands.
func describe(pids []int) string {
	var out []string
	for _, pid := range pids {
		out = append(out, fmt.Sprintf("%d (%s)", pid, Command(pid)))
	}
	return strings.Join(out, ", ")
}

// Command is the name of the process's program, or "".
func Command(pid int) string {
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(comm))
}

// MemoryOf reads the proportional and the whole resident set in KiB.
func MemoryOf(pid int) (pss, rss int64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, 0, err
	}
	return parseRollup(string(text))
}

// parseRollup reads the text of /proc/PID/smaps_rollup, whose lines are
// "Name:   123 kB".
func parseRollup(text string) (pss, rss int64, err error) {
	found := 0
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 3 || f[2] != "kB" || (f[0] != "Pss:" && f[0] != "Rss:") {
			continue
		}
		kib, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("smaps_rollup: %w", err)
		}
		if found++; f[0] == "Pss:" {
			pss = kib
		} else {
			rss = kib
		}
	}
	if found != 2 {
		return 0, 0, errors.New("smaps_rollup: no Pss and Rss lines")
	}
	return pss, rss, nil
}
