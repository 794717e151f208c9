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

// maxParameter is the longest value that fsconfig(2) takes, with its NUL.
const maxParameter = 256

// rootfs attaches the root filesystem unless that is done, and makes the mounts.
func (c *compiler) rootfs() error {
	if !c.hasNamespace(specs.UserNamespace) {
		c.openRoot()
	}
	for i, left := range c.leftToInit() {
		if c.filled() && !left {
			continue
		}
		if err := c.mount(i); err != nil {
			return err
		}
	}
	return nil
}

// openRoot attaches the root filesystem to itself as %root.
func (c *compiler) openRoot() {
	c.propagate()
	attached := c.facts.Layer != nil && c.layerRoot()
	if attached {
		return
	}
	c.Note("root.path " + strconv.Quote(c.spec.Root.Path))
	c.EmitTo(c.t, unix.SYS_OPENAT, program.Num(unix.AT_FDCWD), c.String(c.facts.Root), program.Num(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC))
	if c.facts.Layer == nil {
		c.openTree(c.root, c.t, true)
	}
	c.moveMount(c.root)
	c.close(c.t) // a directory of the host (CVE-2024-21626)
	if !c.mountNamespace() {
		// Nothing below the root is to propagate; see Init.Umount.
		c.out.Umount = true
		c.classic(c.root, unix.MS_PRIVATE|unix.MS_REC)
	}
}

func (c *compiler) mountNamespace() bool { return c.hasNamespace(specs.MountNamespace) }

func (c *compiler) hasNamespace(t specs.LinuxNamespaceType) bool {
	for _, ns := range c.spec.Linux.Namespaces {
		if ns.Type == t {
			return true
		}
	}
	return false
}

// propagate cuts the new mount namespace off from the host's. Without one, the
// host's mounts stay as they are.
func (c *compiler) propagate() {
	if !c.mountNamespace() {
		return
	}
	p := c.spec.Linux.RootfsPropagation
	c.Note("linux.rootfsPropagation " + p)
	switch flags := propagation(p); {
	case flags&unix.MS_SHARED != 0:
		// The host is to see the mounts that appear below shared ones. Only the
		// mount that the root hangs on must not tell the host: pivot_root(2)
		// demands it.
		c.Emit(unix.SYS_MOUNT, program.Num(0), c.String(c.facts.PrivateParent), program.Num(0), program.Num(unix.MS_PRIVATE))
	case flags&(unix.MS_PRIVATE|unix.MS_UNBINDABLE) != 0:
		// What is unbindable could not become the root: only enter makes it so.
		c.Emit(unix.SYS_MOUNT, program.Num(0), c.String("/"), program.Num(0), program.Num(unix.MS_PRIVATE|unix.MS_REC))
	default:
		c.Emit(unix.SYS_MOUNT, program.Num(0), c.String("/"), program.Num(0), program.Num(unix.MS_SLAVE|unix.MS_REC))
	}
}

// openTree copies the mount that the descriptor from stands on, unattached.
func (c *compiler) openTree(dst, from program.Slot, recursive bool) {
	flags := unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_EMPTY_PATH
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	c.EmitTo(dst, unix.SYS_OPEN_TREE, program.Val(from), c.String(""), program.Num(flags))
}

// moveMount attaches a mount at %t, descriptor to descriptor (CVE-2021-30465), by the op that
// it returns.
func (c *compiler) moveMount(m program.Slot) int {
	return c.Emit(unix.SYS_MOVE_MOUNT, program.Val(m), c.String(""), program.Val(c.t), c.String(""),
		program.Num(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH))
}

// setattr changes the attributes of mount m. Without mount_setattr(2), m must be
// attached.
func (c *compiler) setattr(m program.Slot, a attrs) {
	if a.zero() {
		return
	}
	if !c.facts.MountSetattr {
		c.remount(m, a)
		return
	}
	flags := unix.AT_EMPTY_PATH
	if a.recursive {
		flags |= unix.AT_RECURSIVE
	}
	clear := a.clear
	if a.set&unix.MOUNT_ATTR__ATIME != 0 {
		clear |= unix.MOUNT_ATTR__ATIME
	}
	c.Emit(unix.SYS_MOUNT_SETATTR, program.Val(m), c.String(""), program.Num(flags), c.Words(a.set, clear, 0, 0), program.Num(32))
}

