package libsandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/cgroup"
	"adl.run/adl-runtime/libsandbox/internal/compile"
	"adl.run/adl-runtime/libsandbox/internal/engine"
	"adl.run/adl-runtime/libsandbox/internal/kernel"
	"adl.run/adl-runtime/libsandbox/internal/kernel/early"
	"adl.run/adl-runtime/libsandbox/internal/resctrl"
	"adl.run/adl-runtime/libsandbox/layer"
	"adl.run/adl-runtime/libsandbox/security/seccomp"
	"adl.run/adl-runtime/spec"
)

// CreateOptions are the choices of whoever creates a container. The zero value
// gives it /dev/null for stdin, stdout and stderr.
type CreateOptions struct {
	// Stdin, Stdout and Stderr of the process; nil is /dev/null. They stay the
	// caller's, and do not matter with process.terminal.
	Stdin, Stdout, Stderr *os.File
	// ExtraFiles become descriptors 3, 4 and so on of the process.
	ExtraFiles []*os.File
	// ConsoleSocket is an AF_UNIX stream socket that is sent the master of the
	// process's terminal.
	ConsoleSocket string
	// KeepConsole keeps the master of the process's terminal instead; see
	// Sandbox.Console.
	KeepConsole bool
	// PidFile is a file that the pid of init is written to.
	PidFile string
	// PidfdSocket is an AF_UNIX stream socket that is sent a pidfd of init.
	PidfdSocket string
	// NoPivot moves the root filesystem over / instead of pivoting: for hosts that
	// run from an initramfs.
	NoPivot bool
	// NoNewKeyring leaves the process in the caller's session keyring.
	NoNewKeyring bool
	// SystemdCgroup has systemd make the cgroup, as a unit: linux.cgroupsPath is then
	// slice:prefix:name, and annotations org.systemd.property.NAME are its properties.
	SystemdCgroup bool
	// Layer is the writable layer; nil is what the annotations say.
	Layer *LayerOptions
	// Owned lets Store.CollectOwned delete the container when this process has ended.
	Owned bool
	// Lifetime and Idle are when the container is deleted by this process or by
	// Store.CollectOwned: so long after its creation, or after the last method of the
	// Sandbox that did something in it, where no process of Exec runs. 0 is never.
	Lifetime, Idle time.Duration

	like    *layerRecord // of a fork: the layer of the container that it is of
	parents []string     // the layers that it begins as
	volumes [][]string   // the same of each cow volume
	size    int64        // and the limit on its own
}

// Create makes a container whose process waits for Start.
func (s *Store) Create(ctx context.Context, id string, b *spec.Bundle, o *CreateOptions) (*Sandbox, error) {
	return s.create(ctx, id, b, o, true)
}

// Run makes a container and starts it at once, which costs less than the two
// together. Wait returns its exit status.
func (s *Store) Run(ctx context.Context, id string, b *spec.Bundle, o *CreateOptions) (*Sandbox, error) {
	return s.create(ctx, id, b, o, false)
}

// Listing returns the program that would make the container, as text. It makes
// nothing.
func (s *Store) Listing(id string, b *spec.Bundle, o *CreateOptions) (string, error) {
	if o == nil {
		o = &CreateOptions{}
	}
	c := &creation{id: id, bundle: b, o: o, wait: true}
	if err := c.planLayer(s.root); err != nil {
		return "", err
	}
	if err := c.compile(); err != nil {
		return "", err
	}
	return c.init.Listing(), nil
}

// creation is the state of one Create or Run.
type creation struct {
	id        string
	bundle    *spec.Bundle
	o         *CreateOptions
	wait      bool // for Start
	sb        *Sandbox
	entry     *entry
	cgroup    *cgroup.Cgroup
	rdt       *resctrl.Group // nil without linux.intelRdt
	plan      *layerPlan     // nil for no layer
	layer     *layer.Layer   // nil for none
	volumes   []*layer.Layer // of mounts of type cow
	reset     *resetting     // nil for a new container
	network   *early.Network // nil where init makes its own, or joins one
	init      *compile.Init
	filter    *seccomp.Filter // nil for none
	child     *engine.Child
	files     []fileID // init's descriptors, with a layer
	first     int      // the pid of the process that was started
	published bool     // created was called
	undo      cleanup
}

// cleanup is a stack of what to undo on failure.
type cleanup []func()

func (c *cleanup) add(f func()) { *c = append(*c, f) }

func (c *cleanup) run() {
	for i := len(*c) - 1; i >= 0; i-- {
		(*c)[i]()
	}
}

