package compile

import (
	"errors"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// FileRoot is the descriptor of the root directory of a container's init, for programs
// that change it.
const FileRoot = "root"

// FileAttic is the descriptor of an unattached tmpfs with an empty directory AtticDir.
const (
	FileAttic = "attic"
	AtticDir  = "old"
)

// FileHost is the descriptor of the runtime's mount namespace, for programs that run aside.
const FileHost = "host"

// NewReroot compiles the exchange of a running container's root filesystem for a fresh
// one, on Facts.Layer, under the processes that stand on it. FileInit is a pidfd of
// init; nothing in the container may run meanwhile. Of the facts, those about processes
// and Tasks do not matter; of the options, none does.
//
//	the host's view      the layer, what bind mounts show, the host's devices
//	setns                all namespaces of the container but the time namespace and the
//	                     pid namespace, in which the program is born, for procfs, unless
//	                     the layer is filled and it runs aside
//	a mount on /         the new root; the mounts and devices of the spec in it
//	pivot_root           moves the root directory and the working directory of every
//	                     process that stands on the old root (pivot_root(2))
//	rmdir                in the runtime's mount namespace, of what the old root has been
//	                     moved onto
//
// Until pivot_root the container sees nothing of it, and a fault leaves no more than a
// mount on top of its root; see NewUnroot.
func NewReroot(spec *specs.Spec, facts *Facts) (*Init, error) {
	if !facts.MountSetattr {
		return nil, errReroot()
	}
	c := newCompiler(spec, facts, &Options{})
	c.rerooting = true
	c.out.Aside = facts.Layer.Filled // so procfs is there, and CanFill knows no user namespace
	c.begin("reset")
	c.layerUnattached()
	if !facts.Layer.Filled {
		c.hostSide()
	}
	c.joinToReroot()
	if err := c.newRoot(); err != nil {
		return nil, err
	}
	c.exchange()
	return c.out, nil
}

// layerUnattached leaves the layer as %root.
func (c *compiler) layerUnattached() {
	if c.layerTakesData() {
		// mount(2) attaches, so that has to be where nobody sees it.
		c.Note("layer")
		c.Emit(unix.SYS_UNSHARE, program.Num(unix.CLONE_NEWNS))
		c.Emit(unix.SYS_MOUNT, program.Num(0), c.String("/"), program.Num(0), program.Num(unix.MS_PRIVATE|unix.MS_REC))
	}
	if c.layerRoot() {
		c.EmitTo(c.t, unix.SYS_DUP3, program.Val(c.root), program.Num(c.scratch), program.Num(unix.O_CLOEXEC))
		c.close(c.root)
		c.openTree(c.root, c.t, false)
		c.close(c.t)
	}
}

// hostSide opens what else is to be had from the host only.
func (c *compiler) hostSide() {
	c.openSources()
	if c.hasNamespace(specs.UserNamespace) {
		c.openDevices()
	}
	c.openHostTrees()
}

// joinToReroot enters the container and stands on the root directory of its init.
func (c *compiler) joinToReroot() {
	c.enterContainer(c.namespaceFlags() &^ (unix.CLONE_NEWTIME | unix.CLONE_NEWPID))
	c.names()
}

// enterContainer joins some namespaces of the container, and stands on the root directory
// of its init.
func (c *compiler) enterContainer(flags int) {
	c.Note("linux.namespaces")
	c.Emit(unix.SYS_SETNS, c.File(FileInit), program.Num(flags))
	if !c.out.Aside {
		c.Emit(unix.SYS_CLOSE, c.File(FileInit))
	}
	if flags&unix.CLONE_NEWUSER != 0 {
		c.becomeRoot()
	}
	c.Emit(unix.SYS_FCHDIR, c.File(FileRoot))
	c.Emit(unix.SYS_CHROOT, c.String("."))
}

// attachRoot puts the new root on top of the old one.
func (c *compiler) attachRoot() {
	c.Note("root.path")
	// Nobody is to be told of what is mounted on it, and pivot_root(2) demands it.
	c.Emit(unix.SYS_MOUNT, program.Num(0), c.String("/"), program.Num(0), program.Num(unix.MS_PRIVATE))
	c.EmitTo(c.t, unix.SYS_OPENAT, program.Num(unix.AT_FDCWD), c.String("/"), program.Num(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC))
	c.moveMount(c.root)
	c.close(c.t)
}

// newRoot attaches the new root and fills it, unless that is done.
func (c *compiler) newRoot() error {
	c.attachRoot()
	if !c.facts.Layer.Filled {
		return c.fillRoot()
	}
	c.sysctl()
	return nil
}

// NewRestack compiles what a snapshot does to a running container: its root filesystem
// becomes a mount of Facts.Layer, which has the same content, and everything that is
// mounted below the old root is below the new one, at the paths in below. With settle, the
// old root is first made read-only: EBUSY means that a file is open for writing on it.
// FileInit and FileRoot are as in NewReroot.
func NewRestack(spec *specs.Spec, facts *Facts, below []string, settle bool) (*Init, error) {
	if !facts.MountSetattr {
		return nil, errReroot()
	}
	c := newCompiler(spec, facts, &Options{})
	c.out.Aside = facts.Layer.Mounted && !c.hasNamespace(specs.UserNamespace)
	c.begin("snapshot")
	c.layerUnattached()
	c.enterContainer(c.namespaceFlags() & (unix.CLONE_NEWNS | unix.CLONE_NEWUSER))
	if settle && !spec.Root.Readonly {
		c.Note("root.path")
		i := c.setRootReadOnly(true)
		c.explain(i, unix.EBUSY, WrittenTo)
	}
	c.attachRoot()
	for _, p := range below {
		c.Note("mount " + p)
		c.openOld(relative(p), unix.O_PATH)
		c.openTree(c.m, c.fs, true)
		c.openat2(c.t, c.root, relative(p), unix.O_PATH, noSymlinks)
		c.moveMount(c.m)
		c.close(c.m)
		c.close(c.fs)
		c.close(c.t)
	}
	c.readonlyRoot()
	c.exchange()
	return c.out, nil
}

// WrittenTo is what NewRestack says of a layer on which a file is open for writing.
const WrittenTo = "a file is open for writing on the layer"

// setRootReadOnly changes the mount of the root directory of the container's init.
func (c *compiler) setRootReadOnly(on bool) int {
	words := c.Words(unix.MOUNT_ATTR_RDONLY, 0, 0, 0)
	if !on {
		words = c.Words(0, unix.MOUNT_ATTR_RDONLY, 0, 0)
	}
	return c.Emit(unix.SYS_MOUNT_SETATTR, c.File(FileRoot), c.String(""), program.Num(unix.AT_EMPTY_PATH), words, program.Num(32))
}

func errReroot() error {
	return errors.New("the root filesystem of a running container can be changed since Linux 5.12")
}

// exchange makes %root the root of everybody who stands on the old one, and ends.
//
// The old root must not be unmounted here: umount2(2) takes mounts off each other, so that
// a descriptor of the old /proc would show what has been masked in it. It is moved into
// a directory of FileAttic, which is removed in the runtime's mount namespace: then the
// kernel unmounts what is on it and leaves it connected (rmdir(2) of a mount point of
// another mount namespace).
func (c *compiler) exchange() {
	c.Note("root.path")
	c.openat2(c.t, c.root, "dev", unix.O_PATH|unix.O_DIRECTORY, noSymlinks)
	c.Emit(unix.SYS_MOVE_MOUNT, c.File(FileAttic), c.String(""), program.Val(c.t), c.String(""),
		program.Num(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
	c.close(c.t)
	c.Emit(unix.SYS_FCHDIR, program.Val(c.root))
	c.Emit(unix.SYS_PIVOT_ROOT, c.String("."), c.String("dev/"+AtticDir))
	if c.out.Aside {
		c.Emit(unix.SYS_SETNS, c.File(FileHost), program.Num(unix.CLONE_NEWNS))
		c.Emit(unix.SYS_UNLINKAT, c.File(FileAttic), c.String(AtticDir), program.Num(unix.AT_REMOVEDIR))
		c.Emit(unix.SYS_SETNS, c.File(FileInit), program.Num(unix.CLONE_NEWNS))
	} else {
		c.report(BarrierAttic)
		c.await()
	}
	c.leaveAttic()
	c.finish()
}

// leaveAttic unmounts what the old root was moved to.
func (c *compiler) leaveAttic() {
	c.Emit(unix.SYS_FCHDIR, c.File(FileAttic))
	c.Tolerate(c.Emit(unix.SYS_UMOUNT2, c.String("."), program.Num(unix.MNT_DETACH)), unix.EINVAL)
	c.Emit(unix.SYS_CHDIR, c.String("/"))
	c.rootPropagation()
}

// finish is the end of a program that executes nothing.
func (c *compiler) finish() {
	c.Note("done")
	if !c.out.Aside {
		c.report(BarrierDone)
		c.bindForeign()
	}
	c.Emit(unix.SYS_EXIT_GROUP, program.Num(0))
	c.out.Program = &c.Program
}

// keepPts shows the old root's devpts at %t, for init has a terminal of it.
func (c *compiler) keepPts() {
	c.openOld("dev/pts", unix.O_PATH|unix.O_DIRECTORY)
	c.Emit(unix.SYS_FSTATFS, program.Val(c.fs), program.Out(c.st, statfsSlots))
	i := c.Check(c.st, ^uint64(0), unix.DEVPTS_SUPER_MAGIC, unix.ENODEV)
	c.Fault(i, "is no mount of type devpts")
	c.openTree(c.m, c.fs, false)
	c.moveMount(c.m)
	c.close(c.m)
	c.close(c.fs)
	c.close(c.t)
}

// keepConsole shows the terminal of init, which the old root has at /dev/console. What
// is no terminal there is not followed.
func (c *compiler) keepConsole() {
	c.Note("/dev/console")
	const slaves, mask = 136, 0xff8 // the majors of Unix 98 terminals are 136 to 143
	c.openOld("dev/console", unix.O_PATH|unix.O_NOFOLLOW)
	c.stat(c.fs)
	c.Check(c.st+statMode, unix.S_IFMT, unix.S_IFCHR, unix.ENOTTY)
	c.Check(c.st+statRdev, mask<<8, slaves<<8, unix.ENOTTY)
	c.bindConsole()
	c.close(c.fs)
}

// openOld opens a file of the old root into %fs.
func (c *compiler) openOld(name string, flags uint64) {
	how := c.Words(flags|unix.O_CLOEXEC, 0, noSymlinks)
	c.EmitTo(c.fs, unix.SYS_OPENAT2, c.File(FileRoot), c.String(name), how, program.Num(unix.SizeofOpenHow))
}

// NewUnroot compiles the removal of what a program that failed has left: before
// pivot_root, a new root on top of the one that init has, which is FileRoot; after it,
// FileAttic, from which the runtime has removed the old root. FileInit is as in NewReroot.
func NewUnroot(spec *specs.Spec, facts *Facts, pivoted bool) *program.Program {
	c := newCompiler(spec, facts, &Options{})
	c.begin("reset")
	c.Note("linux.namespaces")
	flags := c.namespaceFlags() & (unix.CLONE_NEWNS | unix.CLONE_NEWUSER)
	c.Emit(unix.SYS_SETNS, c.File(FileInit), program.Num(flags))
	if flags&unix.CLONE_NEWUSER != 0 {
		c.becomeRoot()
	}
	c.Note("root.path")
	if pivoted {
		c.leaveAttic()
		c.finish()
		return &c.Program
	}
	var same program.Label
	init, top := c.Slots("init", statxSlots), c.Slots("top", statxSlots)
	c.statx(init, c.File(FileRoot), "")
	c.statx(top, program.Num(uint32(1<<32+unix.AT_FDCWD)), "/")
	i := c.EmitTo(program.Discard, program.Test, program.Val(top+statxMountID), program.Num(^uint64(0)), program.Val(init+statxMountID), program.Num(0), program.Num(int(unix.EAGAIN)))
	c.OnSuccess(i, &same)
	c.Tolerate(i, unix.EAGAIN)
	c.Emit(unix.SYS_UMOUNT2, c.String("/"), program.Num(unix.MNT_DETACH))
	c.Bind(&same)
	if !spec.Root.Readonly {
		c.setRootReadOnly(false) // as NewRestack has found it
	}
	c.finish()
	return &c.Program
}

// The size of struct statx in slots, and the slot of its stx_mnt_id (statx(2), Linux
// 5.8).
const (
	statxSlots   = 32
	statxMountID = 18
)

// statx asks for the id of the mount that a file is on.
func (c *compiler) statx(dst program.Slot, dir program.Arg, name string) {
	const mask = 0x1000 // STATX_MNT_ID
	c.Emit(unix.SYS_STATX, dir, c.String(name), program.Num(unix.AT_EMPTY_PATH), program.Num(mask), program.Out(dst, statxSlots))
}
