package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/tests/bench/frame"
)

// worker runs the commands of one runtime, one container at a time.
type worker struct {
	setup
	id     string              // the container's id, the same each time
	dir    string              // bundles and pid file
	cgroup string              // the container's cgroup below every hierarchy
	argv   map[string][]string // step -> command, made once
	env    []string
	null   uintptr // /dev/null, open as long as the process lives

	init  int           // pid of the created container's init, or 0
	ended chan struct{} // closed when init was reaped
}

// workerMain serves the bench until it closes the request pipe or dies.
func workerMain() error {
	unix.CloseOnExec(requestFD)
	unix.CloseOnExec(replyFD)
	in := json.NewDecoder(os.NewFile(requestFD, "requests"))
	out := json.NewEncoder(os.NewFile(replyFD, "replies"))
	debug.SetGCPercent(-1) // a few MiB in all; no collection beside a measurement
	// With more, Go's monitor looks every 20 us for 10 ms whether the processor of a thread
	// that waits for the command is wanted, beside that command.
	runtime.GOMAXPROCS(1)

	var s setup
	if err := in.Decode(&s); err != nil {
		return fmt.Errorf("setup: %w", err)
	}
	bench, err := unix.PidfdOpen(os.Getppid(), 0)
	if err != nil {
		return fmt.Errorf("pidfd of the bench: %w", err)
	}
	w, err := newWorker(s)
	answer := reply{}
	if err != nil {
		answer.Err = err.Error()
	}
	for out.Encode(answer) == nil && err == nil {
		var q request
		if in.Decode(&q) != nil {
			break
		}
		answer = w.serve(q)
	}
	return w.close(ends(bench))
}

// ends reports whether a process is gone or about to go: a killed one closes its
// pipes shortly before it is dead.
func ends(pidfd int) bool {
	const patience = 100 // ms
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, patience)
	return n > 0 && err == nil
}

// newWorker prepares everything that must not be part of a measurement. The
// worker it returns can be closed even when there is an error.
func newWorker(s setup) (*worker, error) {
	name := fmt.Sprintf("%s-%d", s.Runtime, s.Slot)
	w := &worker{
		setup: s, id: "bench-" + name, dir: filepath.Join(s.Base, name),
		cgroup: s.Cgroup + "/" + name,
		env:    []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
	}
	if err := frame.AdoptOrphans(); err != nil {
		return w, err
	}
	if s.Hide {
		if err := frame.HideUnified(); err != nil {
			return w, err
		}
	}
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return w, fmt.Errorf("%s: %w", os.DevNull, err)
	}
	w.null = uintptr(null)
	w.makeCommands()
	return w, makeBundles(s.Base, w.dir, "/"+w.cgroup)
}

func (w *worker) makeCommands() {
	verb := func(args ...string) []string {
		return append([]string{w.Path, "--root", stateDir(w.Base, w.Runtime)}, args...)
	}
	bundle := func(kind string) string { return filepath.Join(w.dir, kind) }
	w.argv = map[string][]string{
		opVersion:     {w.Path, "--version"},
		opRun:         verb("run", "--bundle", bundle("true"), w.id),
		opRunPodman:   verb("run", "--bundle", bundle(podmanBundle), w.id),
		opPause:       verb("pause", w.id),
		opResume:      verb("resume", w.id),
		stepProbe:     verb("run", "--bundle", bundle("probe"), w.id),
		opCreate:      verb("create", "--bundle", bundle("sleep"), "--pid-file", w.pidFile(), w.id),
		opStart:       verb("start", w.id),
		opDelete:      verb("delete", w.id),
		opDeleteForce: verb("delete", "--force", w.id),
	}
	maps.Copy(w.argv, w.execCommands(verb, bundle))
}

func (w *worker) pidFile() string { return filepath.Join(w.dir, "pid") }

// serve does one step and checks what it left behind.
func (w *worker) serve(q request) reply {
	r, err := w.step(q)
	if err != nil {
		r.Err = fmt.Sprintf("%s: %s: %v", w.id, q.Step, err)
	}
	return r
}

func (w *worker) step(q request) (reply, error) {
	switch q.Step {
	case opVersion, opExec, opExecUser, opShell, opPause, opResume:
		return w.timed(q, 0, func() error { return nil })
	case opRun, opRunPodman:
		return w.timed(q, 0, w.checkGone)
	case stepProbe:
		return w.timed(q, probeStatus, w.checkGone)
	case opCreate, stepCreateUser:
		return w.timed(q, 0, w.checkCreated)
	case stepRate:
		return w.steadyExecs(q.Rate, q.Count)
	case opStart:
		return w.timed(q, 0, w.checkStarted)
	case opDelete, opDeleteForce:
		return w.timed(q, 0, w.checkGone)
	case stepKill:
		return reply{}, w.kill()
	case stepMemory:
		pss, rss, err := frame.MemoryOf(w.init)
		return reply{PSS: pss, RSS: rss}, err
	default:
		return reply{}, errors.New("unknown step")
	}
}

// timed runs the step's command at its time, expects the exit status, and then
// calls check, which is not timed.
func (w *worker) timed(q request, status int, check func() error) (reply, error) {
	argv := w.argv[q.Step]
	sleepUntil(q.At)
	start, end, ws, err := w.launch(argv)
	if err != nil {
		return reply{}, err
	}
	if !ws.Exited() || ws.ExitStatus() != status {
		return reply{}, w.explain(argv, ws, status)
	}
	return reply{Start: start, End: end}, check()
}

