package shell

import (
	"bytes"
	"context"
	"errors"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// The shell is a child subreaper (PR_SET_CHILD_SUBREAPER, Linux 3.4): what a command
// starts stays below it, also when it calls setsid(2) or its parent has ended. A command's
// processes are those below the shell, but for the children that the shell had before, and
// what is below those. A child that an earlier command's process left to the shell in the
// meantime is known by its age, or by the output that it holds.

// maxRounds is how often processes are looked for that have been forked meanwhile.
const maxRounds = 64

// stopRounds is after how many of them what goes on is no common command.
const stopRounds = 6

// tick is the unit of a process's start time: USER_HZ is 100 on all of Go's ports.
const tick = 10 * time.Millisecond

// baseline remembers the children that the shell has before a command.
func (s *Session) baseline() {
	if s.children == nil {
		s.children = make([]byte, 0, 1024)
	}
	buf := s.children[:cap(s.children)]
	n := 0
	for {
		m, err := unix.Pread(s.shell.children, buf[n:], int64(n))
		if err == unix.EINTR {
			continue
		}
		n += max(m, 0)
		if m <= 0 || n < len(buf) {
			break
		}
		buf = append(buf, make([]byte, len(buf))...)
	}
	s.children = buf[:n]
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now)
	s.since = uint64(now.Nano() / int64(tick))
}

// childrenOf returns the children of all threads of a process.
func childrenOf(pid int) (all []int) {
	dir := "/proc/" + strconv.Itoa(pid) + "/task"
	threads, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, t := range threads {
		list, _ := kernel.ReadAll(dir + "/" + t.Name() + "/children")
		all = append(all, pids(list)...)
	}
	return all
}

