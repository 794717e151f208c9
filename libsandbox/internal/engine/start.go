package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
	"adl.run/adl-runtime/libsandbox/internal/program"
)

// Sync is the name of the inherited descriptor that carries the records. Start
// makes it; every program has it.
const Sync = "sync"

// Ready is the first word of the record that reports a barrier.
const Ready = 0xffffffff

// Options are the surroundings of a child.
type Options struct {
	// Name is argv[0] of the child while it waits.
	Name string
	// Stdio and everything else below Program.FirstFile, by number. They stay
	// the caller's.
	Files []uintptr
	// Named holds the descriptors that Program.Files asks for, apart from Sync.
	// They stay the caller's.
	Named map[string]int
	// Cloneflags are the CLONE_NEW* flags of clone(2).
	Cloneflags uintptr
	// CgroupFD is the cgroup v2 directory that the child is born in
	// (CLONE_INTO_CGROUP, Linux 5.7); -1 means that of the caller.
	CgroupFD int
}

// Child is a started program. Close releases its descriptor; it neither kills nor
// reaps the process.
type Child struct {
	// Pid is the process as this process sees it. It is a child of this process, so
	// the number is its own until somebody reaps it.
	Pid int
	// Image identifies the executable, which /proc/PID/exe names until execve.
	Image Image

	program *program.Program
	sync    int
	forked  bool
}

// Image is the inode of a program's executable.
type Image struct {
	Dev uint64 `json:"dev"`
	Ino uint64 `json:"ino"`
}

// Start runs p in a new process.
func Start(p *program.Program, opts *Options) (*Child, error) {
	image, err := encode(p)
	if err != nil {
		return nil, err
	}
	files, pair, err := opts.files(p)
	if err != nil {
		return nil, err
	}
	defer unix.Close(pair[1])
	exe, err := kernel.Executable(imageName, image, above(files))
	if err != nil {
		unix.Close(pair[0])
		return nil, err
	}
	defer unix.Close(exe)
	c := &Child{program: p, sync: pair[0]}
	var st unix.Stat_t
	if err := unix.Fstat(exe, &st); err != nil {
		unix.Close(pair[0])
		return nil, fmt.Errorf("engine: stat executable: %w", err)
	}
	c.Image = Image{Dev: uint64(st.Dev), Ino: st.Ino}
	// Not os.StartProcess: it costs a pidfd probe, a poller and a finalizer.
	c.Pid, err = syscall.ForkExec("/proc/self/fd/"+strconv.Itoa(exe), []string{opts.Name}, &syscall.ProcAttr{
		Files: files,
		Sys: &syscall.SysProcAttr{
			Cloneflags:  opts.Cloneflags,
			UseCgroupFD: opts.CgroupFD >= 0,
			CgroupFD:    opts.CgroupFD,
		},
	})
	if err != nil {
		unix.Close(pair[0])
		return nil, fmt.Errorf("clone: %w", err)
	}
	return c, nil
}

// imageName is what /proc/PID/exe shows of an executable: memfd:adl-init.
const imageName = "adl-init"

// Executable returns a descriptor, close-on-exec, of p as an executable, for a program
// that executes it. Nobody listens to the records of p. The caller owns it.
func Executable(p *program.Program) (int, error) {
	image, err := encode(p)
	if err != nil {
		return -1, err
	}
	return kernel.Executable(imageName, image, 0)
}

// above is a descriptor number that syscall.ForkExec does not use in the child: while it
// puts the files in their places it moves those that are in the way, and a pipe of its
// own, to the numbers behind the highest, without asking whether these are in use.
func above(files []uintptr) int {
	highest := len(files)
	for _, fd := range files {
		highest = max(highest, int(fd))
	}
	return highest + 1 + len(files) + 1
}

// files lays out the child's descriptors. The caller owns the pair, whose second
// end is in the list.
func (o *Options) files(p *program.Program) (files []uintptr, pair [2]int, err error) {
	pair, err = unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, pair, fmt.Errorf("engine: socketpair: %w", err)
	}
	if err := unix.SetsockoptInt(pair[0], unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		unix.Close(pair[0])
		unix.Close(pair[1])
		return nil, pair, fmt.Errorf("engine: SO_PASSCRED: %w", err)
	}
	files = append(make([]uintptr, 0, p.FirstFile+len(p.Files)), o.Files...)
	if len(files) != p.FirstFile {
		err = fmt.Errorf("engine: %d descriptors for a program that wants %d", len(files), p.FirstFile)
	}
	for _, name := range p.Files {
		fd, ok := o.Named[name]
		switch {
		case name == Sync:
			fd = pair[1]
		case !ok:
			err = fmt.Errorf("engine: no descriptor %q", name)
		}
		files = append(files, uintptr(fd))
	}
	if err != nil {
		unix.Close(pair[0])
		unix.Close(pair[1])
	}
	return files, pair, err
}

