package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
	"adl.run/adl-runtime/libsandbox/internal/program"
)

// RunAside runs p on a thread of this process instead of in a new one, which takes a
// fraction of the time, and returns its fault. p must end with exit_group, start nothing,
// change nothing that threads have in common, and not enter the namespaces that a process
// with several threads cannot (setns(2)). named holds the descriptors that Program.Files
// asks for; they stay the caller's. Whatever else p opens is closed at its end.
func RunAside(p *program.Program, named map[string]int) error {
	for i := range p.Ops {
		if op := &p.Ops[i]; !aside(op.Call) {
			return fmt.Errorf("engine: op %d (%s) is not for a thread", i, p.Texts[op.Note])
		}
	}
	r := &runner{program: p, data: slices.Clone(p.Data)}
	for _, name := range p.Files {
		fd, ok := named[name]
		if !ok {
			return fmt.Errorf("engine: no descriptor %q", name)
		}
		r.files = append(r.files, fd)
	}
	for _, rel := range p.Relocs {
		binary.NativeEndian.PutUint64(r.data[rel.At:], uint64(r.address(uint64(rel.To))))
	}
	return kernel.Aside(func() error {
		err := r.run()
		for _, fd := range r.opened {
			unix.Close(fd)
		}
		return err
	})
}

// runner does what the interpreter in the executable does. The kernel is given addresses
// of its data and slots: it is on the heap, where nothing moves.
type runner struct {
	program *program.Program
	data    []byte
	slots   [program.MaxSlots]uint64
	files   []int
	opened  []int
}

func (r *runner) address(data uint64) uintptr {
	return uintptr(unsafe.Pointer(unsafe.SliceData(r.data))) + uintptr(data)
}

func (r *runner) run() error {
	defer runtime.KeepAlive(r)
	for i := 0; i < len(r.program.Ops); i++ {
		op := &r.program.Ops[i]
		if op.Call == unix.SYS_EXIT_GROUP {
			return nil
		}
		result, errno := r.do(op)
		r.slots[op.Dst] = uint64(result)
		switch errno {
		case 0:
			i += int(op.Skip)
		case unix.Errno(op.Tolerate[0].Errno):
			i += int(op.Tolerate[0].Skip)
		case unix.Errno(op.Tolerate[1].Errno):
			i += int(op.Tolerate[1].Skip)
		default:
			return r.program.Explain(i, errno)
		}
	}
	return errors.New("engine: the program does not end")
}

func (r *runner) do(op *program.Op) (uintptr, unix.Errno) {
	var a [6]uintptr
	for n := range op.Args {
		a[n] = r.argument(&op.Args[n])
	}
	if op.Call == program.Test {
		if a[0]&a[1] == a[2] {
			return a[3], 0
		}
		return -a[4], unix.Errno(a[4])
	}
	var result uintptr
	var errno unix.Errno
	for range maxRetries {
		result, _, errno = unix.Syscall6(uintptr(op.Call), a[0], a[1], a[2], a[3], a[4], a[5])
		if (errno != unix.EAGAIN || op.Call != unix.SYS_OPENAT2) && (errno != unix.EINTR || op.Call == unix.SYS_CLOSE) {
			break
		}
	}
	switch {
	case errno != 0:
		return -uintptr(errno), errno
	case opens(op.Call):
		r.opened = append(r.opened, int(result))
	case op.Call == unix.SYS_CLOSE:
		r.opened = slices.DeleteFunc(r.opened, func(fd int) bool { return fd == int(a[0]) })
	}
	return result, 0
}

// maxRetries is how often the interpreter repeats an openat2. A thread of Go's is also
// sent signals.
const maxRetries = 1 << 20

func (r *runner) argument(a *program.Arg) uintptr {
	switch a.Kind {
	case program.Data:
		return r.address(a.Val)
	case program.SlotVal:
		return uintptr(r.slots[a.Val])
	case program.SlotAddr:
		return uintptr(unsafe.Pointer(&r.slots[a.Val]))
	case program.File:
		return uintptr(r.files[a.Val])
	}
	return uintptr(a.Val)
}

// opens says whether a call returns a new descriptor.
func opens(c program.Call) bool {
	switch c {
	case unix.SYS_OPENAT, unix.SYS_OPENAT2, unix.SYS_OPEN_TREE, unix.SYS_FSOPEN, unix.SYS_FSMOUNT:
		return true
	}
	return false
}

// aside says whether a call is one that RunAside makes.
func aside(c program.Call) bool {
	switch c {
	case program.Test, unix.SYS_EXIT_GROUP, unix.SYS_CLOSE, unix.SYS_WRITE, unix.SYS_STATX,
		unix.SYS_SETNS, unix.SYS_CHDIR, unix.SYS_FCHDIR, unix.SYS_CHROOT, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
		unix.SYS_FSCONFIG, unix.SYS_MOVE_MOUNT, unix.SYS_MOUNT_SETATTR, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT,
		unix.SYS_UNLINKAT:
		return true
	}
	return opens(c)
}
