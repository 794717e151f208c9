package libsandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/compile"
	"adl.run/adl-runtime/libsandbox/layer"
	"adl.run/adl-runtime/spec"
)

// SnapshotMethod is how a snapshot was taken.
type SnapshotMethod string

// The methods.
const (
	// ByReference: the layer became read-only, and the container goes on on a new one
	// above it; or btrfs made the copy. It costs the same whatever is in the layer.
	ByReference SnapshotMethod = "reference"
	// ByCopy: the layer was copied while the processes stood still.
	ByCopy SnapshotMethod = "copy"
)

// Snapshot is the content of a container's root filesystem at some time. It never
// changes. What is mounted in the container, as volumes and tmpfs are, is no part of it,
// but what was written to cow volumes is.
type Snapshot struct {
	Name    string         `json:"name"`
	Created time.Time      `json:"created"`
	Method  SnapshotMethod `json:"method"`
	// Why says what a snapshot by copy was made necessary by; empty otherwise.
	Why string `json:"why,omitempty"`
	// Took is how long it took, in nanoseconds, and Stopped for how much of that the
	// processes stood still.
	Took    time.Duration `json:"took"`
	Stopped time.Duration `json:"stopped"`
	// Bytes and Files are what was copied.
	Bytes int64 `json:"bytes"`
	Files int   `json:"files"`
	// Key is the layer that holds it and Parents are those below that one.
	Key     string   `json:"key"`
	Parents []string `json:"parents"`
	// Volumes are the layers that hold its cow volumes, in the spec's order.
	Volumes []LayerChain `json:"volumes,omitempty"`
}

// chain is what a layer that begins as the snapshot stands on.
func (s *Snapshot) chain() []string { return append([]string{s.Key}, s.Parents...) }

// volumeChains are the same for its cow volumes.
func (s *Snapshot) volumeChains() (all [][]string) {
	for i := range s.Volumes {
		all = append(all, s.Volumes[i].chain())
	}
	return all
}

// snapshotUser is what keeps the layer of a snapshot that has a name.
const snapshotUser = "named"

// Errors about snapshots.
var (
	// ErrNoSnapshot: the container has no snapshot of that name.
	ErrNoSnapshot = errors.New("snapshot does not exist")
	// ErrSnapshotExists: the name is taken.
	ErrSnapshotExists = errors.New("snapshot exists")
)

// Snapshot keeps the container's root filesystem as it is now under a name; an empty
// name becomes a number. The container must not be in the making.
func (sb *Sandbox) Snapshot(ctx context.Context, name string) (*Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sb.touch()
	defer sb.store.work()()
	defer sb.park(ctx)()
	e, err := sb.store.lock(sb.id)
	if err != nil {
		return nil, err
	}
	defer e.close()
	if name == "" {
		name = e.freeSnapshot()
	}
	if err := validSnapshot(name); err != nil {
		return nil, err
	}
	if _, err := e.snapshot(name); !errors.Is(err, ErrNoSnapshot) {
		if err == nil {
			err = kindError{fmt.Errorf("snapshot %q exists already", name), ErrSnapshotExists}
		}
		return nil, err
	}
	s, root, err := sb.keep(ctx, e, snapshotUser)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	s.Name = name
	if err := e.addSnapshot(s); err != nil {
		return nil, errors.Join(fmt.Errorf("snapshot: %w", err), s.release(root, snapshotUser))
	}
	sb.prepare(func(w *wanted) { w.snapshot = true })
	return s, nil
}

// keep makes a committed layer of what the container's root filesystem is now, which user
// holds.
func (sb *Sandbox) keep(ctx context.Context, e *entry, user string) (*Snapshot, *layer.Root, error) {
	k := &keeping{entry: e, user: user, began: time.Now()}
	k.r = &resetting{entry: e, o: &ResetOptions{}, made: sb, now: &Sandbox{store: sb.store, id: sb.id}, pidfd: -1}
	defer k.r.fds.close()
	defer func() { sb.store.letGo(k.root) }()
	defer func() { k.r.ahead.close() }()
	if err := k.prepare(); err != nil {
		return nil, nil, err
	}
	err := k.take(ctx)
	if k.forgot {
		sb.store.emptyLater(k.r.now.rec.Layer)
	}
	if err != nil {
		k.snap.Key = "" // has been seen to
		return nil, nil, errors.Join(err, k.snap.release(k.r.root, user))
	}
	k.snap.Created, k.snap.Took = time.Now(), time.Since(k.began)
	return &k.snap, k.r.root, nil
}

