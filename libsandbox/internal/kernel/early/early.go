// Package early is what the command does before Go's runtime starts. That start is more
// than half of what a short command costs, so the commonest of them is done here: the
// delete of a stopped container of which nothing is left but cgroups and its directory in
// the store; and Go's start is told to make do with one processor. For a container that is
// to run, the network namespace is made meanwhile, see Network.
//
// Nothing here may need the runtime: there is no goroutine, no heap and no other thread
// yet. So functions are nosplit, what is large is static, and nothing allocates;
// TestNoRuntime looks at what the compiler has made of it.
//
// Of deleting, whatever is not the plain case is left to Go, which finds everything as it is
// after an interrupted delete, at most: its own code does the same and more, from the
// beginning.
package early

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Names in a container's directory. Delete, below, is for those that have no others.
const (
	StateFile  = "state.json"
	InitFile   = "init.json"
	ConfigFile = "config.json"
	StartFile  = "start.sock"
)

// What state.json begins with where Delete can remove the container: then follows its id,
// IDEnd, and an object with the directories of its cgroups. And what init.json begins with.
const (
	Plain   = `{"plain":true,"id":"`
	IDEnd   = `","cgroup":{`
	initPid = `{"pid":`
)

// cgroupRoot is the only place that directories are removed from.
const cgroupRoot = "/sys/fs/cgroup/"

var (
	stack unsafe.Pointer // as execve(2) leaves it: argc, argv, 0, envp, 0, auxv

	path    [1024]byte    // of the container's directory, or of config.json
	text    [1 << 16]byte // state.json or config.json
	entries [1024]byte    // of the directory, getdents64(2)
)

// Slack is the timer slack in nanoseconds that the process was started with, where Begin has
// changed it, or else 0: PR_GET_TIMERSLACK of prctl(2).
var Slack uintptr

// The first thread initialises the packages, so this is its own again. The threads that
// there are by then keep what they have.
var _ = restore()

//go:nosplit
func restore() (ok bool) {
	if Slack != 0 {
		_, ok = call(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, Slack, 0, 0)
	}
	return ok
}

// Begin is for adl_entry alone, which cannot call a Go function by its name. It does what
// there is to do before Go's runtime starts, and may end the process.
var Begin = begin

// cstring is a string that ends with a 0 byte.
type cstring struct{ p *byte }

//go:nosplit
func (s cstring) at(i uintptr) byte { return *(*byte)(unsafe.Add(unsafe.Pointer(s.p), i)) }

//go:nosplit
func (s cstring) from(i uintptr) cstring { return cstring{(*byte)(unsafe.Add(unsafe.Pointer(s.p), i))} }

// after returns what follows the prefix; ok is false if s does not begin with it.
//
//go:nosplit
func (s cstring) after(prefix string) (rest cstring, ok bool) {
	for i := range len(prefix) {
		if s.at(uintptr(i)) != prefix[i] {
			return s, false
		}
	}
	return s.from(uintptr(len(prefix))), true
}

//go:nosplit
func (s cstring) is(t string) bool {
	rest, ok := s.after(t)
	return ok && rest.at(0) == 0
}

// word is the ith pointer on the stack, from argv[0] on.
//
//go:nosplit
func word(i uintptr) cstring {
	return cstring{*(**byte)(unsafe.Add(stack, (1+i)*unsafe.Sizeof(i)))}
}

// call is a system call that does not tell Go's scheduler.
//
//go:nosplit
func call(nr, a, b, c, d uintptr) (uintptr, bool) {
	r, _, errno := syscall.RawSyscall6(nr, a, b, c, d, 0, 0)
	return r, errno == 0
}

//go:nosplit
func literal(s string) uintptr { return uintptr(unsafe.Pointer(unsafe.StringData(s))) }

//go:nosplit
func (s cstring) address() uintptr { return uintptr(unsafe.Pointer(s.p)) }

const atCwd = ^uintptr(99) // AT_FDCWD