// launch runs a command with /dev/null as standard streams. Between the two
// readings of the clock there is ForkExec and wait4 only. The command is a
// process group of its own, so that a hanging one can be ended as a whole.
func (w *worker) launch(argv []string) (start, end int64, ws unix.WaitStatus, err error) {
	attr := &syscall.ProcAttr{
		Env: w.env, Files: []uintptr{w.null, w.null, w.null},
		Sys: &syscall.SysProcAttr{Setpgid: true},
	}
	start = now()
	pid, err := syscall.ForkExec(argv[0], argv, attr)
	if err != nil {
		return 0, 0, 0, err
	}
	hang := time.AfterFunc(w.Timeout, func() { _ = unix.Kill(-pid, unix.SIGKILL) })
	ws, err = frame.WaitPid(pid)
	end = now()
	if !hang.Stop() {
		return 0, 0, 0, fmt.Errorf("killed after %v", w.Timeout)
	}
	return start, end, ws, err
}

// explain runs a failed command once more, now with its messages caught: the
// timed run has /dev/null there because runtimes treat it specially.
func (w *worker) explain(argv []string, ws unix.WaitStatus, want int) error {
	var messages bytes.Buffer
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env, cmd.SysProcAttr = w.env, &syscall.SysProcAttr{Setpgid: true}
	cmd.Stdout, cmd.Stderr = &messages, &messages
	cmd.WaitDelay = time.Second // an init may hold the pipe open
	if err := cmd.Start(); err != nil {
		return err
	}
	hang := time.AfterFunc(w.Timeout, func() { _ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL) })
	defer hang.Stop()
	again := cmd.Wait()
	how := fmt.Sprintf("exit status %d", ws.ExitStatus())
	if ws.Signaled() {
		how = "killed by " + ws.Signal().String()
	}
	return fmt.Errorf("%q: %s instead of %d; run again for its messages (%v): %s",
		argv, how, want, again, bytes.TrimSpace(messages.Bytes()))
}

// checkCreated takes the init from the pid file and reaps it when it ends, as
// a monitor does: `runc delete --force` waits for that.
func (w *worker) checkCreated() error {
	text, err := os.ReadFile(w.pidFile())
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(text)))
	if err != nil || pid < 2 {
		return fmt.Errorf("pid file: %q", text)
	}
	if err := unix.Kill(pid, 0); err != nil {
		return fmt.Errorf("init %d: %w", pid, err)
	}
	ended := make(chan struct{})
	w.init, w.ended = pid, ended
	go func() {
		_, _ = frame.WaitPid(pid) // ECHILD: KillDescendants was quicker
		close(ended)
	}()
	return nil
}

// checkStarted waits until the init executes the bundle's program. `start` may
// return a moment before.
func (w *worker) checkStarted() error {
	end := after(2 * time.Second)
	for frame.Command(w.init) != "sleep" {
		if now() > end {
			return fmt.Errorf("init %d is %q, not sleep", w.init, frame.Command(w.init))
		}
		time.Sleep(200 * time.Microsecond)
	}
	return nil
}

// kill ends the init and waits until it is reaped.
func (w *worker) kill() error {
	if w.init == 0 {
		return errors.New("no init")
	}
	if err := unix.Kill(w.init, unix.SIGKILL); err != nil {
		return fmt.Errorf("kill init %d: %w", w.init, err)
	}
	return w.awaitInit()
}

func (w *worker) awaitInit() error {
	select {
	case <-w.ended:
		w.init = 0
		return nil
	case <-time.After(5 * time.Second):
		return fmt.Errorf("init %d lives on", w.init)
	}
}

// checkGone fails when a deleted container left a process, its state or a
// cgroup behind.
func (w *worker) checkGone() error {
	if w.init != 0 {
		if err := w.awaitInit(); err != nil {
			return err
		}
	}
	if err := frame.Childless(time.Second); err != nil {
		return err
	}
	state := filepath.Join(stateDir(w.Base, w.Runtime), w.id)
	if _, err := os.Lstat(state); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("state left: %s (%v)", state, err)
	}
	dirs, err := frame.CgroupsNamed(w.cgroup)
	if err != nil {
		return err
	}
	for _, d := range dirs {
		if frame.FSType(d) != unix.TMPFS_MAGIC { // see removeCgroupOnce
			return fmt.Errorf("cgroup left: %s", d)
		}
	}
	return nil
}

// close leaves nothing of this worker's behind. When the bench itself is gone,
// what all workers share goes too; the last of them succeeds.
func (w *worker) close(orphaned bool) error {
	err := frame.KillDescendants(5 * time.Second)
	if w.Cgroup == "" || w.Base == "" {
		return err
	}
	err = errors.Join(err, frame.RemoveCgroup(w.cgroup, 2*time.Second))
	if orphaned {
		_ = frame.RemoveCgroup(w.Cgroup, 2*time.Second)
		return errors.Join(err, os.RemoveAll(w.Base))
	}
	if w.Hide {
		err = errors.Join(err, w.removeHidden())
	}
	return err
}

// removeHidden removes what a runtime wrote to the mount point of the
// unmounted hierarchy: outside this mount namespace nobody can see it.
func (w *worker) removeHidden() error {
	if frame.CgroupLayout() == "v2" {
		return nil
	}
	dir := filepath.Join(frame.CgroupRoot, "unified", w.Cgroup)
	if frame.FSType(dir) != unix.TMPFS_MAGIC {
		return nil
	}
	// Fails while another slot's directory is in it; the last slot succeeds.
	if err := unix.Rmdir(dir); err != nil && err != unix.ENOTEMPTY && err != unix.ENOENT {
		return fmt.Errorf("rmdir %s: %w", dir, err)
	}
	return nil
}
