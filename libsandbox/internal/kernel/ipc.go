package kernel

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ClearIPC removes every System V shared memory segment, semaphore set and message queue
// and every POSIX message queue of an IPC namespace (ipc_namespaces(7)). Who uses one
// keeps a segment until he lets go of it.
func ClearIPC(namespace int) error {
	return onThread("ipc", namespace, unix.CLONE_NEWIPC, func() error {
		return errors.Join(clearSystemV(), clearQueues())
	})
}

// onThread calls f on a thread that has entered a namespace, of the kind that
// /proc/PID/ns/NAME is of, and leaves it afterwards. If that fails, the thread ends with
// the goroutine; only the process's first one stays, unused.
func onThread(name string, namespace, kind int, f func() error) error {
	runtime.LockOSThread()
	own, err := unix.Open("/proc/thread-self/ns/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return os.NewSyscallError("open "+name+" namespace", err)
	}
	defer unix.Close(own)
	if err := unix.Setns(namespace, kind); err != nil {
		runtime.UnlockOSThread()
		return os.NewSyscallError("setns", err)
	}
	err = f()
	if serr := unix.Setns(own, kind); serr != nil {
		return errors.Join(err, os.NewSyscallError("setns", serr))
	}
	runtime.UnlockOSThread()
	return err
}

// clearSystemV removes what the tables of the thread's namespace list (sysvipc(7)).
func clearSystemV() error {
	var errs []error
	for _, kind := range [...]struct {
		table string
		call  uintptr
		args  [2]uintptr // behind the id
	}{
		{"shm", unix.SYS_SHMCTL, [2]uintptr{unix.IPC_RMID, 0}},
		{"sem", unix.SYS_SEMCTL, [2]uintptr{0, unix.IPC_RMID}},
		{"msg", unix.SYS_MSGCTL, [2]uintptr{unix.IPC_RMID, 0}},
	} {
		raw, err := ReadAll("/proc/sysvipc/" + kind.table)
		if err != nil {
			if err != unix.ENOENT { // a kernel without
				errs = append(errs, fmt.Errorf("sysvipc/%s: %w", kind.table, err))
			}
			continue
		}
		for i, line := range strings.Split(string(raw), "\n") {
			fields := strings.Fields(line) // key, id
			if i == 0 || len(fields) < 2 {
				continue
			}
			id, err := strconv.Atoi(fields[1])
			if err != nil {
				continue
			}
			_, _, errno := unix.Syscall(kind.call, uintptr(id), kind.args[0], kind.args[1])
			if errno != 0 && errno != unix.EINVAL && errno != unix.EIDRM {
				errs = append(errs, fmt.Errorf("remove %s %d: %w", kind.table, id, errno))
			}
		}
	}
	return errors.Join(errs...)
}

// clearQueues unlinks what is in the thread's mqueue filesystem, by a mount of it that
// nobody else sees.
func clearQueues() error {
	fs, err := unix.Fsopen("mqueue", unix.FSOPEN_CLOEXEC)
	if err == unix.ENODEV {
		return nil // a kernel without
	}
	if err != nil {
		return os.NewSyscallError("fsopen mqueue", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return os.NewSyscallError("fsconfig mqueue", err)
	}
	dir, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("fsmount mqueue", err)
	}
	open, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(dir)
		return os.NewSyscallError("open mqueue", err)
	}
	f := os.NewFile(uintptr(open), "mqueue")
	names, err := f.Readdirnames(-1)
	for _, name := range names {
		err = errors.Join(err, unix.Unlinkat(dir, name, 0))
	}
	f.Close()
	unix.Close(dir)
	return err
}
