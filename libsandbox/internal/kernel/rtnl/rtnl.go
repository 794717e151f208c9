// Package rtnl moves network devices between network namespaces (rtnetlink(7)). It
// knows no more of that protocol than this takes, because the whole of it, in a
// library, would cost every start of the runtime.
package rtnl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// conn is a route netlink socket. It stays in the network namespace that it was made
// in.
type conn struct {
	fd  int
	seq uint32
}

func open() (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("bind netlink socket: %w", err)
	}
	// Without an answer something is badly wrong, but nobody should hang.
	limit := unix.Timeval{Sec: 10}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return &conn{fd: fd}, nil
}

// openIn is open in the network namespace netns.
func openIn(netns int) (c *conn, err error) {
	runtime.LockOSThread()
	own, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("own network namespace: %w", err)
	}
	defer unix.Close(own)
	if err = unix.Setns(netns, unix.CLONE_NEWNET); err == nil {
		c, err = open()
	}
	if unix.Setns(own, unix.CLONE_NEWNET) == nil {
		runtime.UnlockOSThread()
	} // otherwise the thread ends with its goroutine
	return c, err
}

func (c *conn) close() { unix.Close(c.fd) }

// message is a netlink message under construction.
type message []byte

// newMessage begins a message with a header of the route family.
func newMessage(typ, flags uint16, header []byte) message {
	m := make(message, unix.SizeofNlMsghdr, 128)
	binary.NativeEndian.PutUint16(m[4:], typ)
	binary.NativeEndian.PutUint16(m[6:], flags|unix.NLM_F_REQUEST)
	return append(m, header...)
}

// attr appends an attribute.
func (m message) attr(typ uint16, value []byte) message {
	m = binary.NativeEndian.AppendUint16(m, uint16(unix.SizeofRtAttr+len(value)))
	m = binary.NativeEndian.AppendUint16(m, typ)
	m = append(m, value...)
	for len(m)%unix.NLMSG_ALIGNTO != 0 {
		m = append(m, 0)
	}
	return m
}

func (m message) attr32(typ uint16, v uint32) message {
	return m.attr(typ, binary.NativeEndian.AppendUint32(nil, v))
}

// do sends m and calls each for every answer. With flag NLM_F_DUMP there are several,
// with NLM_F_ACK none.
func (c *conn) do(m message, each func(body []byte)) error {
	c.seq++
	binary.NativeEndian.PutUint32(m, uint32(len(m)))
	binary.NativeEndian.PutUint32(m[8:], c.seq)
	err := kernel.Retry(func() error { return unix.Sendto(c.fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) })
	if err != nil {
		return fmt.Errorf("send: %w", err)
	}
	buf := make([]byte, 64<<10)
	for {
		var n int
		var from unix.Sockaddr
		err := kernel.Retry(func() (err error) { n, from, err = unix.Recvfrom(c.fd, buf, 0); return err })
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if nl, ok := from.(*unix.SockaddrNetlink); !ok || nl.Pid != 0 {
			continue // not from the kernel
		}
		if done, err := parse(buf[:n], c.seq, each); done || err != nil {
			return err
		}
	}
}

// parse takes a datagram apart and says whether it ends the answer.
func parse(b []byte, seq uint32, each func([]byte)) (done bool, err error) {
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return true, errors.New("netlink: malformed answer")
		}
		body := b[unix.SizeofNlMsghdr:size]
		if binary.NativeEndian.Uint32(b[8:]) == seq {
			switch binary.NativeEndian.Uint16(b[4:]) {
			case unix.NLMSG_DONE:
				return true, nil
			case unix.NLMSG_ERROR:
				if len(body) < 4 {
					return true, errors.New("netlink: malformed answer")
				}
				if errno := -int32(binary.NativeEndian.Uint32(body)); errno != 0 {
					return true, unix.Errno(errno)
				}
				return true, nil
			default:
				each(body)
			}
		}
		b = b[min((size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1), len(b)):]
	}
	return false, nil
}

// attributes calls each for the attributes in b.
func attributes(b []byte, each func(typ uint16, value []byte)) {
	for len(b) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			return
		}
		each(binary.NativeEndian.Uint16(b[2:])&^unix.NLA_F_NESTED, b[unix.SizeofRtAttr:size])
		b = b[min((size+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1), len(b)):]
	}
}
