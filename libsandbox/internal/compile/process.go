package compile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
	"adl.run/adl-runtime/libsandbox/security"
)

// process gives up privileges, finds the executable, waits for the start and
// executes it.
func (c *compiler) process() error {
	p := c.spec.Process
	if err := c.rlimits(p); err != nil {
		return err
	}
	if err := c.personality(c.spec.Linux.Personality); err != nil {
		return err
	}
	c.scheduling(p)
	c.memoryPolicy()
	if labelled(p) {
		c.privateProc()
	}
	if c.opts.Pause { // its working directory is the root, which resets and snapshots can exchange
		c.privileges(p)
		c.pause(p)
		return nil
	}
	cwd := c.workingDirectory(p)
	c.privileges(p)
	return c.execute(p, cwd)
}

// execute does the rest with the process's own privileges. cwd is from
// workingDirectory.
func (c *compiler) execute(p *specs.Process, cwd program.Slot) error {
	c.retryDirectory(p, cwd)
	c.labels(p)
	c.restrict(p)
	path, err := c.lookPath(p)
	if err != nil {
		return err
	}
	c.lastSteps(p)
	c.Note("process.args[0]")
	i := c.Emit(unix.SYS_EXECVE, program.Val(path), c.Strings(p.Args), c.Strings(environment(p.Env, c.facts.Home)))
	c.Fault(i, ExecFault(p.Args[0]))
	return nil
}

// pause executes what init inherits for that.
func (c *compiler) pause(p *specs.Process) {
	c.labels(p)
	c.restrict(p)
	c.lastSteps(p)
	c.Note("process.args[0]")
	i := c.Emit(unix.SYS_EXECVEAT, c.File(FilePause), c.String(""), c.Strings(p.Args), c.Strings(nil), program.Num(unix.AT_EMPTY_PATH))
	c.Fault(i, ExecFault(p.Args[0]))
}

// lastSteps is what comes between the search for the executable and execve, with the
// wait for the start.
func (c *compiler) lastSteps(p *specs.Process) {
	c.Note("process")
	seal(c.Builder, c.lasting)
	if at := c.opts.FileAt; at > 0 {
		last := 3 + c.opts.ExtraFiles - 1
		c.Emit(unix.SYS_DUP3, program.Num(last), program.Num(at), program.Num(0))
		c.Emit(unix.SYS_CLOSE, program.Num(last))
	}
	c.listenedFilter()
	early := c.seen() && c.filterCaps(p) != 0
	if early {
		c.filter()
		c.capset(p, 0)
	}
	c.start()
	if !early {
		c.filter()
	}
}

// seal leaves no descriptor to the process but stdio and what the caller asked for
// (CVE-2024-21626). The first Files are still needed, and so are closed by execve; all else
// is closed now. CLOSE_RANGE_CLOEXEC would be one call, but it came with Linux 5.11.
func seal(b *program.Builder, lasting int) {
	for _, name := range b.Files[:lasting] {
		b.Emit(unix.SYS_FCNTL, b.File(name), program.Num(unix.F_SETFD), program.Num(unix.FD_CLOEXEC))
	}
	b.Emit(unix.SYS_CLOSE_RANGE, program.Num(b.FirstFile+lasting), program.Num(^uint32(0)), program.Num(0))
}

// privileges becomes the process's user with the process's capabilities.
func (c *compiler) privileges(p *specs.Process) {
	c.user(p)
	c.capabilities(p)
	// A change of user makes the process what fs.suid_dumpable says (proc_sys_fs(5)),
	// which is traceable where that is 1 (CVE-2016-9962).
	c.Emit(unix.SYS_PRCTL, program.Num(unix.PR_SET_DUMPABLE), program.Num(0))
}

// restrict sets what the process may not undo, and its umask.
func (c *compiler) restrict(p *specs.Process) {
	if p.NoNewPrivileges {
		c.Note("process.noNewPrivileges")
		c.Emit(unix.SYS_PRCTL, program.Num(unix.PR_SET_NO_NEW_PRIVS), program.Num(1))
	}
	if c.opts.Subreaper {
		c.Note("process")
		c.Emit(unix.SYS_PRCTL, program.Num(unix.PR_SET_CHILD_SUBREAPER), program.Num(1))
	}
	c.Note("process.user.umask")
	umask := uint32(0o022)
	if p.User.Umask != nil {
		umask = *p.User.Umask
	}
	c.Emit(unix.SYS_UMASK, program.Num(umask))
}

