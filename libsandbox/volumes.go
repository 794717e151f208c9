package libsandbox

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// mounts adds volumes and tmpfs to the default mounts, and sets the size of /dev/shm.
func (c *Config) mounts(s *specs.Spec) error {
	shm := "64m"
	if c.ShmSize != "" {
		shm = c.ShmSize
	}
	size, err := ParseSize(shm)
	if err != nil {
		return fieldError("ShmSize", c.ShmSize, err)
	}
	for i := range s.Mounts {
		if m := &s.Mounts[i]; m.Destination == "/dev/shm" {
			m.Options = append(slices.DeleteFunc(m.Options, func(o string) bool { return strings.HasPrefix(o, "size=") }),
				"size="+strconv.FormatInt(size, 10))
		}
	}
	own := len(s.Mounts)
	add := func(field, text string, m *specs.Mount) error {
		if slices.ContainsFunc(s.Mounts[own:], func(other specs.Mount) bool { return other.Destination == m.Destination }) {
			return fieldError(field, text, errors.New("another volume or tmpfs has this place"))
		}
		s.Mounts = append(s.Mounts, *m)
		return nil
	}
	for i, text := range c.Tmpfs {
		field := fmt.Sprintf("Tmpfs[%d]", i)
		dir, options, _ := strings.Cut(text, ":")
		if !filepath.IsAbs(dir) || path.Clean(dir) == "/" {
			return fieldError(field, text, errNotAbsolute)
		}
		m := specs.Mount{Destination: path.Clean(dir), Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev"}}
		if options != "" {
			m.Options = append(m.Options, strings.Split(options, ",")...)
		}
		if err := add(field, text, &m); err != nil {
			return err
		}
	}
	for i, text := range c.Volumes {
		field := fmt.Sprintf("Volumes[%d]", i)
		m, err := volume(text)
		if err != nil {
			return fieldError(field, text, err)
		}
		if err := add(field, text, m); err != nil {
			return err
		}
	}
	return nil
}

// volume is the mount of "HOST:CONTAINER[:ro|rw|cow]".
func volume(text string) (*specs.Mount, error) {
	part := strings.Split(text, ":")
	if len(part) == 2 {
		part = append(part, "rw")
	}
	if len(part) != 3 || !filepath.IsAbs(part[0]) || !filepath.IsAbs(part[1]) || path.Clean(part[1]) == "/" {
		return nil, errors.New("must be HOST:CONTAINER or HOST:CONTAINER:MODE, two absolute paths")
	}
	st, err := os.Stat(part[0])
	if err != nil {
		return nil, err
	}
	m := &specs.Mount{Destination: path.Clean(part[1]), Type: "bind", Source: path.Clean(part[0]), Options: []string{"rbind", "rprivate", "nosuid", "nodev"}}
	switch part[2] {
	case "rw":
	case "ro":
		m.Options = append(m.Options, "ro")
		if facts, err := kernelFacts(); err == nil && facts.MountSetattr {
			m.Options = append(m.Options, "rro") // what is mounted below it, too
		}
	case "cow":
		if !st.IsDir() {
			return nil, errors.New("only a directory can be a cow volume")
		}
		m.Type, m.Options = TypeCow, []string{"nosuid", "nodev"}
	default:
		return nil, fmt.Errorf("mode %q: must be ro, rw or cow", part[2])
	}
	return m, nil
}

// devices lets the sandbox use devices of the host.
func (c *Config) devices(s *specs.Spec) error {
	for i, text := range c.Devices {
		d, access, err := device(text)
		if err != nil {
			return fieldError(fmt.Sprintf("Devices[%d]", i), text, err)
		}
		s.Linux.Devices = append(s.Linux.Devices, *d)
		s.Linux.Resources.Devices = append(s.Linux.Resources.Devices, specs.LinuxDeviceCgroup{
			Allow: true, Type: d.Type, Major: &d.Major, Minor: &d.Minor, Access: access,
		})
	}
	return nil
}

// device is the device of "HOST[:CONTAINER[:ACCESS]]".
func device(text string) (d *specs.LinuxDevice, access string, err error) {
	part := strings.Split(text, ":")
	access = "rwm"
	switch len(part) {
	case 1:
		part = append(part, part[0])
	case 3:
		access = part[2]
	}
	if len(part) > 3 || !filepath.IsAbs(part[0]) || !filepath.IsAbs(part[1]) || access == "" || strings.Trim(access, "rwm") != "" {
		return nil, "", errors.New("must be HOST, HOST:CONTAINER or HOST:CONTAINER:ACCESS, two absolute paths and letters of rwm")
	}
	major, minor, kind, st, err := deviceNumber(part[0])
	if err != nil {
		return nil, "", err
	}
	mode := os.FileMode(st.Mode & 0o777)
	return &specs.LinuxDevice{Path: path.Clean(part[1]), Type: kind, Major: major, Minor: minor, FileMode: &mode, UID: &st.Uid, GID: &st.Gid}, access, nil
}

// deviceNumber looks at a device of the host; kind is b or c.
func deviceNumber(name string) (major, minor int64, kind string, st unix.Stat_t, err error) {
	if err := unix.Stat(name, &st); err != nil {
		return 0, 0, "", st, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFBLK:
		kind = "b"
	case unix.S_IFCHR:
		kind = "c"
	default:
		return 0, 0, "", st, fmt.Errorf("%s: is no device", name)
	}
	return int64(unix.Major(uint64(st.Rdev))), int64(unix.Minor(uint64(st.Rdev))), kind, st, nil
}

// files gives the sandbox its /etc/hostname, /etc/hosts and /etc/resolv.conf, as far as no
// volume or tmpfs has them.
func (c *Config) files(s *specs.Spec) error {
	resolv, err := c.resolv()
	if err != nil {
		return err
	}
	hosts, err := c.hosts(s.Hostname)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		path, text, field string
		wanted            bool
	}{
		{"/etc/hostname", s.Hostname + "\n", "", false},
		{"/etc/hosts", hosts, "Hosts", len(c.Hosts) > 0},
		{"/etc/resolv.conf", resolv, "DNS", len(c.DNS)+len(c.DNSSearch)+len(c.DNSOptions) > 0},
	} {
		reason := ""
		if m := covering(s, f.path); m != "" {
			reason = "a mount on " + m + " has " + f.path
		} else if c.Layer.Driver == "none" {
			reason = "without a layer " + f.path + " would be written to Rootfs"
		}
		switch {
		case reason != "" && f.wanted:
			return errors.New(f.field + ": " + reason)
		case reason == "" && f.text != "":
			s.Annotations[AnnotationFile+f.path] = f.text
		}
	}
	return nil
}

