package compile

import (
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// labels has execve give the process its AppArmor profile and its SELinux label. Both
// are written to a procfs that nothing is mounted over (CVE-2019-16884, CVE-2025-52881).
func (c *compiler) labels(p *specs.Process) {
	if !labelled(p) {
		return
	}
	if !c.hasProc {
		c.containerProc()
	}
	if profile := p.ApparmorProfile; profile != "" {
		c.Note("process.apparmorProfile " + profile)
		var opened program.Label
		i := c.attribute("apparmor/exec") // since Linux 5.8, for where another module has the old name
		c.Tolerate(i, unix.ENOENT)
		c.OnSuccess(i, &opened)
		c.attribute("exec")
		c.Bind(&opened)
		c.setAttribute("exec " + profile)
	}
	if label := p.SelinuxLabel; label != "" {
		c.Note("process.selinuxLabel " + label)
		c.attribute("exec")
		c.setAttribute(label)
	}
}

func labelled(p *specs.Process) bool { return p.ApparmorProfile != "" || p.SelinuxLabel != "" }

// attribute opens a security attribute of this process into %t.
func (c *compiler) attribute(name string) int {
	return c.openat2(c.t, c.proc, "self/attr/"+name, unix.O_WRONLY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_XDEV|unix.RESOLVE_NO_MAGICLINKS)
}

func (c *compiler) setAttribute(v string) {
	c.Emit(unix.SYS_WRITE, program.Val(c.t), c.String(v), program.Num(len(v)))
	c.close(c.t)
}

// containerProc opens the container's /proc, which must be a procfs, as %proc.
func (c *compiler) containerProc() {
	c.Note("/proc")
	c.openat2(c.proc, c.root, "proc", unix.O_PATH|unix.O_DIRECTORY, noSymlinks)
	c.Emit(unix.SYS_FSTATFS, program.Val(c.proc), program.Out(c.st, statfsSlots))
	i := c.Check(c.st, ^uint64(0), unix.PROC_SUPER_MAGIC, unix.ENODEV)
	c.Fault(i, "is no mount of type proc")
	c.hasProc = true
}

// keyLabel labels the session keyring that is about to be made, so that the process may
// use it. /proc is still the host's, or in a mount namespace that was joined may be
// anything.
func (c *compiler) keyLabel() {
	if label := c.spec.Process.SelinuxLabel; label != "" && c.opts.Keyring != "" && !c.joinsMounts() {
		c.Note("process.selinuxLabel " + label)
		c.write("/proc/self/attr/keycreate", label)
	}
}

// mountLabel labels all files of the file system that is being made in %fs.
func (c *compiler) mountLabel(typ string) {
	if c.spec.Linux.MountLabel == "" || !c.facts.SELinux || typ == "proc" || typ == "sysfs" || typ == "mqueue" || strings.HasPrefix(typ, "cgroup") {
		return // the others' files have labels of their own
	}
	c.fsconfig(unix.FSCONFIG_SET_STRING, "context", c.spec.Linux.MountLabel)
}
