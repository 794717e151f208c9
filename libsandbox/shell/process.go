package shell

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// startTimeout is how long a shell may take to come up.
const startTimeout = 30 * time.Second

// process is a shell that runs.
type process struct {
	*Process
	pidfd int
	// input is what commands go to: the stdin of a bash, or a FIFO that the stdin of other
	// shells has them read.
	input, stdin int
	prompt       int // the read end of its stdout and stderr, which says why it did not start
	// proc is /proc/PID, children /proc/PID/task/PID/children.
	proc, children int
	fed            bool // input is a FIFO
	// restoreEcho has the terminal, if there is one, as it is for commands.
	restoreEcho func()
	null        string // what stdin is without input
	bash        bool
	ash         bool // and has the trap of initScript
	// What commands may have set: a trap or the option xtrace; a trap; one of SIGINT, after
	// which dash and ash go on.
	traced, traps, trapsInt bool
}

// shellArgs are the arguments that make a shell interactive, and quiet.
func shellArgs(args []string) []string {
	if len(args) == 0 {
		args = []string{"/bin/sh"}
	}
	switch name := path.Base(args[0]); {
	case len(args) == 1 && name == "bash":
		// --noediting: readline would echo what it reads.
		return []string{args[0], "--norc", "--noprofile", "--noediting", "-i", "+o", "history", "+H"}
	case len(args) == 1 && name == "busybox":
		return []string{args[0], "ash", "-i"}
	case len(args) == 1:
		return []string{args[0], "-i"}
	case len(args) == 2 && name == "busybox":
		return []string{args[0], args[1], "-i"}
	}
	return args
}

// startEnv is env without ENV, which interactive shells take for the name of a script
// to begin with, and its value.
func startEnv(env []string) (without []string, value string) {
	without = make([]string, 0, len(env))
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "ENV="); ok {
			value = v
			continue
		}
		without = append(without, kv)
	}
	return without, value
}

// startShell starts a shell and waits until it takes commands. restore has it get the
// directory and the exported variables of the one before.
func (s *Session) startShell(ctx context.Context, restore bool) error {
	s.seq++
	err := errors.Join(s.dir.write(envName, s.exports.last), s.dir.write(initName, s.initScript(restore)))
	if err != nil {
		return err
	}
	p, err := s.launch(ctx, restore)
	if err != nil {
		return fmt.Errorf("start %s: %w", s.args[0], err)
	}
	s.shell = p
	s.generation = s.o.generation()
	if err := s.greet(ctx); err != nil {
		said := p.said()
		s.bury(true)
		if said != "" {
			err = fmt.Errorf("%w: it says %q", err, said)
		}
		return fmt.Errorf("start %s: %w", s.args[0], err)
	}
	s.last = 0
	s.exports.reset(s.env)
	s.started.Store(true)
	return nil
}

// initScript is the first that a shell runs.
func (s *Session) initScript(restore bool) []byte {
	t := text(nil).str(`\exec >`, within, recordName, "\nPS1= PS2=\n") // prompts that are expanded and written take time
	t = t.str(`case ${BASH_VERSION-} in ?*) \set +o history; \unset HISTFILE; \trap `).quote(leaveAction)
	// The ash of busybox is what has a $RANDOM that is another one each time, and is no ksh.
	t = t.str(" ", leaveNumber, `;; *) case ${KSH_VERSION-${RANDOM#${RANDOM:-x}}} in ?*) \trap `).quote(selfAction).str(" ", leaveNumber, ";; esac; esac\n")
	if s.envValue != "" {
		t = t.str(`\export ENV=`).quote(s.envValue).str("\n")
	}
	if restore {
		// PWD and OLDPWD are among the variables, but for a directory that is gone.
		env := text(nil).str(`\. `, within, envName, "\n")
		t = t.str(`if \command \cd -- `).quote(s.cwd).str("\nthen ", `\unset OLDPWD; `, string(env))
		t = t.str("else ", string(env), `\command \cd -- `).quote(s.home).str(` || \command \cd /`, "\nfi\n")
	}
	return t.dump(s.seq)
}

