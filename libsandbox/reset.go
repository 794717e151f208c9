package libsandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/cgroup"
	"adl.run/adl-runtime/libsandbox/internal/compile"
	"adl.run/adl-runtime/libsandbox/internal/engine"
	"adl.run/adl-runtime/libsandbox/internal/kernel"
	"adl.run/adl-runtime/libsandbox/layer"
	"adl.run/adl-runtime/libsandbox/security/seccomp"
	"adl.run/adl-runtime/spec"
)

// ResetOptions are the choices of Reset; nil is the zero value.
type ResetOptions struct {
	// Mode is what becomes of init; empty is what the container was made with: keep-init
	// for one made by Create, restart for one made by Run, unless the annotation
	// AnnotationReset says otherwise.
	Mode ResetMode
	// To is the snapshot to go to; empty is the container's first state.
	To string
}

// Reset puts a running or paused container back to its first state, or to a snapshot:
// every process of it is killed, it gets a fresh layer, and all that its spec mounts is
// mounted anew. Then init is started again or, with ResetKeepInit, goes on where it was.
// Its id, bundle, cgroup, limits and the namespaces that it joined stay, and so does its
// network namespace, unless a process in it had CAP_NET_ADMIN and init is restarted.
//
// A restarted init has the files and the terminal's socket that the first one was given,
// is a child of this process, and the hooks of its creation run again. A paused
// container is running after a restart, and paused as before where init is kept.
//
// ErrNoLayer: the container has no layer. ErrNotRunning: it is not running; one that has
// no init because a reset failed or was interrupted can be reset with ResetRestart.
// After any other error the container is as it was, but for processes that may have been
// killed already, or it has no init and a reset can be tried again.
func (sb *Sandbox) Reset(ctx context.Context, o *ResetOptions) error {
	if o == nil {
		o = &ResetOptions{}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	sb.touch()
	if err := sb.resetLocked(ctx, o); err != nil {
		return err
	}
	sb.prepare(func(w *wanted) { w.reset, w.mode = true, o.Mode })
	return nil
}

func (sb *Sandbox) resetLocked(ctx context.Context, o *ResetOptions) error {
	defer sb.store.work()()
	e, err := sb.store.lock(sb.id)
	if err != nil {
		return err
	}
	defer e.close()
	r := &resetting{entry: e, o: o, made: sb, now: &Sandbox{store: sb.store, id: sb.id}}
	defer r.fds.close()
	defer func() { r.ahead.close() }()
	if err := r.read(); err != nil {
		return fmt.Errorf("container %q: %w", sb.id, err)
	}
	if err := r.prepare(); err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	err = r.run(ctx)
	if r.held != nil { // and the old layer is in the trash by now
		r.now.store.emptyLater(r.now.rec.Layer, r.held)
	}
	if err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	return nil
}

// resetting is the state of one Reset.
type resetting struct {
	o       *ResetOptions
	entry   *entry
	made    *Sandbox  // whose method it is
	now     *Sandbox  // the container as it is stored, and as it becomes
	mode    ResetMode // empty for a snapshot
	status  specs.ContainerState
	spec    *specs.Spec
	root    *layer.Root
	old     string   // the key of the layer that is left
	stale   []string // that one's, and those that interrupted commands have left
	next    *layer.Layer
	volumes []*layer.Layer // the next ones of mounts of type cow
	ahead   ahead          // of next, if it is made already
	facts   *compile.Facts // without the layer; nil before they are looked for
	cgroup  *cgroup.Cgroup
	pidfd   int // of init; -1 where there is none
	fds     descriptors
	attic   *attic
	held    *os.File // the root directory that the processes have left; see openOldRoot
	c       *creation
}

// prepare does everything that can be done while the container goes on.
func (r *resetting) prepare() (err error) {
	if err := r.check(); err != nil {
		return err
	}
	if r.spec, err = r.config(); err != nil {
		return err
	}
	if r.root, err = r.now.rec.Layer.open(); err != nil {
		return err
	}
	r.old = r.now.rec.current()
	r.stale = append(r.entry.nextLayers(), r.old)
	if above := r.above(); above != "" {
		r.stale = append(r.stale, above)
	}
	parents := r.now.rec.Layer.Parents
	var to *Snapshot // nil for the first state
	if r.o.To != "" {
		if to, err = r.entry.snapshot(r.o.To); err != nil {
			return err
		}
		parents = to.chain()
	}
	if err := r.begin(); err != nil {
		return err
	}
	if err := r.nextVolumes(to); err != nil {
		return errors.Join(err, r.dropVolumes())
	}
	if err := r.nextLayer(parents); err != nil {
		return errors.Join(err, r.dropVolumes())
	}
	r.c.layer, r.c.volumes = r.next, r.volumes
	r.mount()
	return nil
}

// mount mounts the layer of a second reset by the same Sandbox, unless that was done
// ahead: then the same program does for all of them.
func (r *resetting) mount() {
	r.made.mu.Lock()
	again := r.made.compiled != nil
	r.made.mu.Unlock()
	if again && r.ahead.mount == nil {
		r.ahead.mount = mountLayer(r.next)
	}
}

// begin makes the creation that stands for what the next root is made from.
func (r *resetting) begin() error {
	r.c = &creation{
		id: r.now.id, bundle: &spec.Bundle{Dir: r.now.rec.Bundle, Spec: r.spec}, sb: r.now, entry: r.entry, cgroup: r.cgroup, reset: r,
		o: &CreateOptions{
			NoNewKeyring: r.now.rec.NoNewKeyring, ConsoleSocket: r.now.rec.Layer.ConsoleSocket, PidFile: r.now.rec.Layer.PidFile,
			ExtraFiles: make([]*os.File, max(0, len(r.now.rec.Init.Files)-3)), // their number; see openFiles
		},
	}
	if slices.ContainsFunc(r.spec.Mounts, func(m specs.Mount) bool { return m.Type == "cgroup" }) {
		return r.cgroup.FindAliases()
	}
	return nil
}

// config returns the container's spec, which only an update changes.
func (r *resetting) config() (*specs.Spec, error) {
	r.made.mu.Lock()
	conf, same := r.made.conf, r.made.read.sameContainer(&r.now.read)
	r.made.mu.Unlock()
	if conf != nil && same {
		return conf, nil
	}
	return r.entry.config()
}

// check refuses a container that cannot be reset.
func (r *resetting) check() error {
	rec := &r.now.rec
	if rec.Layer == nil {
		return kindError{errors.New("the container has no layer: create it with --layer overlay or --layer btrfs"), ErrNoLayer}
	}
	r.mode = r.o.Mode
	switch r.mode {
	case "":
		r.mode = rec.Layer.Reset
	case ResetRestart, ResetKeepInit:
	default:
		return fmt.Errorf("mode %q: must be %s or %s", r.mode, ResetKeepInit, ResetRestart)
	}
	if err := r.findInit(); err != nil {
		return err
	}
	if unix.Access(r.entry.join(resetFile), unix.F_OK) == nil {
		return r.interrupted()
	}
	if r.status != specs.StateRunning && r.status != StatePaused {
		return kindError{fmt.Errorf("cannot reset a container in the %s state", r.status), ErrNotRunning}
	}
	return nil
}

// findInit fills in cgroup, pidfd and status.
func (r *resetting) findInit() (err error) {
	r.pidfd, r.status = -1, specs.StateStopped
	rec := &r.now.rec
	if r.cgroup, err = cgroup.Load(rec.Cgroup); err != nil {
		return err
	}
	fd, err := rec.Init.OpenAlive()
	if err == unix.ESRCH {
		return nil
	}
	if err != nil {
		return fmt.Errorf("pidfd of init: %w", err)
	}
	r.pidfd = r.fds.add(fd)
	frozen, err := r.cgroup.Frozen()
	r.status = r.now.aliveStatus(err == nil && frozen)
	return nil
}

// read fills in what is stored of the container, which its Sandbox may know.
func (r *resetting) read() error {
	r.made.mu.Lock()
	known := r.made.upToDate(r.entry.path)
	if known {
		r.now.read, r.now.rec = r.made.read, r.made.rec
	}
	r.made.mu.Unlock()
	if known {
		return nil
	}
	return r.now.load(r.entry.path)
}

// above is the key of a layer that a snapshot has made and that was killed then; never of
// the one that the container is on.
func (r *resetting) above() string {
	if key := r.entry.above(); key != r.old {
		return key
	}
	return ""
}

// interrupted ends what a reset that was interrupted while there was no init has left: one
// that may have begun to start and that nobody has seen.
func (r *resetting) interrupted() error {
	if r.mode != ResetRestart {
		return kindError{errors.New("the container has no init because a reset was interrupted: restart it"), ErrNotRunning}
	}
	err := r.now.killAll()
	r.reap()
	r.pidfd, r.status = -1, specs.StateStopped
	return err
}

// nextLayer makes the layer for the container to go on. Its key is written down before
// anything depends on it.
func (r *resetting) nextLayer(parents []string) error {
	l, err := r.load(r.old)
	if err != nil {
		return err
	}
	spare := r.entry.spare()
	if spare != "" && r.mode != "" { // a snapshot leaves it
		r.stale = append(r.stale, spare)
		r.next = r.spare(l, spare, parents)
	}
	if r.next == nil {
		if r.next, err = l.Next(parents); err != nil {
			return err
		}
	}
	r.step("layered")
	r.stale = slices.DeleteFunc(r.stale, func(key string) bool { return key == r.next.Key() })
	keys := slices.Concat(r.stale, volumeKeys(r.volumes), []string{r.next.Key()})
	err = replaceFile(r.entry.join(nextFile), []byte(strings.Join(keys, "\n")+"\n"))
	if err != nil {
		return errors.Join(err, r.next.Discard())
	}
	if spare != "" && r.mode != "" {
		_ = unix.Unlink(r.entry.join(spareFile))
	}
	return nil
}

// load returns a layer, without a look at the disk if it is the one that the last reset by
// the same Sandbox has made.
func (r *resetting) load(key string) (*layer.Layer, error) {
	r.made.mu.Lock()
	on := r.made.on
	r.made.mu.Unlock()
	if on != nil && on.Key() == key {
		return on, nil
	}
	return r.root.Load(key)
}

// drop gives up a layer that the container is not on any more.
func (r *resetting) drop(key string) error {
	r.made.mu.Lock()
	on := r.made.on
	r.made.mu.Unlock()
	if on != nil && on.Key() == key {
		if err := on.Discard(); !errors.Is(err, layer.ErrInUse) { // which it is where it was committed since
			return gone(err)
		}
	}
	return dropLayer(r.root, key)
}

// spare is the layer that was made ahead, if it is what Next would make.
func (r *resetting) spare(l *layer.Layer, key string, parents []string) *layer.Layer {
	r.ahead = r.made.take(&r.made.ahead, key)
	s := r.ahead.layer
	if s == nil {
		var err error
		if s, err = r.root.Load(key); err != nil {
			return nil
		}
	}
	ok := slices.Equal(s.Meta().Parents, parents) && slices.Equal(s.Meta().Lowers, l.Meta().Lowers) && s.CheckLowers() == nil
	if l.Meta().Driver == layer.Overlay {
		// Its work directory has been used, so it cannot be mounted a second time.
		ok = ok && r.ahead.mount != nil && (r.ahead.filled == nil || r.fits(r.ahead.filled))
	}
	if !ok {
		r.ahead.close()
		return nil
	}
	return s
}

func (r *resetting) step(name string) {
	if f := r.now.store.step; f != nil {
		f(name)
	}
}

// run is the rest, in the order: prepare what may fail, end the processes, begin anew.
func (r *resetting) run(ctx context.Context) error {
	renew := r.restart
	if r.mode == ResetKeepInit {
		renew = r.keepInit
	}
	if err := renew(ctx); err != nil {
		r.c.undo.run()
		if r.now.rec.current() != r.next.Key() {
			err = errors.Join(err, r.forget())
		}
		return err
	}
	r.step("renewed")
	r.publish()
	return nil
}

// forget gives up the layer of a reset that has failed.
func (r *resetting) forget() error {
	if err := errors.Join(r.next.Discard(), r.dropVolumes()); err != nil {
		return err
	}
	if len(r.stale) > 1+len(r.volumes) { // of an earlier one, or a spare
		return nil
	}
	return unix.Unlink(r.entry.join(nextFile))
}

// publish completes a reset that has succeeded. What fails of it is left to gc.
func (r *resetting) publish() {
	_ = unix.Unlink(r.entry.join(resetFile))
	var errs []error
	for _, key := range r.stale {
		errs = append(errs, r.drop(key))
	}
	if err := errors.Join(errs...); err != nil {
		slog.Warn("reset: " + err.Error() + "; gc will try again")
	} else {
		_ = unix.Unlink(r.entry.join(nextFile))
		_ = unix.Unlink(r.entry.join(aboveFile))
	}
	sb := r.made
	sb.mu.Lock()
	sb.read, sb.rec, sb.conf, sb.on = r.now.read, r.now.rec, r.spec, r.next
	sb.mu.Unlock()
}

// restart starts init anew, in the namespaces that the container keeps.
func (r *resetting) restart(ctx context.Context) error {
	c := r.c
	if err := r.restartable(); err != nil {
		return err
	}
	var left []specs.LinuxNamespaceType
	if r.pidfd >= 0 {
		left = r.left()
	}
	if slices.Contains(left, specs.UserNamespace) && compile.HasOwn(r.spec, specs.UserNamespace) {
		return errors.New("init has left its user namespace: delete the container")
	}
	c.bundle.Spec = r.keepNamespaces(left)
	if err := r.renewUnit(); err != nil {
		return err
	}
	if err := c.compile(); err != nil {
		return err
	}
	opts, err := c.options(&r.fds)
	if err != nil {
		return err
	}
	if err := writeFile(r.entry.join(resetFile), nil); err != nil {
		return err
	}
	r.step("marked")
	defer r.made.renew()()
	if err := r.exchange(opts); err != nil {
		return err
	}
	r.step("started")
	if err := c.follow(ctx); err != nil {
		return err
	}
	r.made.succeed(r.now.child)
	return nil
}

// restartable refuses a container whose terminal nobody would hold.
func (r *resetting) restartable() error {
	if !r.spec.Process.Terminal {
		r.c.o.ConsoleSocket = ""
		return nil
	}
	if r.made.child != nil && r.made.child.console != nil {
		r.c.o.KeepConsole = true
		return nil
	}
	path := r.c.o.ConsoleSocket
	if path == "" {
		return errors.New("process.terminal: it is held by another process: keep init instead")
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return fmt.Errorf("process.terminal: nobody listens on console socket %s any more: keep init instead", path)
	}
	return nil
}

// keepNamespaces is the spec with the paths of the namespaces that the next init joins:
// those that the first one has joined, which may have lost their names since, the user
// namespace and, if nobody could change it, the network namespace.
func (r *resetting) keepNamespaces(left []specs.LinuxNamespaceType) *specs.Spec {
	s := *r.spec
	l := *s.Linux
	s.Linux = &l
	l.Namespaces = slices.Clone(l.Namespaces)
	if r.pidfd < 0 {
		return &s // there is no init to take them from
	}
	for i := range l.Namespaces {
		ns := &l.Namespaces[i]
		file := namespaceFile(ns.Type)
		keep := ns.Path != "" || ns.Type == specs.UserNamespace
		if ns.Type == specs.NetworkNamespace && !r.ownsNetwork() {
			keep, l.NetDevices = true, nil
		}
		if keep && file != "" && !slices.Contains(left, ns.Type) {
			ns.Path = ofInit + file
		}
	}
	return &s
}

// ofInit begins the path of a namespace of the init that a reset ends. No path in a spec
// looks like it. The number of init is not in it, so that the next reset's program is
// the same.
const ofInit = "init/ns/"

// compiled is a program that a reset has compiled, and what it depends on.
type compiled struct {
	mode       ResetMode
	spec       *specs.Spec // as it is stored
	namespaces []specs.LinuxNamespace
	facts      *compile.Facts
	filter     *seccomp.Filter
	init       *compile.Init
}

// compiledBefore returns what the last reset of this container has compiled for the same
// namespaces and facts, or nil.
func (c *creation) compiledBefore(f *compile.Facts) *compiled {
	r := c.reset
	if r == nil || c.sb.store.tamper != nil {
		return nil
	}
	r.made.mu.Lock()
	defer r.made.mu.Unlock()
	was := r.made.compiled
	if was == nil || was.mode != r.mode || was.spec != r.spec ||
		!slices.Equal(was.namespaces, c.bundle.Spec.Linux.Namespaces) || !reflect.DeepEqual(was.facts, f) {
		return nil
	}
	return was
}

// keepCompiled keeps the program of a reset for the next one.
func (c *creation) keepCompiled(f *compile.Facts) {
	r := c.reset
	if r == nil || c.sb.store.tamper != nil {
		return
	}
	r.made.mu.Lock()
	defer r.made.mu.Unlock()
	r.made.compiled = &compiled{
		mode: r.mode, spec: r.spec, namespaces: c.bundle.Spec.Linux.Namespaces, facts: f, filter: c.filter, init: c.init,
	}
}

// left are the namespaces that init has been given and is not in any more.
func (r *resetting) left() (list []specs.LinuxNamespaceType) {
	was := r.now.rec.Init.Namespaces
	if len(was) == 0 {
		return nil
	}
	is := namespacesOf(r.pidfd, r.now.rec.Init.Pid)
	for i, t := range recordedNamespaces() {
		if i < len(was) && was[i] != is[i] {
			list = append(list, t)
		}
	}
	return list
}

// namespaceFile is the name of a namespace's file in /proc/PID/ns (namespaces(7)).
func namespaceFile(t specs.LinuxNamespaceType) string {
	switch t {
	case specs.PIDNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.CgroupNamespace, specs.UserNamespace, specs.TimeNamespace:
		return string(t)
	case specs.NetworkNamespace:
		return "net"
	case specs.MountNamespace:
		return "mnt"
	}
	return ""
}

// ownsNetwork says whether processes of the container could change the network namespace
// that the runtime made for it: then the next init gets another one. Devices that were
// moved into it would be lost with it.
func (r *resetting) ownsNetwork() bool {
	caps := r.spec.Process.Capabilities
	admin := caps != nil && (slices.Contains(caps.Bounding, "CAP_NET_ADMIN") || slices.Contains(caps.Permitted, "CAP_NET_ADMIN"))
	// Its sysctls are files of root's, which take no capability.
	sysctls := !slices.Contains(r.spec.Linux.ReadonlyPaths, "/proc/sys")
	return len(r.spec.Linux.NetDevices) == 0 && (admin || sysctls)
}

// renewUnit plans a new unit where the cgroup is systemd's, which removes one that
// becomes empty.
func (r *resetting) renewUnit() (err error) {
	if !r.cgroup.Enters() {
		return nil
	}
	l := r.spec.Linux
	r.c.cgroup, err = cgroup.Prepare(&cgroup.Options{
		ID: r.now.id, Path: l.CgroupsPath, Resources: l.Resources, Systemd: true, Annotations: r.spec.Annotations,
	})
	return err
}

// exchange ends init and starts the next one, which comes to life while the former dies
// where that can be: it does nothing that the others would be aware of before it is let
// past its first barrier.
func (r *resetting) exchange(opts *engine.Options) error {
	c := r.c
	if err := r.kill(); err != nil {
		return err
	}
	var early chan error
	undo := len(c.undo)
	if r.pidfd >= 0 && r.now.rec.OwnPid && r.status != StatePaused && !r.cgroup.Enters() && len(r.volumes) == 0 {
		early = make(chan error, 1)
		go func() { early <- c.start(opts) }()
	}
	alone, err := r.end()
	started := early != nil && r.await(early) == nil
	killed := started && (err != nil || !alone)
	if killed {
		c.kill() // it may be dead already
		c.undo = c.undo[:undo]
	}
	if err != nil {
		return err
	}
	r.step("ended")
	r.now.rec.Init = initRecord{}
	if started && !killed {
		return nil
	}
	if killed {
		if err := r.anotherLayer(opts); err != nil {
			return err
		}
	}
	return c.start(opts)
}

// anotherLayer is for a second start: an overlay that was mounted for the first cannot be
// mounted again.
func (r *resetting) anotherLayer(opts *engine.Options) error {
	r.ahead.close()
	delete(opts.Named, compile.FileLayer)
	used := r.next
	r.stale, r.next = append(r.stale, used.Key()), nil
	if err := r.nextLayer(used.Meta().Parents); err != nil {
		r.next = used
		return err
	}
	r.c.layer = r.next
	return r.c.compile()
}

// await waits for a start in the container's cgroup. It hangs in clone(2) where a process
// of the container has frozen that before it died.
func (r *resetting) await(start <-chan error) error {
	select {
	case err := <-start:
		return err
	case <-time.After(frozenTimeout):
	}
	_ = r.cgroup.Thaw()
	return <-start
}

// kill begins to end every process, but those that are not in a pid namespace of their
// own. It keeps the root filesystem that they leave: somebody is to close it off the
// caller's path.
func (r *resetting) kill() error {
	if r.pidfd < 0 {
		return nil
	}
	r.held = openOldRoot(r.now.rec.Init.Pid)
	if err := unix.PidfdSendSignal(r.pidfd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("kill init: %w", err)
	}
	return nil
}

// end waits until they are gone. alone says that the death of init was enough for that;
// otherwise everything in the cgroup has been killed.
func (r *resetting) end() (alone bool, err error) {
	rec := &r.now.rec
	r.made.reapExecs() // init does not end before them
	if r.status == StatePaused {
		if err := r.cgroup.Thaw(); err != nil {
			return false, err
		}
	}
	if r.pidfd >= 0 && rec.OwnPid {
		done, err := kernel.WaitExit(r.pidfd, int(frozenTimeout.Milliseconds()))
		if err != nil || done {
			r.reap()
			return true, errors.Join(err, r.leave())
		}
	}
	// Processes outside of a pid namespace of their own, or that are kept from dying.
	if err := errors.Join(r.cgroup.Isolate(0), r.cgroup.Thaw()); err != nil {
		return false, err
	}
	if r.pidfd >= 0 {
		done, err := kernel.WaitExit(r.pidfd, int(exitTimeout.Milliseconds()))
		if err == nil && !done {
			err = fmt.Errorf("process %d does not end", rec.Init.Pid)
		}
		if err != nil {
			return false, err
		}
	}
	r.reap()
	return false, r.leave()
}

// reap takes what this process has started out of the process table.
func (r *resetting) reap() {
	r.made.reapExecs()
	if r.made.child != nil && r.made.child.Pid == r.now.rec.Init.Pid {
		_, _ = r.made.child.reap()
	}
}

// leave makes the cgroup what it was at first.
func (r *resetting) leave() error {
	if r.cgroup.Enters() {
		return r.cgroup.Destroy()
	}
	return r.cgroup.Clear()
}

// openFiles returns the descriptors that init was given, from 0 on. What it has put in
// their place is not taken for them.
func (r *resetting) openFiles(fds *descriptors) ([]uintptr, error) {
	was := r.now.rec.Init.Files
	files := make([]uintptr, 0, len(was))
	null := -1
	for n := range was {
		fd := -1
		if r.pidfd >= 0 && !(n < 3 && r.spec.Process.Terminal) {
			fd = r.takeFile(n, was[n])
		}
		if fd < 0 && null < 0 {
			var err error
			if null, err = unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
				return nil, fmt.Errorf("open /dev/null: %w", err)
			}
			fds.add(null)
		}
		if fd < 0 {
			files = append(files, uintptr(null))
			continue
		}
		files = append(files, uintptr(fds.add(fd)))
	}
	return files, nil
}

