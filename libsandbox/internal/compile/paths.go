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

// ensureDir opens the directory p into %t and makes what is missing of it.
func (c *compiler) ensureDir(p string) {
	var done program.Label
	c.tryOpenDir(p, &done)
	c.makeDirs(relative(p))
	c.Bind(&done)
}

// tryOpenDir opens the directory p into %t and goes on at done; where it does not
// exist, it goes on at the next op.
func (c *compiler) tryOpenDir(p string, done *program.Label) {
	i := c.openat2(c.t, c.root, relative(p), unix.O_PATH|unix.O_DIRECTORY, inRoot)
	c.Tolerate(i, unix.ENOENT)
	c.OnSuccess(i, done)
}

// makeDirs makes each directory of rel by the handle of the one above it
// (CVE-2024-45310) and leaves the last one open in %t. Mode 0755, as runc.
func (c *compiler) makeDirs(rel string) {
	if rel == "." {
		c.openat2(c.t, c.root, rel, unix.O_PATH|unix.O_DIRECTORY, inRoot)
		return
	}
	names := strings.Split(rel, "/")
	for n, name := range names {
		prefix := strings.Join(names[:n+1], "/")
		var exists program.Label
		open := func() int { return c.openat2(c.t, c.root, prefix, unix.O_PATH|unix.O_DIRECTORY, inRoot) }
		if n < len(names)-1 {
			i := open()
			c.Tolerate(i, unix.ENOENT)
			c.OnSuccess(i, &exists)
		}
		parent := c.openParent(names[:n])
		i := c.Emit(unix.SYS_MKDIRAT, program.Val(parent), c.String(name), program.Num(0o755))
		c.Tolerate(i, unix.EEXIST)
		if n > 0 {
			c.close(parent)
		}
		open()
		c.Bind(&exists)
		if n < len(names)-1 {
			c.close(c.t)
		}
	}
}

// openParent opens the directory of names into %m; the root needs no opening.
func (c *compiler) openParent(names []string) program.Slot {
	if len(names) == 0 {
		return c.root
	}
	c.openat2(c.m, c.root, strings.Join(names, "/"), unix.O_PATH|unix.O_DIRECTORY, inRoot)
	return c.m
}

// ensureFile opens the file p into %t and makes an empty one where it is missing.
func (c *compiler) ensureFile(p string) {
	rel := relative(p)
	var done program.Label
	i := c.openat2(c.t, c.root, rel, unix.O_PATH, inRoot)
	c.Tolerate(i, unix.ENOENT)
	c.OnSuccess(i, &done)
	c.ensureDir(path.Dir("/" + rel))
	i = c.Emit(unix.SYS_MKNODAT, program.Val(c.t), c.String(path.Base(rel)), program.Num(unix.S_IFREG|0o755), program.Num(0))
	c.Tolerate(i, unix.EEXIST)
	c.close(c.t)
	c.openat2(c.t, c.root, rel, unix.O_PATH, inRoot)
	c.Bind(&done)
}

// stat fills %st for the descriptor in s.
func (c *compiler) stat(s program.Slot) {
	c.Emit(fstatat, program.Val(s), c.String(""), program.Out(c.st, statSlots), program.Num(unix.AT_EMPTY_PATH))
}

// ifType goes on at the next op if the file in %st is of the given type, else at l.
func (c *compiler) ifType(t uint64, l *program.Label) {
	c.OnError(c.Check(c.st+statMode, unix.S_IFMT, t, unix.EINVAL), unix.EINVAL, l)
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
