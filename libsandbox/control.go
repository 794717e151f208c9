package libsandbox

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// controlFile is the socket of whoever stays with a container: only he can start its init
// again as his own child and with his terminal. A request is a mode and a snapshot, the
// answer is an error message or nothing, and each is a packet.
const controlFile = "control.sock"

// maxControl is the size of a packet in bytes.
const maxControl = 8 << 10

// RequestReset is Reset by whoever stays with the container in a Relay, if there is one,
// and by this process otherwise.
func (sb *Sandbox) RequestReset(ctx context.Context, o *ResetOptions) error {
	fd, err := sb.dialControl()
	if err != nil {
		return sb.Reset(ctx, o)
	}
	defer unix.Close(fd)
	limit := unix.Timeval{Sec: int64((lockTimeout + 2*exitTimeout).Seconds())} // for one who is stopped
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	answer := make([]byte, maxControl)
	n := 0
	_, err = unix.Write(fd, []byte(string(o.Mode)+"\x00"+o.To))
	if err == nil {
		n, err = kernel.Read(fd, answer)
	}
	switch {
	case err != nil:
		return fmt.Errorf("reset: whoever stays with the container: %w", err)
	case n == 0:
		return errors.New("reset: whoever stays with the container has ended")
	case answer[0] != 0:
		return errors.New(string(answer[:n]))
	}
	return nil
}

func (sb *Sandbox) dialControl() (int, error) {
	dir, err := unix.Open(sb.store.root+"/"+sb.id, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(dir)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := kernel.Retry(func() error { return unix.Connect(fd, controlAddress(dir)) }); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// controlAddress does not depend on the length of the directory's name.
func controlAddress(dir int) unix.Sockaddr {
	return &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(dir) + "/" + controlFile}
}

// listenControl makes the socket, or returns -1 for a container that has no layer.
func (sb *Sandbox) listenControl() int {
	if sb.rec.Layer == nil {
		return -1
	}
	dir, err := unix.Open(sb.store.root+"/"+sb.id, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	defer unix.Close(dir)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	if unix.Bind(fd, controlAddress(dir)) != nil || unix.Listen(fd, 16) != nil {
		unix.Close(fd)
		return -1
	}
	return fd
}

// serveControl answers one request.
func (sb *Sandbox) serveControl(listener int) {
	fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	limit := unix.Timeval{Usec: 20_000} // for one who connects and says nothing
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)
	request := make([]byte, maxControl)
	n, err := kernel.Read(fd, request)
	if err != nil || n == 0 {
		return
	}
	mode, to, _ := strings.Cut(string(request[:n]), "\x00")
	answer := "\x00"
	if err := sb.Reset(context.Background(), &ResetOptions{Mode: ResetMode(mode), To: to}); err != nil {
		answer = err.Error()
	}
	_, _ = unix.Write(fd, []byte(answer[:min(len(answer), maxControl)]))
}
