package compile

import (
	"golang.org/x/sys/unix"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// FileInit is the descriptor of the container's init process, for programs that
// join its namespaces.
const FileInit = "init"

// NewHook compiles a hook that runs in the container's namespaces. Its stdin,
// stdout and stderr are the descriptors 0 to 2. dir is its working directory; the
// hook's path is resolved below the root of the container's mount namespace, which
// before pivot_root is still the host's.
//
// With facts, of which Tasks, TimerSlack, Seccomp, Bounding and LastCap matter, the hook is confined like
// the process of the container: its program is a file of the image. Without, it
// keeps the runtime's privileges.
func NewHook(spec *specs.Spec, hook *specs.Hook, note, dir string, facts *Facts) *program.Program {
	c := &compiler{Builder: program.NewBuilder(3), spec: spec, facts: facts, opts: &Options{}, out: &Init{}}
	c.Note(note)
	c.Let(program.FaultFD, c.File(FileSync))
	c.closeForeign()
	c.Emit(unix.SYS_PRCTL, program.Num(unix.PR_SET_DUMPABLE), program.Num(0)) // CVE-2016-9962
	c.st, c.t = c.Slots("st", 1), c.Slot("t")
	if facts != nil {
		c.timerSlack()
		c.joinTasks()
		c.Note(note)
	}
	flags := c.namespaceFlags()
	if flags != 0 {
		c.Emit(unix.SYS_SETNS, c.File(FileInit), program.Num(flags))
	}
	c.Emit(unix.SYS_CHDIR, c.String(dir))
	if flags&unix.CLONE_NEWUSER != 0 {
		c.becomeRoot()
	}
	if flags&unix.CLONE_NEWPID != 0 {
		c.fork(0)
	}
	if facts != nil {
		c.privileges(spec.Process)
		c.restrict(spec.Process)
		c.Note(note)
	}
	args := hook.Args
	if len(args) == 0 {
		args = []string{hook.Path}
	}
	seal(c.Builder, 1)
	if facts != nil && facts.Seccomp != nil {
		c.loadFilter(program.Discard, facts.Seccomp.Flags&^(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV))
	}
	c.Note(note)
	i := c.Emit(unix.SYS_EXECVE, c.String(hook.Path), c.Strings(args), c.Strings(hook.Env))
	c.Fault(i, "exec "+hook.Path+": ")
	c.bindForeign()
	return &c.Program
}
