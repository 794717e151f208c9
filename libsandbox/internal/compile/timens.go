package compile

import (
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// openOffsets opens the file for the offsets of the clocks, if there are any, while this
// process may: it belongs to the host's root.
func (c *compiler) openOffsets() {
	if len(c.spec.Linux.TimeOffsets) == 0 {
		return
	}
	c.Note("linux.timeOffsets")
	c.offsets = c.Slot("offsets")
	c.EmitTo(c.offsets, unix.SYS_OPENAT, program.Num(unix.AT_FDCWD), c.String("/proc/self/timens_offsets"), program.Num(unix.O_WRONLY|unix.O_CLOEXEC))
}

// timeNamespace makes the time namespace. This process stays outside, as since Linux
// 6.2 it would until its execve only, so init is to be its child; and offsets can be
// set as long as nobody is inside (time_namespaces(7)).
func (c *compiler) timeNamespace(n *newNamespaces) {
	for i, ns := range c.spec.Linux.Namespaces {
		if ns.Type != specs.TimeNamespace || ns.Path != "" {
			continue
		}
		n.fork = namespaceNote(i, ns)
		c.Note(n.fork)
		c.Emit(unix.SYS_UNSHARE, program.Num(unix.CLONE_NEWTIME))
		if c.offsets != 0 {
			c.Note("linux.timeOffsets")
			text := c.offsetText()
			c.Emit(unix.SYS_WRITE, program.Val(c.offsets), c.String(text), program.Num(len(text)))
			c.close(c.offsets)
		}
	}
}

func (c *compiler) offsetText() string {
	var b strings.Builder
	for _, clock := range sortedKeys(c.spec.Linux.TimeOffsets) {
		o := c.spec.Linux.TimeOffsets[clock]
		b.WriteString(clock + " " + strconv.FormatInt(o.Secs, 10) + " " + decimal(o.Nanosecs) + "\n")
	}
	return b.String()
}

func decimal(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