// keeping is the state of a snapshot in the making.
type keeping struct {
	r     *resetting // what it has in common with a reset
	entry *entry
	user  string
	began time.Time
	layer *layer.Layer // that the container is on
	root  *os.File     // of init
	snap  Snapshot
	// forgot says that there is a layer in the trash.
	forgot bool
}

func (k *keeping) prepare() (err error) {
	r := k.r
	if err := r.read(); err != nil {
		return err
	}
	rec := &r.now.rec
	if rec.Layer == nil {
		return kindError{errors.New("the container has no layer: create it with --layer overlay or --layer btrfs"), ErrNoLayer}
	}
	if len(k.entry.nextLayers()) > 0 {
		return errInterrupted()
	}
	if r.root, err = rec.Layer.open(); err != nil {
		return err
	}
	if k.layer, err = r.load(rec.current()); err != nil {
		return err
	}
	r.made.mu.Lock()
	r.made.on = nil // it is going to change
	r.made.mu.Unlock()
	if k.layer.Meta().Committed {
		return errInterrupted()
	}
	r.old = rec.current()
	if r.spec, err = r.config(); err != nil {
		return err
	}
	if err := r.findInit(); err != nil {
		return err
	}
	return k.takeOver()
}

// takeOver takes the layer that was made ahead, or discards it: its work directory has been
// used, so that nobody else can mount it.
func (k *keeping) takeOver() error {
	r := k.r
	above := r.above()
	if above == "" {
		return nil
	}
	r.ahead = r.made.take(&r.made.over, above)
	if l := r.ahead.layer; l != nil && r.pidfd >= 0 && l.StandsOn(k.layer) {
		return nil
	}
	r.ahead.close()
	l, err := r.root.Load(above) // also of one that was killed
	if err != nil {
		return nil
	}
	if err := l.Discard(); err != nil {
		return err
	}
	k.forgot = true
	return nil
}

// errInterrupted is for what would take what was half done for the container.
func errInterrupted() error {
	return errors.New("a reset or a snapshot was interrupted: reset the container first")
}

// take chooses the method.
func (k *keeping) take(ctx context.Context) error {
	k.snap.Method = ByReference
	switch {
	case k.layer.Meta().Driver == layer.Btrfs:
		l, err := k.layer.Snapshot()
		if err != nil {
			return err
		}
		return k.hold(l)
	case k.r.pidfd < 0:
		// Init's end is not that of its threads, nor of others where it has no pid
		// namespace.
		pids, err := k.r.cgroup.Procs()
		if err == nil && len(pids) > 0 {
			err = fmt.Errorf("the container has stopped, but process %d of it has not", pids[0])
		}
		if err == nil {
			err = k.copyVolumes()
		}
		if err != nil {
			return err
		}
		return k.byReference(ctx, false)
	}
	return k.standing(func() error {
		if err := k.copyVolumes(); err != nil {
			return err
		}
		err := k.byReference(ctx, true)
		var noticed errNoticed
		if !errors.As(err, &noticed) {
			return err
		}
		k.snap.Method, k.snap.Why = ByCopy, noticed.why
		l, stats, err := k.layer.Copy()
		if err != nil {
			return err
		}
		k.snap.Bytes += stats.Bytes
		k.snap.Files += stats.Files
		return k.hold(l)
	})
}

// hold makes the user of the snapshot one of the layer that holds it.
func (k *keeping) hold(l *layer.Layer) error {
	k.snap.Key, k.snap.Parents = l.Key(), l.Meta().Parents
	return k.r.root.Hold(l.Key(), k.user)
}

// standing runs f while the processes of the container stand still.
func (k *keeping) standing(f func() error) error {
	if k.r.status != StatePaused {
		if err := k.r.cgroup.Freeze(); err != nil {
			return err
		}
		since := time.Now()
		defer func() { k.snap.Stopped = time.Since(since) }()
		defer func() { _ = k.r.cgroup.Thaw() }()
	}
	k.r.step("standing")
	return f()
}

// look finds out whether the processes would notice that their root filesystem is another
// mount.
func (k *keeping) look() (*mountTree, error) {
	pid := k.r.now.rec.Init.Pid
	if k.root = openOldRoot(pid); k.root == nil {
		return nil, fmt.Errorf("%w", ErrNotRunning)
	}
	if left := k.r.left(); len(left) > 0 {
		return nil, errNoticed{"init has left its " + string(left[0]) + " namespace"}
	}
	tree, err := readTree(pid, k.root)
	if err != nil {
		return nil, err
	}
	pids, err := k.r.cgroup.Procs()
	if err == nil {
		err = tree.unnoticed(pids)
	}
	if err == nil {
		err = tree.noSockets(pid, k.root)
	}
	return tree, err
}