func pids(list []byte) (all []int) {
	for _, f := range bytes.Fields(list) {
		if pid, err := strconv.Atoi(string(f)); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

// below returns the processes below some, those included: parents first, so that a
// subshell is sent SIGINT before what it waits for, and the youngest child first, so that
// the last of a pipeline does not see the one before it end.
func below(roots []int) []int {
	all := slices.Clone(roots)
	slices.Reverse(all)
	for i := 0; i < len(all); i++ {
		children := childrenOf(all[i])
		slices.Reverse(children)
		all = append(all, children...)
	}
	return all
}

// victims are the children of the shell that the command has left there: what is to be
// killed is these and all below them.
func (s *Session) victims() (roots []int) {
	before := pids(s.children)
	for _, pid := range childrenOf(s.shell.Pid) {
		if !s.spared(pid, before) {
			roots = append(roots, pid)
		}
	}
	return roots
}

// spared says whether a child of the shell is not of the command.
func (s *Session) spared(pid int, before []int) bool {
	id, err := kernel.Identify(pid)
	if err != nil || !id.Alive() {
		return true // a zombie is the shell's to reap
	}
	if id.Start < s.since {
		return true
	}
	for _, b := range before {
		if b == pid {
			return id.Start <= s.since
		}
	}
	return s.jobs.holds(pid) && !holds(pid, inode(s.out), inode(s.err))
}

// file identifies an open file.
type file struct{ dev, ino uint64 }

// inode identifies a descriptor's file; zero for none.
func inode(fd int) file {
	var st unix.Stat_t
	if fd < 0 || unix.Fstat(fd, &st) != nil {
		return file{}
	}
	return file{st.Dev, st.Ino}
}

// holds says whether a process has one of some files open.
func holds(pid int, files ...file) bool {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd/"
	fds, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, fd := range fds {
		var st unix.Stat_t
		if unix.Stat(dir+fd.Name(), &st) != nil {
			continue
		}
		for _, f := range files {
			if f.ino != 0 && st.Ino == f.ino && st.Dev == f.dev {
				return true
			}
		}
	}
	return false
}

// signalAll sends a signal to processes, those that are gone left out.
func signalAll(all []int, sig unix.Signal) {
	for _, pid := range all {
		_ = unix.Kill(pid, sig)
	}
}

// A bash whose program was killed goes on with the next command of a list, or of a loop,
// unless the program died of SIGINT. So bash has a trap, which leaves the file that the
// command is read from, or the function that it is in, and then comes again. A trapped
// signal that is sent before a program is killed is dealt with before whatever follows.
//
// Other shells leave by SIGINT. But the ash of busybox does so by longjmp(3) out of the
// handler, whatever it is at, and where that is the moment after it has locked its stdout,
// which it does with each builtin, it waits for that lock for ever. So while it is busy, it
// is only asked to send itself SIGINT, by the same trap. Not dash, which takes a trapped
// signal for the end of what it reads.
const (
	leave       = unix.Signal(64) // SIGRTMAX
	leaveNumber = "64"
	leaveAction = `{ case ${#BASH_SOURCE[@]} in 0) ;; 1) \return 0;; *) \return $(\kill -` + leaveNumber + ` $$)0; esac; } 2>/dev/null`
	selfAction  = `\kill -INT $$`
	// selfRounds is for how many rounds ash is only asked.
	selfRounds = 12
)

// interrupt does to the shell what ^C does, and kills what the command has started.
func (r *run) interrupt() {
	s := r.s
	r.rounds++
	s.shell.signal(unix.SIGCONT)
	if r.rounds <= selfRounds && s.shell.ash && s.shell.busy() {
		// Not what it has started, too: it would go on with what that has printed so far.
		s.shell.signal(leave)
		return
	}
	s.leaving = r.sourced && s.shell.catches(leave)
	if !s.leaving && !r.left() || r.rounds%16 == 0 { // it would end what the trap does
		s.shell.signal(unix.SIGINT)
	}
	if s.leaving || r.c.Isolated || r.rounds%4 == 0 {
		s.strike()
		return
	}
	r.interruptAll()
}

// left says whether a dash or ash has left the command, as its stdout is its own again. In
// a subshell only that has another one.
func (r *run) left() bool {
	return r.s.shell.fed && !r.c.Isolated && r.s.shell.intact("fd/1", inode(r.s.record))
}

// busy says whether the shell waits for nothing. What it has been replaced by (exec) is not
// the shell.
func (p *process) busy() bool {
	stat, _ := kernel.ReadAll("/proc/" + strconv.Itoa(p.Pid) + "/stat")
	return bytes.Contains(stat, []byte(") R ")) && p.catches(leave) && holds(p.Pid, inode(p.input))
}

// kill kills processes of a command. Just before that bash is told to leave it, once: one of
// them may be that which has the trap come again, and two signals within a moment have a
// later wait return at once.
func (s *Session) kill(all []int) {
	if s.leaving {
		s.shell.signal(leave)
	}
	signalAll(all, unix.SIGKILL)
}

// interruptAll is for other shells, and a bash that cannot leave: what the command has
// started is sent SIGINT, and killed the next time. A fork bomb is always new.
func (r *run) interruptAll() {
	s := r.s
	all := below(s.victims())
	var old, fresh []int
	for _, pid := range all {
		id, err := kernel.Identify(pid)
		switch {
		case err != nil:
		case slices.Contains(s.struck, id):
			old = append(old, pid)
		default:
			s.struck = append(s.struck, id)
			fresh = append(fresh, pid)
		}
	}
	signalAll(fresh, unix.SIGINT)
	signalAll(old, unix.SIGKILL)
}

// catches says whether the shell has a handler for a signal.
func (p *process) catches(sig unix.Signal) bool {
	status, _ := kernel.ReadAll("/proc/" + strconv.Itoa(p.Pid) + "/status")
	_, rest, _ := bytes.Cut(status, []byte("\nSigCgt:"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	mask, _ := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 64)
	return mask>>(sig-1)&1 != 0
}

// strike kills the command's processes, and says whether there were none.
func (s *Session) strike() (none bool) {
	// Stopped first, or a fork bomb is always a child ahead, and frozen where that is not
	// enough: if this process were killed meanwhile, everything would stay so. With a
	// terminal, the shell may have job control, and would go on without what was stopped.
	var stopped []int
	for round := range maxRounds {
		if s.o.Freeze != nil && (s.o.Terminal && round == 0 || round == stopRounds) && s.o.Freeze(true) == nil {
			defer func() { _ = s.o.Freeze(false) }()
			stopped = below(s.victims())
			break
		}
		more := false
		for _, pid := range below(s.victims()) {
			if !slices.Contains(stopped, pid) {
				_ = unix.Kill(pid, unix.SIGSTOP)
				stopped, more = append(stopped, pid), true
			}
		}
		if !more {
			break
		}
	}
	s.kill(stopped)
	return len(stopped) == 0
}

// settle kills what is left of an ended command, and waits until the shell has done with
// what it was sent meanwhile. It says whether the shell still lives.
func (s *Session) settle() bool {
	// The scheduler may let one that was just forked wait for long before it dies. One that
	// is found dead may have left its children to the shell since that was asked for them, so
	// nothing is to be found twice.
	for none, began := 0, time.Now(); none < 2 && time.Since(began) < patience; {
		if s.strike() {
			none++
			continue
		}
		none = 0
		time.Sleep(time.Millisecond)
	}
	s.struck = s.struck[:0]
	s.seq++
	r := &run{s: s, seq: s.seq, begun: time.Now(), quiet: true, external: true}
	r.deadline = r.begun.Add(patience)
	footer := r.footer()
	if s.shell.bash { // a signal that met it in a wait has the next one return at once
		footer = text(nil).str(`\command \wait $$ 2>/dev/null`, "\n", string(footer))
	}
	_ = s.send(footer)
	return r.wait(context.Background()) == nil && r.recorded
}

// killStruck kills what was to die of SIGINT and outlived the shell.
func (s *Session) killStruck() {
	for _, id := range s.struck {
		if fd, err := id.Open(); err == nil {
			signalAll(below(childrenOf(id.Pid)), unix.SIGKILL)
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
			unix.Close(fd)
		}
	}
	s.struck = s.struck[:0]
}

// killBelow kills everything below the shell.
func (s *Session) killBelow() {
	for range maxRounds {
		all := below(childrenOf(s.shell.Pid))
		alive := all[:0]
		for _, pid := range all {
			if id, err := kernel.Identify(pid); err == nil && id.Alive() {
				alive = append(alive, pid)
			}
		}
		if len(alive) == 0 {
			return
		}
		signalAll(alive, unix.SIGKILL)
		time.Sleep(100 * time.Microsecond)
	}
}

// signal sends a signal to processes, and says when there are none.
func signal(all []int, sig unix.Signal) error {
	if len(all) == 0 {
		return unix.ESRCH
	}
	var errs []error
	for _, pid := range all {
		if err := unix.Kill(pid, sig); err != nil && err != unix.ESRCH {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
