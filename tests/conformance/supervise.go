package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A task is what supervise is told, as JSON in its argument.
type task struct {
	Program string        // to run
	Limit   time.Duration // after which it is killed
	Report  string        // file for the outcome
	Dir     string        // holds everything the program makes
	Hide    string        // a mount point to unmount first; "" for none
}

// An outcome is what supervise writes to its report file as JSON.
type outcome struct {
	Exit     int           // exit status; 128 + n for signal n
	TimedOut bool          // the limit passed and the program's process group was killed
	Elapsed  time.Duration // of the program
	Left     []string      // processes and mounts that outlived the program
}

// supervise runs one program and is the subreaper of all that descends from
// it: containers that stay behind become its children, so they are told apart
// from those of programs that run at the same time. It must have a mount
// namespace of its own. The exit status is 0 if the report was written.
func supervise(args []string) int {
	if err := superviseTask(args); err != nil {
		fmt.Fprintln(os.Stderr, "supervise:", err)
		return 1
	}
	return 0
}

func superviseTask(args []string) error {
	var t task
	if err := json.Unmarshal([]byte(strings.Join(args, "")), &t); err != nil {
		return fmt.Errorf("task: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a subreaper: %w", err)
	}
	if t.Hide != "" {
		if err := unix.Unmount(t.Hide, 0); err != nil {
			return fmt.Errorf("unmount %s: %w", t.Hide, err)
		}
	}
	result, err := superviseProgram(t.Program, t.Limit)
	if err != nil {
		return err
	}
	result.Left = append(result.Left, endMounts(t.Dir)...)
	report, err := json.Marshal(result)
	if err != nil {
		return err
	}
	return os.WriteFile(t.Report, report, 0o644)
}

func superviseProgram(program string, limit time.Duration) (outcome, error) {
	var result outcome
	cmd := exec.Command(program)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return result, err
	}
	kill := func() { _ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	timer := time.AfterFunc(limit, kill)
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, unix.SIGINT, unix.SIGTERM)
	go func() {
		<-interrupted
		kill()
	}()
	status, err := reapUntil(cmd.Process.Pid)
	if err != nil {
		return result, err
	}
	result.TimedOut = !timer.Stop()
	result.Elapsed = time.Since(start)
	result.Exit = status.ExitStatus()
	if status.Signaled() {
		result.Exit = 128 + int(status.Signal())
	}
	result.Left = endDescendants()
	return result, nil
}

// reapUntil waits for every child, adopted ones included, until pid has ended.
// A container's first process that nobody reaps would stay a zombie, and the
// programs would wait for it to become "stopped".
func reapUntil(pid int) (unix.WaitStatus, error) {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, fmt.Errorf("wait: %w", err)
		case got == pid:
			return status, nil
		}
	}
}

// endDescendants gives what is still running a moment to end by itself, kills
// the rest one by one, and returns their names. Killing a process makes its
// children ours, so it goes on until there are none.
func endDescendants() []string {
	var names []string
	for deadline := time.Now().Add(300 * time.Millisecond); ; time.Sleep(20 * time.Millisecond) {
		children := reapDead()
		if len(children) == 0 {
			return names
		}
		if time.Now().Before(deadline) {
			continue
		}
		for _, pid := range children {
			name := fmt.Sprintf("process %s (%d)", processName(pid), pid)
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
}

// reapDead reaps the children that have ended and returns those that have not.
func reapDead() []int {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if pid <= 0 || err != nil {
			return childrenOf(os.Getpid())
		}
	}
}

// childrenOf searches /proc: the children file of a task is not there on every
// kernel.
func childrenOf(parent int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err == nil && parentOf(pid) == parent {
			pids = append(pids, pid)
		}
	}
	return pids
}

// parentOf returns 0 for a process that is gone. The name in /proc/pid/stat
// may hold blanks and parentheses, so it counts from its end.
func parentOf(pid int) int {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	ppid, _ := strconv.Atoi(fields[1])
	return ppid
}

func processName(pid int) string {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return "?"
	}
	return strings.TrimSpace(string(name))
}

// endMounts detaches the mounts below dir, the last one first, and returns
// their paths in it.
func endMounts(dir string) []string {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return []string{"mounts: " + err.Error()}
	}
	var points []string
	for line := range strings.Lines(string(info)) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			points = append(points, fields[4])
		}
	}
	var left []string
	for _, point := range slices.Backward(points) {
		rel := strings.TrimPrefix(point, dir+"/")
		left = append(left, "mount "+rel)
		if err := unix.Unmount(point, unix.MNT_DETACH); err != nil {
			left = append(left, fmt.Sprintf("umount %s: %v", rel, err))
		}
	}
	return left
}
