package kernel

import (
	"golang.org/x/sys/unix"
)

// Retry calls f until it does not fail with EINTR.
func Retry(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// Read is read(2), retried on EINTR.
func Read(fd int, p []byte) (n int, err error) {
	err = Retry(func() error { n, err = unix.Read(fd, p); return err })
	return n, err
}

// Recvmsg is recvmsg(2), retried on EINTR; descriptors it receives are
// close-on-exec.
func Recvmsg(fd int, p, oob []byte) (n, oobn, flags int, from unix.Sockaddr, err error) {
	err = Retry(func() error {
		n, oobn, flags, from, err = unix.Recvmsg(fd, p, oob, unix.MSG_CMSG_CLOEXEC)
		return err
	})
	return n, oobn, flags, from, err
}

// Rights returns the descriptors in a control message.
func Rights(oob []byte) (fds []int) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range msgs {
		if got, err := unix.ParseUnixRights(&msgs[i]); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds
}

// Sender returns the process, by its pid here, that sent the message of a control
// message with credentials (SO_PASSCRED, unix(7)), 0 where there are none.
func Sender(oob []byte) int {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0
	}
	for i := range msgs {
		if cred, err := unix.ParseUnixCredentials(&msgs[i]); err == nil {
			return int(cred.Pid)
		}
	}
	return 0
}

// Yield lets others that wait for this processor have it (sched_yield(2)).
func Yield() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

// Close closes descriptors, but for those that are negative.
func Close(fds ...int) {
	for _, fd := range fds {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