// takeFile copies descriptor n of init (pidfd_getfd(2)), or returns -1.
func (r *resetting) takeFile(n int, want fileID) int {
	fd, err := unix.PidfdGetfd(r.pidfd, n, 0)
	if err != nil {
		return -1
	}
	if ids := identify([]uintptr{uintptr(fd)}); ids[0] != want {
		unix.Close(fd)
		return -1
	}
	return fd
}

// identify says which files descriptors are of.
func identify(files []uintptr) []fileID {
	ids := make([]fileID, len(files))
	for i, fd := range files {
		var st unix.Stat_t
		if unix.Fstat(int(fd), &st) == nil {
			ids[i] = fileID{uint64(st.Dev), st.Ino}
		}
	}
	return ids
}

// renew announces that the end of init is not the container's, until the function that
// it returns is called.
func (sb *Sandbox) renew() (done func()) {
	ended := make(chan struct{})
	sb.mu.Lock()
	sb.renewing = ended
	sb.mu.Unlock()
	return func() {
		sb.mu.Lock()
		sb.renewing = nil
		sb.mu.Unlock()
		close(ended)
	}
}

// succeed makes the init that a reset has started the child of sb: who waits for the
// former goes on to wait for this one.
func (sb *Sandbox) succeed(c *child) {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	sb.child = c
}

// validSnapshot is a name that can be part of a path and of a list.
func validSnapshot(name string) error {
	const most = 128
	ok := name != "" && len(name) <= most && !strings.ContainsAny(name[:1], ".-")
	for _, r := range name {
		ok = ok && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '-' || r == '_')
	}
	if !ok {
		return fmt.Errorf("snapshot %q: a name is 1 to %d letters, digits, dots, dashes and underscores, and begins with none of the last three but the underscore", name, most)
	}
	return nil
}