// ExecFault heads the message of a failed execve, as managers expect it.
func ExecFault(arg0 string) string { return "exec " + arg0 + ": " }

// start reports that the container is created and waits for its start.
func (c *compiler) start() {
	if c.out.Direct {
		return
	}
	c.Note("start")
	c.report(BarrierCreated)
	c.await()
	if !c.opts.Listen {
		return
	}
	// From here on faults go to whoever starts the container.
	c.EmitTo(program.FaultFD, unix.SYS_ACCEPT4, c.File(FileListen), program.Num(0), program.Num(0), program.Num(unix.SOCK_CLOEXEC))
	c.readByte(program.Val(program.FaultFD))
}

func rlimit(name string) (int, bool) {
	names := [...]string{"CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS", "LOCKS", "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME"}
	for n, s := range names {
		if name == "RLIMIT_"+s {
			return n, true
		}
	}
	return 0, false
}

func (c *compiler) rlimits(p *specs.Process) error {
	for i, r := range p.Rlimits {
		n, ok := rlimit(r.Type)
		note := "process.rlimits[" + strconv.Itoa(i) + "] " + r.Type
		if !ok {
			return fmt.Errorf("%s: unknown resource limit", note)
		}
		note = fmt.Sprintf("%s soft %d hard %d", note, r.Soft, r.Hard)
		if c.hasNamespace(specs.UserNamespace) {
			c.out.Limits = append(c.out.Limits, Limit{n, r.Soft, r.Hard, note})
			continue
		}
		c.Note(note)
		c.Emit(unix.SYS_PRLIMIT64, program.Num(0), program.Num(n), c.Words(r.Soft, r.Hard), program.Num(0))
	}
	return nil
}

func (c *compiler) personality(p *specs.LinuxPersonality) error {
	if p == nil {
		return nil
	}
	c.Note("linux.personality")
	switch p.Domain {
	case specs.PerLinux:
		c.Emit(unix.SYS_PERSONALITY, program.Num(0))
	case specs.PerLinux32:
		c.Emit(unix.SYS_PERSONALITY, program.Num(8))
	default:
		return fmt.Errorf("linux.personality.domain %q: unknown", p.Domain)
	}
	return nil
}

// workingDirectory enters the working directory with the privileges of set-up, as
// it may lie below a directory that the user cannot pass. Where that is forbidden,
// as on a file system that root may not read, retryDirectory does it as the user.
// So it is for the errnos in later, too. It returns the slot that tells whether it is
// done.
//
// CVE-2024-21626: the directory is opened inside the root and through no magic
// link, so it can be none that a descriptor of the host refers to.
func (c *compiler) workingDirectory(p *specs.Process, later ...unix.Errno) program.Slot {
	c.Note("process.cwd " + strconv.Quote(p.Cwd))
	var denied, closed program.Label
	done := c.Slot("cwd")
	c.Let(done, program.Num(0))
	i := c.openat2(c.t, c.root, relative(p.Cwd), unix.O_PATH|unix.O_DIRECTORY, inRoot)
	for _, errno := range append(later, unix.EACCES) {
		c.OnError(i, errno, &denied)
	}
	c.OnError(c.Emit(unix.SYS_FCHDIR, program.Val(c.t)), unix.EACCES, &closed)
	c.Let(done, program.Num(1))
	c.Bind(&closed)
	c.close(c.t)
	c.Bind(&denied)
	return done
}

func (c *compiler) retryDirectory(p *specs.Process, done program.Slot) {
	c.Note("process.cwd " + strconv.Quote(p.Cwd))
	var retry, skip program.Label
	i := c.Check(done, ^uint64(0), 1, unix.EACCES)
	c.OnError(i, unix.EACCES, &retry)
	c.OnSuccess(i, &skip)
	c.Bind(&retry)
	c.openat2(c.t, c.root, relative(p.Cwd), unix.O_PATH|unix.O_DIRECTORY, inRoot)
	c.Emit(unix.SYS_FCHDIR, program.Val(c.t))
	c.close(c.t)
	c.Bind(&skip)
}

