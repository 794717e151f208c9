package shell

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// ErrClosed: the session has been closed.
var ErrClosed = errors.New("session is closed")

// Session is a shell that is kept between commands. Its methods may be called from
// several goroutines; commands run one after the other.
type Session struct {
	o        Options
	args     []string
	env      []string
	envValue string
	home     string
	dir      directory
	inside   file // the directory as the shell has it

	// busy holds a value while somebody uses the shell: what is below is theirs.
	busy   chan struct{}
	shell  *process // nil where none runs
	parked *parked
	// generation is that of the shell; dead says that the last one was lost, and that its
	// state is to be restored.
	generation string
	dead       bool
	untold     bool // and no Result has said so
	cwd        string
	exports    exports
	seq        uint64 // of the last command
	last       int    // its $?
	quick      bool   // it was; see run.awake
	scripts    [2]script
	out, err   int // read ends of the output FIFOs
	record     int
	// epoll watches the record, the shell and wake; epollAll the outputs, too.
	epoll, epollAll int
	wake            int
	buf             []byte
	// children are the shell's before the command, which began at since, in ticks since
	// boot; struck is what it started and SIGINT was sent to.
	children []byte
	since    uint64
	struck   []kernel.ProcessID
	leaving  bool // what is killed has bash leave the command; see interrupt
	turn     int  // the script that is next
	// haveStatus tells for which statuses there is a file.
	haveStatus [256]bool
	broken     error // why no command can be run any more
	line       []byte

	tty     terminal
	closed  atomic.Bool
	pid     atomic.Int64
	started atomic.Bool // a shell has been
	jobs    jobs
	once    sync.Once
}

// Tags of the descriptors in the epoll sets.
const (
	tagRecord = iota
	tagShell
	tagWake
	tagOut
	tagErr
)

// New makes a session. The shell is started by its first command. The session owns the
// directories also when New fails.
func New(o *Options) (*Session, error) {
	s := &Session{
		o: *o, args: shellArgs(o.Args), home: o.Home, busy: make(chan struct{}, 1),
		out: -1, err: -1, record: -1, epoll: -1, epollAll: -1, wake: -1,
		scripts: [2]script{newScript("a"), newScript("b")},
	}
	s.exports.fd, s.tty.fd = -1, -1
	s.env, s.envValue = startEnv(o.Env)
	s.dir = directory{o.Dir, int(o.Dir.Fd())}
	s.o.defaults()
	if s.home == "" {
		s.home = "/"
	}
	s.cwd = s.home
	s.inside = inode(int(s.o.ShellDir.Fd()))
	s.jobs.init(s)
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// defaults fills in what is zero.
func (o *Options) defaults() {
	if o.ShellDir == nil {
		o.ShellDir = o.Dir
	}
	if o.Limit == 0 {
		o.Limit = DefaultLimit
	}
	if o.JobLimit <= 0 {
		o.JobLimit = DefaultJobLimit
	}
	if o.Jobs <= 0 {
		o.Jobs = DefaultJobs
	}
}

// generation is what Options.Generation says.
func (o *Options) generation() string {
	if o.Generation == nil {
		return ""
	}
	return o.Generation()
}

// open makes what is in the directory, and the epoll sets.
func (s *Session) open() (err error) {
	for _, fd := range []*int{&s.epoll, &s.epollAll} {
		if *fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
			return fmt.Errorf("epoll: %w", err)
		}
	}
	if s.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	if s.record, err = s.dir.fifo(recordName, unix.O_RDWR); err != nil {
		return err
	}
	if s.exports.fd, err = s.dir.fifo(exportsName, unix.O_RDWR); err != nil {
		return err
	}
	widen(s.exports.fd)
	for i := range s.scripts {
		if s.scripts[i].fd, err = s.dir.create(s.scripts[i].name); err != nil {
			return err
		}
	}
	if err := s.dir.write(nullName, nil); err != nil {
		return err
	}
	if err := errors.Join(s.watch(s.record, tagRecord, unix.EPOLLIN), s.watch(s.wake, tagWake, unix.EPOLLIN)); err != nil {
		return err
	}
	if s.out, err = s.newOutput(outName, tagOut); err != nil {
		return err
	}
	s.err, err = s.newOutput(errName, tagErr)
	return err
}

// watch adds a descriptor to both epoll sets; it leaves them when it is closed.
func (s *Session) watch(fd int, tag int32, events uint32) error {
	for _, set := range []int{s.epoll, s.epollAll} {
		ev := unix.EpollEvent{Events: events, Fd: tag}
		if err := unix.EpollCtl(set, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
			return fmt.Errorf("epoll: %w", err)
		}
	}
	return nil
}

