package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox"
	"adl.run/adl-runtime/libsandbox/shell"
)

// step takes one of the steps.
func (b *box) step(ctx context.Context) error {
	kinds := []struct {
		weight int
		name   string
		do     func(context.Context) error
	}{
		{800, "", func(ctx context.Context) error { return b.say(ctx, b.voice(), false) }},
		{20, "", b.bytes},
		{20, "", b.input},
		{20, "", b.late},
		{20, "", b.job},
		{20, "", b.writeMark},
		{10, "snapshot", b.takeSnapshot},
		{2, "fork", b.fork},
		{10, "timeout", b.timeout},
		{20, "cancelled", b.cancel},
		{10, "shell killed before a command", b.killIdle},
		{10, "shell killed in a command", b.killBusy},
		{6, "shell ended by a command", b.exit},
		{4, "holder killed before a command", b.killHolder},
		{2, "holder killed in a command", b.killBusyHolder},
		{10, "disk full", b.fill},
	}
	sum := 0
	for _, k := range kinds {
		sum += k.weight
	}
	at := b.rng.IntN(sum)
	for _, k := range kinds {
		if at -= k.weight; at >= 0 {
			continue
		}
		if err := k.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
		if k.name != "" {
			b.s.rep.fault(k.name)
		}
		return nil
	}
	return nil
}

// bytes: a large output is all there.
func (b *box) bytes(ctx context.Context) error {
	n, v := b.next(), b.voice()
	size := 1 << b.rng.IntN(15)
	r, err := b.tell(ctx, v, "output", &shell.Command{Text: fmt.Sprintf("seq %d %d", n, n+int64(size))})
	if err != nil {
		return err
	}
	var want []byte
	for i := n; i <= n+int64(size); i++ {
		want = fmt.Appendln(want, i)
	}
	if !bytes.Equal(r.Stdout, want) || r.ExitStatus != 0 {
		return fmt.Errorf("seq by %s: %s; want %d bytes from %d on", v.name, describe(r), len(want), n)
	}
	return nil
}

// input: stdin comes out again.
func (b *box) input(ctx context.Context) error {
	v := b.voices[b.rng.IntN(2)]
	want := []byte(fmt.Sprintf("in %d \x00\xff%s", b.next(), strings.Repeat("x", b.rng.IntN(100_000))))
	r, err := b.tell(ctx, v, "input", &shell.Command{Text: "cat", Input: want})
	if err != nil {
		return err
	}
	if !bytes.Equal(r.Stdout, want) {
		return fmt.Errorf("cat by %s: %s; want %d bytes %.50q", v.name, describe(r), len(want), want)
	}
	return nil
}

// late: what is written after the command's end is a job's.
func (b *box) late(ctx context.Context) error {
	n, v := b.next(), b.voices[1]
	r, err := b.tell(ctx, v, "command that leaves a job", &shell.Command{Text: fmt.Sprintf(`(sleep 0.3; echo "late %d") & echo "out %d"`, n, n)})
	if err != nil {
		return err
	}
	if r.Job == 0 && string(r.Stdout) == fmt.Sprintf("out %d\nlate %d\n", n, n) {
		return nil // the machine is slow, and nobody had the outputs any more
	}
	if string(r.Stdout) != fmt.Sprintf("out %d\n", n) || r.Job == 0 {
		return fmt.Errorf("command %d: %s, job %d", n, describe(r), r.Job)
	}
	if err := b.say(ctx, v, false); err != nil {
		return err
	}
	j := v.session.Job(r.Job)
	if j == nil {
		return fmt.Errorf("command %d: job %d is unknown", n, r.Job)
	}
	return ended(ctx, j, fmt.Sprintf("late %d\n", n), 0)
}

// job: one in the background.
func (b *box) job(ctx context.Context) error {
	n, status := b.next(), b.rng.IntN(100)
	b.commands++
	began := time.Now()
	j, err := b.sb.Background(ctx, fmt.Sprintf(`echo "job %d <$last>"; exit %d`, n, status), nil)
	if err != nil {
		return err
	}
	b.s.rep.took("start of a job", time.Since(began))
	if err := b.say(ctx, b.voices[1], false); err != nil {
		return err
	}
	return ended(ctx, j, fmt.Sprintf("job %d <%s>\n", n, b.voices[0].last), status)
}