func (s *Store) create(ctx context.Context, id string, b *spec.Bundle, o *CreateOptions, wait bool) (*Sandbox, error) {
	if o == nil {
		o = &CreateOptions{}
	}
	c := &creation{id: id, bundle: b, o: o, wait: wait}
	if err := o.check(b.Spec.Process, wait); err != nil {
		return nil, err
	}
	defer s.work()()
	e, err := s.add(id)
	if err != nil {
		return nil, err
	}
	defer e.close()
	c.entry = e
	c.undo.add(func() { _ = e.remove() })
	c.sb = &Sandbox{store: s, id: id}
	if err := c.run(ctx); err != nil {
		c.undo.run()
		return nil, err
	}
	c.sb.limitTime()
	return c.sb, nil
}

func (o *CreateOptions) check(p *specs.Process, wait bool) error {
	switch {
	case p.Terminal && o.ConsoleSocket == "" && !o.KeepConsole:
		return errors.New("process.terminal: a container that nobody stays with needs a console socket")
	case p.Terminal && o.KeepConsole && wait:
		return errors.New("process.terminal: a created container needs a console socket")
	case !p.Terminal && o.ConsoleSocket != "":
		return errors.New("console socket: process.terminal is not set")
	}
	return nil
}

func (c *creation) run(ctx context.Context) error {
	if err := c.planLayer(c.sb.store.root); err != nil {
		return err
	}
	if err := c.makeLayer(); err != nil {
		return err
	}
	c.takeNetwork()
	defer c.network.End()
	if err := c.compile(); err != nil {
		return err
	}
	c.step("compiled")
	if err := c.record(); err != nil {
		return err
	}
	c.step("recorded")
	c.undo.add(func() { _ = c.cgroup.Abandon() })
	if c.rdt != nil {
		c.undo.add(c.rdt.Undo)
	}
	if err := c.cgroup.CreateUnified(); err != nil {
		return err
	}
	var fds descriptors
	defer fds.close()
	opts, err := c.options(&fds)
	if err != nil {
		return err
	}
	if err := c.start(opts); err != nil {
		return err
	}
	c.step("started")
	// Init makes its mounts meanwhile.
	if err := c.prepare(); err != nil {
		return c.explain(err)
	}
	if c.ahead() {
		if err := c.writeInit(); err != nil {
			return c.explain(err)
		}
	}
	err = c.follow(ctx)
	c.step("followed")
	return err
}

// takeNetwork takes the network namespace that was made while this process started, if it
// is of use.
func (c *creation) takeNetwork() {
	n := early.TakeNetwork()
	if compile.TakesNetwork(c.bundle.Spec) {
		c.network = n
		return
	}
	n.End()
}

// prepare makes what init needs in the end.
func (c *creation) prepare() error {
	if !c.cgroup.Enters() {
		if err := c.cgroup.Create(); err != nil {
			return err
		}
		c.step("cgroup")
	}
	if err := c.makeRdt(); err != nil {
		return err
	}
	return writeFile(c.entry.join(configFile), c.bundle.Raw)
}

// step reports to a test how far the creation has come.
func (c *creation) step(name string) {
	if c.sb.store.step != nil {
		c.sb.store.step(name)
	}
}

// compile plans the cgroup and compiles the spec.
func (c *creation) compile() (err error) {
	s := c.bundle.Spec
	if c.reset == nil {
		c.cgroup, err = cgroup.Prepare(&cgroup.Options{
			ID: c.id, Path: s.Linux.CgroupsPath, Resources: s.Linux.Resources, Systemd: c.o.SystemdCgroup, Annotations: s.Annotations,
		})
		if err != nil {
			return err
		}
	}
	var store *Store // none for a mere listing
	if c.sb != nil {
		store = c.sb.store
	}
	rdt, err := c.planRdt(store)
	if err != nil {
		return err
	}
	facts, err := c.facts(store)
	if err != nil {
		return err
	}
	facts.ResctrlTasks = rdt
	found := *facts
	if was := c.compiledBefore(&found); was != nil {
		c.init, c.filter = was.init, was.filter
		return nil
	}
	if c.filter, err = store.filter(s.Linux.Seccomp); err != nil {
		return err
	}
	facts.Seccomp = filterFact(c.filter)
	opts := &compile.Options{ExtraFiles: len(c.o.ExtraFiles), Listen: c.wait, NoPivot: c.o.NoPivot, Again: c.reset != nil, Network: c.network != nil}
	if !c.o.NoNewKeyring {
		opts.Keyring = keyringName(c.id)
	}
	if opts.Pause, err = pauses(c.bundle.Spec); err != nil {
		return err
	}
	if c.init, err = compile.NewInit(s, facts, opts); err != nil {
		return err
	}
	if err := c.init.Verify(); err != nil {
		return err
	}
	for _, w := range c.init.Warnings {
		slog.Warn(w)
	}
	c.keepCompiled(&found)
	return nil
}