// classic calls mount(2) without a source for the mount that descriptor m is the
// root of. The path is that of the descriptor, so nothing is resolved again.
func (c *compiler) classic(m program.Slot, flags int) {
	c.Emit(unix.SYS_DUP3, program.Val(m), program.Num(c.scratch), program.Num(unix.O_CLOEXEC))
	c.Emit(unix.SYS_MOUNT, program.Num(0), c.String("/proc/self/fd/"+strconv.Itoa(c.scratch)), program.Num(0), program.Num(flags))
	c.Emit(unix.SYS_CLOSE, program.Num(c.scratch))
}

func mountNote(i int, m *specs.Mount) string {
	return "mounts[" + strconv.Itoa(i) + "] " + m.Destination
}

func (c *compiler) mount(i int) error {
	m := &c.spec.Mounts[i]
	o := parseOptions(m)
	note := mountNote(i, m)
	c.Note(note)
	if o.remount {
		return fmt.Errorf("%s: option \"remount\": a mount of a new container cannot be remounted", note)
	}
	if o.rec.set|o.rec.clear != 0 && !c.facts.MountSetattr {
		return fmt.Errorf("%s: recursive attributes need mount_setattr(2), which came with Linux 5.12", note)
	}
	if idMapped(m, &o) && !c.facts.MountSetattr {
		return fmt.Errorf("%s: id-mapped mounts need mount_setattr(2), which came with Linux 5.12", note)
	}
	if err := c.checkProc(i, m, note); err != nil {
		return err
	}
	c.dropFresh(path.Clean(m.Destination))
	if c.rerooting && c.spec.Process.Terminal && m.Type == "devpts" && path.Clean(m.Destination) == "/dev/pts" {
		c.target(m, false)
		c.keepPts()
		return nil
	}
	if strings.HasPrefix(m.Type, "cgroup") && !o.bind && !c.rerooting {
		c.joinCgroups()
		c.Note(note)
	}
	switch {
	case m.Type == "cgroup" && !o.bind && !c.facts.CgroupUnified:
		c.mountHierarchies(m, &o)
	case o.bind:
		return c.bind(i, m, &o, note)
	case strings.HasPrefix(m.Type, "cgroup") && c.facts.CgroupUnified && !c.hasNamespace(specs.CgroupNamespace):
		c.bindUnified(m, &o)
	default:
		return c.mountFS(m, &o, note)
	}
	return nil
}

// underProc lists the files of procfs that a mount may cover: a container's
// runtime shows its own numbers there, and nothing that this runtime writes to
// (CVE-2019-16884, CVE-2019-19921).
func underProc(p string) bool {
	switch p {
	case "/proc/cpuinfo", "/proc/diskstats", "/proc/loadavg", "/proc/meminfo", "/proc/net/dev",
		"/proc/slabinfo", "/proc/stat", "/proc/swaps", "/proc/uptime",
		"/proc/sys/crypto/fips_enabled", "/proc/sys/kernel/ns_last_pid":
		return true
	}
	return false
}

func (c *compiler) checkProc(i int, m *specs.Mount, note string) error {
	p := path.Clean(m.Destination)
	switch {
	case p == "/proc" && m.Type != "proc" && !c.facts.Sources[i].Procfs:
		return fmt.Errorf("%s: %q cannot be mounted because it is not of type proc", note, m.Destination)
	case strings.HasPrefix(p, "/proc/") && !underProc(p):
		return fmt.Errorf("%s: %q cannot be mounted because it is inside /proc", note, m.Destination)
	}
	return nil
}

// target opens the place of a mount into %t, and refuses one that a symlink led
// into procfs.
func (c *compiler) target(m *specs.Mount, file bool) {
	c.ensure(m.Destination, file)
	if c.hasProc && !strings.HasPrefix(path.Clean(m.Destination)+"/", "/proc/") {
		c.refuseProcfs(m.Destination)
	}
}