// ended waits for the end of a job.
func ended(ctx context.Context, j *shell.Job, want string, status int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("the job does not end"))
	defer cancel()
	st, err := j.Wait(ctx)
	if err != nil {
		return err
	}
	buf := make([]byte, 1000)
	n, _ := j.Read(shell.Stdout, 0, buf)
	if string(buf[:n]) != want || st.ExitStatus != status || st.Signal != 0 {
		return fmt.Errorf("job %d: %q, %+v; want %q, status %d", j.Number, buf[:n], st, want, status)
	}
	return nil
}

// writeMark writes the file that say looks at.
func (b *box) writeMark(ctx context.Context) error {
	if b.full {
		return nil
	}
	n := fmt.Sprint(b.next())
	if b.rng.IntN(2) == 0 {
		if err := b.sb.WriteFile("/mark", []byte(n+"\n"), nil); err != nil {
			return err
		}
	} else if r, err := b.tell(ctx, b.voices[0], "write", &shell.Command{Text: "echo " + n + " >/mark"}); err != nil || r.ExitStatus != 0 {
		return fmt.Errorf("%+v, %w", r, err)
	}
	b.mark = n
	return b.say(ctx, b.voice(), false)
}

// takeSnapshot replaces the snapshot.
func (b *box) takeSnapshot(ctx context.Context) error {
	if b.full {
		return nil
	}
	if b.snapshot != "" {
		if err := b.sb.DeleteSnapshot(b.snapshot); err != nil {
			return err
		}
	}
	b.made++
	b.snapshot, b.saved = fmt.Sprintf("s%d", b.made), b.mark
	began := time.Now()
	snap, err := b.sb.Snapshot(ctx, b.snapshot)
	if err != nil {
		return err
	}
	b.done("snapshot %s", snap.Method)
	b.s.rep.took("snapshot", time.Since(began))
	return b.say(ctx, b.voice(), false)
}

// fork: a second sandbox from now has the files and no state of shells.
func (b *box) fork(ctx context.Context) error {
	if b.full {
		return nil
	}
	b.made++
	f, err := b.sb.Fork(ctx, fmt.Sprintf("%s-fork%d", b.id, b.made), nil)
	if err != nil {
		return err
	}
	n := b.next()
	r, err := f.Run(ctx, fmt.Sprintf(`m=; if [ -e /mark ]; then read m </mark; fi; echo "out %d <$last> <$m>"; echo fork >/mark`, n), nil)
	if want := fmt.Sprintf("out %d <> <%s>\n", n, b.mark); err == nil && string(r.Stdout) != want {
		err = fmt.Errorf("command %d: %s; want %q", n, describe(r), want)
	}
	if err = errors.Join(err, f.Delete(context.Background(), &libsandbox.DeleteOptions{Force: true})); err != nil {
		return err
	}
	return b.say(ctx, b.voice(), false)
}

// broken runs a command of three lines of output that something may end, and says whether
// it came to its own end. What it has written is its own in any case.
func (b *box) broken(ctx context.Context, v *voice, what string, pause time.Duration, c *shell.Command) (r *shell.Result, whole bool, err error) {
	n := b.next()
	want := fmt.Sprintf("out %d\nmiddle %d\nend %d\n", n, n, n)
	c.Text = fmt.Sprintf(`echo "out %d"; echo "middle %d"; sleep %g; echo "end %d"`, n, n, pause.Seconds(), n)
	r, err = b.tell(ctx, v, what, c)
	if r == nil {
		return nil, false, err
	}
	if !strings.HasPrefix(want, string(r.Stdout)) {
		return r, false, fmt.Errorf("command %d by %s: %s; want a beginning of %q", n, v.name, describe(r), want)
	}
	whole = string(r.Stdout) == want && r.Signal == 0
	if err == nil && !whole && r.Signal == 0 && !r.TimedOut {
		err = fmt.Errorf("command %d by %s: %s; want %q", n, v.name, describe(r), want)
	}
	return r, whole, err
}