// facts are what the compiler has to know of the host, the bundle and the layer.
func (c *creation) facts(store *Store) (*compile.Facts, error) {
	if c.reset != nil && c.reset.facts != nil {
		f := *c.reset.facts
		f.Layer = c.layerFact()
		return &f, nil
	}
	f, err := gather(c.bundle, c.cgroup)
	if err != nil {
		return nil, err
	}
	if f.Files, err = c.firstFiles(); err != nil {
		return nil, err
	}
	if err := c.volumeFacts(f); err != nil {
		return nil, err
	}
	if store != nil && store.facts != nil {
		store.facts(f)
	}
	if c.reset != nil {
		found := *f
		c.reset.facts = &found
	}
	f.Layer = c.layerFact()
	return f, nil
}

// record writes down everything that is about to be made.
func (c *creation) record() error {
	s := c.bundle.Spec
	r := record{
		Version:     s.Version,
		ID:          c.id,
		Bundle:      c.bundle.Dir,
		Rootfs:      c.bundle.Rootfs(),
		Created:     time.Now().UTC().Format(time.RFC3339Nano),
		Annotations: s.Annotations,
		Cgroup:      c.cgroup.Paths(),
		Rdt:         rdtRecordOf(s.Linux.IntelRdt),
		Arg0:        s.Process.Args[0],
		ExecOp:      len(c.init.Ops) - 1,
		Hooks:       s.Hooks,

		NoNewKeyring: c.o.NoNewKeyring,

		Lifetime: c.o.Lifetime,
		Idle:     c.o.Idle,
	}
	if err := c.own(&r); err != nil {
		return err
	}
	if c.plan != nil {
		r.Layer = &c.plan.rec
		r.Layer.ConsoleSocket, r.Layer.PidFile = c.o.ConsoleSocket, c.o.PidFile
	}
	if c.init.Umount {
		r.RootMount = kernel.MountID(r.Rootfs)
	}
	r.OwnPid = compile.HasOwn(s, specs.PIDNamespace)
	r.Plain = r.OwnPid && r.Rdt == nil && r.Owner == nil && r.Layer == nil && r.RootMount == 0 &&
		(s.Hooks == nil || len(s.Hooks.Poststop) == 0)
	c.sb.rec = r
	return c.sb.write(c.entry)
}

// own records whose the container is.
func (c *creation) own(r *record) (err error) {
	if c.o.Owned {
		if r.Owner, err = thisProcess(); err != nil {
			return err
		}
	}
	if c.o.Idle > 0 {
		return writeFile(c.entry.join(usedFile), nil)
	}
	return nil
}

// start starts init.
func (c *creation) start(opts *engine.Options) (err error) {
	if c.sb.store.tamper != nil {
		c.sb.store.tamper(c.init.Program)
	}
	if c.init.Umount {
		c.undo.add(c.sb.rec.detach)
	}
	if c.child, err = engine.Start(c.init.Program, opts); err != nil {
		return fmt.Errorf("linux.namespaces: %w", err)
	}
	c.first = c.child.Pid
	c.sb.child = &child{Child: c.child}
	c.undo.add(func() { c.kill() })
	return nil
}

// kill ends everything of a creation that failed.
func (c *creation) kill() {
	_ = unix.Kill(c.child.Pid, unix.SIGKILL)
	if c.reset == nil { // after which nobody may be born in it
		_ = c.cgroup.Claimed().Kill()
	}
	reap(c.child.Pid)
	c.child.Close()
	reap(-c.first) // the group of a child that init's parent has not told of
	if c.sb.child.console != nil {
		c.sb.child.console.Close()
	}
}

func reap(pid int) {
	_ = kernel.Retry(func() error { _, err := unix.Wait4(pid, nil, 0, nil); return err })
}

// follow answers init's records until it is created, or, with Run, executes the
// process.
func (c *creation) follow(ctx context.Context) error {
	for {
		r, err := c.child.Next()
		switch {
		case err == io.EOF && (c.wait || !c.published):
			return c.died()
		case err == io.EOF:
			return c.started(ctx)
		case err != nil:
			kernel.Close(r.Files...)
			return err
		case r.Forked != 0:
			reap(c.child.Pid)
			c.child.Pid = r.Forked
			if err := c.child.Release(); err != nil {
				return c.explain(err)
			}
			continue
		}
		c.step("at-barrier")
		if err := c.barrier(ctx, r); err != nil {
			return c.explain(err)
		}
		c.step("past-barrier")
		if r.Barrier == compile.BarrierCreated && c.wait {
			c.child.Close()
			return nil
		}
	}
}

// errDied is the end of an init that could not even say why: killed, most likely.
var errDied = errors.New("init ended before it was ready")