func (c *compiler) refuseProcfs(dest string) {
	var ok program.Label
	c.Emit(unix.SYS_FSTATFS, program.Val(c.t), program.Out(c.st, statfsSlots))
	i := c.EmitTo(program.Discard, program.Test, program.Val(c.st), program.Num(^uint64(0)), program.Num(unix.PROC_SUPER_MAGIC), program.Num(0), program.Num(int(unix.EXDEV)))
	c.OnError(i, unix.EXDEV, &ok)
	i = c.fail(unix.EPERM)
	c.Fault(i, fmt.Sprintf("%q cannot be mounted because it is inside /proc", dest))
	c.Bind(&ok)
}

// bind shows a file or directory of the host.
func (c *compiler) bind(i int, m *specs.Mount, o *mountOptions, note string) error {
	src, ok := c.facts.Sources[i]
	if !ok {
		return fmt.Errorf("%s: source %q is not known", note, m.Source)
	}
	fd, early := c.sources[i]
	if src.Layer != nil && !early { // to mount it takes the slots that target leaves something in
		c.openSource(m, &src, o)
		fd, early = c.hold(c.m), true
	}
	c.target(m, !src.Dir)
	if early {
		c.Let(c.m, program.Num(fd))
	} else {
		c.openSource(m, &src, o)
	}
	move := c.attach(o)
	c.close(c.m)
	end := c.Emit(unix.SYS_CLOSE, program.Val(c.t))
	if !src.Dir {
		c.refuseDirectory(move, end)
	}
	return nil
}

// refuseDirectory names what move_mount(2) calls EINVAL: a file cannot be mounted on a
// directory. Managers look for these words. end is the last op of the mount.
func (c *compiler) refuseDirectory(move, end int) {
	var bad, ok program.Label
	c.OnError(move, unix.EINVAL, &bad)
	c.OnSuccess(end, &ok)
	c.Bind(&bad)
	c.stat(c.t)
	c.Fault(c.Check(c.st+statMode, unix.S_IFMT, unix.S_IFDIR, unix.EINVAL), "move_mount: ")
	c.Fault(c.fail(unix.ENOTDIR), "move_mount: ")
	c.Bind(&ok)
}

// attach puts %m on %t with the attributes and propagation of o, and returns moveMount's op.
func (c *compiler) attach(o *mountOptions) (move int) {
	rec := o.rec
	rec.recursive = true
	if c.facts.MountSetattr {
		c.setattr(c.m, o.attr)
		c.setattr(c.m, rec)
		move = c.moveMount(c.m)
	} else {
		move = c.moveMount(c.m)
		c.setattr(c.m, o.attr)
	}
	for _, p := range o.propagation {
		c.setPropagation(p)
	}
	return move
}

func (c *compiler) setPropagation(p int) {
	if !c.facts.MountSetattr {
		c.classic(c.m, p)
		return
	}
	flags := unix.AT_EMPTY_PATH
	if p&unix.MS_REC != 0 {
		flags |= unix.AT_RECURSIVE
	}
	c.Emit(unix.SYS_MOUNT_SETATTR, program.Val(c.m), c.String(""), program.Num(flags), c.Words(0, 0, uint64(p&^unix.MS_REC), 0), program.Num(32))
}

// mountFS makes a new mount of a file system.
func (c *compiler) mountFS(m *specs.Mount, o *mountOptions, note string) error {
	typ := m.Type
	if typ == "cgroup" {
		typ = "cgroup2"
	}
	inherit := inheritsMode(typ, o)
	switch {
	case typ == "proc" || typ == "sysfs":
		c.plainTarget(m)
	case inherit:
		c.tmpfsTarget(m)
	default:
		c.target(m, false)
	}
	late := attrs{}
	if typ == "tmpfs" && o.attr.set&unix.MOUNT_ATTR_RDONLY != 0 {
		// Read-only once it is filled: with devices, copies, mode.
		o.attr.set &^= unix.MOUNT_ATTR_RDONLY
		late.set = unix.MOUNT_ATTR_RDONLY
	}
	if err := c.fsmount(typ, m, o, note); err != nil {
		return err
	}
	c.placeFS(typ, m, o, late)
	return nil
}

// inheritsMode is whether a file system gets the mode that tmpfsTarget leaves in %st.
func inheritsMode(typ string, o *mountOptions) bool {
	return typ == "tmpfs" && !hasOption(o.data, "mode=")
}