// lost notes that a shell did not survive what it should have.
func (b *box) lost(v *voice, r *shell.Result, what string) {
	if r != nil && r.Restarted {
		v.last = ""
		b.s.rep.fault("shell lost by " + what)
	}
}

// timeout: the command ends, and the shell lives on.
func (b *box) timeout(ctx context.Context) error {
	v := b.voices[b.rng.IntN(2)]
	if b.rng.IntN(10) == 0 {
		v = b.voices[2]
	}
	limit := time.Duration(20+b.rng.IntN(60)) * time.Millisecond
	r, whole, err := b.broken(ctx, v, "timeout", time.Hour, &shell.Command{Timeout: limit})
	if err != nil {
		return err
	}
	if !r.TimedOut {
		return fmt.Errorf("by %s: %s", v.name, describe(r))
	}
	if whole { // bash goes on where a program was killed before it could die of SIGINT
		b.s.rep.fault("command that went on after its timeout")
	}
	b.lost(v, r, "a timeout")
	if v.name == "verb" { // whose exit status does not tell whether the shell was lost
		if _, err := b.tell(ctx, v, "command", &shell.Command{Text: "last="}); err != nil {
			return err
		}
		v.last = ""
	}
	return b.say(ctx, v, false)
}

// cancel: so it is with the end of a context.
func (b *box) cancel(ctx context.Context) error {
	v := b.voices[b.rng.IntN(2)]
	limited, cancel := context.WithTimeout(ctx, time.Duration(b.rng.IntN(10_000))*time.Microsecond)
	defer cancel()
	r, _, err := b.broken(limited, v, "cancelled command", 2*time.Millisecond, &shell.Command{})
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	b.lost(v, r, "the end of a context")
	return b.say(ctx, v, false)
}

// exit: the shell ends itself.
func (b *box) exit(ctx context.Context) error {
	v := b.voices[b.rng.IntN(2)]
	n, status := b.next(), b.rng.IntN(100)
	r, err := b.tell(ctx, v, "exit", &shell.Command{Text: fmt.Sprintf(`echo "out %d"; exit %d`, n, status)})
	if err != nil {
		return err
	}
	if string(r.Stdout) != fmt.Sprintf("out %d\n", n) || r.ExitStatus != status || !r.Restarted {
		return fmt.Errorf("command %d: %s; want status %d", n, describe(r), status)
	}
	v.last = ""
	return b.say(ctx, v, false)
}

// killIdle kills a shell that waits for a command.
func (b *box) killIdle(ctx context.Context) error {
	v := b.voices[1]
	if err := b.say(ctx, v, false); err != nil { // there may have been a reset
		return err
	}
	pid := v.session.Pid()
	_ = unix.Kill(pid, unix.SIGKILL)
	if err := dead(pid); err != nil {
		return err
	}
	v.last = ""
	return b.say(ctx, v, true)
}

// killBusy kills the shell while a command runs.
func (b *box) killBusy(ctx context.Context) error {
	v := b.voices[1]
	if err := b.say(ctx, v, false); err != nil {
		return err
	}
	pid := v.session.Pid()
	done := killAfter(time.Duration(b.rng.IntN(10_000))*time.Microsecond, pid)
	r, _, err := b.broken(ctx, v, "killed command", 5*time.Millisecond, &shell.Command{})
	done()
	if err != nil {
		return err
	}
	v.last = ""
	if !r.Restarted { // it came too late
		if err := dead(pid); err != nil {
			return err
		}
	}
	return b.say(ctx, v, !r.Restarted)
}

// killAfter kills a process after a pause; done waits for that.
func killAfter(pause time.Duration, pid int) (done func()) {
	killed := make(chan struct{})
	time.AfterFunc(pause, func() {
		_ = unix.Kill(pid, unix.SIGKILL)
		close(killed)
	})
	return func() { <-killed }
}

// dead waits until a process is no more than a zombie.
func dead(pid int) error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Microsecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || bytes.Contains(stat, []byte(") Z ")) || bytes.Contains(stat, []byte(") X ")) {
			return nil
		}
	}
	return fmt.Errorf("process %d does not die", pid)
}

