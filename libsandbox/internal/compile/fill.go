package compile

import (
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// FilePids is the descriptor of the container's pid namespace.
const FilePids = "pids"

// CanFill says whether NewFill can compile a spec: where nothing of it is to be had from
// the container's old root, from its user namespace or by asking the runtime, and no
// mount has to be changed after it is attached, which the kernel allows in mount
// namespaces only. Directories of the host are left out because mounts below them come
// and go.
func CanFill(spec *specs.Spec, facts *Facts, keepInit bool) bool {
	c := newCompiler(spec, facts, &Options{})
	if !facts.CloneDetached || keepInit && !facts.ProcOfOthers || facts.Layer == nil || !facts.Layer.Mounted ||
		spec.Process.Terminal || !c.mountNamespace() || c.hasNamespace(specs.UserNamespace) {
		return false
	}
	for i := range spec.Mounts {
		m := &spec.Mounts[i]
		o := parseOptions(m)
		src := facts.Sources[i]
		switch {
		case o.bind && (src.Dir || src.Layer != nil || idMapped(m, &o)), len(o.propagation) > 0, o.copyUp:
			return false
		case m.Type == "tmpfs" && o.attr.set&unix.MOUNT_ATTR_RDONLY != 0:
			return false
		}
	}
	return true
}

// NewFill compiles what can be made of the next root filesystem for which the container
// goes on undisturbed. Mounts and devices are made on Facts.Layer, which is unattached and
// stays so (mounts on such a mount: Linux 6.15). The program is born in the runtime's pid
// namespace, where no process of the container finds it. FileInit is as in NewReroot.
//
// With keepInit, all that NewReroot would make is made, and FilePids is the pid namespace
// that procfs shows (Linux 6.17). Without, the next root is for a new init: what shows
// namespaces that come with it is left to NewInit. Those of spec that have a path are
// init's.
//
// A layer of which this has failed is of no use any more.
func NewFill(spec *specs.Spec, facts *Facts, keepInit bool) (*Init, error) {
	c := newCompiler(spec, facts, &Options{})
	c.rerooting, c.filling = true, true
	c.begin("fill")
	c.Note("root.path")
	c.Let(c.root, c.File(FileLayer))
	c.openHostTrees()
	c.Note("linux.namespaces")
	c.Emit(unix.SYS_SETNS, c.File(FileInit), program.Num(c.namespaceFlags()&^(unix.CLONE_NEWTIME|unix.CLONE_NEWPID|unix.CLONE_NEWNS)))
	c.Emit(unix.SYS_CLOSE, c.File(FileInit))
	fill := c.fillForNext
	if keepInit {
		fill = c.fillRoot
	}
	if err := fill(); err != nil {
		return nil, err
	}
	c.finish()
	return c.out, nil
}

// fillForNext makes on %root what is not the next init's to make.
func (c *compiler) fillForNext() error {
	for i, left := range c.leftToInit() {
		if left {
			continue
		}
		if err := c.mount(i); err != nil {
			return err
		}
	}
	return c.devices()
}

// leftToInit says which mounts fillForNext leaves: those that show a namespace that is
// made with init, and all that are on these.
func (c *compiler) leftToInit() []bool {
	left := make([]bool, len(c.spec.Mounts))
	var places []string
	for i := range c.spec.Mounts {
		m := &c.spec.Mounts[i]
		o := parseOptions(m)
		place := path.Clean(m.Destination) + "/"
		on := func(p string) bool { return strings.HasPrefix(place, p) }
		if !o.bind && c.showsNew(m.Type) || slices.ContainsFunc(places, on) {
			left[i] = true
			places = append(places, place)
		}
	}
	return left
}

// showsNew says whether a file system shows a namespace that is made with init.
func (c *compiler) showsNew(typ string) bool {
	switch typ {
	case "proc", "mqueue":
		return true
	case "sysfs":
		return HasOwn(c.spec, specs.NetworkNamespace)
	}
	return false
}

// filled says whether fillForNext has been there.
func (c *compiler) filled() bool { return c.facts.Layer != nil && c.facts.Layer.Filled }

// fillRoot makes everything on %root. Sysctls are the namespaces', which are in use while
// NewFill's program runs.
func (c *compiler) fillRoot() error {
	for i := range c.spec.Mounts {
		if err := c.mount(i); err != nil {
			return err
		}
	}
	if err := c.devices(); err != nil {
		return err
	}
	if c.spec.Process.Terminal {
		c.keepConsole()
	}
	c.files()
	c.makeWorkingDirectory()
	if !c.filling {
		c.sysctl()
	}
	c.readonlyPaths()
	c.maskedPaths()
	c.readonlyRoot()
	return nil
}

// pids has a new procfs show the processes of the container.
func (c *compiler) pids(typ string) {
	if typ != "proc" || !c.filling || !c.hasNamespace(specs.PIDNamespace) {
		return
	}
	i := c.Emit(unix.SYS_FSCONFIG, program.Val(c.fs), program.Num(unix.FSCONFIG_SET_FD), c.String("pidns"), program.Num(0), c.File(FilePids))
	c.Fault(i, "option pidns: ")
}
