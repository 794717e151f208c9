package compile

import (
	"errors"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// terminal makes the process's terminal in the container's own devpts, sends the
// master to the runtime and makes the slave stdin, stdout, stderr, the controlling
// terminal and /dev/console. The slave comes from the master by TIOCGPTPEER, so no
// name below /dev/pts is ever followed (CVE-2025-52565).
func (c *compiler) terminal() error {
	p := c.spec.Process
	if !p.Terminal {
		c.stdio()
		return nil
	}
	if !c.hasPts {
		return errors.New("process.terminal: needs a mount of type devpts at /dev/pts")
	}
	c.openTerminal(p)
	c.takeTerminal()
	c.console()
	c.close(c.fs)
	return nil
}

// openTerminal makes a terminal in %pts and leaves its slave as %fs and as stdin,
// stdout and stderr.
func (c *compiler) openTerminal(p *specs.Process) {
	c.Note("process.terminal")
	c.openat2(c.m, c.pts, "ptmx", unix.O_RDWR|unix.O_NOCTTY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_XDEV|unix.RESOLVE_NO_SYMLINKS)
	c.Emit(unix.SYS_IOCTL, program.Val(c.m), program.Num(unix.TIOCSPTLCK), c.Words(0))
	c.EmitTo(c.fs, unix.SYS_IOCTL, program.Val(c.m), program.Num(unix.TIOCGPTPEER), program.Num(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC))
	if s := p.ConsoleSize; s != nil {
		c.Note("process.consoleSize")
		size := uint64(s.Height)&0xffff | uint64(s.Width)&0xffff<<16
		c.Emit(unix.SYS_IOCTL, program.Val(c.m), program.Num(unix.TIOCSWINSZ), c.Words(size))
		c.Note("process.terminal")
	}
	c.sendFiles(BarrierConsole, c.m)
	c.close(c.m)
	c.Emit(unix.SYS_FCHOWN, program.Val(c.fs), program.Num(p.User.UID), program.Num(^uint32(0)))
	for fd := range 3 {
		c.Emit(unix.SYS_DUP3, program.Val(c.fs), program.Num(fd), program.Num(0))
	}
}

// takeTerminal makes stdin the controlling terminal of the session that this process
// leads.
func (c *compiler) takeTerminal() {
	c.Emit(unix.SYS_IOCTL, program.Num(0), program.Num(unix.TIOCSCTTY), program.Num(0))
}

// console binds the slave over /dev/console, which must be a file that nothing of
// the image redirects.
func (c *compiler) console() {
	c.Note("/dev/console")
	c.bindConsole()
}

// bindConsole binds the file %fs over /dev/console.
func (c *compiler) bindConsole() {
	i := c.Emit(unix.SYS_MKNODAT, program.Val(c.dev), c.String("console"), program.Num(unix.S_IFREG|0o600), program.Num(0))
	c.Tolerate(i, unix.EEXIST)
	c.openat2(c.t, c.dev, "console", unix.O_PATH|unix.O_NOFOLLOW, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_XDEV|unix.RESOLVE_NO_SYMLINKS)
	c.openTree(c.m, c.fs, false)
	c.moveMount(c.m)
	c.close(c.m)
	c.close(c.t)
}

// stdio gives the process's user what it inherits, as runc does: a pipe made by
// root could not be reopened through /dev/stdout. /dev/null stays root's, and so
// does what refuses to change.
func (c *compiler) stdio() {
	uid := c.spec.Process.User.UID
	if uid == 0 {
		return
	}
	c.Note("process.user.uid")
	for fd := range 3 {
		var skip, change program.Label
		i := c.Emit(fstatat, program.Num(fd), c.String(""), program.Out(c.st, statSlots), program.Num(unix.AT_EMPTY_PATH))
		c.OnError(i, unix.EBADF, &skip)
		c.ifType(unix.S_IFCHR, &change)
		i = c.Check(c.st+statRdev, ^uint64(0), unix.Mkdev(1, 3), unix.EINVAL)
		c.OnError(i, unix.EINVAL, &change)
		c.OnSuccess(i, &skip)
		c.Bind(&change)
		i = c.Emit(unix.SYS_FCHOWN, program.Num(fd), program.Num(uid), program.Num(^uint32(0)))
		c.Tolerate(i, unix.EINVAL)
		c.Tolerate(i, unix.EPERM)
		c.Bind(&skip)
	}
}