// holder is the voice of the verb and, after a command, the process that holds its sessions.
func (b *box) holder(ctx context.Context) (v *voice, pid int, err error) {
	v = b.voices[2]
	if err := b.say(ctx, v, false); err != nil {
		return nil, 0, err
	}
	for _, pid := range processes() {
		cmdline, _ := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "cmdline"))
		if bytes.HasSuffix(cmdline, []byte("\x00--hold\x00"+b.id+"\x00")) && bytes.Contains(cmdline, []byte(b.s.base)) {
			return v, pid, nil
		}
	}
	return nil, 0, errors.New("there is no holder")
}

// killHolder kills an idle holder.
func (b *box) killHolder(ctx context.Context) error {
	v, pid, err := b.holder(ctx)
	if err != nil {
		return err
	}
	_ = unix.Kill(pid, unix.SIGKILL)
	if err := dead(pid); err != nil {
		return err
	}
	v.last = ""
	return b.say(ctx, v, false)
}

// killBusyHolder kills the holder while a command runs.
func (b *box) killBusyHolder(ctx context.Context) error {
	v, pid, err := b.holder(ctx)
	if err != nil {
		return err
	}
	done := killAfter(time.Duration(b.rng.IntN(20))*time.Millisecond, pid)
	// One that has not seen the command by then is replaced, and the command runs.
	_, _, err = b.broken(ctx, v, "command without a holder", 100*time.Millisecond, &shell.Command{})
	done()
	if err != nil && !errors.Is(err, errVerb) {
		return err
	}
	if err := dead(pid); err != nil {
		return err
	}
	v.last = ""
	return b.say(ctx, v, false)
}

// fill fills the layer. Commands go on.
func (b *box) fill(ctx context.Context) error {
	if !b.small {
		return nil
	}
	v := b.voice()
	r, err := b.tell(ctx, v, "command on a full disk", &shell.Command{Text: "dd if=/dev/zero of=/fill bs=65536 count=200 2>/dev/null"})
	if err != nil {
		return err
	}
	if r.ExitStatus == 0 {
		return errors.New("it takes more than it has")
	}
	for _, v := range b.voices[:2] {
		if err := b.say(ctx, v, false); err != nil {
			return err
		}
	}
	if b.full = b.rng.IntN(2) == 0; b.full {
		return nil
	}
	if r, err = b.tell(ctx, v, "command on a full disk", &shell.Command{Text: "rm /fill"}); err != nil || r.ExitStatus != 0 {
		return fmt.Errorf("rm: %+v, %w", r, err)
	}
	return nil
}

// anyReset is a reset, with or without a command beside it.
func (b *box) anyReset(ctx context.Context) error {
	toSnapshot := b.snapshot != "" && b.rng.IntN(3) == 0
	if b.rng.IntN(4) == 0 {
		return b.resetBusy(ctx, toSnapshot)
	}
	if err := b.reset(ctx, toSnapshot); err != nil {
		return err
	}
	if all, err := b.sb.Processes(); err != nil || len(all) != 1 {
		return fmt.Errorf("after a reset there are processes %v, %w", all, err)
	}
	return b.say(ctx, b.voice(), false)
}

// resetBusy resets while a command runs: it comes to its end before or after, or is killed,
// or there is nobody to run it.
func (b *box) resetBusy(ctx context.Context, toSnapshot bool) error {
	v := b.voice()
	pause := time.Duration(b.rng.IntN(20_000)) * time.Microsecond
	done := make(chan error)
	go func() {
		_, _, err := b.broken(ctx, v, "command beside a reset", 10*time.Millisecond, &shell.Command{})
		done <- err
	}()
	time.Sleep(pause)
	reset := b.reset(ctx, toSnapshot)
	err := <-done
	if errors.Is(err, libsandbox.ErrNotRunning) || errors.Is(err, libsandbox.ErrPaused) || errors.Is(err, errVerb) {
		err = nil
	}
	if err = errors.Join(reset, err); err != nil {
		return err
	}
	b.s.rep.fault("reset beside a command")
	return b.say(ctx, v, false)
}