func (c *compiler) user(p *specs.Process) {
	u := &p.User
	gids := make([]byte, 0, 4*len(u.AdditionalGids))
	for _, g := range u.AdditionalGids {
		gids = binary.NativeEndian.AppendUint32(gids, g)
	}
	c.dropBounding(p)
	c.Note("process.user")
	if u.UID != 0 {
		c.Emit(unix.SYS_PRCTL, program.Num(unix.PR_SET_KEEPCAPS), program.Num(1))
	}
	c.Note(fmt.Sprintf("process.user.additionalGids %v", u.AdditionalGids))
	c.Emit(unix.SYS_SETGROUPS, program.Num(len(u.AdditionalGids)), c.Bytes(gids))
	c.Note("process.user.gid " + strconv.Itoa(int(u.GID)))
	c.Emit(unix.SYS_SETRESGID, program.Num(u.GID), program.Num(u.GID), program.Num(u.GID))
	c.Note("process.user.uid " + strconv.Itoa(int(u.UID)))
	c.Emit(unix.SYS_SETRESUID, program.Num(u.UID), program.Num(u.UID), program.Num(u.UID))
	if u.UID != 0 {
		c.Emit(unix.SYS_PRCTL, program.Num(unix.PR_SET_KEEPCAPS), program.Num(0))
	}
}

func (c *compiler) capMask(names []string) uint64 {
	m, unknown := security.CapabilityMask(names, c.facts.LastCap)
	for _, name := range unknown {
		c.warn("process.capabilities " + name + ": unknown to the kernel, ignored")
	}
	bounding := c.facts.Bounding
	if c.hasNamespace(specs.UserNamespace) {
		bounding = ^uint64(0) // in there, all are to be had
	}
	if extra := m &^ bounding; extra != 0 {
		for n, name := range security.Capabilities() {
			if extra&(1<<n) != 0 {
				c.warn("process.capabilities " + name + ": not in the runtime's own bounding set, ignored")
			}
		}
	}
	return m & bounding
}

func (c *compiler) warn(w string) {
	for _, have := range c.out.Warnings {
		if have == w {
			return
		}
	}
	c.out.Warnings = append(c.out.Warnings, w)
}

// sets returns the spec's capabilities; none at all means no capability, as in
// runc.
func sets(p *specs.Process) *specs.LinuxCapabilities {
	if p.Capabilities == nil {
		return &specs.LinuxCapabilities{}
	}
	return p.Capabilities
}

func (c *compiler) dropBounding(p *specs.Process) {
	c.Note("process.capabilities.bounding")
	keep := c.capMask(sets(p).Bounding)
	for n := range c.facts.LastCap + 1 {
		if keep&(1<<n) == 0 {
			c.Emit(unix.SYS_PRCTL, program.Num(unix.PR_CAPBSET_DROP), program.Num(n))
		}
	}
}

// capabilities sets the sets of the thread (capset(2), PR_CAP_AMBIENT). Inheritable
// is what the spec says and nothing else (CVE-2022-29162).
func (c *compiler) capabilities(p *specs.Process) {
	c.capset(p, c.filterCaps(p))
	c.Note("process.capabilities.ambient")
	c.Emit(unix.SYS_PRCTL, program.Num(unix.PR_CAP_AMBIENT), program.Num(unix.PR_CAP_AMBIENT_CLEAR_ALL))
	// Only what is permitted and inheritable can be raised. The rest is left out
	// without a word: `runc spec` itself writes such a config.
	s := sets(p)
	ambient := c.capMask(s.Ambient) & c.capMask(s.Permitted) & c.capMask(s.Inheritable)
	for n := range c.facts.LastCap + 1 {
		if ambient&(1<<n) != 0 {
			c.Emit(unix.SYS_PRCTL, program.Num(unix.PR_CAP_AMBIENT), program.Num(unix.PR_CAP_AMBIENT_RAISE), program.Num(n))
		}
	}
}

// capset sets the effective, permitted and inheritable capabilities, and extra ones that
// are not to outlive execve.
func (c *compiler) capset(p *specs.Process, extra uint64) {
	s := sets(p)
	eff, perm, inh := c.capMask(s.Effective)|extra, c.capMask(s.Permitted)|extra, c.capMask(s.Inheritable)
	c.Note("process.capabilities")
	const version3 = 0x20080522
	half := func(a, b uint64) uint64 { return a&0xffffffff | b<<32 }
	data := c.Words(half(eff, perm), half(inh, eff>>32), half(perm>>32, inh>>32))
	c.Emit(unix.SYS_CAPSET, c.Words(version3), data)
}

