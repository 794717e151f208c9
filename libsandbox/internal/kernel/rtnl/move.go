package rtnl

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Move moves the network device name of the caller's network namespace to the namespace
// netns, calls it newName there, keeps its permanent addresses of global scope, which
// the kernel takes away, and sets it up. A "%d" in newName becomes a number. Where the
// name is in use there, nothing is changed.
func Move(name, newName string, netns int) error {
	here, err := open()
	if err != nil {
		return err
	}
	defer here.close()
	there, err := openIn(netns)
	if err != nil {
		return err
	}
	defer there.close()
	return move(here, there, name, newName, netns)
}

func move(here, there *conn, name, newName string, netns int) error {
	links, err := here.links()
	if err != nil {
		return err
	}
	index, ok := links[name]
	if !ok {
		return unix.ENODEV
	}
	// Before the move, as IPv6 addresses end with it.
	addrs, err := here.addresses(index)
	if err != nil {
		return err
	}
	before, err := there.links()
	if err != nil {
		return err
	}
	// The kernel would move the device, and then fail to rename it.
	if _, ok := before[newName]; ok {
		return fmt.Errorf("name %q: %w", newName, unix.EEXIST)
	}
	m := newMessage(unix.RTM_NEWLINK, unix.NLM_F_ACK, linkHeader(index, 0, 0))
	m = m.attr(unix.IFLA_IFNAME, append([]byte(newName), 0)).attr32(unix.IFLA_NET_NS_FD, uint32(netns))
	if err := here.do(m, nil); err != nil {
		return fmt.Errorf("move: %w", err)
	}
	if index, err = there.arrived(before, newName); err != nil {
		return err
	}
	for _, a := range addrs {
		if err := there.do(a.add(index), nil); err != nil {
			return fmt.Errorf("add address: %w", err)
		}
	}
	m = newMessage(unix.RTM_NEWLINK, unix.NLM_F_ACK, linkHeader(index, unix.IFF_UP, unix.IFF_UP))
	if err := there.do(m, nil); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	return nil
}

// linkHeader is a struct ifinfomsg.
func linkHeader(index int32, flags, change uint32) []byte {
	b := make([]byte, 4, unix.SizeofIfInfomsg)
	b = binary.NativeEndian.AppendUint32(b, uint32(index))
	b = binary.NativeEndian.AppendUint32(b, flags)
	return binary.NativeEndian.AppendUint32(b, change)
}

// links maps the names of the devices to their indices.
func (c *conn) links() (map[string]int32, error) {
	found := map[string]int32{}
	err := c.do(newMessage(unix.RTM_GETLINK, unix.NLM_F_DUMP, linkHeader(0, 0, 0)), func(b []byte) {
		if len(b) < unix.SizeofIfInfomsg {
			return
		}
		index := int32(binary.NativeEndian.Uint32(b[4:]))
		attributes(b[unix.SizeofIfInfomsg:], func(typ uint16, v []byte) {
			if typ == unix.IFLA_IFNAME {
				found[strings.TrimRight(string(v), "\x00")] = index
			}
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	return found, nil
}

// arrived is the index of the device that has come in under that name.
func (c *conn) arrived(before map[string]int32, name string) (int32, error) {
	now, err := c.links()
	if err != nil {
		return 0, err
	}
	if index, ok := now[name]; ok {
		return index, nil
	}
	prefix, _, _ := strings.Cut(name, "%d")
	for n, index := range now {
		if _, old := before[n]; !old && strings.HasPrefix(n, prefix) {
			return index, nil
		}
	}
	return 0, fmt.Errorf("device %q has not arrived", name)
}

// address is what is kept of an address.
type address struct {
	header []byte // struct ifaddrmsg
	attrs  []byte
}

// addresses lists the permanent addresses of global scope of a device.
func (c *conn) addresses(index int32) (list []address, err error) {
	const size = unix.SizeofIfAddrmsg
	err = c.do(newMessage(unix.RTM_GETADDR, unix.NLM_F_DUMP, make([]byte, size)), func(b []byte) {
		if len(b) >= size && int32(binary.NativeEndian.Uint32(b[4:])) == index && b[3] == unix.RT_SCOPE_UNIVERSE {
			if a, ok := keep(b[:size], b[size:]); ok {
				list = append(list, a)
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	return list, nil
}

// keep selects the attributes of an address that are to stay, all but the label, which
// holds the old name, and the lifetime.
func keep(header, attrs []byte) (address, bool) {
	// Flags that can be asked for; the others are the kernel's findings.
	const settable = unix.IFA_F_NODAD | unix.IFA_F_HOMEADDRESS | unix.IFA_F_MANAGETEMPADDR | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_MCAUTOJOIN
	flags := uint32(header[2])
	var m message
	attributes(attrs, func(typ uint16, v []byte) {
		switch typ {
		case unix.IFA_LOCAL, unix.IFA_ADDRESS, unix.IFA_BROADCAST, unix.IFA_RT_PRIORITY:
			m = m.attr(typ, v)
		case unix.IFA_FLAGS:
			if len(v) >= 4 {
				flags = binary.NativeEndian.Uint32(v)
			}
		}
	})
	m = m.attr32(unix.IFA_FLAGS, flags&settable)
	return address{append([]byte(nil), header...), m}, flags&unix.IFA_F_PERMANENT != 0
}

// add is the request that gives the address to a device.
func (a *address) add(index int32) message {
	header := append([]byte(nil), a.header...)
	header[2] = 0 // flags are in an attribute
	binary.NativeEndian.PutUint32(header[4:], uint32(index))
	m := newMessage(unix.RTM_NEWADDR, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL, header)
	return append(m, a.attrs...)
}
