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

// RightsFD returns the first descriptor in a control message and closes the
// others; -1 means that there is none.
func RightsFD(oob []byte) int {
	fd := -1
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return fd
	}
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue
		}
		for _, got := range fds {
			if fd < 0 {
				fd = got
			} else {
				unix.Close(got)
			}
		}
	}
	return fd
}
