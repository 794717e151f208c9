package early

import (
	"math/bits"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Network is a process that has nothing but a new network namespace, with its loopback
// device up, for a container that is to have one. To make it takes the kernel as long as
// the first half of Go's start takes, and is done beside it, on another processor.
//
// It is a fork of this process before that is more than a few pages, and ends with its first
// thread at the latest. With this one's memory (CLONE_VM) it would be started faster, but
// each of the two would have to tell the other's processor of its mappings.
type Network struct {
	pid   int
	pidfd int
}

// What the process has done.
const (
	nothing = iota
	making
	made
	failed
)

var (
	maker   atomic.Uintptr // the process; 0 for none, or one that was taken
	state   *atomic.Uint32 // in memory that it has in common with this one
	creator uintptr        // this process
)

// TakeNetwork returns the namespace, once, if begin has seen that it would be wanted; nil
// where there is none. The caller ends it.
func TakeNetwork() *Network {
	n := &Network{pid: int(maker.Swap(0)), pidfd: -1}
	if n.pid == 0 {
		return nil
	}
	var err error
	if n.await() {
		n.pidfd, err = unix.PidfdOpen(n.pid, 0)
	}
	if n.pidfd < 0 || err != nil {
		n.End()
		return nil
	}
	return n
}

// await says whether the namespace is made, which it is by now, unless the machine is busy.
// Where it is not even begun, init is sooner done with its own.
func (n *Network) await() bool {
	const tries, each, futexWait = 100, 10_000_000, 0 // each: ns
	for range tries {
		if s := state.Load(); s != making {
			return s == made
		}
		limit := unix.Timespec{Nsec: each}
		_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(state)), futexWait, making, uintptr(unsafe.Pointer(&limit)), 0, 0)
	}
	return false
}

// Pidfd is a descriptor of the process, for setns(2). It is n's.
func (n *Network) Pidfd() int { return n.pidfd }

// Kill begins to end the process. Its namespace is that of those who have joined it. n may
// be nil.
func (n *Network) Kill() {
	if n != nil {
		_ = unix.Kill(n.pid, unix.SIGKILL)
	}
}

// End ends the process, and waits for that. n may be nil; it cannot be used any more.
func (n *Network) End() {
	if n == nil {
		return
	}
	n.Kill()
	if n.pidfd >= 0 {
		_ = unix.Close(n.pidfd)
	}
	for {
		if _, err := unix.Wait4(n.pid, nil, unix.WALL, nil); err != unix.EINTR {
			return
		}
	}
}

// makes says whether the command line is one that makes a container, and of what bundle.
// Where it is wrong, a namespace is made for nothing, or not.
//
//go:nosplit
func makes() (bundle cstring, ok bool) {
	var l line
	named := false
	bundle = cstring{(*byte)(unsafe.Pointer(unsafe.StringData(".\x00")))}
	argc := *(*uintptr)(stack)
	for i := uintptr(1); i < argc; i++ {
		a := word(i)
		switch {
		case a.is("-b"), a.is("--bundle"):
			if i++; i < argc {
				bundle, named = word(i), true
			}
		case a.at(0) == '-':
			if a.is("--dry-run") {
				return bundle, false
			}
			used, _ := l.global(i)
			i += used
		case !ok:
			if !a.is("run") && !a.is("create") {
				return bundle, false
			}
			ok = true
		case !named && isPath(a):
			bundle = a
		}
	}
	return bundle, ok
}

// isPath says whether an argument of run is a bundle and no id.
//
//go:nosplit
func isPath(a cstring) bool {
	for i := uintptr(0); a.at(i) != 0; i++ {
		if a.at(i) == '/' {
			return true
		}
	}
	return a.is(".") || a.is("..")
}

// setConfig sets path to the bundle's config.json.
//
//go:nosplit
func setConfig(bundle cstring) bool {
	n := uintptr(0)
	ok := bundle.at(0) != 0
	for i := uintptr(0); ok && bundle.at(i) != 0; i++ {
		ok = put(&n, bundle.at(i))
	}
	for i := range len("/" + ConfigFile) {
		ok = ok && put(&n, ("/" + ConfigFile)[i])
	}
	return ok && put(&n, 0)
}