//go:nosplit
func begin() {
	var l line
	if l.parse() && l.openLog() && l.setPath() {
		dir, ok := call(unix.SYS_OPENAT, atCwd, uintptr(unsafe.Pointer(&path)), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if !ok {
			return
		}
		if _, ok := call(unix.SYS_FLOCK, dir, unix.LOCK_EX|unix.LOCK_NB, 0, 0); ok && remove(dir, l.id) {
			syscall.RawSyscall6(unix.SYS_EXIT_GROUP, 0, 0, 0, 0, 0, 0)
		}
		close(dir)
	} else if bundle, ok := makes(); ok && setConfig(bundle) && readFile(atCwd, uintptr(unsafe.Pointer(&path))) && ownNetwork() {
		startMaker()
	}
	calmWatcher()
}

// calmWatcher lets the threads that Go's start makes sleep longer. One of them (sysmon) looks
// after the others: wherever a goroutine computes or is in a system call it wakes up every
// 20 us at first, during a container's start some sixty times, each with two context
// switches. A greater timer slack makes that a handful. What it delays is handing the place of
// a goroutine that blocks in a system call to another, which may take 10 ms in any Go
// program. So it is not for the verbs that serve several at once for long.
//
//go:nosplit
func calmWatcher() {
	const slack = 1_000_000 // ns
	for i := uintptr(1); i < *(*uintptr)(stack); i++ {
		if a := word(i); a.is("shell") || a.is("cp") || a.is("gc") {
			return
		}
	}
	if was, ok := call(unix.SYS_PRCTL, unix.PR_GET_TIMERSLACK, 0, 0, 0); ok && was < slack {
		if _, ok := call(unix.SYS_PRCTL, unix.PR_SET_TIMERSLACK, slack, 0, 0); ok {
			Slack = was
		}
	}
}

//go:nosplit
func close(fd uintptr) { call(unix.SYS_CLOSE, fd, 0, 0, 0) }

// remove removes the container whose open and locked directory is dir, if it is a plain
// one that has ended.
//
//go:nosplit
func remove(dir uintptr, id cstring) bool {
	if !plainDirectory(dir) || !readFile(dir, literal(InitFile+"\x00")) || !ended() || !readFile(dir, literal(StateFile+"\x00")) {
		return false
	}
	at, ok := cgroups(id)
	if !ok || !removeCgroups(at) {
		return false
	}
	call(unix.SYS_UNLINKAT, dir, literal(StateFile+"\x00"), 0, 0)
	call(unix.SYS_UNLINKAT, dir, literal(InitFile+"\x00"), 0, 0)
	call(unix.SYS_UNLINKAT, dir, literal(ConfigFile+"\x00"), 0, 0)
	call(unix.SYS_UNLINKAT, dir, literal(StartFile+"\x00"), 0, 0)
	_, ok = call(unix.SYS_UNLINKAT, atCwd, uintptr(unsafe.Pointer(&path)), unix.AT_REMOVEDIR, 0)
	return ok
}

// plainDirectory says whether dir has no other files than those above.
//
//go:nosplit
func plainDirectory(dir uintptr) bool {
	const head, reclen = 19, 16 // of struct linux_dirent64: where the name begins, and the length
	for {
		n, ok := call(unix.SYS_GETDENTS64, dir, uintptr(unsafe.Pointer(&entries)), unsafe.Sizeof(entries), 0)
		if !ok {
			return false
		}
		if n == 0 {
			return true
		}
		all := cstring{&entries[0]}
		for at := uintptr(0); at < n; {
			name := all.from(at + head)
			if !name.is(StateFile) && !name.is(InitFile) && !name.is(ConfigFile) && !name.is(StartFile) && !name.is(".") && !name.is("..") {
				return false
			}
			at += uintptr(all.at(at+reclen)) | uintptr(all.at(at+reclen+1))<<8
		}
	}
}

// readFile reads a file that is shorter than text into it.
//
//go:nosplit
func readFile(dir, name uintptr) bool {
	fd, ok := call(unix.SYS_OPENAT, dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if !ok {
		return false
	}
	n, ok := call(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&text)), unsafe.Sizeof(text), 0)
	close(fd)
	if !ok || n >= unsafe.Sizeof(text) {
		return false
	}
	text[n] = 0
	return true
}

