package libsandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/compile"
	"adl.run/adl-runtime/libsandbox/internal/engine"
	"adl.run/adl-runtime/libsandbox/internal/kernel"
	"adl.run/adl-runtime/libsandbox/layer"
)

// ahead is the layer for the next reset, or the one for the container to go on on after the
// next snapshot. The zero value is none.
type ahead struct {
	layer  *layer.Layer
	mount  *os.File // of an overlay; nil for another
	filled *filled  // nil where nothing is mounted on it
}

func (a *ahead) close() {
	a.mount.Close() // of nil, an error
	*a = ahead{}
}

// filled is what the mounts on a layer were made from.
type filled struct {
	mode    ResetMode
	init    kernel.ProcessID
	facts   *compile.Facts // without the layer
	sources []fileID       // of the bind mounts
}

// take returns a layer that was made ahead, one of sb's, which is the caller's then, if it
// has that key. Any other is given up.
func (sb *Sandbox) take(made *ahead, key string) ahead {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	a := *made
	*made = ahead{}
	if a.layer != nil && a.layer.Key() != key {
		a.close()
	}
	return a
}

const (
	// prepareAfter is how long after a reset that begins: whoever resets or deletes the
	// container sooner does not wait for it.
	prepareAfter = 5 * time.Millisecond
	// prepareLatest is how long it is put off while others wait for this process's work.
	prepareLatest = 100 * time.Millisecond
)

// wanted is what to make ahead, for a container that it was done with before.
type wanted struct {
	reset    bool
	mode     ResetMode // of that
	snapshot bool
}

// prepare has prepareNext run soon, for what want adds to what is wanted already. A store
// that has a background process is a command's, which ends.
func (sb *Sandbox) prepare(want func(*wanted)) {
	if sb.store.background != nil {
		return
	}
	sb.mu.Lock()
	want(&sb.wanted)
	sb.mu.Unlock()
	sb.prepareLater(prepareLatest)
}

// prepareLater has prepareNext run when the store has nothing to do, or after so long.
func (sb *Sandbox) prepareLater(latest time.Duration) {
	time.AfterFunc(prepareAfter, func() {
		if sb.store.busy.Load() > 0 && latest > prepareAfter {
			sb.prepareLater(latest - prepareAfter)
			return
		}
		sb.prepareNext()
	})
}

// prepareNext makes the layers for the next reset to the first state and for the next
// snapshot, as far as they are wanted, unless somebody else is working on the container or
// they are there already. It also makes those mounts on the former that the kernel lets it
// make.
func (sb *Sandbox) prepareNext() {
	e, err := sb.store.lockWithin(sb.id, 0)
	if err != nil {
		return
	}
	defer e.close()
	r := &resetting{entry: e, made: sb, now: &Sandbox{store: sb.store, id: sb.id}, pidfd: -1}
	defer r.fds.close()
	if r.read() != nil || len(e.nextLayers()) > 0 || unix.Access(e.join(resetFile), unix.F_OK) == nil {
		return
	}
	sb.mu.Lock()
	same, want := sb.read.sameContainer(&r.now.read), sb.wanted
	sb.mu.Unlock()
	over, spare := want.snapshot && e.above() == "", want.reset && e.spare() == ""
	if !same || !over && !spare {
		return
	}
	if r.root, err = r.now.rec.Layer.open(); err != nil {
		return
	}
	l, err := r.load(r.now.rec.current())
	if err != nil {
		return // the reset will tell why
	}
	if over {
		sb.replace(&sb.over, r.makeOver(l))
	}
	if !spare {
		return
	}
	r.o = &ResetOptions{Mode: want.mode}
	if err := r.makeAhead(l); err != nil {
		r.dropAhead()
		return
	}
	sb.replace(&sb.ahead, r.ahead)
}

// replace puts a layer in the place of one of sb's.
func (sb *Sandbox) replace(made *ahead, by ahead) {
	was := sb.take(made, "")
	was.close()
	sb.mu.Lock()
	*made = by
	sb.mu.Unlock()
}

// makeOver makes and mounts the layer above l, which is an overlay that the container is on.
// Where that fails there is none, and the snapshot will tell why.
func (r *resetting) makeOver(l *layer.Layer) (over ahead) {
	if l.Meta().Driver != layer.Overlay || l.Meta().Committed {
		return over
	}
	next, err := l.Above()
	if err != nil {
		return over
	}
	if err = writeFile(r.entry.join(aboveFile), []byte(next.Key())); err == nil {
		over = ahead{layer: next, mount: mountLayer(next)}
	}
	if over.mount == nil {
		over = ahead{}
		if next.Discard() == nil {
			_ = unix.Unlink(r.entry.join(aboveFile))
		}
	}
	return over
}

// makeAhead makes the layer for the next reset of a container that is on l.
func (r *resetting) makeAhead(l *layer.Layer) (err error) {
	if r.next, err = l.Next(r.now.rec.Layer.Parents); err != nil {
		return err
	}
	r.ahead.layer = r.next
	if err := replaceFile(r.entry.join(spareFile), []byte(r.next.Key())); err != nil {
		return err
	}
	if r.next.Meta().Driver != layer.Overlay {
		return nil
	}
	if r.ahead.mount = mountLayer(r.next); r.ahead.mount == nil {
		return errors.New("the layer cannot be mounted ahead")
	}
	if r.check() != nil {
		return nil
	}
	return r.fill()
}