// ownNetwork says whether text, which is config.json, has a network namespace that is to be
// made, and no user namespace, which that would belong to. A field of that name elsewhere is
// taken for it, too.
//
//go:nosplit
func ownNetwork() (found bool) {
	for at := (cstring{&text[0]}); at.at(0) != 0; at = at.from(1) {
		value, ok := at.after(`"type"`)
		if !ok {
			continue
		}
		for value.at(0) == ':' || value.at(0) == ' ' || value.at(0) == '\t' || value.at(0) == '\n' || value.at(0) == '\r' {
			value = value.from(1)
		}
		if _, user := value.after(`"user"`); user {
			return false
		}
		if _, network := value.after(`"network"`); !network {
			continue
		}
		found = true
		for ; value.at(0) != '}' && value.at(0) != 0; value = value.from(1) {
			if _, path := value.after(`"path"`); path {
				return false
			}
		}
	}
	return found
}

// startMaker starts the process, where it has a processor to itself and may make a namespace.
//
//go:nosplit
func startMaker() {
	cpus := cstring{&entries[0]}
	size, ok := call(unix.SYS_SCHED_GETAFFINITY, 0, unsafe.Sizeof(entries), cpus.address(), 0)
	count := 0
	for i := uintptr(0); ok && i < size; i++ {
		count += bits.OnesCount8(cpus.at(i))
	}
	if uid, _ := call(unix.SYS_GETEUID, 0, 0, 0, 0); uid != 0 || count < 2 {
		return
	}
	page, _, errno := syscall.RawSyscall6(unix.SYS_MMAP, 0, unsafe.Sizeof(*state), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS, ^uintptr(0), 0)
	if errno != 0 {
		return
	}
	*(*uintptr)(unsafe.Pointer(&state)) = page
	creator, _ = call(unix.SYS_GETPID, 0, 0, 0, 0)
	// No signal tells of its end: who waits for any child does not find it (__WALL of wait(2)).
	pid, ok := call(unix.SYS_CLONE, 0, 0, 0, 0)
	switch {
	case !ok:
		return
	case pid == 0:
		makeNetwork()
	}
	maker.Store(pid)
	// The scheduler may let a new process wait for as long as this one has something to do.
	var cpu uint32
	if _, ok := call(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0, 0); ok && uintptr(cpu) < 8*size {
		*cpus.from(uintptr(cpu / 8)).p &^= 1 << (cpu % 8)
		call(unix.SYS_SCHED_SETAFFINITY, pid, size, cpus.address(), 0)
	}
}

// makeNetwork is that process. It does not return.
//
//go:nosplit
func makeNetwork() {
	const futexWake = 1
	all := ^uint64(0) // what a terminal sends its processes is for the others
	call(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&all)), 0, unsafe.Sizeof(all))
	call(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0)
	parent, _ := call(unix.SYS_GETPPID, 0, 0, 0, 0)
	state.Store(making)
	result := uint32(failed)
	if _, ok := call(unix.SYS_UNSHARE, unix.CLONE_NEWNET, 0, 0, 0); ok && parent == creator && loopback() {
		result = made
	}
	state.Store(result)
	call(unix.SYS_FUTEX, uintptr(unsafe.Pointer(state)), futexWake, 1, 0)
	for result == made {
		call(unix.SYS_PPOLL, 0, 0, 0, 0)
	}
	syscall.RawSyscall6(unix.SYS_EXIT_GROUP, 0, 0, 0, 0, 0, 0)
}

// loopback brings up lo (netdevice(7)).
//
//go:nosplit
func loopback() bool {
	fd, ok := call(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0, 0)
	if !ok {
		return false
	}
	ifreq := struct {
		name  [unix.IFNAMSIZ]byte
		flags uint16
		rest  [22]byte
	}{name: [unix.IFNAMSIZ]byte{'l', 'o'}, flags: unix.IFF_UP}
	_, ok = call(unix.SYS_IOCTL, fd, unix.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&ifreq)), 0)
	close(fd)
	return ok
}
