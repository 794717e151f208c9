// Command oldkernel executes a command, and everything that this starts, with no more of
// the kernel's interface than Linux 5.10 has, which is the oldest that adl-runtime runs on:
// later system calls fail with ENOSYS, and the flag CLOSE_RANGE_CLOEXEC (5.11) with EINVAL.
// What else has changed since, it does not undo; uname(2) says the truth. Without
// CAP_SYS_ADMIN it sets no_new_privs as well, which seccomp(2) wants.
package main

import (
	"fmt"
	"log"
	"os"
	"os/exec"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// firstLater is the first system call that came after Linux 5.10; since 5.1 they have the
// same numbers on every architecture (Documentation/process/adding-syscalls.rst).
const firstLater = unix.SYS_EPOLL_PWAIT2

// filter is a classic BPF program over struct seccomp_data: the number at 0, the first word
// of the third argument at 32, on little-endian machines.
func filter() []unix.SockFilter {
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equals = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		from   = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		has    = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		ret    = unix.BPF_RET | unix.BPF_K
	)
	return []unix.SockFilter{
		{Code: load, K: 0},
		{Code: from, K: firstLater, Jf: 1},
		{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: equals, K: unix.SYS_CLOSE_RANGE, Jf: 3},
		{Code: load, K: 32},
		{Code: has, K: unix.CLOSE_RANGE_CLOEXEC, Jf: 1},
		{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EINVAL)},
		{Code: ret, K: unix.SECCOMP_RET_ALLOW},
	}
}

func main() {
	if len(os.Args) < 2 {
		log.Fatal("usage: oldkernel COMMAND [ARGUMENT...]")
	}
	log.Fatal("oldkernel: ", become(os.Args[1:]))
}

// become loads the filter and executes a command; it returns only an error.
func become(args []string) error {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	code := filter()
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	load := func() unix.Errno {
		_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
		return errno
	}
	errno := load()
	if errno == unix.EACCES && unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == nil {
		errno = load()
	}
	if errno != 0 {
		return fmt.Errorf("load the filter: %w", errno)
	}
	return unix.Exec(path, args, os.Environ())
}
