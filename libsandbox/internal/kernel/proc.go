package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel/early"
)

// ProcessID names a process for as long as the machine is up: pids are reused,
// pids with a start time are not.
type ProcessID struct {
	Pid int `json:"pid"`
	// Start is the process's start time in clock ticks since boot, field 22 of
	// /proc/PID/stat (proc_pid_stat(5)).
	Start uint64 `json:"startTime"`
}

// Identify returns the identity of a process that exists.
func Identify(pid int) (ProcessID, error) {
	_, start, err := readStat(pid)
	return ProcessID{pid, start}, err
}

// Alive says whether p still runs. A zombie does not.
func (p ProcessID) Alive() bool {
	if p.Pid <= 0 {
		return false
	}
	state, start, err := readStat(p.Pid)
	return err == nil && start == p.Start && runs(state)
}

// runs says whether a process in that state is neither a zombie nor about to go.
func runs(state byte) bool { return state != 'Z' && state != 'X' }

// Open returns a pidfd of p, or ESRCH where p is gone. The caller owns it.
func (p ProcessID) Open() (int, error) { return p.open(false) }

// OpenAlive is Open, and ESRCH where p does not run any more, as Alive has it.
func (p ProcessID) OpenAlive() (int, error) { return p.open(true) }

func (p ProcessID) open(alive bool) (int, error) {
	if p.Pid <= 0 {
		return -1, unix.ESRCH
	}
	fd, err := unix.PidfdOpen(p.Pid, 0)
	if err == unix.EINVAL {
		// Before Linux 6.16 this is said of a process that was reaped while its number
		// is still that of a session or a process group.
		err = unix.ESRCH
	}
	if err != nil {
		return -1, err
	}
	// Only now can the pid not change hands any more.
	if state, start, err := readStat(p.Pid); err != nil || start != p.Start || alive && !runs(state) {
		unix.Close(fd)
		return -1, unix.ESRCH
	}
	return fd, nil
}

// readStat reads the state and the start time of a process.
func readStat(pid int) (state byte, start uint64, err error) {
	var buf [1024]byte
	n, err := ReadFile("/proc/"+strconv.Itoa(pid)+"/stat", buf[:])
	if errors.Is(err, unix.ENOENT) {
		err = unix.ESRCH
	}
	if err != nil {
		return 0, 0, err
	}
	return parseStat(buf[:n])
}

// parseStat reads fields 3 and 22. Field 2, the name, may contain anything, so
// counting begins behind its last parenthesis.
func parseStat(line []byte) (state byte, start uint64, err error) {
	i := bytes.LastIndexByte(line, ')')
	fields := bytes.Fields(line[i+1:])
	if i < 0 || len(fields) < 20 {
		return 0, 0, fmt.Errorf("/proc/PID/stat has %d fields", len(fields))
	}
	start, err = strconv.ParseUint(string(fields[19]), 10, 64)
	return fields[0][0], start, err
}

// ReadFile reads a small file of the host into buf; what does not fit is dropped.
func ReadFile(path string, buf []byte) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	return Read(fd, buf)
}

// ReadAll reads a file of the host. Not os.ReadFile, which brings the poller along.
// A FIFO reads as empty instead of blocking.
func ReadAll(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	buf := make([]byte, 0, 4096)
	for {
		n, err := Read(fd, buf[len(buf):cap(buf)])
		if err != nil || n <= 0 {
			return buf, err
		}
		buf = buf[:len(buf)+n]
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
	}
}

// WaitExit waits until the process of a pidfd has exited, reaped or not, or until
// timeout milliseconds have passed; -1 means for ever. It says whether it has.
func WaitExit(pidfd, timeout int) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	var n int
	err := Retry(func() (err error) { n, err = unix.Poll(fds, timeout); return err })
	return n > 0, err
}

// Bounding returns the capability bounding set of this thread and the highest
// capability that the kernel knows (PR_CAPBSET_READ).
func Bounding() (mask uint64, last int) {
	for n := range 64 {
		have, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n), 0, 0, 0)
		if err != nil {
			return mask, n - 1
		}
		mask |= uint64(have) << n
	}
	return mask, 63
}

// HasMountSetattr says whether mount_setattr(2) can be used: it is newer than the kernel
// (Linux 5.12), or a filter forbids it, where it does not say that these arguments are wrong.
func HasMountSetattr() bool {
	_, _, errno := unix.RawSyscall6(unix.SYS_MOUNT_SETATTR, ^uintptr(0), 0, 0, 0, 0, 0)
	return errno == unix.EINVAL
}

// Version returns the kernel's version: 6, 18.
func Version() (major, minor int, err error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return 0, 0, fmt.Errorf("uname: %w", err)
	}
	release := unix.ByteSliceToString(u.Release[:])
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return 0, 0, fmt.Errorf("kernel release %q: %w", release, err)
	}
	return major, minor, nil
}

// NamespaceType returns the CLONE_NEW* flag of the namespace that fd refers to
// (NS_GET_NSTYPE, Linux 4.11).
func NamespaceType(fd int) (int, error) {
	t, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE)
	if err != nil {
		return 0, fmt.Errorf("not a namespace: %w", err)
	}
	return t, nil
}

// OpenInRoot opens a path below the directory root as a container would see it:
// symlinks are followed inside root, magic links are refused.
func OpenInRoot(root, path string, flags int) (int, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	return OpenAtRoot(dir, path, flags)
}

// OpenAtRoot is OpenInRoot below an open directory.
func OpenAtRoot(dir int, path string, flags int) (fd int, err error) {
	// The kernel gives up at "..", as symlinks have it, when anybody renames or
	// mounts anything at that moment.
	for range maxLookups {
		err = Retry(func() (err error) {
			fd, err = unix.Openat2(dir, path, &unix.OpenHow{
				Flags:   uint64(flags | unix.O_CLOEXEC),
				Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
			})
			return err
		})
		if err != unix.EAGAIN {
			break
		}
	}
	return fd, err
}

// maxLookups is how often a lookup is tried.
const maxLookups = 1 << 16

// WaitExitOr is WaitExit that also returns, with false, when the descriptor wake
// becomes readable or is hung up.
func WaitExitOr(pidfd, wake, timeout int) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}
	err := Retry(func() error { _, err := unix.Poll(fds, timeout); return err })
	return fds[0].Revents != 0, err
}

// TimerSlack returns the timer slack of this process's first thread, in nanoseconds,
// or 0 where it cannot be read. Threads inherit theirs from whoever starts them
// (PR_SET_TIMERSLACK, prctl(2)), and which one runs a goroutine is Go's choice.
func TimerSlack() int {
	if early.Slack != 0 { // of those that Go has started
		return int(early.Slack)
	}
	if unix.Gettid() == unix.Getpid() {
		ns, _ := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
		return ns
	}
	var buf [24]byte
	n, err := ReadFile("/proc/self/timerslack_ns", buf[:])
	if err != nil {
		return 0
	}
	ns, _ := strconv.Atoi(string(bytes.TrimSpace(buf[:n])))
	return ns
}
