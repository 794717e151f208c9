package compile

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// defaultDevices are the devices that every container has (config-linux.md,
// "Default Devices").
func defaultDevices() []specs.LinuxDevice {
	return []specs.LinuxDevice{
		{Path: "/dev/null", Type: "c", Major: 1, Minor: 3},
		{Path: "/dev/zero", Type: "c", Major: 1, Minor: 5},
		{Path: "/dev/full", Type: "c", Major: 1, Minor: 7},
		{Path: "/dev/random", Type: "c", Major: 1, Minor: 8},
		{Path: "/dev/urandom", Type: "c", Major: 1, Minor: 9},
		{Path: "/dev/tty", Type: "c", Major: 5, Minor: 0},
	}
}

// devices fills /dev. A /dev of the host's, bound in, is left alone, and one that is
// filled; then only %dev is set.
func (c *compiler) devices() error {
	bound, readonly := c.devMount()
	c.openDev()
	if bound || c.filled() {
		return nil
	}
	for _, d := range c.deviceList() {
		if err := c.device(d); err != nil {
			return err
		}
	}
	c.deviceLinks()
	if readonly {
		c.Note("mounts /dev")
		c.setattr(c.dev, attrs{set: unix.MOUNT_ATTR_RDONLY})
	}
	return nil
}

// devMount says whether /dev is the host's, bound in, or a tmpfs that is to be
// read-only when it is filled.
func (c *compiler) devMount() (bound, readonly bool) {
	for i := range c.spec.Mounts {
		if m := &c.spec.Mounts[i]; path.Clean(m.Destination) == "/dev" {
			o := parseOptions(m)
			bound = o.bind
			readonly = !o.bind && m.Type == "tmpfs" && o.attr.set&unix.MOUNT_ATTR_RDONLY != 0
		}
	}
	return bound, readonly
}

// openDev opens /dev as %dev. A symlink there is an attack (CVE-2026-41579).
func (c *compiler) openDev() {
	c.Note("/dev")
	var done program.Label
	i := c.openat2(c.dev, c.root, "dev", unix.O_PATH|unix.O_DIRECTORY, noSymlinks)
	c.Tolerate(i, unix.ENOENT)
	c.OnSuccess(i, &done)
	c.Emit(unix.SYS_MKDIRAT, program.Val(c.root), c.String("dev"), program.Num(0o755))
	c.openat2(c.dev, c.root, "dev", unix.O_PATH|unix.O_DIRECTORY, noSymlinks)
	c.Bind(&done)
}

// device is a device and the field of the spec that asks for it.
type device struct {
	specs.LinuxDevice
	note string
}

// deviceList is linux.devices plus the defaults that it does not name.
func (c *compiler) deviceList() []device {
	var list []device
	for _, d := range defaultDevices() {
		list = append(list, device{d, "default device " + d.Path})
	}
	for i, d := range c.spec.Linux.Devices {
		own := device{d, "linux.devices[" + strconv.Itoa(i) + "] " + d.Path}
		replaced := false
		for k := range list {
			if list[k].Path == path.Clean(d.Path) {
				list[k], replaced = own, true
			}
		}
		if !replaced {
			list = append(list, own)
		}
	}
	return list
}

func (c *compiler) device(d device) error {
	c.Note(d.note)
	dir, name := c.deviceDir(path.Clean(d.Path))
	mode, ok := deviceMode(&d.LinuxDevice)
	if !ok {
		return fmt.Errorf("%s: unknown type %q", d.note, d.Type)
	}
	if fd, ok := c.nodes[d.Path]; ok {
		c.bindDevice(dir, name, fd)
	} else {
		c.makeNode(&d, dir, name, mode)
	}
	if dir != c.dev {
		c.close(dir)
	}
	return nil
}

// makeNode makes a device node, or finds that the image has it.
func (c *compiler) makeNode(d *device, dir program.Slot, name string, mode uint32) {
	var done, exists program.Label
	rdev := unix.Mkdev(uint32(d.Major), uint32(d.Minor))
	i := c.Emit(unix.SYS_MKNODAT, program.Val(dir), c.String(name), program.Num(mode), program.Num(rdev))
	c.OnError(i, unix.EEXIST, &exists)
	if d.UID != nil || d.GID != nil {
		c.Emit(unix.SYS_FCHOWNAT, program.Val(dir), c.String(name), program.Num(owner(d.UID)), program.Num(owner(d.GID)), program.Num(unix.AT_SYMLINK_NOFOLLOW))
	}
	c.Jump(&done)
	c.Bind(&exists)
	// The image has something of that name: fine if it is that device.
	c.openat2(c.t, dir, name, unix.O_PATH|unix.O_NOFOLLOW, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
	c.verifyNode(c.t, mode&unix.S_IFMT, rdev)
	c.close(c.t)
	c.Bind(&done)
}

// deviceDir returns the open directory that p is in, making it where it is
// missing, and p's name in it.
func (c *compiler) deviceDir(p string) (program.Slot, string) {
	if name, ok := strings.CutPrefix(p, "/dev/"); ok && !strings.Contains(name, "/") {
		return c.dev, name
	}
	c.ensure(path.Dir(p), false)
	c.EmitTo(c.fs, unix.SYS_DUP3, program.Val(c.t), program.Num(c.scratch+1), program.Num(unix.O_CLOEXEC))
	c.close(c.t)
	return c.fs, path.Base(p)
}

// verifyNode faults unless s is a file of that type and device number.
func (c *compiler) verifyNode(s program.Slot, typ uint32, rdev uint64) {
	c.stat(s)
	c.Check(c.st+statMode, unix.S_IFMT, uint64(typ), unix.EEXIST)
	if typ != unix.S_IFIFO {
		c.Check(c.st+statRdev, ^uint64(0), rdev, unix.EEXIST)
	}
}

func deviceMode(d *specs.LinuxDevice) (mode uint32, ok bool) {
	mode = 0o666
	if d.FileMode != nil {
		mode = uint32(*d.FileMode) & 0o7777
	}
	switch d.Type {
	case "c", "u":
		return mode | unix.S_IFCHR, true
	case "b":
		return mode | unix.S_IFBLK, true
	case "p":
		return mode | unix.S_IFIFO, true
	}
	return 0, false
}

// owner is the argument of chown that leaves an id alone where none is given.
func owner(id *uint32) uint32 {
	if id == nil {
		return ^uint32(0)
	}
	return *id
}

// deviceLinks makes the symlinks of /dev (config-linux.md, "Default Devices" and
// "/dev symbolic links" of runtime-linux.md).
func (c *compiler) deviceLinks() {
	c.Note("/dev/ptmx")
	c.Tolerate(c.Emit(unix.SYS_UNLINKAT, program.Val(c.dev), c.String("ptmx"), program.Num(0)), unix.ENOENT)
	c.Emit(unix.SYS_SYMLINKAT, c.String("pts/ptmx"), program.Val(c.dev), c.String("ptmx"))
	for _, l := range [...][2]string{
		{"fd", "/proc/self/fd"},
		{"stdin", "/proc/self/fd/0"},
		{"stdout", "/proc/self/fd/1"},
		{"stderr", "/proc/self/fd/2"},
	} {
		c.Note("/dev/" + l[0])
		c.Tolerate(c.Emit(unix.SYS_SYMLINKAT, c.String(l[1]), program.Val(c.dev), c.String(l[0])), unix.EEXIST)
	}
}