// ended says whether the process that text, which is init.json, names is no more. It is
// not asked whether that is still the same process: of another one nothing follows.
//
//go:nosplit
func ended() bool {
	digits, ok := cstring{&text[0]}.after(initPid)
	if !ok {
		return false
	}
	pid := uintptr(0)
	for ; digits.at(0) >= '0' && digits.at(0) <= '9'; digits = digits.from(1) {
		if pid = 10*pid + uintptr(digits.at(0)-'0'); pid > 1<<22 { // PID_MAX_LIMIT, proc_sys_kernel(5)
			return false
		}
	}
	if pid == 0 || digits.at(0) != ',' {
		return false
	}
	fd, _, errno := syscall.RawSyscall6(unix.SYS_PIDFD_OPEN, pid, 0, 0, 0, 0, 0)
	if errno != 0 {
		return errno == syscall.ESRCH
	}
	poll := unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	var now unix.Timespec
	n, ok := call(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1, uintptr(unsafe.Pointer(&now)), 0)
	close(fd)
	return ok && n == 1 && poll.Revents == unix.POLLIN
}

// cgroups looks at text, which is state.json, and returns the members of the object with
// the cgroups. ok is false where anything is unusual.
//
//go:nosplit
func cgroups(id cstring) (members cstring, ok bool) {
	at, ok := cstring{&text[0]}.after(Plain)
	if !ok {
		return at, false
	}
	for ; id.at(0) != 0; id, at = id.from(1), at.from(1) {
		if at.at(0) != id.at(0) {
			return at, false
		}
	}
	if members, ok = at.after(IDEnd); !ok {
		return at, false
	}
	for at = members; at.at(0) != '}'; {
		end, _, ok := member(at)
		if !ok {
			return at, false
		}
		at = end
	}
	return members, true
}

// member returns the directory that a member of the object names, up to a quotation mark,
// and where the next one begins.
//
//go:nosplit
func member(at cstring) (end, dir cstring, ok bool) {
	if at.at(0) == ',' {
		at = at.from(1)
	}
	if at, ok = quoted(at); !ok || at.at(0) != ':' {
		return at, dir, false
	}
	dir = at.from(2)
	if end, ok = quoted(at.from(1)); !ok {
		return end, dir, false
	}
	_, ok = dir.after(cgroupRoot)
	return end, dir, ok
}

// quoted returns what follows a JSON string without escapes, which is no path that climbs.
//
//go:nosplit
func quoted(at cstring) (end cstring, ok bool) {
	if at.at(0) != '"' {
		return at, false
	}
	for at = at.from(1); at.at(0) != '"'; at = at.from(1) {
		if at.at(0) == 0 || at.at(0) == '\\' || at.at(0) == '/' && at.at(1) == '.' {
			return at, false
		}
	}
	return at.from(1), true
}

// removeCgroups removes the directories that cgroups has found. A controller may have
// shared one with another.
//
//go:nosplit
func removeCgroups(at cstring) bool {
	for at.at(0) != '}' {
		end, dir, _ := member(at)
		*(*byte)(unsafe.Add(unsafe.Pointer(end.p), -1)) = 0 // the quotation mark
		_, _, errno := syscall.RawSyscall6(unix.SYS_UNLINKAT, atCwd, dir.address(), unix.AT_REMOVEDIR, 0, 0, 0)
		if errno != 0 && errno != syscall.ENOENT {
			return false
		}
		at = end
	}
	return true
}

// line is a command line: --root, --log and --log-format, delete, -f, an id.
type line struct {
	root, log, format, id cstring
	verb                  bool
}