// greeting is a line that has the shell say what it is, and whether it has /dev/null: a
// program that asks whether its stdin is a file, such as rg, must see a device.
func greeting(seq uint64) text {
	t := text(nil).str(`\command \test -c /dev/null && `)
	for _, null := range []string{"null", "file"} {
		t = t.str("\\command \\echo \"\n").num(seq).str(` 0 `, null, ` ${BASH_VERSION:+bash}" >`, within, recordName)
		if null == "null" {
			t = t.str(" || ")
		}
	}
	return t.str("\n")
}

// launch starts the shell and opens what is needed of it.
func (s *Session) launch(ctx context.Context, restore bool) (p *process, err error) {
	p = &process{pidfd: -1, input: -1, stdin: -1, prompt: -1, children: -1, proc: -1}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	o := &StartOptions{Args: s.args, Env: s.env, Cwd: s.home, Dir: s.o.ShellDir, Terminal: s.o.Terminal}
	if restore {
		o.Cwd = "/"
	}
	if !s.o.Terminal {
		files, err := p.pipes()
		if err != nil {
			return p, err
		}
		o.Stdin, o.Stdout = files[0], files[1]
		defer files[0].Close()
		defer files[1].Close()
	}
	if p.Process, err = s.o.Start(ctx, o); err != nil {
		return p, err
	}
	if !s.o.Terminal {
		// Prompts that nobody reads must not block the shell. Set only now: the caller may
		// have used the file in a way that makes it blocking.
		err = unix.SetNonblock(int(o.Stdout.Fd()), true)
	}
	if s.o.Terminal {
		err = s.leaveTerminal(p)
	}
	return p, errors.Join(err, p.open())
}

// pipes makes the shell's stdin and its stdout.
func (p *process) pipes() (files [2]*os.File, err error) {
	var in, out [2]int
	if err := unix.Pipe2(in[:], unix.O_CLOEXEC); err != nil {
		return files, fmt.Errorf("pipe: %w", err)
	}
	p.stdin, p.input = in[1], in[1]
	files[0] = os.NewFile(uintptr(in[0]), "stdin")
	if err := unix.Pipe2(out[:], unix.O_CLOEXEC); err != nil {
		files[0].Close()
		return files, fmt.Errorf("pipe: %w", err)
	}
	p.prompt = out[0]
	files[1] = os.NewFile(uintptr(out[1]), "stdout")
	err = errors.Join(unix.SetNonblock(p.prompt, true), unix.SetNonblock(p.stdin, true))
	return files, err
}

// open opens what the session needs of a process that has just been started.
func (p *process) open() (err error) {
	if p.pidfd, err = unix.PidfdOpen(p.Pid, 0); err != nil {
		return fmt.Errorf("pidfd: %w", err)
	}
	pid := strconv.Itoa(p.Pid)
	if p.proc, err = unix.Open("/proc/"+pid, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("open /proc/PID of the shell: %w", err)
	}
	p.children, err = unix.Open("/proc/"+pid+"/task/"+pid+"/children", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("children of the shell (CONFIG_PROC_CHILDREN): %w", err)
	}
	return nil
}

// close kills the process where it was started, reaps it and closes everything.
func (p *process) close() (ws unix.WaitStatus) {
	if p.Process != nil {
		if p.pidfd >= 0 {
			_ = unix.PidfdSendSignal(p.pidfd, unix.SIGKILL, nil, 0)
		} else {
			_ = unix.Kill(p.Pid, unix.SIGKILL)
		}
		ws, _ = p.Wait()
		if p.Console != nil {
			p.Console.Close()
		}
	}
	if p.stdin != p.input {
		kernel.Close(p.stdin)
	}
	kernel.Close(p.input, p.prompt, p.pidfd, p.children, p.proc)
	return ws
}

// signal sends the shell a signal: by its pidfd, as others may have reaped it.
func (p *process) signal(sig unix.Signal) { _ = unix.PidfdSendSignal(p.pidfd, sig, nil, 0) }