// covering is the mount point that a file lies in or is, other than the root; empty for
// none.
func covering(s *specs.Spec, file string) string {
	for _, m := range s.Mounts {
		if d := path.Clean(m.Destination); d == file || strings.HasPrefix(file, d+"/") {
			return d
		}
	}
	return ""
}

// hosts is the text of /etc/hosts.
func (c *Config) hosts(hostname string) (string, error) {
	b := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t" + hostname + "\n"
	for i, line := range c.Hosts {
		name, address, _ := strings.Cut(line, ":")
		ip, err := netip.ParseAddr(address)
		if err != nil || name == "" || strings.ContainsAny(name, " \t\n#") {
			return "", fieldError(fmt.Sprintf("Hosts[%d]", i), line, errors.New("must be NAME:ADDRESS"))
		}
		b += ip.String() + "\t" + name + "\n"
	}
	return b, nil
}

// resolv is the text of /etc/resolv.conf; empty leaves the file what it is.
func (c *Config) resolv() (string, error) {
	b := ""
	for i, s := range c.DNS {
		ip, err := netip.ParseAddr(s)
		if err != nil {
			return "", fieldError(fmt.Sprintf("DNS[%d]", i), s, errors.New("must be an IP address"))
		}
		b += "nameserver " + ip.String() + "\n"
	}
	for _, l := range []struct {
		field, key string
		list       []string
	}{{"DNSSearch", "search", c.DNSSearch}, {"DNSOptions", "options", c.DNSOptions}} {
		for i, s := range l.list {
			if s == "" || strings.ContainsAny(s, " \t\n;#") {
				return "", fieldError(fmt.Sprintf("%s[%d]", l.field, i), s, errors.New("must be one word"))
			}
		}
		if len(l.list) > 0 {
			b += l.key + " " + strings.Join(l.list, " ") + "\n"
		}
	}
	if len(c.DNS) > 0 || c.Network != "host" {
		return b, nil
	}
	host, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("DNS: the host's /etc/resolv.conf: %w", err)
	}
	return string(host) + b, nil
}
