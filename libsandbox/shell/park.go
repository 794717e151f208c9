package shell

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// parked is what the shell said before it was sent away.
type parked struct {
	cwd, pwd, oldpwd string
	unset            bool // OLDPWD
	last             int
}

// Park sends an idle shell to the root directory, so that it keeps no other file system
// busy, and waits for the end of a running command first. The session is busy until
// Unpark, which has to be called where Park has returned no error.
func (s *Session) Park(ctx context.Context) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	if s.shell == nil {
		return nil
	}
	p := &parked{cwd: s.cwd, last: s.last}
	// ctx is for the wait alone: a shell that is slow to answer is not one to be given up.
	said, err := s.internal(context.WithoutCancel(ctx), text(nil).str(
		`\command \printf '%s\0%s\0%s' "${PWD-}" "${OLDPWD+set}" "${OLDPWD-}" >`, within, outName, "\n",
		`\command \cd / >`, within, outName, "\n"))
	if err != nil {
		s.unlock()
		return fmt.Errorf("park: %w", err)
	}
	f := bytes.SplitN(said, []byte{0}, 4)
	if len(f) >= 3 {
		p.pwd, p.unset, p.oldpwd = string(f[0]), len(f[1]) == 0, string(f[2])
	}
	s.parked = p
	return nil
}

// Unpark sends the shell back to its directory, by name. $?, PWD and OLDPWD are as they
// were. Where the directory is gone, the shell stays in the root directory.
func (s *Session) Unpark() error {
	p := s.parked
	s.parked = nil
	defer s.unlock()
	if p == nil || s.shell == nil {
		return nil
	}
	// PWD first: it may have symlinks in it, which the shell's idea of the directory keeps.
	t := text(nil)
	if p.pwd != "" && p.pwd[0] == '/' {
		t = t.str(`\command \cd -- `).quote(p.pwd).str(" || ")
	}
	t = t.str(`\command \cd -- `).quote(p.cwd).str("\n")
	if p.unset {
		t = t.str(`\command \unset OLDPWD`, "\n")
	} else {
		t = t.str("OLDPWD=").quote(p.oldpwd).str("\n")
	}
	_, err := s.internal(context.Background(), t)
	s.last = p.last
	if err != nil {
		return fmt.Errorf("unpark: %w", err)
	}
	return nil
}

// internal has the shell run a script of the session's own, and returns what it wrote to
// the FIFO of outputs. A shell that has died is no error; the next Result says so.
func (s *Session) internal(ctx context.Context, t text) ([]byte, error) {
	s.seq++
	last := s.last
	s.last = 0
	r := &run{s: s, c: &Command{Timeout: 10 * time.Second}, seq: s.seq, quiet: true, external: true}
	if err := r.trigger(t.record(r.seq, "")); err != nil {
		return nil, err
	}
	if err := r.wait(ctx); err != nil {
		return nil, err
	}
	out := sink{fd: s.out, kept: capture{limit: 64 << 10}}
	out.read(-1, s.scratch)
	if r.died {
		s.bury(false)
		s.untold = true
		if r.ending || r.lost {
			return nil, errors.New(r.how())
		}
		return nil, nil
	}
	s.last = last
	s.cwd = s.shell.directory(s.cwd)
	return out.kept.buf, nil
}