// environment adds HOME and lets the last of several values of a variable win.
func environment(env []string, home string) []string {
	out := make([]string, 0, len(env)+1)
	at := make(map[string]int, len(env))
	for _, kv := range env {
		key, _, _ := strings.Cut(kv, "=")
		if i, ok := at[key]; ok {
			out[i] = kv
			continue
		}
		at[key] = len(out)
		out = append(out, kv)
	}
	if _, ok := at["HOME"]; !ok && home != "" {
		out = append(out, "HOME="+home)
	}
	return out
}

// lookPath leaves the path of the executable in a slot: args[0] itself where it has
// a slash, otherwise the first executable file of that name in PATH.
func (c *compiler) lookPath(p *specs.Process) (program.Slot, error) {
	arg := p.Args[0]
	c.Note("process.args[0]")
	path := c.Slot("exe")
	if strings.Contains(arg, "/") {
		i := c.EmitTo(c.t, unix.SYS_OPENAT, program.Num(unix.AT_FDCWD), c.String(arg), program.Num(unix.O_PATH|unix.O_CLOEXEC))
		c.Fault(i, fmt.Sprintf("exec: %q: stat %s: ", arg, arg))
		c.executable(arg)
		c.close(c.t)
		c.Let(path, c.String(arg))
		return path, nil
	}
	dirs := searchPath(p.Env)
	missing := fmt.Sprintf("exec: %q: executable file not found in $PATH", arg)
	if len(dirs) == 0 {
		return path, errors.New("process.args[0]: " + missing)
	}
	var found program.Label
	for _, dir := range dirs {
		if dir == "" {
			dir = "."
		}
		c.candidate(path, dir+"/"+arg, &found)
	}
	i := c.fail(unix.ENOENT)
	c.Fault(i, missing)
	c.Bind(&found)
	return path, nil
}

// searchPath lists the directories of PATH, none where it is empty or missing: the
// working directory, which others may write to, is searched only where an element
// says so.
func searchPath(env []string) []string {
	path := ""
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	if path == "" {
		return nil
	}
	return strings.Split(path, ":")
}

// executable faults unless %t is a file that may be executed.
func (c *compiler) executable(arg string) {
	var file program.Label
	c.stat(c.t)
	i := c.EmitTo(program.Discard, program.Test, program.Val(c.st+statMode), program.Num(unix.S_IFMT), program.Num(unix.S_IFDIR), program.Num(0), program.Num(int(unix.ENOTDIR)))
	c.OnError(i, unix.ENOTDIR, &file)
	i = c.fail(unix.EISDIR)
	// execve(2) says EACCES, and Docker looks for its text to exit with 126.
	c.Fault(i, fmt.Sprintf("exec: %q: is a directory: permission denied", arg))
	c.Bind(&file)
	i = c.access()
	c.Fault(i, fmt.Sprintf("exec: %q: ", arg))
}

func (c *compiler) access() int {
	return c.Emit(unix.SYS_FACCESSAT2, program.Val(c.t), c.String(""), program.Num(unix.X_OK), program.Num(unix.AT_EMPTY_PATH|unix.AT_EACCESS))
}

// candidate goes on at found with file in path if it is an executable file.
func (c *compiler) candidate(path program.Slot, file string, found *program.Label) {
	var next, reject program.Label
	i := c.EmitTo(c.t, unix.SYS_OPENAT, program.Num(unix.AT_FDCWD), c.String(file), program.Num(unix.O_PATH|unix.O_CLOEXEC))
	c.OnError(i, unix.ENOENT, &next)
	c.OnError(i, unix.ENOTDIR, &next)
	c.stat(c.t)
	c.ifType(unix.S_IFREG, &reject)
	c.OnError(c.access(), unix.EACCES, &reject)
	c.close(c.t)
	c.OnSuccess(c.Let(path, c.String(file)), found)
	c.Bind(&reject)
	c.close(c.t)
	c.Bind(&next)
}
