package compile

import (
	"slices"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// cloneFlag returns the CLONE_NEW* flag of a namespace, 0 for an unknown type.
func cloneFlag(t specs.LinuxNamespaceType) int {
	switch t {
	case specs.PIDNamespace:
		return unix.CLONE_NEWPID
	case specs.NetworkNamespace:
		return unix.CLONE_NEWNET
	case specs.MountNamespace:
		return unix.CLONE_NEWNS
	case specs.IPCNamespace:
		return unix.CLONE_NEWIPC
	case specs.UTSNamespace:
		return unix.CLONE_NEWUTS
	case specs.CgroupNamespace:
		return unix.CLONE_NEWCGROUP
	case specs.UserNamespace:
		return unix.CLONE_NEWUSER
	case specs.TimeNamespace:
		return unix.CLONE_NEWTIME
	}
	return 0
}

// joinCgroups moves the child, by its own hand, into its cgroup v1 directories, and
// makes the cgroup namespace, whose root is the cgroup that the process is in.
//
// It comes as late as it can: until then the runtime makes the directories and sets
// the limits, while this process is busy with mounts on another CPU.
//
// "0" in `tasks` moves one thread and needs no RCU grace period, unlike a pid in
// cgroup.procs, which costs 7-11 ms on an idle machine (measured on 6.18).
func (c *compiler) joinCgroups() {
	if c.joined {
		return
	}
	c.joined = true
	if c.facts.joins() || c.facts.CgroupEntered {
		c.Note("linux.cgroupsPath")
		c.report(BarrierCgroup)
		c.await()
	}
	c.joinTasks()
	if !c.hasNamespace(specs.UserNamespace) {
		c.cgroupNamespace()
	}
}

func (c *compiler) joinTasks() {
	for _, tasks := range c.facts.Tasks {
		c.Note("linux.cgroupsPath " + tasks)
		c.write(tasks, "0")
	}
	for _, tasks := range c.facts.ResctrlTasks {
		c.Note("linux.intelRdt " + tasks)
		c.write(tasks, "0")
	}
}

// joins says whether there is anything for joinTasks to join.
func (f *Facts) joins() bool { return len(f.Tasks)+len(f.ResctrlTasks) > 0 }

// namespaceFlags are the CLONE_NEW* flags of the container's namespaces.
func (c *compiler) namespaceFlags() (flags int) {
	for _, ns := range c.spec.Linux.Namespaces {
		flags |= cloneFlag(ns.Type)
	}
	return flags
}

func (c *compiler) cgroupNamespace() {
	for i, ns := range c.spec.Linux.Namespaces {
		if ns.Type == specs.CgroupNamespace && ns.Path == "" {
			c.Note(namespaceNote(i, ns))
			c.Emit(unix.SYS_UNSHARE, program.Num(unix.CLONE_NEWCGROUP))
		}
	}
}

func namespaceNote(i int, ns specs.LinuxNamespace) string {
	note := "linux.namespaces[" + strconv.Itoa(i) + "] " + string(ns.Type)
	if ns.Path != "" {
		note += " " + ns.Path
	}
	return note
}

// FileNetwork is the descriptor of a process in a new network namespace that has its
// loopback device up; see Options.Network.
const FileNetwork = "network"

// TakesNetwork says whether a network namespace of the runtime's making will do: not in a
// user namespace, which it would belong to.
func TakesNetwork(spec *specs.Spec) bool {
	c := &compiler{spec: spec}
	return HasOwn(spec, specs.NetworkNamespace) && !c.hasNamespace(specs.UserNamespace)
}

// HasOwn says whether the container has a namespace of that type that is made for it.
func HasOwn(spec *specs.Spec, t specs.LinuxNamespaceType) bool {
	return slices.ContainsFunc(spec.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == t && ns.Path == "" })
}

// joinsMounts says whether the mount namespace is one that exists already.
func (c *compiler) joinsMounts() bool {
	for _, ns := range c.spec.Linux.Namespaces {
		if ns.Type == specs.MountNamespace {
			return ns.Path != ""
		}
	}
	return false
}

// namespaces joins the namespaces that have a path and makes the new ones. Only the
// pid namespace must be a flag of the clone that makes this process; with the others,
// that clone would keep the runtime waiting for most of a millisecond, in which it can
// make the cgroup. The cgroup namespace comes later; see joinCgroups.
func (c *compiler) namespaces() {
	var n newNamespaces
	// While /proc is the host's.
	c.openOffsets()
	c.openMappings()
	if c.hasNamespace(specs.UserNamespace) {
		c.userNamespace(&n)
	} else {
		c.enterNamespaces(&n, func(*specs.LinuxNamespace) bool { return true })
	}
	c.timeNamespace(&n)
	if n.fork != "" {
		c.appear(n.fork, n.flags)
	}
	if n.net != "" {
		c.Note(n.net + " lo")
		c.loopback()
	}
}

// newNamespaces is what is left to do when all namespaces are entered.
type newNamespaces struct {
	net   string // the note of a new network namespace
	fork  string // the note of the last namespace that only children are in
	flags int    // those to make for the child
}

