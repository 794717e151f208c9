package libsandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/compile"
	"adl.run/adl-runtime/libsandbox/internal/engine"
	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// descriptors are to be closed together.
type descriptors []int

func (d *descriptors) add(fd int) int {
	*d = append(*d, fd)
	return fd
}

func (d *descriptors) close() {
	for _, fd := range *d {
		unix.Close(fd)
	}
}

// options opens what init inherits. fds owns it.
func (c *creation) options(fds *descriptors) (*engine.Options, error) {
	o := &engine.Options{Name: "adl-init", Cloneflags: c.init.Cloneflags, Named: map[string]int{}}
	var err error
	if c.reset != nil {
		o.Files, err = c.reset.openFiles(fds)
	} else {
		o.Files, err = openFiles(fds, c.o.Stdin, c.o.Stdout, c.o.Stderr, c.o.ExtraFiles)
	}
	if err != nil {
		return nil, err
	}
	if c.layer != nil {
		c.files = identify(o.Files)
	}
	if c.reset != nil && c.reset.ahead.mount != nil {
		o.Named[compile.FileLayer] = int(c.reset.ahead.mount.Fd())
	}
	for _, j := range c.init.Joins {
		if file, ok := strings.CutPrefix(j.Path, ofInit); ok {
			j.Path = "/proc/" + strconv.Itoa(c.sb.rec.Init.Pid) + "/ns/" + file
		}
		fd, err := openNamespace(&j)
		if err != nil {
			return nil, err
		}
		o.Named[j.File] = fds.add(fd)
	}
	if c.network != nil {
		o.Named[compile.FileNetwork] = c.network.Pidfd()
	}
	if slices.Contains(c.init.Files, compile.FilePause) {
		if o.Named[compile.FilePause], err = pauseFile(fds); err != nil {
			return nil, err
		}
	}
	if c.wait {
		fd, err := c.entry.listen()
		if err != nil {
			return nil, err
		}
		o.Named[compile.FileListen] = fds.add(fd)
	}
	if o.CgroupFD, err = c.cgroup.OpenDir(); err != nil {
		return nil, err
	}
	if o.CgroupFD >= 0 {
		fds.add(o.CgroupFD)
	}
	return o, nil
}

// openFiles returns a process's descriptors from 0 on. For a nil it opens /dev/null.
func openFiles(fds *descriptors, stdin, stdout, stderr *os.File, extra []*os.File) ([]uintptr, error) {
	files := make([]uintptr, 0, 3+len(extra))
	null := -1
	for _, f := range []*os.File{stdin, stdout, stderr} {
		if f != nil {
			files = append(files, f.Fd())
			continue
		}
		if null < 0 {
			var err error
			if null, err = unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
				return nil, fmt.Errorf("open /dev/null: %w", err)
			}
			fds.add(null)
		}
		files = append(files, uintptr(null))
	}
	for _, f := range extra {
		files = append(files, f.Fd())
	}
	return files, nil
}

// openNamespace opens a namespace by its path and makes sure of its type.
func openNamespace(j *compile.Join) (int, error) {
	fd, err := unix.Open(j.Path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return -1, fmt.Errorf("%s: %w", j.Note, err)
	}
	t, err := kernel.NamespaceType(fd)
	switch {
	case err == nil && t != j.Type:
		err = errors.New("is a namespace of another type")
	case err == nil && t == unix.CLONE_NEWNS && sameFile(fd, "/proc/self/ns/mnt"):
		// pivot_root in there would change the root of the host's processes.
		err = errors.New("is the mount namespace of the runtime itself")
	case err == nil && t == unix.CLONE_NEWUSER && sameFile(fd, "/proc/self/ns/user"):
		err = errors.New("is the user namespace of the runtime itself")
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("%s: %w", j.Note, err)
	}
	return fd, nil
}

func sameFile(fd int, path string) bool {
	var a, b unix.Stat_t
	return unix.Fstat(fd, &a) == nil && unix.Stat(path, &b) == nil && a.Dev == b.Dev && a.Ino == b.Ino
}

// listen makes the socket that Start connects to. Its address is relative to the
// directory's descriptor: sun_path has room for 107 bytes, ids may have 1024.
func (e *entry) listen() (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("start socket: %w", err)
	}
	err = unix.Bind(fd, e.startAddress())
	if err == nil {
		err = unix.Listen(fd, 1)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("start socket %s: %w", e.join(startFile), err)
	}
	return fd, nil
}

func (e *entry) startAddress() unix.Sockaddr {
	return &unix.SockaddrUnix{Name: filepath.Join("/proc/self/fd", strconv.Itoa(e.fd), startFile)}
}

// sendTimeout bounds the wait for who receives a descriptor.
const sendTimeout = 5 * time.Second

// sendFile sends fd over the AF_UNIX stream socket at path, with a name as the
// message's content: the protocol of console sockets.
func sendFile(path string, fd int, name string) error {
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	// Against a receiver that does not accept, whose queue is full.
	limit := unix.Timeval{Sec: int64(sendTimeout.Seconds())}
	if err := unix.SetsockoptTimeval(s, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		return err
	}
	if err := unix.Connect(s, &unix.SockaddrUnix{Name: path}); err != nil {
		return fmt.Errorf("connect %s: %w", path, err)
	}
	if err := unix.Sendmsg(s, []byte(name), unix.UnixRights(fd), nil, 0); err != nil {
		return fmt.Errorf("send to %s: %w", path, err)
	}
	return nil
}

// console hands the terminal's master on, or keeps it.
func (c *creation) console(files []int) (err error) {
	socket := c.o.ConsoleSocket
	if c.o.KeepConsole {
		socket = ""
	}
	c.sb.child.console, err = passConsole(files, socket)
	return err
}

// passConsole sends the master of a terminal, the one descriptor in files, to a console
// socket. Without one the caller gets it.
func passConsole(files []int, socket string) (*os.File, error) {
	if len(files) != 1 {
		kernel.Close(files...)
		return nil, fmt.Errorf("process.terminal: init sent %d descriptors", len(files))
	}
	if socket == "" {
		return os.NewFile(uintptr(files[0]), "/dev/ptmx"), nil
	}
	defer unix.Close(files[0])
	if err := sendFile(socket, files[0], "/dev/ptmx"); err != nil {
		return nil, fmt.Errorf("process.terminal: console socket: %w", err)
	}
	return nil, nil
}

func (c *creation) sendPidfd() error {
	fd, err := c.sb.rec.Init.Open()
	if err != nil {
		return fmt.Errorf("pidfd of init: %w", err)
	}
	return passPidfd(fd, c.o.PidfdSocket)
}

// passPidfd sends a pidfd, which it closes.
func passPidfd(fd int, socket string) error {
	defer unix.Close(fd)
	if err := sendFile(socket, fd, "pidfd"); err != nil {
		return fmt.Errorf("pidfd socket: %w", err)
	}
	return nil
}