// said is what the shell wrote to its stderr since the last call, or the end of that.
func (p *process) said() string {
	if p.prompt < 0 {
		return ""
	}
	var all []byte
	for range 1000 { // somebody else may write there without an end
		var buf [512]byte
		n, _ := kernel.Read(p.prompt, buf[:])
		if n <= 0 {
			break
		}
		all = append(all[max(0, len(all)-len(buf)):], buf[:n]...)
	}
	return strings.TrimSpace(string(all))
}

// greet has the shell run the first script, and learns what kind of shell it is.
func (s *Session) greet(ctx context.Context) error {
	p := s.shell
	if err := s.watch(p.pidfd, tagShell, unix.EPOLLIN); err != nil {
		return err
	}
	hello := greeting(s.seq)
	if err := kernel.WriteAll(p.stdin, text(nil).str(`\. `, within, initName, "\n", string(hello))); err != nil {
		return fmt.Errorf("write to its stdin: %w", err)
	}
	r := &run{s: s, seq: s.seq, begun: time.Now(), quiet: true, external: true, ask: hello}
	r.deadline = r.begun.Add(startTimeout)
	if err := r.wait(ctx); err != nil {
		return err
	}
	if r.stopped != nil {
		return r.stopped
	}
	if !r.recorded {
		return fmt.Errorf("it did not run %s%s (is /proc mounted?): %s", within, initName, r.how())
	}
	if p.restoreEcho != nil {
		p.restoreEcho()
		if err := s.watchTerminal(); err != nil {
			return err
		}
	}
	p.said() // what it says when it begins
	p.null = "/dev/null"
	if !slices.Contains(r.words, "null") {
		p.null = within + nullName
	}
	if p.bash = slices.Contains(r.words, "bash"); p.bash {
		return nil
	}
	p.ash = p.catches(leave)
	return s.feed()
}

// feed has the shell read commands from a FIFO by the dot command instead of from its
// stdin. The ash of busybox 1.35 reads the stdin of an interactive shell by fgets(3), and
// takes a SIGCHLD in it for the end of the file: it exits when a child in the background
// ends. dash exits at a return that is in no script. bash reads the whole of a file before
// it executes the first line, and so has to do without, and can.
func (s *Session) feed() (err error) {
	p := s.shell
	p.fed = true
	p.input, err = s.dir.fifo(inputName, unix.O_RDWR)
	if err != nil {
		p.input = p.stdin
		return err
	}
	p.refill()
	return nil
}

// refill keeps a line in the shell's stdin that sends it back to the FIFO after an error or
// SIGINT has sent it to its top level. It is one: what ash's stdio reads ahead, the applets
// that busybox runs without execve(2) take for their own input. Where the FIFO ends, so did this process, and the
// shell has to end, too: opening the FIFO once more would wait for ever.
func (p *process) refill() {
	if !p.fed || pending(p.stdin) > 0 {
		return
	}
	line := text(nil).str(`\. `, within, inputName, `; \exit`, "\n")
	_, _ = unix.Write(p.stdin, line)
}

// intact says whether the shell still has a descriptor on a file that it began with.
func (p *process) intact(fd string, want file) bool {
	var st unix.Stat_t
	err := kernel.Retry(func() error { return unix.Fstatat(p.proc, fd, &st, 0) })
	return err == nil && file{st.Dev, st.Ino} == want
}

// deaf says whether a command has closed what ash has saved of its stdin, stdout or stderr,
// and nothing is running any more. Other shells end then; ash tries to get it back for ever.
// What the shell has been replaced by (exec) does not have its input open.
func (p *process) deaf(record int) bool {
	if !p.fed || len(childrenOf(p.Pid)) > 0 || !holds(p.Pid, inode(p.input)) {
		return false
	}
	for _, fd := range []int{p.stdin, record, p.prompt} {
		if fd >= 0 && !holds(p.Pid, inode(fd)) {
			return true
		}
	}
	return false
}

// directory is the shell's working directory, old where it is still that, so that most
// commands cost no new string. One that was removed is named as it was.
func (p *process) directory(old string) string {
	var buf [4096]byte
	n, err := unix.Readlinkat(p.proc, "cwd", buf[:])
	if err != nil {
		return old
	}
	name := bytes.TrimSuffix(buf[:n], []byte(" (deleted)"))
	if string(name) == old {
		return old
	}
	return string(name)
}
