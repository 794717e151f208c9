package compile

import (
	"path"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// Every path below the root is hostile: it is opened once, relative to %root and
// confined to it by the kernel, and from then on the descriptor is used.
const (
	inRoot     = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS
	noSymlinks = inRoot | unix.RESOLVE_NO_SYMLINKS
)

// statfsSlots is the size of struct statfs in slots (fstatfs(2)); the type of the
// file system is the first.
const statfsSlots = 15

// openat2 opens name below dir, close-on-exec, into dst and returns the op.
func (c *compiler) openat2(dst, dir program.Slot, name string, flags, resolve uint64) int {
	how := c.Words(flags|unix.O_CLOEXEC, 0, resolve)
	return c.EmitTo(dst, unix.SYS_OPENAT2, program.Val(dir), c.String(name), how, program.Num(unix.SizeofOpenHow))
}

// relative returns p without its leading slash; "." is the root itself.
func relative(p string) string {
	p = path.Clean("/" + p)[1:]
	if p == "" {
		return "."
	}
	return p
}

// ensure opens p, a directory or a file, into %t and makes what is missing.
func (c *compiler) ensure(p string, file bool) {
	if parent, ok := c.fresh[path.Dir(path.Clean(p))]; ok {
		c.ensureIn(parent, path.Base(path.Clean(p)), file)
		return
	}
	var done program.Label
	c.tryOpen(p, file, &done)
	c.make(p, file)
	c.Bind(&done)
}

// ensureIn is ensure for a name in a file system that this program has mounted empty:
// no symlink of the image can be there.
func (c *compiler) ensureIn(parent program.Slot, name string, file bool) {
	c.makeName(parent, name, file)
	c.openat2(c.t, parent, name, openFlags(file), unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
}

// makeName makes name in parent unless it exists.
func (c *compiler) makeName(parent program.Slot, name string, file bool) {
	if file {
		c.Tolerate(c.Emit(unix.SYS_MKNODAT, program.Val(parent), c.String(name), program.Num(unix.S_IFREG|0o755), program.Num(0)), unix.EEXIST)
	} else {
		c.Tolerate(c.Emit(unix.SYS_MKDIRAT, program.Val(parent), c.String(name), program.Num(0o755)), unix.EEXIST)
	}
}

func openFlags(file bool) uint64 {
	if file {
		return unix.O_PATH
	}
	return unix.O_PATH | unix.O_DIRECTORY
}

// tryOpen opens p into %t and goes on at done; where it does not exist, it goes on
// at the next op.
func (c *compiler) tryOpen(p string, file bool, done *program.Label) {
	i := c.open(p, file)
	c.Tolerate(i, unix.ENOENT)
	c.OnSuccess(i, done)
}

func (c *compiler) open(p string, file bool) int {
	return c.openat2(c.t, c.root, relative(p), openFlags(file), inRoot)
}

// make makes p, which does not exist, and opens it into %t: each directory by the
// handle of the one above it (CVE-2024-45310). Modes are runc's.
//
// A name that exists and cannot be opened is a symlink to nothing, as images have
// for /etc/resolv.conf. Following it inside the root takes a loop, so the runtime
// makes that target.
func (c *compiler) make(p string, file bool) {
	var dangling, made program.Label
	names := strings.Split(relative(p), "/")
	last := len(names) - 1
	for n, name := range names {
		prefix := strings.Join(names[:n+1], "/")
		var exists program.Label
		if n < last {
			c.tryOpen(prefix, false, &exists)
		}
		parent := c.openParent(names[:n])
		c.makeName(parent, name, file && n == last)
		if parent != c.root {
			c.close(parent)
		}
		c.OnError(c.open(prefix, file && n == last), unix.ENOENT, &dangling)
		c.Bind(&exists)
		if n < last {
			c.close(c.t)
		}
	}
	c.Jump(&made)
	c.Bind(&dangling)
	c.sendFiles(uint64(BarrierTarget+len(c.out.Targets)), c.root)
	c.out.Targets = append(c.out.Targets, Target{Path: p, File: file})
	c.await()
	c.open(p, file)
	c.Bind(&made)
}

// openParent opens the directory of names into %m; the root needs no opening.
func (c *compiler) openParent(names []string) program.Slot {
	if len(names) == 0 {
		return c.root
	}
	c.openat2(c.m, c.root, strings.Join(names, "/"), unix.O_PATH|unix.O_DIRECTORY, inRoot)
	return c.m
}

// stat fills %st for the descriptor in s.
func (c *compiler) stat(s program.Slot) {
	c.Emit(fstatat, program.Val(s), c.String(""), program.Out(c.st, statSlots), program.Num(unix.AT_EMPTY_PATH))
}

// ifType goes on at the next op if the file in %st is of the given type, else at l.
func (c *compiler) ifType(t uint64, l *program.Label) {
	c.OnError(c.Check(c.st+statMode, unix.S_IFMT, t, unix.EINVAL), unix.EINVAL, l)
}

// fail ends init with errno.
func (c *compiler) fail(errno unix.Errno) int {
	return c.Emit(program.Test, program.Num(0), program.Num(0), program.Num(1), program.Num(0), program.Num(int(errno)))
}

// explain gives op i an error message of its own for errno.
func (c *compiler) explain(i int, errno unix.Errno, text string) {
	var bad, ok program.Label
	c.OnError(i, errno, &bad)
	c.OnSuccess(i, &ok)
	c.Bind(&bad)
	c.Fault(c.fail(errno), text)
	c.Bind(&ok)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// sysctlPath turns a key into a path below /proc/sys. As sysctl(8) has it, the
// first of the two separators that occurs is the separator: in a.b/c the slash
// stands for a dot in a name, as in net.ipv4.conf.eth0/1.forwarding.
func sysctlPath(key string) string {
	if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '/' {
		return key
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, key)
}