// enterNamespaces enters the namespaces that pick selects.
func (c *compiler) enterNamespaces(n *newNamespaces, pick func(*specs.LinuxNamespace) bool) {
	for i, ns := range c.spec.Linux.Namespaces {
		if !pick(&ns) {
			continue
		}
		note := namespaceNote(i, ns)
		c.Note(note)
		flag := cloneFlag(ns.Type)
		switch {
		case ns.Path != "":
			c.Emit(unix.SYS_SETNS, c.joinFile(i, &ns), program.Num(flag))
			if ns.Type == specs.PIDNamespace {
				n.fork = note
			}
		case ns.Type == specs.CgroupNamespace, ns.Type == specs.TimeNamespace:
		case ns.Type == specs.PIDNamespace && c.forks():
			n.fork, n.flags = note, flag
		case ns.Type == specs.PIDNamespace:
			c.out.Cloneflags |= uintptr(flag)
		case ns.Type == specs.NetworkNamespace && c.opts.Network:
			c.givenNetwork(flag)
		default:
			c.Emit(unix.SYS_UNSHARE, program.Num(flag))
			if ns.Type == specs.NetworkNamespace {
				n.net = note
			}
		}
	}
}

// givenNetwork joins the network namespace of FileNetwork or, where the process is gone or
// may not be looked at (ptrace(2), PTRACE_MODE_READ), makes one.
func (c *compiler) givenNetwork(flag int) {
	var done program.Label
	i := c.Emit(unix.SYS_SETNS, c.File(FileNetwork), program.Num(flag))
	c.OnSuccess(i, &done)
	c.Tolerate(i, unix.EPERM)
	c.Tolerate(i, unix.ESRCH)
	c.Emit(unix.SYS_UNSHARE, program.Num(flag))
	c.loopback()
	c.Bind(&done)
}

// joinFile is the descriptor of a namespace that has a path.
func (c *compiler) joinFile(i int, ns *specs.LinuxNamespace) program.Arg {
	file := "ns-" + string(ns.Type)
	c.out.Joins = append(c.out.Joins, Join{File: file, Path: ns.Path, Type: cloneFlag(ns.Type), Note: namespaceNote(i, *ns)})
	return c.File(file)
}

// forks says whether init is a child of the process that the runtime starts, because
// of a namespace that must be made before the pid namespace and that only a process of
// this program can make.
func (c *compiler) forks() bool {
	return c.hasNamespace(specs.UserNamespace) || c.newNamespace(specs.TimeNamespace)
}

func (c *compiler) newNamespace(t specs.LinuxNamespaceType) bool {
	for _, ns := range c.spec.Linux.Namespaces {
		if ns.Type == t {
			return ns.Path == ""
		}
	}
	return false
}

// appear goes on in a child, with new namespaces, that the runtime has been told of and
// has released.
func (c *compiler) appear(note string, flags int) {
	c.Note(note)
	// A child that is not told of is found by its group.
	c.Emit(unix.SYS_SETPGID, program.Num(0), program.Num(0))
	c.fork(flags)
	// What the child reports must not come before its parent tells of it.
	c.await()
}

// fork goes on in a child, with new namespaces: a process that joins or makes a pid or
// time namespace stays outside, its children are inside. CLONE_PARENT makes the child
// the runtime's. The number that clone returns here is in the pid namespace of the
// runtime.
func (c *compiler) fork(flags int) {
	var child, parent program.Label
	c.EmitTo(c.st, unix.SYS_CLONE, program.Num(unix.CLONE_PARENT|flags|int(unix.SIGCHLD)))
	c.ifChild(c.st, &parent, &child)
	c.Bind(&parent)
	c.Emit(unix.SYS_WRITE, c.File(FileSync), program.In(c.st, 1), program.Num(8)) // {pid, 0}
	c.Emit(unix.SYS_EXIT_GROUP, program.Num(0))
	c.Bind(&child)
}

// ifChild goes on at child where a clone with this result has returned in it, else at
// parent.
func (c *compiler) ifChild(pid program.Slot, parent, child *program.Label) {
	i := c.EmitTo(program.Discard, program.Test, program.Val(pid), program.Num(^uint64(0)), program.Num(0), program.Num(0), program.Num(int(unix.EAGAIN)))
	c.OnError(i, unix.EAGAIN, parent)
	c.OnSuccess(i, child)
}

// loopback sets the loopback interface of a new network namespace up, as runc
// does (netdevice(7), SIOCSIFFLAGS).
func (c *compiler) loopback() {
	ifreq := make([]byte, 40)
	copy(ifreq, "lo")
	ifreq[16] = unix.IFF_UP
	c.EmitTo(c.t, unix.SYS_SOCKET, program.Num(unix.AF_INET), program.Num(unix.SOCK_DGRAM|unix.SOCK_CLOEXEC), program.Num(0))
	c.Emit(unix.SYS_IOCTL, program.Val(c.t), program.Num(unix.SIOCSIFFLAGS), c.Bytes(ifreq))
	c.close(c.t)
}
