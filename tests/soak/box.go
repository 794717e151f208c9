package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox"
	"adl.run/adl-runtime/libsandbox/shell"
)

// box is a sandbox, and what should be in it.
type box struct {
	s        *soak
	id       string
	sb       *libsandbox.Sandbox
	rng      *rand.Rand
	voices   []*voice
	small    bool   // the layer has 4 MB
	full     bool   // and nothing is left of them
	mark     string // what /mark holds; empty where there is none
	snapshot string // its name; empty where there is none
	saved    string // the snapshot's mark
	commands int
	resets   int
	made     int // snapshots and forks
	mu       sync.Mutex
	did      []string // the last commands and what else was done
}

// voice is a way to a shell of the sandbox.
type voice struct {
	name string
	run  func(context.Context, *shell.Command) (*shell.Result, error)
	// session is nil for the holder's, and for the sandbox's own.
	session *shell.Session
	// last is what the variable of that name holds in the shell.
	last string
}

// smallLayer is where a full disk is tried.
const smallLayer = "tmpfs:size=4m"

// make makes the sandbox and its voices.
func (b *box) make(ctx context.Context, i int) (err error) {
	c := &libsandbox.Config{
		Store: b.s.store, ID: b.id, Rootfs: filepath.Join(b.s.base, "busybox"), CgroupParent: b.s.cgroup,
		Layer: libsandbox.LayerOptions{Root: filepath.Join(b.s.base, "layers")}, Env: []string{"PATH=/bin"},
	}
	if b.small = i%4 == 3; b.small {
		c.Layer.Upper = smallLayer
	}
	if _, err := os.Stat("/usr/bin/bash"); err == nil && i%2 == 1 {
		c.Rootfs, c.Volumes = filepath.Join(b.s.base, "bash"), []string{"/usr:/usr:ro"}
	}
	if b.sb, err = libsandbox.New(ctx, c); err != nil {
		return err
	}
	s, err := b.sb.Shell(ctx, nil)
	if err != nil {
		return err
	}
	b.voices = []*voice{
		{name: "Run", run: func(ctx context.Context, c *shell.Command) (*shell.Result, error) {
			return b.sb.Run(ctx, c.Text, c)
		}},
		{name: "Shell", run: s.Run, session: s},
		{name: "verb", run: b.verb},
	}
	return nil
}

// errVerb is a runtime's failure, of the verb.
var errVerb = errors.New("the verb shell says")

// verb runs a command by command line.
func (b *box) verb(ctx context.Context, c *shell.Command) (*shell.Result, error) {
	args := []string{"--root", filepath.Join(b.s.base, "store"), "shell"}
	if c.Timeout > 0 {
		args = append(args, "--timeout", c.Timeout.String())
	}
	cmd := exec.CommandContext(ctx, b.s.o.adl, append(args, b.id, "--", c.Text)...)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	r := &shell.Result{Stdout: stdout.Bytes(), Stderr: stderr.Bytes()}
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		return nil, err
	}
	switch r.ExitStatus = cmd.ProcessState.ExitCode(); {
	case r.ExitStatus == 125:
		return r, fmt.Errorf("%w: %q", errVerb, r.Stderr)
	case r.ExitStatus == 124 && c.Timeout > 0:
		r.TimedOut = true
	case r.ExitStatus == 128+int(unix.SIGKILL):
		r.Signal = unix.SIGKILL
	}
	return r, nil
}

// tell runs a command within patience, and counts it.
func (b *box) tell(ctx context.Context, v *voice, what string, c *shell.Command) (*shell.Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%s by %s: it hangs", what, v.name))
	defer cancel()
	b.commands++
	began := time.Now()
	r, err := v.run(ctx, c)
	b.done("%s by %s: %v", what, v.name, err)
	b.s.rep.took(what+" by "+v.name, time.Since(began))
	return r, err
}

// done remembers what was done, for the message where something is wrong later.
func (b *box) done(format string, args ...any) {
	const most = 12
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.did = append(b.did, fmt.Sprintf(format, args...)); len(b.did) > most {
		b.did = b.did[1:]
	}
}

// voice is one of the three; the verb's, which takes a process, less often.
func (b *box) voice() *voice {
	if b.rng.IntN(30) == 0 {
		return b.voices[2]
	}
	return b.voices[b.rng.IntN(2)]
}

// next is a number that no other command has.
func (b *box) next() int64 { return b.s.number.Add(1) }

// say runs a command that is to succeed and whose result is known, and that tells the
// state of shell and files. restarted: the shell has died since.
func (b *box) say(ctx context.Context, v *voice, restarted bool) error {
	n, status := b.next(), b.rng.IntN(100)
	text := fmt.Sprintf(`f() { return %d; }; m=; if [ -e /mark ]; then read m </mark; fi; echo "out %d <$last> <$m>"; echo "err %d" >&2; last=%d; f`, status, n, n, n)
	r, err := b.tell(ctx, v, "command", &shell.Command{Text: text})
	if err != nil {
		return fmt.Errorf("command %d by %s: %w", n, v.name, err)
	}
	stdout, stderr := fmt.Sprintf("out %d <%s> <%s>\n", n, v.last, b.mark), fmt.Sprintf("err %d\n", n)
	if string(r.Stdout) != stdout || string(r.Stderr) != stderr || r.ExitStatus != status || r.Restarted != restarted || r.TimedOut {
		return fmt.Errorf("command %d by %s: %s; want %q, %q, status %d, restarted %v", n, v.name, describe(r), stdout, stderr, status, restarted)
	}
	v.last = fmt.Sprint(n)
	return nil
}

// describe is a result for a message.
func describe(r *shell.Result) string {
	return fmt.Sprintf("%d bytes %.200q, %.200q, status %d, signal %d, restarted %v, timed out %v", len(r.Stdout), r.Stdout, r.Stderr, r.ExitStatus, r.Signal, r.Restarted, r.TimedOut)
}

// reset is a reset alone, to the snapshot or to the beginning.
func (b *box) reset(ctx context.Context, toSnapshot bool) error {
	o := &libsandbox.ResetOptions{Mode: libsandbox.ResetRestart}
	if b.rng.IntN(2) == 0 {
		o.Mode = libsandbox.ResetKeepInit
	}
	mark := ""
	if toSnapshot {
		o.To, mark = b.snapshot, b.saved
	}
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errors.New("it hangs"))
	defer cancel()
	began := time.Now()
	if err := b.sb.Reset(ctx, o); err != nil {
		return fmt.Errorf("reset %+v: %w", *o, err)
	}
	b.s.rep.took("reset, "+string(o.Mode), time.Since(began))
	b.done("reset %+v", *o)
	b.resets++
	b.mark, b.full = mark, false
	for _, v := range b.voices {
		v.last = ""
	}
	return nil
}