// explain prefers what init says of its end to what that broke on this side.
func (c *creation) explain(err error) error {
	if fault := c.child.Pending(); fault != nil {
		return fault
	}
	if errors.Is(err, unix.EPIPE) {
		return c.died()
	}
	return err
}

// died says why init was killed, where that is likely.
func (c *creation) died() error {
	const low = 4 << 20
	r := c.bundle.Spec.Linux.Resources
	if r == nil || r.Memory == nil || r.Memory.Limit == nil || *r.Memory.Limit <= 0 || *r.Memory.Limit > low {
		return errDied
	}
	return fmt.Errorf("%w: linux.resources.memory.limit %d may be too low", errDied, *r.Memory.Limit)
}

// barrier does what init waits for and lets it go on.
func (c *creation) barrier(ctx context.Context, r engine.Record) error {
	switch r.Barrier {
	case compile.BarrierConsole:
		return c.console(r.Files)
	case compile.BarrierCopyUp:
		if err := c.asRoot(func() error { return copyUp(r.Files) }); err != nil {
			return fmt.Errorf("tmpcopyup: %w", err)
		}
	case compile.BarrierHooks:
		if err := c.netDevices(); err != nil {
			return err
		}
		if err := c.hooks(ctx); err != nil {
			return err
		}
	case compile.BarrierListener:
		if c.filter == nil || c.filter.Listener == nil {
			return fmt.Errorf("linux.seccomp: init has a listener that nobody asked for")
		}
		state := c.sb.rec.hookState(specs.StateCreating, c.child.Pid)
		if err := passListener(c.filter.Listener, c.child.Pid, r.Value, state); err != nil {
			return err
		}
	case compile.BarrierCgroup: // prepare has made it, or systemd does so now
		if c.cgroup.Enters() {
			if err := c.cgroup.Enter(c.child.Pid); err != nil {
				return err
			}
			c.step("cgroup")
		}
		if c.early() { // while init makes its mounts
			if err := c.child.Release(); err != nil {
				return err
			}
			return c.created(ctx)
		}
		if c.init.Direct {
			if err := c.created(ctx); err != nil {
				return err
			}
		}
	case compile.BarrierCreated:
		if c.published {
			break
		}
		if err := c.created(ctx); err != nil {
			return err
		}
	default:
		if err := c.makeTarget(r); err != nil {
			return err
		}
	}
	return c.child.Release()
}

// early says whether a container that is restarted may be published before its init is
// ready: nobody is told of it, and nothing is to be done to init then.
func (c *creation) early() bool {
	return c.reset != nil && !c.init.Direct && c.bundle.Spec.Hooks == nil && len(c.init.Limits) == 0 && !c.delegates() &&
		c.o.PidFile == "" && (c.filter == nil || c.filter.Listener == nil)
}

// ahead says whether init's record may be written while init makes its namespaces, which
// are in it where there is a layer.
func (c *creation) ahead() bool { return c.init.Direct && c.reset == nil && c.layer == nil }

// created publishes the container.
func (c *creation) created(ctx context.Context) (err error) {
	c.published = true
	c.network.Kill() // init is in the namespace
	if !c.ahead() {
		if err := c.writeInit(); err != nil {
			return err
		}
	}
	r := &c.sb.rec
	c.step("published")
	if err := c.limits(); err != nil {
		return err
	}
	if err := c.delegate(); err != nil {
		return err
	}
	if c.o.PidFile != "" {
		if err := writePidFile(c.o.PidFile, r.Init.Pid); err != nil {
			return err
		}
		if c.reset == nil {
			c.undo.add(func() { os.Remove(c.o.PidFile) })
		}
	}
	if c.o.PidfdSocket != "" {
		if err := c.sendPidfd(); err != nil {
			return err
		}
	}
	if c.wait {
		return nil
	}
	return c.sb.startContainerHooks(ctx, c.bundle.Spec)
}

// writePidFile writes a pid without a newline, as runc does. The file appears
// complete: a manager may watch for it.
func writePidFile(path string, pid int) error {
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp")
	_ = unix.Unlink(tmp)
	fd, err := unix.Open(tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return fmt.Errorf("pid file %s: %w", path, err)
	}
	err = kernel.WriteAll(fd, strconv.AppendInt(nil, int64(pid), 10))
	unix.Close(fd)
	if err == nil {
		err = moveOnto(tmp, path)
	}
	if err != nil {
		_ = unix.Unlink(tmp)
		return fmt.Errorf("pid file %s: %w", path, err)
	}
	return nil
}

// started is the end of Run: the process is executing.
func (c *creation) started(ctx context.Context) error {
	c.child.Close()
	return c.sb.poststart(ctx)
}