// dropAhead gives up what makeAhead has begun.
func (r *resetting) dropAhead() {
	r.ahead.close()
	if r.next != nil && r.next.Discard() == nil {
		_ = unix.Unlink(r.entry.join(spareFile))
	}
}

// fill makes the mounts on the layer, if that can be done ahead. After an error there may
// be some.
func (r *resetting) fill() (err error) {
	r.made.mu.Lock()
	hopeless := r.made.noFill
	r.made.mu.Unlock()
	if r.spec, err = r.config(); err != nil || hopeless || len(r.left()) > 0 {
		return err
	}
	if err := r.begin(); err != nil {
		return err
	}
	r.c.layer = r.next
	keep := r.mode == ResetKeepInit
	if !keep {
		r.c.bundle.Spec = r.keepNamespaces(nil)
	}
	facts, err := r.c.facts(r.now.store)
	if err != nil {
		return err
	}
	if !compile.CanFill(r.c.bundle.Spec, facts, keep) {
		return nil
	}
	f := &filled{mode: r.mode, init: r.now.rec.Init.ProcessID, facts: r.facts, sources: r.c.sourceIDs()}
	if err := r.runFill(facts); err != nil {
		r.made.mu.Lock()
		r.made.noFill = true
		r.made.mu.Unlock()
		return err
	}
	r.ahead.filled = f
	return nil
}

// runFill runs the program. Nobody in the container is aware of it.
func (r *resetting) runFill(facts *compile.Facts) error {
	p, err := compile.NewFill(r.c.bundle.Spec, facts, r.mode == ResetKeepInit)
	if err != nil {
		return err
	}
	if err := p.Verify(); err != nil {
		return err
	}
	if r.now.store.tamperFill != nil {
		r.now.store.tamperFill(p.Program)
	}
	pids, err := unix.Open(fmt.Sprintf("/proc/%d/ns/pid", r.now.rec.Init.Pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("pid namespace of init: %w", err)
	}
	r.fds.add(pids)
	if ended, _ := kernel.WaitExit(r.pidfd, 0); ended { // and the number may be another's
		return fmt.Errorf("%w", ErrNotRunning)
	}
	files, err := openFiles(&r.fds, nil, nil, nil, nil)
	if err != nil {
		return err
	}
	child, err := engine.Start(p.Program, &engine.Options{
		Name: "adl-fill", Files: files, CgroupFD: -1,
		Named: map[string]int{compile.FileInit: r.pidfd, compile.FileLayer: int(r.ahead.mount.Fd()), compile.FilePids: pids},
	})
	if err != nil {
		return err
	}
	err = followFill(child)
	if err != nil {
		_ = unix.Kill(child.Pid, unix.SIGKILL)
	}
	reap(child.Pid)
	child.Close()
	return err
}

// followFill waits for the end of the program, which has nothing to ask.
func followFill(child *engine.Child) error {
	for done := false; ; {
		rec, err := child.Next()
		switch {
		case err == io.EOF && done:
			return nil
		case err == io.EOF:
			return errors.New("the program that makes the mounts ended before it was done")
		case err != nil:
			kernel.Close(rec.Files...)
			return err
		case rec.Barrier != compile.BarrierDone:
			kernel.Close(rec.Files...)
			return fmt.Errorf("the program that makes the mounts is at barrier %d", rec.Barrier)
		}
		done = true
	}
}

// fits says whether the mounts on a layer are those that would be made now.
func (r *resetting) fits(f *filled) bool {
	if r.mode != f.mode || r.now.rec.Init.ProcessID != f.init || r.mode == ResetRestart && len(r.left()) > 0 {
		return false
	}
	if _, err := r.c.facts(r.now.store); err != nil {
		return false
	}
	return reflect.DeepEqual(r.facts, f.facts) && slices.Equal(r.c.sourceIDs(), f.sources)
}

// sourceIDs are the files that the bind mounts show, by the index of the mount; zero for
// one that there is none of, or that is no bind mount.
func (c *creation) sourceIDs() []fileID {
	var ids []fileID
	for i := range c.bundle.Spec.Mounts {
		var id fileID
		var st unix.Stat_t
		if s, ok := c.reset.facts.Sources[i]; ok && unix.Stat(s.Path, &st) == nil {
			id = fileID{uint64(st.Dev), st.Ino}
		}
		ids = append(ids, id)
	}
	return ids
}

// mountLayer mounts a layer, unattached, or returns nil: whoever needs it tries again, and
// tells why not.
func mountLayer(l *layer.Layer) *os.File {
	m := l.Mounts()[0]
	facts, err := kernelFacts()
	if err != nil || m.Type != "overlay" {
		return nil
	}
	parameters, ok := compile.LayerParameters(&m, facts)
	if !ok {
		return nil
	}
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil
	}
	defer unix.Close(fs)
	err = unix.FsconfigSetString(fs, "source", "overlay")
	for _, p := range parameters {
		switch {
		case err != nil:
			return nil
		case p[1] == "":
			err = unix.FsconfigSetFlag(fs, p[0])
		default:
			err = unix.FsconfigSetString(fs, p[0], p[1])
		}
	}
	if err != nil || unix.FsconfigCreate(fs) != nil {
		return nil
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), l.Key())
}