// byReference commits the layer and puts the container, with its processes if it has any,
// on a new one above it. Where errNoticed is returned nothing has happened.
func (k *keeping) byReference(ctx context.Context, processes bool) error {
	made := make(chan error, 1)
	go func() { made <- k.nextLayer(processes) }()
	var tree *mountTree
	var err error
	if processes {
		tree, err = k.look() // meanwhile
	}
	if merr := <-made; merr != nil {
		return merr
	}
	if err == nil {
		err = k.commit(ctx, tree)
	}
	if err != nil {
		return takenBack(err, k.forget())
	}
	_ = unix.Unlink(k.entry.join(nextFile))
	sb := k.r.made
	sb.mu.Lock()
	sb.read, sb.rec, sb.conf, sb.on = k.r.now.read, k.r.now.rec, k.r.spec, k.r.next
	sb.mu.Unlock()
	return nil
}

// takenBack is err where undo is nil: another one is not to be taken for errNoticed.
func takenBack(err, undo error) error {
	if undo == nil {
		return err
	}
	return fmt.Errorf("%v; undo: %w", err, undo)
}

// nextLayer makes the layer above the one that is kept, and mounts it for processes, unless
// that was done ahead.
func (k *keeping) nextLayer(processes bool) (err error) {
	r := k.r
	if r.ahead.layer != nil {
		r.next = r.ahead.layer
		r.step("layered")
		if err := r.next.Redress(r.ahead.mount); err == nil {
			return nil
		}
		if err := k.forget(); err != nil {
			return err
		}
	}
	if r.next, err = k.layer.Above(); err != nil {
		return err
	}
	r.step("layered")
	if err := writeFile(k.entry.join(aboveFile), []byte(r.next.Key())); err != nil {
		return takenBack(err, k.forget())
	}
	if processes {
		r.ahead.mount = mountLayer(r.next)
	}
	return nil
}

// forget gives that layer up, unless that was done.
func (k *keeping) forget() error {
	k.r.ahead.close()
	if k.r.next == nil {
		return nil
	}
	if err := k.r.next.Discard(); err != nil {
		return err
	}
	_ = unix.Unlink(k.entry.join(aboveFile))
	k.r.next, k.forgot = nil, true
	return nil
}

// commit keeps the layer, and puts the container on the next one. Without a tree there are
// no processes. After an error the layer is what it was, or the container counts as
// interrupted.
func (k *keeping) commit(ctx context.Context, tree *mountTree) (err error) {
	if tree != nil && !tree.alone {
		// This takes longer the more files the kernel has in mind of the layer.
		if err := setReadOnly(k.root, true); err != nil {
			if err == unix.EBUSY {
				return errNoticed{compile.WrittenTo}
			}
			return fmt.Errorf("remount the layer: %w", err)
		}
		defer func() {
			if err != nil {
				err = takenBack(err, setReadOnly(k.root, false))
			}
		}()
	}
	if err := replaceFile(k.entry.join(nextFile), []byte(k.r.next.Key())); err != nil {
		return err
	}
	_ = unix.Unlink(k.entry.join(aboveFile)) // before the container depends on it
	if err := k.layer.Commit(); err != nil {
		_ = unix.Unlink(k.entry.join(nextFile))
		return err
	}
	k.r.step("committed")
	if err := k.stack(ctx, tree); err != nil {
		undo := k.forget()
		if undo == nil {
			undo = k.layer.Uncommit(k.user)
		}
		if undo == nil {
			_ = unix.Unlink(k.entry.join(nextFile))
		}
		return takenBack(err, undo)
	}
	return nil
}

// stack puts the container on the next layer.
func (k *keeping) stack(ctx context.Context, tree *mountTree) error {
	if err := k.hold(k.layer); err != nil {
		return err
	}
	if err := k.r.next.Settle(); err != nil {
		return err
	}
	err := k.restack(ctx, tree)
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case strings.Contains(err.Error(), compile.WrittenTo):
		return errNoticed{compile.WrittenTo}
	}
	return errNoticed{"the root filesystem could not be exchanged: " + err.Error()}
}