// watchTerminal has the terminal watched, which is in place of the FIFO of stdout.
func (s *Session) watchTerminal() error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET&0xffffffff, Fd: tagOut}
	if err := unix.EpollCtl(s.epollAll, unix.EPOLL_CTL_ADD, s.tty.fd, &ev); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// newOutput makes a FIFO and has it watched by the edge: one without a writer is always
// ready otherwise.
func (s *Session) newOutput(name string, tag int32) (int, error) {
	fd, err := s.dir.output(name)
	if err != nil {
		return -1, err
	}
	// One that has had no writer yet does not say that it has none.
	touch(s.dir.fd, name)
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET&0xffffffff, Fd: tag}
	if err := unix.EpollCtl(s.epollAll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("epoll: %w", err)
	}
	return fd, nil
}

// lock waits for the session to be free.
func (s *Session) lock(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case s.busy <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if s.closed.Load() {
		<-s.busy
		return ErrClosed
	}
	return nil
}

func (s *Session) unlock() { <-s.busy }

// ready sees to it that there is a shell.
func (s *Session) ready(ctx context.Context) error {
	const tries = 10
	for n := 1; ; n++ {
		if s.shell != nil || s.broken != nil {
			return s.broken
		}
		before := s.o.generation()
		err := s.attempt(ctx)
		if err == nil || ctx.Err() != nil || n == tries || s.o.generation() == before {
			return err
		}
		// What it was started in has been replaced.
	}
}

// attempt starts a shell.
func (s *Session) attempt(ctx context.Context) error {
	restore := s.dead && s.generation == s.o.generation()
	if !restore {
		s.untold = false
		s.cwd = s.home
		s.exports.last = nil
	}
	if err := s.startShell(ctx, restore); err != nil {
		return err
	}
	s.cwd = s.shell.directory(s.cwd)
	s.pid.Store(int64(s.shell.Pid))
	return nil
}

// bury reaps a shell that has ended, or kills it. forget: its state is not to be restored.
func (s *Session) bury(forget bool) unix.WaitStatus {
	s.pid.Store(0)
	// Closing is not enough while a process that is just being forked has a copy.
	_ = unix.EpollCtl(s.epoll, unix.EPOLL_CTL_DEL, s.shell.pidfd, nil)
	_ = unix.EpollCtl(s.epollAll, unix.EPOLL_CTL_DEL, s.shell.pidfd, nil)
	if s.tty.fd >= 0 {
		_ = unix.EpollCtl(s.epollAll, unix.EPOLL_CTL_DEL, s.tty.fd, nil)
		s.tty.set(-1)
	}
	s.exports.drain()
	ws := s.shell.close()
	s.shell, s.dead, s.last = nil, !forget, 0
	return ws
}

// scratch is a buffer for output that is not kept.
func (s *Session) scratch() []byte {
	if s.buf == nil {
		s.buf = make([]byte, 256<<10)
	}
	return s.buf
}

// wakeUp has the one who waits look at what it waits for.
func (s *Session) wakeUp() { _, _ = unix.Write(s.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

// Pid is the shell's process as this process sees it, 0 where none runs.
func (s *Session) Pid() int { return int(s.pid.Load()) }

// Started says whether a shell has ever been started: a session whose first one could not be
// has nothing to keep.
func (s *Session) Started() bool { return s.started.Load() }

// Close kills the shell and whatever is below it, and removes what the session made. A
// command that runs ends with ErrClosed. Closing twice does nothing.
func (s *Session) Close() (err error) {
	s.once.Do(func() {
		s.closed.Store(true)
		if s.wake >= 0 {
			s.wakeUp()
		}
		s.busy <- struct{}{}
		if s.shell != nil {
			s.killBelow()
			s.bury(true)
		}
		s.jobs.close()
		kernel.Close(s.out, s.err, s.record, s.exports.fd, s.epoll, s.epollAll, s.wake, s.scripts[0].fd, s.scripts[1].fd)
		if s.o.ShellDir != s.o.Dir {
			err = s.o.ShellDir.Close()
		}
		err = errors.Join(err, s.dir.clear())
		<-s.busy
	})
	return err
}

// send writes a line to the shell. One that does not read is found out by whoever waits
// for the answer.
func (s *Session) send(line []byte) error {
	return kernel.Retry(func() error { _, err := unix.Write(s.shell.input, line); return err })
}
