package compile

import (
	"path"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// Layer is the writable root filesystem of a container, above the directory that
// root.path names.
type Layer struct {
	// Mount is what a driver says of it: an overlay, or a bind mount. Paths are
	// absolute.
	Mount specs.Mount
	// Base is a directory that most of the paths are below.
	Base string
	// Mounted says that Mount has been made, unattached: it is descriptor FileLayer.
	Mounted bool
	// Filled says that NewFill has made mounts on it.
	Filled bool
}

// FileLayer is the descriptor of a layer that is mounted already.
const FileLayer = "layer"

// layerRoot makes the layer's mount and leaves it as %root, unattached unless it says
// that it is attached to root.path.
func (c *compiler) layerRoot() (attached bool) {
	m := &c.facts.Layer.Mount
	c.Note("layer " + m.Type)
	switch {
	case c.facts.Layer.Mounted:
		c.Let(c.root, c.File(FileLayer))
	case IsBind(m):
		c.EmitTo(c.root, unix.SYS_OPEN_TREE, program.Num(unix.AT_FDCWD), c.String(m.Source), program.Num(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC))
	case c.layerTakesData():
		c.layerByData()
		return true
	default:
		c.mountLayer(m, c.root)
	}
	return false
}

// layerTakesData says whether the overlay has to be mounted by mount(2): there are more
// lower directories than a parameter of fsconfig(2) has room for, and the kernel does
// not take them one by one.
func (c *compiler) layerTakesData() bool {
	if c.facts.Layer.Mounted {
		return false
	}
	for _, o := range c.facts.Layer.Mount.Options {
		if _, ok := strings.CutPrefix(o, "lowerdir="); ok {
			return !c.facts.LowerdirAppend && len(o) >= maxParameter
		}
	}
	return false
}

// mountLayer leaves an overlay, unattached, in dst, with one fsconfig(2) a parameter.
func (c *compiler) mountLayer(m *specs.Mount, dst program.Slot) {
	first := c.held
	c.EmitTo(c.fs, unix.SYS_FSOPEN, c.String("overlay"), program.Num(unix.FSOPEN_CLOEXEC))
	c.fsconfig(unix.FSCONFIG_SET_STRING, "source", "overlay")
	for _, o := range m.Options {
		key, value, ok := strings.Cut(o, "=")
		switch {
		case !ok:
			c.fsconfig(unix.FSCONFIG_SET_FLAG, key, "")
		case key == "lowerdir" && c.facts.LowerdirAppend:
			for _, dir := range splitLower(value) {
				c.fsconfig(unix.FSCONFIG_SET_STRING, "lowerdir+", c.layerDir(dir))
			}
		case key == "lowerdir" && len(value) >= maxParameter:
			c.fsconfig(unix.FSCONFIG_SET_STRING, key, c.shortLowers(splitLower(value)))
		case key == "upperdir" || key == "workdir":
			c.fsconfig(unix.FSCONFIG_SET_STRING, key, c.layerDir(unescape(value)))
		default:
			c.fsconfig(unix.FSCONFIG_SET_STRING, key, value)
		}
	}
	c.fsconfig(unix.FSCONFIG_CMD_CREATE, "", "")
	c.EmitTo(dst, unix.SYS_FSMOUNT, program.Val(c.fs), program.Num(unix.FSMOUNT_CLOEXEC), program.Num(0))
	c.close(c.fs)
	for ; c.held > first; c.held-- {
		c.Emit(unix.SYS_CLOSE, program.Num(c.heldFD(c.held-1)))
	}
}

// shortLowers is a list of lower directories by their descriptors, which a parameter has
// room for where there are not more than a dozen.
func (c *compiler) shortLowers(dirs []string) string {
	names := make([]string, len(dirs))
	for i, dir := range dirs {
		c.EmitTo(c.t, unix.SYS_OPENAT, program.Num(unix.AT_FDCWD), c.String(dir), program.Num(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC))
		names[i] = "/proc/self/fd/" + strconv.Itoa(c.hold(c.t))
	}
	return strings.Join(names, ":")
}

// layerDir returns a name of dir that a parameter has room for and that has no character
// with a meaning of its own there.
func (c *compiler) layerDir(dir string) string {
	if len(dir) < maxParameter && !strings.ContainsAny(dir, `\,:`) {
		return dir
	}
	return c.shortLowers([]string{dir})
}

// layerByData mounts the overlay on root.path by mount(2), which has a page for all
// options. Names relative to the layers' directory leave room for more of them.
func (c *compiler) layerByData() {
	l := c.facts.Layer
	options := make([]string, 0, len(l.Mount.Options))
	for _, o := range l.Mount.Options {
		key, value, ok := strings.Cut(o, "=")
		if ok && strings.HasSuffix(key, "dir") {
			value = strings.ReplaceAll(":"+value, ":"+l.Base+"/", ":")[1:]
			o = key + "=" + value
		}
		options = append(options, o)
	}
	c.Emit(unix.SYS_CHDIR, c.String(l.Base))
	i := c.Emit(unix.SYS_MOUNT, c.String("overlay"), c.String(path.Clean(c.facts.Root)), c.String("overlay"), program.Num(0), c.String(strings.Join(options, ",")))
	c.Fault(i, "before Linux 6.8, as many layers as fit into a page of options: ")
	c.EmitTo(c.root, unix.SYS_OPENAT, program.Num(unix.AT_FDCWD), c.String(c.facts.Root), program.Num(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC))
}

// LayerParameters are the options of an overlay as fsconfig(2) takes them one by one, with
// an empty value for a flag; false where it takes mount(2).
func LayerParameters(m *specs.Mount, facts *Facts) (list [][2]string, ok bool) {
	for _, o := range m.Options {
		key, value, _ := strings.Cut(o, "=")
		if key != "lowerdir" {
			list = append(list, [2]string{key, unescape(value)})
			continue
		}
		if !facts.LowerdirAppend {
			if len(value) >= maxParameter {
				return nil, false
			}
			list = append(list, [2]string{key, value}) // as it is: it may be a list
			continue
		}
		for _, dir := range splitLower(value) {
			list = append(list, [2]string{"lowerdir+", dir})
		}
	}
	return list, true
}

// unescape takes the backslashes away that an option of overlayfs has before characters
// with a meaning of their own.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