// placeFS attaches %m and keeps hold of the file systems that are needed again.
func (c *compiler) placeFS(typ string, m *specs.Mount, o *mountOptions, late attrs) {
	dest := path.Clean(m.Destination)
	if o.copyUp {
		c.copyUp()
		c.rootOptions(o.data)
	}
	if inheritsMode(typ, o) { // the copy of a directory made just now is not its mode
		c.Emit(unix.SYS_FCHMODAT, program.Val(c.m), c.String("."), program.Val(c.st+statMode))
	}
	none := *o
	none.attr = attrs{} // fsmount has set them
	c.attach(&none)
	if dest != "/dev" {
		c.setattr(c.m, late)
	}
	switch {
	case typ == "proc" && dest == "/proc":
		c.EmitTo(c.proc, unix.SYS_DUP3, program.Val(c.m), program.Num(c.scratch+2), program.Num(unix.O_CLOEXEC))
		c.hasProc = true
	case typ == "devpts" && dest == "/dev/pts":
		c.EmitTo(c.pts, unix.SYS_DUP3, program.Val(c.m), program.Num(c.scratch+3), program.Num(unix.O_CLOEXEC))
		c.hasPts = true
	case typ == "tmpfs" && !o.copyUp && c.isParent(dest):
		c.keepFresh(dest)
	}
	c.close(c.m)
	c.close(c.t)
}

// dropFresh forgets the file systems that a mount on dest covers.
func (c *compiler) dropFresh(dest string) {
	for p := range c.fresh {
		if p == dest || dest == "/" || strings.HasPrefix(p, dest+"/") {
			delete(c.fresh, p)
		}
	}
}

// isParent says whether a mount point lies in the directory dest.
func (c *compiler) isParent(dest string) bool {
	for i := range c.spec.Mounts {
		if p := path.Clean(c.spec.Mounts[i].Destination); p != dest && path.Dir(p) == dest {
			return true
		}
	}
	return false
}

// maxFresh is how many file systems keepFresh keeps.
const maxFresh = 16

// keepFresh keeps hold of the empty file system %m, so that mount points in it are
// made by its descriptor; see ensureIn.
func (c *compiler) keepFresh(dest string) {
	n := c.kept
	if n >= maxFresh {
		return
	}
	c.kept++
	slot := c.Slot("fresh" + strconv.Itoa(n))
	c.EmitTo(slot, unix.SYS_DUP3, program.Val(c.m), program.Num(c.scratch+4+n), program.Num(unix.O_CLOEXEC))
	if c.fresh == nil {
		c.fresh = make(map[string]program.Slot)
	}
	c.fresh[dest] = slot
}

// plainTarget opens a directory that no symlink may lead to: what this set-up
// writes below /proc and /sys must not land on a file of the image.
func (c *compiler) plainTarget(m *specs.Mount) {
	rel := relative(m.Destination)
	var done program.Label
	i := c.openat2(c.t, c.root, rel, unix.O_PATH|unix.O_DIRECTORY, noSymlinks)
	c.Fault(i, fmt.Sprintf("%q must be a directory that no symlink leads to: ", m.Destination))
	c.Tolerate(i, unix.ENOENT)
	c.OnSuccess(i, &done)
	c.make(m.Destination, false)
	c.Bind(&done)
}

// tmpfsTarget opens a tmpfs's place and leaves in %st the mode for the tmpfs: that
// of the directory that it covers, or tmpfs's own default where there was none.
func (c *compiler) tmpfsTarget(m *specs.Mount) {
	var exists, done program.Label
	c.tryOpen(m.Destination, false, &exists)
	c.make(m.Destination, false)
	c.Let(c.st+statMode, program.Num(0o1777))
	c.Jump(&done)
	c.Bind(&exists)
	if c.hasProc {
		c.refuseProcfs(m.Destination)
	}
	c.stat(c.t)
	c.Bind(&done)
}

func hasOption(list []string, prefix string) bool {
	for _, s := range list {
		if strings.HasPrefix(s, prefix) {
			return true
		}
	}
	return false
}