// restack puts the container's processes on the new layer.
func (k *keeping) restack(ctx context.Context, tree *mountTree) error {
	r := k.r
	if tree == nil {
		return r.movedTo()
	}
	r.c = &creation{
		id: r.now.id, bundle: &spec.Bundle{Dir: r.now.rec.Bundle, Spec: r.spec}, sb: r.now, entry: k.entry,
		cgroup: r.cgroup, layer: r.next, reset: r, o: &CreateOptions{},
	}
	facts, err := kernelFacts()
	if err != nil {
		return err
	}
	facts.Root, facts.Layer = r.now.rec.Rootfs, r.c.layerFact()
	if r.c.init, err = compile.NewRestack(r.spec, facts, tree.below, tree.alone); err != nil {
		return err
	}
	if err := r.c.init.Verify(); err != nil {
		return err
	}
	if r.now.store.tamper != nil {
		r.now.store.tamper(r.c.init.Program)
	}
	if err := r.reroot(ctx, k.root); err != nil {
		return err
	}
	r.step("rerooted")
	return r.movedTo()
}

// setReadOnly changes the file system that an open directory is on. EBUSY: a file is open
// for writing on it.
func setReadOnly(dir *os.File, on bool) error {
	const pickEmpty = 8 // FSPICK_EMPTY_PATH
	fs, err := unix.Fspick(int(dir.Fd()), "", unix.FSPICK_CLOEXEC|pickEmpty)
	if err != nil {
		return err
	}
	defer unix.Close(fs)
	flag := "rw"
	if on {
		flag = "ro"
	}
	if err := unix.FsconfigSetFlag(fs, flag); err != nil {
		return err
	}
	return unix.FsconfigReconfigure(fs)
}

// Snapshots lists the container's snapshots, oldest first.
func (sb *Sandbox) Snapshots() ([]Snapshot, error) {
	if err := sb.reload(); err != nil {
		return nil, err
	}
	if sb.view().rec.Layer == nil {
		return nil, kindError{errors.New("the container has no layer"), ErrNoLayer}
	}
	e := &entry{path: filepath.Join(sb.store.root, sb.id), fd: -1}
	return e.snapshots(), nil
}

// DeleteSnapshot gives up a snapshot. What stands on it goes on. ErrNoSnapshot: there is
// none of that name.
func (sb *Sandbox) DeleteSnapshot(name string) error {
	e, err := sb.store.lock(sb.id)
	if err != nil {
		return err
	}
	defer e.close()
	now := &Sandbox{store: sb.store, id: sb.id}
	if err := now.load(e.path); err != nil {
		return err
	}
	if now.rec.Layer == nil {
		return kindError{errors.New("the container has no layer"), ErrNoLayer}
	}
	s, err := e.snapshot(name)
	if err != nil {
		return err
	}
	root, err := now.rec.Layer.open()
	if err != nil {
		return err
	}
	if err := unix.Unlink(e.join(snapDir + "/" + name)); err != nil {
		return fmt.Errorf("snapshot %q: %w", name, err)
	}
	if err := s.release(root, snapshotUser); err != nil {
		return fmt.Errorf("snapshot %q: %w", name, err)
	}
	sb.store.emptyLater(now.rec.Layer)
	return nil
}

// snapshot reads a snapshot's record.
func (e *entry) snapshot(name string) (*Snapshot, error) {
	if err := validSnapshot(name); err != nil {
		return nil, err
	}
	s := &Snapshot{}
	raw, err := os.ReadFile(e.join(snapDir + "/" + name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, kindError{fmt.Errorf("snapshot %q does not exist", name), ErrNoSnapshot}
	}
	if err == nil {
		err = json.Unmarshal(raw, s)
	}
	if err != nil {
		return nil, fmt.Errorf("snapshot %q: %w", name, err)
	}
	s.Name = name
	return s, nil
}

// snapshots are all that can be read, oldest first.
func (e *entry) snapshots() []Snapshot {
	names, _ := os.ReadDir(e.join(snapDir))
	var list []Snapshot
	for _, n := range names {
		if s, err := e.snapshot(n.Name()); err == nil {
			list = append(list, *s)
		}
	}
	slices.SortStableFunc(list, func(a, b Snapshot) int { return a.Created.Compare(b.Created) })
	return list
}

func (e *entry) addSnapshot(s *Snapshot) error {
	if err := os.Mkdir(e.join(snapDir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return replaceFile(e.join(snapDir+"/"+s.Name), raw)
}

// freeSnapshot is one more than the highest number that is a snapshot's name.
func (e *entry) freeSnapshot() string {
	highest := 0
	names, _ := os.ReadDir(e.join(snapDir))
	for _, n := range names {
		if i, err := strconv.Atoi(n.Name()); err == nil && i < 1<<31 {
			highest = max(highest, i)
		}
	}
	return strconv.Itoa(highest + 1)
}
