package compile

import (
	"fmt"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// The barriers at which init waits for a byte from the runtime.
const (
	BarrierHooks    = 1 // namespaces and mounts are made, pivot_root is next
	BarrierCreated  = 2 // everything is done but execve
	BarrierCopyUp   = 3 // two descriptors came along: copy the first tree into the second
	BarrierConsole  = 4 // the master of the terminal came along; nobody waits
	BarrierCgroup   = 5 // the cgroup is needed
	BarrierListener = 6 // Record.Value is the number of init's descriptor of a seccomp listener
	BarrierDone     = 7 // the program has done all and ends
	BarrierAttic    = 8 // the old root is in the attic: remove AtticDir

	// BarrierTarget and above: the root came along; make Init.Targets[n-BarrierTarget]
	// in it.
	BarrierTarget = 16
)

// Names of inherited descriptors.
const (
	FileSync   = "sync"
	FileListen = "listen"
)

// Facts is what the compiler has to know about the host.
type Facts struct {
	// MountSetattr says that mount_setattr(2) exists (Linux 5.12).
	MountSetattr bool
	// CloneDetached says that open_tree(2) clones a mount that is not attached
	// (Linux 6.15).
	CloneDetached bool
	// ProcOfOthers says that a procfs can show another pid namespace than its maker's
	// (Linux 6.17).
	ProcOfOthers bool
	// LowerdirAppend says that overlayfs takes lower directories one by one (Linux 6.8).
	LowerdirAppend bool
	// LastCap is the highest capability that the kernel knows.
	LastCap int
	// Bounding is the runtime's own capability bounding set: nobody can be given
	// more.
	Bounding uint64
	// Ignored are the signals that the runtime ignores.
	Ignored []int
	// TimerSlack is the timer slack of the runtime's first thread, in nanoseconds. The
	// process gets it, whichever thread starts it. 0 leaves it what it is.
	TimerSlack int
	// Root is the absolute path of the root filesystem on the host.
	Root string
	// Layer is mounted over Root as the container's root filesystem; nil is none. It
	// takes a mount namespace of the container's own.
	Layer *Layer
	// PrivateParent is the mount point above Root. It matters only where
	// linux.rootfsPropagation is shared, and may otherwise be empty.
	PrivateParent string
	// Sources describes the source of the bind mount with the same index in the
	// spec's mounts.
	Sources map[int]Source
	// Tasks are the `tasks` files of the cgroup v1 directories to join.
	Tasks []string
	// ResctrlTasks are the same of resctrl groups, in the order to join them.
	ResctrlTasks []string
	// Affinity is process.execCPUAffinity.final of an exec, one bit a CPU; empty leaves
	// the CPUs what they are.
	Affinity []uint64
	// CgroupEntered says that the runtime moves init into the cgroup, when init asks
	// for it.
	CgroupEntered bool
	// CgroupUnified says that the host has cgroup v2 only.
	CgroupUnified bool
	// Hierarchies are the cgroup v1 hierarchies for a mount of type cgroup.
	Hierarchies []Hierarchy
	// MemoryNodes is linux.memoryPolicy.nodes, one bit a node.
	MemoryNodes []uint64
	// SELinux says that the host has it switched on.
	SELinux bool
	// Files are made in the root filesystem, which is the container's own then.
	Files []File
	// Seccomp is the filter of linux.seccomp; nil is none.
	Seccomp *Filter
	// Home is the value of HOME where the spec's environment has none.
	Home string
}

// Source is what a bind mount shows.
type Source struct {
	Path   string // absolute
	Dir    bool
	Procfs bool
	// Layer is an overlay above Path, which is mounted in its place; nil is none.
	Layer *specs.Mount
}

// Hierarchy is one cgroup v1 hierarchy.
type Hierarchy struct {
	Name    string   // "cpu,cpuacct"
	Dir     string   // the container's directory in it, on the host
	Aliases []string // "cpu", "cpuacct"
}

// Options are the choices of the command that creates the container.
type Options struct {
	// ExtraFiles is the number of descriptors from 3 on that the process keeps.
	ExtraFiles int
	// FileAt, if it is not 0, is the number that the process has the last of ExtraFiles
	// under instead; it is above 3+ExtraFiles.
	FileAt int
	// Subreaper makes the process the parent of its descendants whose parent has ended
	// (PR_SET_CHILD_SUBREAPER).
	Subreaper bool
	// Listen makes init wait for its start on the inherited socket FileListen;
	// otherwise the release of the last barrier is the start: BarrierCreated, or
	// BarrierCgroup where Init.Direct is set.
	Listen bool
	// Network says that FileNetwork has the container's new network namespace.
	Network bool
	// NoPivot moves the root over / instead of pivoting.
	NoPivot bool
	// Keyring is the name of the new session keyring; empty means none.
	Keyring string
	// Again says that there has been an init before this one, whose keyring may still
	// be there.
	Again bool
	// Pause has the inherited executable FilePause be the process, with the spec's
	// arguments as its own; see NewPause. The root filesystem need not have any file.
	Pause bool
}

// Init is a compiled container.
type Init struct {
	*program.Program
	// Cloneflags are the namespaces that init is born into.
	Cloneflags uintptr
	// Joins are the namespaces to open and hand down, by descriptor name.
	Joins []Join
	// Direct says that the release of BarrierCgroup is the last one, and the start:
	// nothing is left for the runtime to do, so init need not ask.
	Direct bool
	// Targets are the mount points that init cannot make by itself because a
	// dangling symlink of the image is in the way.
	Targets []Target
	// Limits are those of process.rlimits that the runtime is to set before it releases
	// BarrierCreated: with a user namespace, init may not raise its own.
	Limits []Limit
	// Umount says that the container shares its mount namespace with the runtime:
	// its mounts hang on the root filesystem's directory, and whoever removes the
	// container has to detach them.
	Umount bool
	// Aside says that the program is for engine.RunAside: it starts nothing, and has no
	// need of the container's pid namespace or a user namespace.
	Aside bool
	// Warnings are what the spec asks for and the kernel does not have, where the
	// field's habit is to go on.
	Warnings []string
}

// Target is a mount point.
type Target struct {
	Path string
	File bool // an empty file, not a directory
}

// Limit is a resource limit.
type Limit struct {
	Resource   int // RLIMIT_*
	Soft, Hard uint64
	Note       string // the spec's field
}

// Join is a namespace that exists already.
type Join struct {
	File string // name of the inherited descriptor
	Path string
	Type int    // CLONE_NEW* flag that setns(2) verifies
	Note string // the spec's field
}

type compiler struct {
	*program.Builder
	spec  *specs.Spec
	facts *Facts
	opts  *Options
	out   *Init

	root, dev, proc, pts program.Slot            // directories that stay open
	t, m, fs, st         program.Slot            // target, mount, file system, stat buffer
	mask                 program.Slot            // the tmpfs that masks directories
	fresh                map[string]program.Slot // empty file systems, by mount point
	kept                 int                     // how many there have been
	hasProc, hasPts      bool
	joined               bool // the cgroup
	helper               helperSlots
	offsets              program.Slot     // the file for linux.timeOffsets
	userns               int              // the container's user namespace, 0 for none
	mappings             map[string]int   // user namespaces for id-mapped mounts
	sources              map[int]int      // opened early: bind mounts, by their index
	nodes                map[string]int   // opened early: devices, by their path
	trees                map[string][]int // opened early: directories of the host, by their path
	rerooting            bool             // a container that is running
	filling              bool             // a layer that is not attached yet
	held                 int              // how many descriptors hold has numbered
	scratch              int              // first of two fixed descriptor numbers
	foreign              int              // the op of closeForeign
	lasting              int              // how many of the Files are needed to the end: the first ones
}

// NewInit compiles a validated spec.
func NewInit(spec *specs.Spec, facts *Facts, opts *Options) (*Init, error) {
	c := newCompiler(spec, facts, opts)
	if err := c.compile(); err != nil {
		return nil, err
	}
	c.bindForeign()
	c.out.Program = &c.Program
	return c.out, nil
}

func newCompiler(spec *specs.Spec, facts *Facts, opts *Options) *compiler {
	first := 3 + opts.ExtraFiles
	c := &compiler{Builder: program.NewBuilder(first), spec: spec, facts: facts, opts: opts, out: &Init{}}
	c.scratch = first + 24 // above what is open at any one time
	return c
}

func (c *compiler) compile() error {
	c.begin("init")
	if c.opts.Listen {
		c.lastFile(FileListen)
	}
	if c.opts.Pause {
		c.lastFile(FilePause)
	}
	c.oomScore()
	if c.joinsMounts() {
		c.joinCgroups() // what is joined need not show the cgroups' files
	}
	c.namespaces()
	c.session()
	if err := c.rootfs(); err != nil {
		return err
	}
	c.joinCgroups()
	c.out.Direct = c.direct()
	if err := c.devices(); err != nil {
		return err
	}
	if err := c.terminal(); err != nil {
		return err
	}
	c.files()
	c.hooks()
	c.enter()
	c.sysctl()
	c.readonlyPaths()
	c.maskedPaths()
	return c.process()
}

// lastFile numbers a File that is needed when the process is executed.
func (c *compiler) lastFile(name string) {
	c.File(name)
	c.lasting++
}

// direct says whether the runtime has done all when it has made the cgroup.
func (c *compiler) direct() bool {
	return !c.opts.Listen && c.facts.joins() && len(c.out.Joins) == 0 && !c.forks() &&
		!c.spec.Process.Terminal && c.spec.Hooks == nil && !c.facts.Seccomp.Listens() && len(c.spec.Linux.NetDevices) == 0
}

// begin is the beginning of every program.
func (c *compiler) begin(note string) {
	c.Note(note)
	if c.out.Aside {
		c.Let(program.FaultFD, program.Num(0)) // the runtime sees the fault itself
	} else {
		c.Let(program.FaultFD, c.File(FileSync))
		c.lasting = 1
	}
	for _, s := range []struct {
		slot *program.Slot
		name string
	}{{&c.root, "root"}, {&c.dev, "dev"}, {&c.proc, "proc"}, {&c.pts, "pts"}, {&c.t, "t"}, {&c.m, "m"}, {&c.fs, "fs"}, {&c.mask, "mask"}} {
		*s.slot = c.Slot(s.name)
	}
	c.st = c.Slots("st", statSlots)
	if c.out.Aside {
		return // what follows is about the process
	}
	// CVE-2016-9962: nobody who can see this process may trace it or open its
	// descriptors; execve undoes it.
	c.Emit(unix.SYS_PRCTL, program.Num(unix.PR_SET_DUMPABLE), program.Num(0))
	c.Emit(unix.SYS_UMASK, program.Num(0))
	c.closeForeign()
	c.timerSlack()
	c.signals()
}

func (c *compiler) timerSlack() {
	if ns := c.facts.TimerSlack; ns > 0 {
		c.Emit(unix.SYS_PRCTL, program.Num(unix.PR_SET_TIMERSLACK), program.Num(ns))
	}
}

// closeForeign closes every descriptor that the runtime's caller has left open
// without the close-on-exec flag. It cannot wait for the end: execve closes only
// once it has found the file, so that process.args[0] or a symlink of the image
// could reach the host through /proc/self/fd/N (CVE-2024-21626). Where the
// inherited descriptors end is known when all are: see bindForeign.
func (c *compiler) closeForeign() {
	c.foreign = c.Emit(unix.SYS_CLOSE_RANGE, program.Num(0), program.Num(^uint32(0)), program.Num(0))
}

// bindForeign completes closeForeign, when no further File can follow.
func (c *compiler) bindForeign() {
	c.Ops[c.foreign].Args[0] = program.Num(c.FirstFile + len(c.Files))
}

// signals gives every signal its default action and unblocks all: execve would hand
// down what the runtime's caller ignores or blocks (signal(7)). make(1) for one
// ignores two, nohup(1) another.
func (c *compiler) signals() {
	const set = 8 // bytes
	act := c.Words(0, 0, 0, 0)
	for _, sig := range c.facts.Ignored {
		c.Emit(unix.SYS_RT_SIGACTION, program.Num(sig), act, program.Num(0), program.Num(set))
	}
	c.Emit(unix.SYS_RT_SIGPROCMASK, program.Num(unix.SIG_SETMASK), act, program.Num(0), program.Num(set))
}

// session detaches the process from its caller's session and terminal
// (CVE-2017-5226) and sets what its namespaces are called.
func (c *compiler) session() {
	c.Note("process")
	c.Emit(unix.SYS_SETSID)
	c.keyring()
	c.names()
}

// names sets what the UTS namespace is called.
func (c *compiler) names() {
	if h := c.spec.Hostname; h != "" {
		c.Note("hostname " + strconv.Quote(h))
		c.Emit(unix.SYS_SETHOSTNAME, c.String(h), program.Num(len(h)))
	}
	if d := c.spec.Domainname; d != "" {
		c.Note("domainname " + strconv.Quote(d))
		c.Emit(unix.SYS_SETDOMAINNAME, c.String(d), program.Num(len(d)))
	}
}

// keyring makes the container's session keyring, without which the process would have
// the caller's. An exec finds it by its name and joins it where its owner may search
// it, as in runc.
func (c *compiler) keyring() {
	const (
		made        = 0x3f130000 // the kernel's choice: possessor all; owner view, read, link
		ownerSearch = 0x00080000
	)
	var none program.Label
	c.keyLabel()
	if c.joinKeyring(&none) {
		c.Emit(unix.SYS_KEYCTL, program.Num(unix.KEYCTL_SETPERM), program.Num(unix.KEY_SPEC_SESSION_KEYRING), program.Num(made|ownerSearch))
		if c.opts.Again {
			c.Emit(unix.SYS_KEYCTL, program.Num(unix.KEYCTL_CLEAR), program.Num(unix.KEY_SPEC_SESSION_KEYRING))
		}
		c.Bind(&none)
	}
}

// joinKeyring goes on at none where there can be no keyring.
func (c *compiler) joinKeyring(none *program.Label) bool {
	if c.opts.Keyring == "" {
		return false
	}
	c.Note("keyring")
	i := c.Emit(unix.SYS_KEYCTL, program.Num(unix.KEYCTL_JOIN_SESSION_KEYRING), c.String(c.opts.Keyring))
	c.OnError(i, unix.ENOSYS, none)
	c.OnError(i, unix.EDQUOT, none) // as crun: a full quota leaves the caller's keyring
	return true
}

func (c *compiler) oomScore() {
	if adj := c.spec.Process.OOMScoreAdj; adj != nil {
		// /proc is still the host's.
		v := strconv.Itoa(*adj)
		c.Note("process.oomScoreAdj " + v)
		c.write("/proc/self/oom_score_adj", v)
	}
}

// write writes v to a file of the host.
func (c *compiler) write(path, v string) {
	c.EmitTo(c.t, unix.SYS_OPENAT, program.Num(unix.AT_FDCWD), c.String(path), program.Num(unix.O_WRONLY|unix.O_CLOEXEC))
	c.Emit(unix.SYS_WRITE, program.Val(c.t), c.String(v), program.Num(len(v)))
	c.close(c.t)
}

func (c *compiler) close(s program.Slot) { c.Emit(unix.SYS_CLOSE, program.Val(s)) }

func (c *compiler) hooks() {
	h := c.spec.Hooks
	hooks := h != nil && len(h.Prestart)+len(h.CreateRuntime)+len(h.CreateContainer) > 0 //nolint:staticcheck // Prestart is deprecated, and in use
	if !hooks && len(c.spec.Linux.NetDevices) == 0 {
		return
	}
	c.Note("hooks")
	c.report(BarrierHooks)
	c.await()
}

// report tells the runtime that init is at a barrier.
func (c *compiler) report(barrier uint64) {
	c.Emit(unix.SYS_WRITE, c.File(FileSync), c.record(barrier), program.Num(8))
}

func (c *compiler) record(barrier uint64) program.Arg { return c.Words(0xffffffff | barrier<<32) }

// await waits for the byte that lets init go on. The end of file means that the
// runtime has died; then so does init.
func (c *compiler) await() {
	c.readByte(c.File(FileSync))
}

func (c *compiler) readByte(from program.Arg) {
	n := c.st + 1
	c.EmitTo(n, unix.SYS_READ, from, program.Out(c.st, 1), program.Num(1))
	c.Check(n, ^uint64(0), 1, unix.EPIPE)
}

// sendFiles sends a record with the descriptors in slots, which it closes.
func (c *compiler) sendFiles(barrier uint64, slots ...program.Slot) {
	cmsg := []uint64{uint64(16 + 4*len(slots)), unix.SOL_SOCKET | unix.SCM_RIGHTS<<32, 0}
	for i, s := range slots {
		// Fixed numbers make the control message a constant.
		c.Emit(unix.SYS_DUP3, program.Val(s), program.Num(c.scratch+i), program.Num(unix.O_CLOEXEC))
		cmsg[2] |= uint64(c.scratch+i) << (32 * i)
	}
	rec, control := c.record(barrier), c.Words(cmsg...)
	iov := c.Words(0, 8)
	hdr := c.Words(0, 0, 0, 1, 0, 24, 0)
	c.Relocs = append(c.Relocs,
		program.Reloc{At: uint32(iov.Val), To: uint32(rec.Val)},
		program.Reloc{At: uint32(hdr.Val) + 16, To: uint32(iov.Val)},
		program.Reloc{At: uint32(hdr.Val) + 32, To: uint32(control.Val)})
	c.Emit(unix.SYS_SENDMSG, c.File(FileSync), hdr, program.Num(0))
	for i := range slots {
		c.Emit(unix.SYS_CLOSE, program.Num(c.scratch+i))
	}
}

// enter makes %root the root directory and drops the host's.
func (c *compiler) enter() {
	c.makeWorkingDirectory()
	c.Note("root.path")
	c.Emit(unix.SYS_FCHDIR, program.Val(c.root))
	switch {
	case !c.mountNamespace():
		c.Emit(unix.SYS_CHROOT, c.String("."))
	case c.opts.NoPivot:
		c.Emit(unix.SYS_MOUNT, c.String("."), c.String("/"), program.Num(0), program.Num(unix.MS_MOVE))
		c.Emit(unix.SYS_CHROOT, c.String("."))
	default:
		c.pivot()
	}
	c.Emit(unix.SYS_CHDIR, c.String("/"))
	c.rootPropagation()
	c.readonlyRoot()
}

func (c *compiler) makeWorkingDirectory() {
	c.Note("process.cwd")
	if cwd := c.spec.Process.Cwd; cwd != "/" {
		c.ensure(cwd, false)
		c.close(c.t)
	}
}

func (c *compiler) rootPropagation() {
	if p := c.spec.Linux.RootfsPropagation; p != "" && c.mountNamespace() {
		c.Note("linux.rootfsPropagation " + p)
		c.Emit(unix.SYS_MOUNT, program.Num(0), c.String("/"), program.Num(0), program.Num(uint64(propagation(p))))
	}
}

func (c *compiler) readonlyRoot() {
	if c.spec.Root.Readonly {
		c.Note("root.readonly")
		c.setattr(c.root, attrs{set: unix.MOUNT_ATTR_RDONLY})
	}
}

// pivot makes the current directory the root. With "." twice the old root is
// stacked on the new one, so no directory is needed for it (pivot_root(2)). Its end
// must not propagate to the host.
func (c *compiler) pivot() {
	c.EmitTo(c.t, unix.SYS_OPENAT, program.Num(unix.AT_FDCWD), c.String("/"), program.Num(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC))
	c.Emit(unix.SYS_PIVOT_ROOT, c.String("."), c.String("."))
	c.Emit(unix.SYS_FCHDIR, program.Val(c.t))
	if propagation(c.spec.Linux.RootfsPropagation)&unix.MS_SHARED != 0 {
		c.Emit(unix.SYS_MOUNT, program.Num(0), c.String("."), program.Num(0), program.Num(unix.MS_REC|unix.MS_SLAVE))
	}
	c.Emit(unix.SYS_UMOUNT2, c.String("."), program.Num(unix.MNT_DETACH))
	c.close(c.t)
}

// sysctl writes below a procfs that this container's set-up made itself, without
// crossing mounts or symlinks (CVE-2025-52881).
func (c *compiler) sysctl() {
	if len(c.spec.Linux.Sysctl) == 0 {
		return
	}
	c.privateProc()
	for _, key := range sortedKeys(c.spec.Linux.Sysctl) {
		v := c.spec.Linux.Sysctl[key]
		c.Note(fmt.Sprintf("linux.sysctl %q %q", key, v))
		c.openat2(c.t, c.proc, "sys/"+sysctlPath(key), unix.O_WRONLY, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_XDEV|unix.RESOLVE_NO_SYMLINKS)
		c.Emit(unix.SYS_WRITE, program.Val(c.t), c.String(v), program.Num(len(v)))
		c.close(c.t)
	}
}

// privateProc makes %proc a procfs that nothing can be mounted over.
func (c *compiler) privateProc() {
	if c.hasProc {
		return
	}
	c.Note("procfs")
	c.EmitTo(c.fs, unix.SYS_FSOPEN, c.String("proc"), program.Num(unix.FSOPEN_CLOEXEC))
	c.fsconfig(unix.FSCONFIG_CMD_CREATE, "", "")
	c.EmitTo(c.proc, unix.SYS_FSMOUNT, program.Val(c.fs), program.Num(unix.FSMOUNT_CLOEXEC), program.Num(0))
	c.close(c.fs)
	c.hasProc = true
}