// fsmount makes an unattached mount of a new file system in %m (fsopen(2),
// fsconfig(2), fsmount(2)).
func (c *compiler) fsmount(typ string, m *specs.Mount, o *mountOptions, note string) error {
	source := m.Source
	if source == "" {
		source = typ
	}
	c.EmitTo(c.fs, unix.SYS_FSOPEN, c.String(typ), program.Num(unix.FSOPEN_CLOEXEC))
	c.fsconfig(unix.FSCONFIG_SET_STRING, "source", source)
	for _, f := range o.flags {
		c.fsconfig(unix.FSCONFIG_SET_FLAG, f, "")
	}
	if o.attr.set&unix.MOUNT_ATTR_RDONLY != 0 {
		c.fsconfig(unix.FSCONFIG_SET_FLAG, "ro", "")
	}
	for _, d := range o.data {
		if err := c.parameter(d, note); err != nil {
			return err
		}
	}
	c.pids(typ)
	c.mountLabel(typ)
	c.fsconfig(unix.FSCONFIG_CMD_CREATE, "", "")
	c.EmitTo(c.m, unix.SYS_FSMOUNT, program.Val(c.fs), program.Num(unix.FSMOUNT_CLOEXEC), program.Num(o.attr.set))
	c.close(c.fs)
	return nil
}

// parameter passes one option to the file system.
func (c *compiler) parameter(d, note string) error {
	key, value, ok := strings.Cut(d, "=")
	switch {
	case !ok:
		c.fsconfig(unix.FSCONFIG_SET_FLAG, key, "")
	case len(value) < maxParameter:
		c.fsconfig(unix.FSCONFIG_SET_STRING, key, value)
	case key == "lowerdir":
		// overlay takes its layers one by one (Linux 6.8).
		for _, dir := range splitLower(value) {
			if len(dir) >= maxParameter {
				return fmt.Errorf("%s: option %q: a path of %d bytes, fsconfig(2) takes %d", note, key, len(dir), maxParameter-1)
			}
			c.fsconfig(unix.FSCONFIG_SET_STRING, "lowerdir+", dir)
		}
	default:
		return fmt.Errorf("%s: option %q: a value of %d bytes, fsconfig(2) takes %d", note, key, len(value), maxParameter-1)
	}
	return nil
}

// splitLower splits an overlay's lowerdir list at colons that no backslash
// precedes.
func splitLower(v string) (dirs []string) {
	var dir strings.Builder
	for i := 0; i < len(v); i++ {
		switch {
		case v[i] == '\\' && i+1 < len(v):
			i++
			dir.WriteByte(v[i])
		case v[i] == ':':
			dirs = append(dirs, dir.String())
			dir.Reset()
		default:
			dir.WriteByte(v[i])
		}
	}
	return append(dirs, dir.String())
}

func (c *compiler) fsconfig(cmd uint64, key, value string) {
	k, v := program.Num(0), program.Num(0)
	if key != "" {
		k = c.String(key)
	}
	if cmd == unix.FSCONFIG_SET_STRING {
		v = c.String(value)
	}
	i := c.Emit(unix.SYS_FSCONFIG, program.Val(c.fs), program.Num(cmd), k, v, program.Num(0))
	if key != "" {
		c.Fault(i, "option "+strconv.Quote(strings.TrimSuffix(key+"="+value, "="))+": ")
	}
}

// copyUp lets the runtime copy the directory %t into the unattached tmpfs %m: a
// loop, which programs do not have. Both sides are descriptors.
func (c *compiler) copyUp() {
	c.sendFiles(BarrierCopyUp, c.t, c.m)
	c.await()
}

// rootOptions repeats what the options of the tmpfs %m say of its root, which has
// become a copy of the directory below it. That they are numbers fsconfig has found.
func (c *compiler) rootOptions(data []string) {
	for _, s := range data {
		key, value, _ := strings.Cut(s, "=")
		owner, _ := strconv.ParseUint(value, 10, 32)
		mode, _ := strconv.ParseUint(value, 8, 32)
		switch key {
		case "uid":
			c.Emit(unix.SYS_FCHOWNAT, program.Val(c.m), c.String(""), program.Num(owner), program.Num(^uint32(0)), program.Num(unix.AT_EMPTY_PATH))
		case "gid":
			c.Emit(unix.SYS_FCHOWNAT, program.Val(c.m), c.String(""), program.Num(^uint32(0)), program.Num(owner), program.Num(unix.AT_EMPTY_PATH))
		case "mode":
			c.Emit(unix.SYS_FCHMODAT, program.Val(c.m), c.String("."), program.Num(mode))
		}
	}
}
