package libsandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/holder"
	"adl.run/adl-runtime/libsandbox/internal/kernel"
	"adl.run/adl-runtime/libsandbox/shell"
)

// shellFile is the socket of the process that holds a container's sessions for others.
const shellFile = "shell.sock"

// heldJobs is how many jobs a held session remembers: at 128 KiB of output each, they
// decide how much memory the holder needs.
const heldJobs = 32

// DialShells connects with the process that holds the sessions of the container called id
// for processes that come and go. Where there is none, start has to start one that calls
// HoldShells with the socket, which stays the caller's; nil starts none, and a nil Client
// says that there is none. ErrNotRunning: the container is stopped.
func (s *Store) DialShells(id string, start func(listener *os.File) error) (*holder.Client, error) {
	if err := validateID(id); err != nil {
		return nil, err
	}
	dir, err := unix.Open(filepath.Join(s.root, id), unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT || err == unix.ENAMETOOLONG {
		return nil, fmt.Errorf("container %q: %w", id, ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("container %q: %w", id, err)
	}
	defer unix.Close(dir)
	fd, err := dialShells(dir)
	if absent(err) {
		if start == nil {
			return nil, nil
		}
		fd, err = s.startHolder(id, start)
	}
	if err != nil {
		return nil, fmt.Errorf("container %q: shells: %w", id, err)
	}
	return holder.NewClient(fd), nil
}

// absent says whether nobody listens.
func absent(err error) bool { return err == unix.ENOENT || err == unix.ECONNREFUSED }

func dialShells(dir int) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := kernel.Retry(func() error { return unix.Connect(fd, shellAddress(dir)) }); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// shellAddress does not depend on the length of the directory's name.
func shellAddress(dir int) unix.Sockaddr {
	return &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(dir) + "/" + shellFile}
}

// startHolder starts a holder, unless somebody else has while this process waited for the
// lock, and connects with it.
func (s *Store) startHolder(id string, start func(listener *os.File) error) (int, error) {
	e, err := s.lock(id)
	if err != nil {
		return -1, err
	}
	defer e.close()
	if fd, err := dialShells(e.fd); !absent(err) {
		return fd, err
	}
	sb := &Sandbox{store: s, id: id}
	if err := sb.load(e.path); err != nil {
		return -1, err
	}
	if sb.currentStatus() == specs.StateStopped {
		return -1, kindError{errors.New("the container is stopped"), ErrNotRunning}
	}
	listener, err := e.listenShells()
	if err != nil {
		return -1, err
	}
	defer listener.Close()
	if err := start(listener); err != nil {
		return -1, err
	}
	return dialShells(e.fd)
}

// listenShells makes the socket in place of one that nobody listens on.
func (e *entry) listenShells() (*os.File, error) {
	if err := unix.Unlinkat(e.fd, shellFile, 0); err != nil && err != unix.ENOENT {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), shellFile)
	err = unix.Bind(fd, shellAddress(e.fd))
	if err == nil {
		err = unix.Fchmodat(e.fd, shellFile, 0o600, 0)
	}
	if err == nil {
		err = unix.Listen(fd, 128)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// HoldShells holds sessions of the container for the clients of DialShells, and returns when
// the container has ended, a client says so, or ctx ends, which kills what runs. listener is
// what DialShells has handed out.
func (sb *Sandbox) HoldShells(ctx context.Context, listener *os.File) error {
	fd, err := unix.FcntlInt(listener.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return fmt.Errorf("shells: %w", err)
	}
	kernel.TouchedOnly()
	return holder.Serve(&holder.Options{Listener: fd, New: sb.heldShell, Attach: sb.heldTerminal, Watch: sb.watchInit, Done: ctx.Done()})
}

// heldShell makes a session.
func (sb *Sandbox) heldShell(ctx context.Context, s *holder.Settings) (*shell.Session, error) {
	return sb.Shell(ctx, &ShellOptions{Args: s.Args, Env: s.Env, Dir: s.Dir, Terminal: s.Terminal, Jobs: heldJobs})
}

// heldTerminal starts an interactive shell.
func (sb *Sandbox) heldTerminal(ctx context.Context, s *holder.Settings) (*shell.Process, error) {
	p, err := sb.Process()
	if err != nil {
		return nil, err
	}
	if p.Args = s.Args; len(p.Args) == 0 {
		if p.Args, err = sb.findShell(); err != nil {
			return nil, err
		}
	}
	p.Env, p.Terminal = slices.Concat(p.Env, s.Env), true
	if s.Dir != "" {
		p.Cwd = s.Dir
	}
	process, err := sb.Exec(ctx, p, nil)
	if err != nil {
		return nil, err
	}
	return &shell.Process{
		Pid: process.Pid(), Console: process.Console(),
		Wait: func() (unix.WaitStatus, error) { return process.Wait(context.Background()) },
	}, nil
}

// watchInit returns a pidfd of init, after a reset that of the next one.
func (sb *Sandbox) watchInit() (int, error) {
	e, err := sb.store.lock(sb.id)
	for errors.Is(err, errBusy) { // a hook may take its time
		e, err = sb.store.lock(sb.id)
	}
	if err != nil {
		return -1, err
	}
	defer e.close()
	now := &Sandbox{store: sb.store, id: sb.id}
	if err := now.load(e.path); err != nil {
		return -1, err
	}
	if now.rec.Created != sb.view().rec.Created || now.currentStatus() == specs.StateStopped {
		return -1, errStopped()
	}
	fd, err := now.rec.Init.Open()
	if err != nil {
		return -1, fmt.Errorf("pidfd of init: %w", err)
	}
	return fd, nil
}

// parkHeld sends the idle shells of the holder, if there is one, to the root directory, until
// unpark.
func (sb *Sandbox) parkHeld() (unpark func()) {
	c, err := sb.store.DialShells(sb.id, nil)
	if c == nil || err != nil {
		return func() {}
	}
	_ = c.Park() // shells that stay where they are make the snapshot a copy
	return c.Close
}
