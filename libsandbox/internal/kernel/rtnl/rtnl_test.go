package rtnl

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// answer is a netlink message of the kernel's.
func answer(typ uint16, seq uint32, body []byte) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = binary.NativeEndian.AppendUint16(b, 0)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = binary.NativeEndian.AppendUint32(b, 0)
	return append(b, body...)
}

func TestParse(t *testing.T) {
	errno := binary.NativeEndian.AppendUint32(nil, uint32(0xffffffff-uint32(unix.ENODEV)+1))
	for _, c := range []struct {
		name  string
		in    []byte
		done  bool
		err   string
		calls int
	}{
		{"nothing", nil, false, "", 0},
		{"one of several", answer(unix.RTM_NEWLINK, 7, []byte("body")), false, "", 1},
		{"two and the end", bytes.Join([][]byte{answer(unix.RTM_NEWLINK, 7, []byte("body")), answer(unix.RTM_NEWLINK, 7, nil), answer(unix.NLMSG_DONE, 7, nil)}, nil), true, "", 2},
		{"success", answer(unix.NLMSG_ERROR, 7, make([]byte, 4)), true, "", 0},
		{"failure", answer(unix.NLMSG_ERROR, 7, errno), true, "no such device", 0},
		{"to another question", answer(unix.NLMSG_ERROR, 6, errno), false, "", 0},
		{"failure cut short", answer(unix.NLMSG_ERROR, 7, errno[:3]), true, "netlink: malformed answer", 0},
		{"cut short", answer(unix.RTM_NEWLINK, 7, []byte("body"))[:18], true, "netlink: malformed answer", 0},
		{"size 0", make([]byte, 16), true, "netlink: malformed answer", 0},
	} {
		calls := 0
		done, err := parse(c.in, 7, func([]byte) { calls++ })
		if done != c.done || calls != c.calls || (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
			t.Errorf("%s: %v, %v, %d calls", c.name, done, err, calls)
		}
	}
}

func TestAttributes(t *testing.T) {
	var m message
	m = m.attr(unix.IFLA_IFNAME, []byte("eth0\x00")).attr32(unix.IFLA_MTU|unix.NLA_F_NESTED, 1500)
	if len(m)%4 != 0 {
		t.Errorf("%d bytes are not aligned", len(m))
	}
	got := map[uint16]string{}
	collect := func(typ uint16, v []byte) { got[typ] = string(v) }
	attributes(m, collect)
	if len(got) != 2 || got[unix.IFLA_IFNAME] != "eth0\x00" || binary.NativeEndian.Uint32([]byte(got[unix.IFLA_MTU])) != 1500 {
		t.Errorf("attributes %v", got)
	}
	clear(got)
	attributes(m[:len(m)-5], collect) // the second one is cut
	attributes([]byte{3, 0, 1, 0}, collect)
	if len(got) != 1 {
		t.Errorf("attributes %v", got)
	}
}

func TestKeep(t *testing.T) {
	var attrs message
	attrs = attrs.attr(unix.IFA_LOCAL, []byte{192, 0, 2, 7}).attr(unix.IFA_LABEL, []byte("eth0\x00")).attr32(unix.IFA_FLAGS, unix.IFA_F_PERMANENT|unix.IFA_F_NOPREFIXROUTE)
	a, ok := keep([]byte{unix.AF_INET, 24, unix.IFA_F_PERMANENT, 0, 1, 0, 0, 0}, attrs)
	if !ok || bytes.Contains(a.attrs, []byte("eth0")) || !bytes.Contains(a.attrs, []byte{192, 0, 2, 7}) {
		t.Errorf("%v %v", a, ok)
	}
	m := a.add(9)
	if index := binary.NativeEndian.Uint32(m[unix.SizeofNlMsghdr+4:]); index != 9 || m[unix.SizeofNlMsghdr+2] != 0 {
		t.Errorf("index %d, flags %d", index, m[unix.SizeofNlMsghdr+2])
	}
	// Addresses that DHCP or a router gave have no IFA_F_PERMANENT.
	if _, ok := keep([]byte{unix.AF_INET, 24, 0, 0, 1, 0, 0, 0}, nil); ok {
		t.Error("an address with a lifetime is kept")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(answer(unix.RTM_NEWADDR, 7, []byte("12345678")))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = parse(b, 7, func(body []byte) { attributes(body, func(uint16, []byte) {}) })
	})
}
