package compile

import (
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// Exec is a compiled process for a container that exists.
type Exec struct {
	*program.Program
	// Forks says that another process goes on in place of the one started.
	Forks bool
	// Warnings are as in Init.
	Warnings []string
}

// NewExec compiles spec.Process for the container that spec, which has been validated,
// describes otherwise. FileInit is a pidfd of its init. Of the facts, Tasks, Affinity,
// Ignored, TimerSlack, Seccomp, Bounding, LastCap and Home matter, and Root where the container
// has no mount namespace. Of the options, Listen and NoPivot do not.
//
//	the host's view      cgroup, CPU affinity, limits
//	setns                fails once init has ended
//	the container's      keyring, terminal, working directory, user, capabilities
//	clone                the process appears in the container's pid namespace
//	                     setsid, seccomp filter, execve
//
// Joining the cgroup comes before setns, so whoever ends the container by killing init
// and then everybody in the cgroup misses nobody: who joins the cgroup later than that
// finds init gone.
//
// The clone comes as late as it can. A process of the container with CAP_SYS_PTRACE may
// trace whatever appears in its pid namespace; what it finds there has only the
// privileges that the container gives it anyway (CVE-2016-9962), and CAP_SYS_ADMIN where
// there is a seccomp filter to load without noNewPrivileges.
func NewExec(spec *specs.Spec, facts *Facts, opts *Options) (*Exec, error) {
	c := newCompiler(spec, facts, opts)
	c.out.Direct = true // nobody has to start it
	x := &Exec{Program: &c.Program}
	if err := c.exec(x); err != nil {
		return nil, err
	}
	c.bindForeign()
	x.Warnings = c.out.Warnings
	return x, nil
}

func (c *compiler) exec(x *Exec) error {
	p := c.spec.Process
	c.begin("exec")
	c.oomScore()
	c.joinTasks()
	c.affinity()
	if err := c.execLimits(p); err != nil {
		return err
	}
	if err := c.personality(c.spec.Linux.Personality); err != nil {
		return err
	}
	c.scheduling(p)
	x.Forks = c.join()&(unix.CLONE_NEWPID|unix.CLONE_NEWTIME) != 0
	var none program.Label
	c.joinKeyring(&none)
	c.Bind(&none)
	c.execTerminal(p)
	if labelled(p) {
		c.containerProc() // before %root, which is the working directory, changes
	}
	// What is in /proc/self is there after the clone only.
	cwd := c.workingDirectory(p, unix.ENOENT)
	c.privileges(p)
	if x.Forks {
		c.appear("linux.namespaces pid", 0)
	}
	c.processLimit(p)
	c.Note("process")
	c.Emit(unix.SYS_SETSID)
	if p.Terminal {
		c.Note("process.terminal")
		c.takeTerminal()
	}
	return c.execute(p, cwd)
}

// execLimits is rlimits at a time when this process may raise its limits even where the
// container has a user namespace. The limit on the number of processes is lifted until
// after the clone, which counts the process that it is for twice.
func (c *compiler) execLimits(p *specs.Process) error {
	for i, r := range p.Rlimits {
		n, ok := rlimit(r.Type)
		switch {
		case !ok:
			return fmt.Errorf("process.rlimits[%d] %s: unknown resource limit", i, r.Type)
		case n == unix.RLIMIT_NPROC:
			op := c.rlimit(i, &specs.POSIXRlimit{Type: r.Type, Soft: unix.RLIM_INFINITY, Hard: unix.RLIM_INFINITY})
			c.Tolerate(op, unix.EPERM) // a root without CAP_SYS_RESOURCE
		default:
			c.rlimit(i, &r)
		}
	}
	return nil
}

// processLimit sets the limit that execLimits has lifted; to lower one takes no
// privilege.
func (c *compiler) processLimit(p *specs.Process) {
	for i, r := range p.Rlimits {
		if r.Type == "RLIMIT_NPROC" {
			c.rlimit(i, &r)
		}
	}
}

func (c *compiler) rlimit(i int, r *specs.POSIXRlimit) (op int) {
	n, _ := rlimit(r.Type)
	c.Note(fmt.Sprintf("process.rlimits[%d] %s soft %d hard %d", i, r.Type, r.Soft, r.Hard))
	return c.Emit(unix.SYS_PRLIMIT64, program.Num(0), program.Num(n), c.Words(r.Soft, r.Hard), program.Num(0))
}

// affinity confines the process to some CPUs, which has to follow the cgroup: to enter
// a cpuset gives all of its CPUs.
func (c *compiler) affinity() {
	if mask := c.facts.Affinity; len(mask) > 0 {
		c.Note("process.execCPUAffinity.final")
		c.Emit(unix.SYS_SCHED_SETAFFINITY, program.Num(0), program.Num(8*len(mask)), c.Words(mask...))
	}
}

// join enters all of the container's namespaces at once, and leaves its root directory
// in %root. It returns the namespaces.
func (c *compiler) join() int {
	chroot := !c.mountNamespace()
	if chroot {
		c.Note("root.path")
		c.EmitTo(c.t, unix.SYS_OPENAT, program.Num(unix.AT_FDCWD), c.String(c.facts.Root), program.Num(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC))
	}
	// setns(2) wants some namespace, and to enter the runtime's own mount namespace
	// changes nothing.
	flags := c.namespaceFlags() | unix.CLONE_NEWNS
	c.Note("linux.namespaces")
	c.Emit(unix.SYS_SETNS, c.File(FileInit), program.Num(flags))
	c.Emit(unix.SYS_CLOSE, c.File(FileInit))
	if flags&unix.CLONE_NEWUSER != 0 {
		c.becomeRoot()
	}
	if chroot {
		c.Note("root.path")
		c.Emit(unix.SYS_FCHDIR, program.Val(c.t))
		c.Emit(unix.SYS_CHROOT, c.String("."))
		c.close(c.t)
	}
	// setns, too, has made the root the working directory. A descriptor is an int; as
	// a longer one AT_FDCWD would be an errno.
	c.Let(c.root, program.Num(uint32(1<<32+unix.AT_FDCWD)))
	return flags
}

// execTerminal makes the terminal in the container's devpts, which is not of this
// program's making: it must be one, and /dev/pts no symlink (CVE-2025-52565). The
// master has to be taken before anything else happens.
func (c *compiler) execTerminal(p *specs.Process) {
	if !p.Terminal {
		c.stdio()
		return
	}
	c.Note("/dev/pts")
	c.openat2(c.pts, c.root, "dev/pts", unix.O_PATH|unix.O_DIRECTORY, noSymlinks)
	c.Emit(unix.SYS_FSTATFS, program.Val(c.pts), program.Out(c.st, statfsSlots))
	i := c.Check(c.st, ^uint64(0), unix.DEVPTS_SUPER_MAGIC, unix.ENODEV)
	c.Fault(i, "is no mount of type devpts")
	c.openTerminal(p)
	c.await()
	c.close(c.fs)
	c.close(c.pts)
}