// Record is what a child reports.
type Record struct {
	// Barrier is the number of the barrier reached; valid where Forked is 0.
	Barrier int
	// Forked is the process that goes on in place of the one started, which has said
	// so itself. It comes once.
	Forked int
	// Value is what a barrier has to say; 0 for most.
	Value int
	// Files are the descriptors that came with the record. The receiver owns them.
	Files []int
}

// Next waits for the child's next record. A fault comes back as a *Fault, the
// success of execve as io.EOF.
func (c *Child) Next() (Record, error) {
	var r Record
	var buf [16]byte // the last eight are the value
	oob := make([]byte, unix.CmsgSpace(2*4)+unix.CmsgSpace(unix.SizeofUcred))
	n, oobn, _, _, err := kernel.Recvmsg(c.sync, buf[:], oob)
	if err == unix.ECONNRESET {
		// It ended before it read what Release wrote. That is said first, and once;
		// the fault that explains it is next.
		n, oobn, _, _, err = kernel.Recvmsg(c.sync, buf[:], oob)
	}
	if oobn > 0 {
		r.Files = kernel.Rights(oob[:oobn])
	}
	switch {
	case err == nil && n == 0, errors.Is(err, unix.ECONNRESET):
		return r, io.EOF
	case err != nil:
		return r, fmt.Errorf("engine: read from init: %w", err)
	case n != 8 && n != 16:
		return r, fmt.Errorf("engine: init sent %d bytes", n)
	}
	r.Value = int(binary.NativeEndian.Uint32(buf[8:]))
	if err := r.decode([8]byte(buf[:8]), c.program); err != nil || r.Forked == 0 {
		return r, err
	}
	// The process that comes to life inside the container has this socket, too, and
	// may be traced there by one that may do so: it must not name a process of the
	// host for the caller to signal and to wait for.
	if sender := kernel.Sender(oob[:oobn]); c.forked || sender != c.Pid {
		return Record{Files: r.Files}, fmt.Errorf("engine: process %d says that it goes on as process %d", sender, r.Forked)
	}
	c.forked = true
	return r, nil
}

// Pending returns the fault that the child has reported, without waiting for one.
func (c *Child) Pending() error {
	var buf [8]byte
	n, _, err := unix.Recvfrom(c.sync, buf[:], unix.MSG_DONTWAIT)
	if err == unix.ECONNRESET { // see Next
		n, _, err = unix.Recvfrom(c.sync, buf[:], unix.MSG_DONTWAIT)
	}
	if err != nil || n != len(buf) {
		return nil
	}
	return new(Record).decode(buf, c.program)
}

// decode fills r from the eight bytes of a record, or returns the fault in them.
func (r *Record) decode(buf [8]byte, p *program.Program) error {
	first, second := binary.NativeEndian.Uint32(buf[:]), binary.NativeEndian.Uint32(buf[4:])
	switch {
	case first == Ready:
		r.Barrier = int(second)
	case second == 0:
		r.Forked = int(first)
	default:
		return p.Explain(int(first), unix.Errno(second))
	}
	return nil
}

// Release lets the child go on from the barrier it waits at.
func (c *Child) Release() error {
	if _, err := unix.Write(c.sync, []byte{1}); err != nil {
		return fmt.Errorf("engine: release init: %w", err)
	}
	return nil
}

// Close closes the parent's end of the records. A child that waits at a barrier
// ends. Closing again does nothing.
func (c *Child) Close() {
	if c.sync >= 0 {
		unix.Close(c.sync)
	}
	c.sync = -1
}

// DecodeFault reads a fault record off the descriptor that a start request was
// sent to. It returns nil at the end of file, which says that execve succeeded.
func DecodeFault(fd int, p Faulter) error {
	var buf [8]byte
	n, err := kernel.Read(fd, buf[:])
	if err == unix.ECONNRESET { // see Next
		n, err = kernel.Read(fd, buf[:])
	}
	switch {
	case err == nil && n == 0, errors.Is(err, unix.ECONNRESET):
		return nil
	case err != nil:
		return fmt.Errorf("engine: read from init: %w", err)
	case n != len(buf):
		return fmt.Errorf("engine: init sent %d bytes", n)
	}
	return p.Explain(int(binary.NativeEndian.Uint32(buf[:])), unix.Errno(binary.NativeEndian.Uint32(buf[4:])))
}

// Faulter explains a fault: a program, or what is left of one in a state file.
type Faulter interface {
	Explain(op int, errno unix.Errno) error
}
