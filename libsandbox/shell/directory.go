package shell

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// within is the directory as the shell names it, by DirFD.
const within = "/proc/self/fd/100/"

// dirName is DirFD of the shell, below /proc/PID.
const dirName = "fd/100"

// directory is where a session's FIFOs and scripts are.
type directory struct {
	file *os.File
	fd   int
}

// fifo makes a FIFO in place of what has its name, and opens it. Whoever may search the
// directory may write to it: a command that has become another user can still reopen
// /dev/stdout.
func (d *directory) fifo(name string, flags int) (int, error) {
	if err := d.makeFifo(name); err != nil {
		return -1, err
	}
	fd, err := unix.Openat(d.fd, name, flags|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open fifo %s: %w", name, err)
	}
	return fd, nil
}

func (d *directory) makeFifo(name string) error {
	_ = unix.Unlinkat(d.fd, name, 0)
	err := unix.Mknodat(d.fd, name, unix.S_IFIFO|0o666, 0)
	if err == nil {
		err = unix.Fchmodat(d.fd, name, 0o666, 0) // whatever the umask is
	}
	if err != nil {
		return fmt.Errorf("make fifo %s: %w", name, err)
	}
	return nil
}

// output is fifo for an output: its reader is told when the last writer has gone.
func (d *directory) output(name string) (int, error) {
	fd, err := d.fifo(name, unix.O_RDONLY)
	if err == nil {
		widen(fd)
	}
	return fd, err
}

// widen makes a pipe hold 1 MiB, so that a command's output fits and few changes between
// processes are needed. Where the user's limit of pipe pages is reached, it stays as it is.
func widen(fd int) { _, _ = unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, 1<<20) }

// create makes an empty file and opens it for writing.
func (d *directory) create(name string) (int, error) {
	fd, err := unix.Openat(d.fd, name, unix.O_CREAT|unix.O_TRUNC|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
	if err == nil {
		err = unix.Fchmod(fd, 0o644)
	}
	if err != nil {
		return -1, fmt.Errorf("make file %s: %w", name, err)
	}
	return fd, nil
}

// write makes a file of data.
func (d *directory) write(name string, data []byte) error {
	fd, err := d.create(name)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := kernel.WriteAll(fd, data); err != nil {
		d.remove(name)
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func (d *directory) remove(name string) { _ = unix.Unlinkat(d.fd, name, 0) }

// clear removes everything, and closes the directory.
func (d *directory) clear() error {
	// The caller's descriptor may have been read from before.
	_, _ = d.file.Seek(0, 0)
	names, err := d.file.Readdirnames(-1)
	for _, name := range names {
		d.remove(name)
	}
	if cerr := d.file.Close(); err == nil {
		err = cerr
	}
	return err
}

// script is a file that the shell reads commands from. There are two, in turn: dash and
// ash read a file as they go, and still stand in the last one when its command has been
// recorded as ended.
type script struct {
	name    string
	fd      int
	size    int
	trigger []byte // the line that has the shell run it
}

func newScript(name string) script {
	return script{name: name, fd: -1, trigger: text(nil).str(`\. `, within, name, "\n")}
}

// set replaces the script's text.
func (f *script) set(text []byte) error {
	for done := 0; done < len(text); {
		n, err := unix.Pwrite(f.fd, text[done:], int64(done))
		if err != nil && err != unix.EINTR {
			f.size = 0
			return errors.Join(fmt.Errorf("write script: %w", err), unix.Ftruncate(f.fd, 0))
		}
		done += max(n, 0)
	}
	if len(text) < f.size {
		if err := unix.Ftruncate(f.fd, int64(len(text))); err != nil {
			return fmt.Errorf("truncate script: %w", err)
		}
	}
	f.size = len(text)
	return nil
}