// parse says whether the command line is one for this package.
//
//go:nosplit
func (l *line) parse() bool {
	argc := *(*uintptr)(stack)
	for i := uintptr(1); i < argc; i++ {
		a := word(i)
		used, ok := uintptr(0), true
		switch {
		case l.verb:
			ok = l.argument(a)
		case a.is("delete"):
			l.verb = true
		default:
			used, ok = l.global(i)
			ok = ok && (l.format.p == nil || l.format.is("json") || l.format.is("text"))
		}
		if !ok {
			return false
		}
		i += used
	}
	return l.id.p != nil && (l.root.p != nil || defaultRoot(argc))
}

// global takes a flag that every verb has, once, and its value.
//
//go:nosplit
func (l *line) global(i uintptr) (used uintptr, ok bool) {
	if used, ok = value("--root", i, &l.root); !ok {
		if used, ok = value("--log", i, &l.log); !ok {
			used, ok = value("--log-format", i, &l.format)
		}
	}
	return used, ok
}

// argument takes what follows the verb.
//
//go:nosplit
func (l *line) argument(a cstring) bool {
	if a.is("--force") || a.is("-f") {
		return true
	}
	if l.id.p != nil || a.at(0) == 0 || a.at(0) == '-' || a.is(".") || a.is("..") {
		return false
	}
	for i := uintptr(0); a.at(i) != 0; i++ { // as spec.ValidateID
		c := a.at(i)
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '+' && c != '-' && c != '.' {
			return false
		}
	}
	l.id = a
	return true
}

// value takes the value of a flag, once, which is in the same word or in the next one;
// used is 1 for the latter.
//
//go:nosplit
func value(flag string, i uintptr, to *cstring) (used uintptr, ok bool) {
	rest, ok := word(i).after(flag)
	switch {
	case !ok || to.p != nil:
		return 0, false
	case rest.at(0) == '=':
		*to = rest.from(1)
		return 0, true
	case rest.at(0) == 0 && word(i+1).p != nil:
		*to = word(i + 1)
		return 1, true
	}
	return 0, false
}

// defaultRoot says whether the store is root's: as the command's stateRoot, only that
// everything but root with USER=root or without XDG_RUNTIME_DIR is left to that.
//
//go:nosplit
func defaultRoot(argc uintptr) bool {
	if uid, _ := call(unix.SYS_GETEUID, 0, 0, 0, 0); uid != 0 {
		return false
	}
	root, xdg := false, false
	for i := argc + 1; word(i).p != nil; i++ {
		_, is := word(i).after("XDG_RUNTIME_DIR=")
		xdg = xdg || is
		root = root || word(i).is("USER=root")
	}
	return root || !xdg
}

// openLog makes the log's file as every command does.
//
//go:nosplit
func (l *line) openLog() bool {
	if l.log.p == nil || l.log.at(0) == 0 {
		return true
	}
	fd, ok := call(unix.SYS_OPENAT, atCwd, l.log.address(), unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_CLOEXEC, 0o644)
	if ok {
		close(fd)
	}
	return ok
}

// setPath sets path, if the root is absolute, clearly not /, and not too long.
//
//go:nosplit
func (l *line) setPath() bool {
	root := l.root
	if root.p == nil {
		root = cstring{(*byte)(unsafe.Pointer(unsafe.StringData("/run/adl-runtime\x00")))}
	}
	if root.at(0) != '/' || root.at(1) == 0 {
		return false
	}
	n := uintptr(0)
	for i := uintptr(0); root.at(i) != 0; i++ {
		if root.at(i) == '/' && (root.at(i+1) == '/' || root.at(i+1) == '.') || !put(&n, root.at(i)) {
			return false
		}
	}
	ok := put(&n, '/')
	for i := uintptr(0); l.id.at(i) != 0; i++ {
		ok = ok && put(&n, l.id.at(i))
	}
	return ok && put(&n, 0)
}

// put appends a byte to path.
//
//go:nosplit
func put(n *uintptr, c byte) bool {
	if *n >= unsafe.Sizeof(path) {
		return false
	}
	path[*n] = c
	*n++
	return true
}
