package libsandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"adl.run/adl-runtime/libsandbox/cgroup"
	"adl.run/adl-runtime/libsandbox/layer"
	"adl.run/adl-runtime/spec"
)

// ForkOptions are the choices of Fork; nil is the zero value.
type ForkOptions struct {
	CreateOptions
	// Snapshot is what the new container begins as; empty is what the container is now.
	Snapshot string
	// Change changes the spec of the new container, which is a copy of the container's;
	// nil changes nothing. The root filesystem stays the container's.
	Change func(*specs.Spec) error
}

// Fork makes and starts a second container on a layer of its own above the same state,
// with the same spec. Nothing is copied of a snapshot, and of the container as it is now
// only where Snapshot has to. A limit on the layer is the container's, too. The cgroup is
// named after the new id where linux.cgroupsPath ends with the old one, and otherwise
// gets it as a last part. The fork of a container that is Owned is this process's, and has
// its limits on time unless there are others. ErrNoLayer: the container has none to branch from.
func (sb *Sandbox) Fork(ctx context.Context, id string, o *ForkOptions) (*Sandbox, error) {
	if o == nil {
		o = &ForkOptions{}
	}
	sb.touch()
	if o.Snapshot == "" {
		defer sb.park(ctx)()
	}
	e, err := sb.store.lock(sb.id)
	if err != nil {
		return nil, err
	}
	defer e.close()
	now := &Sandbox{store: sb.store, id: sb.id}
	if err := now.load(e.path); err != nil {
		return nil, fmt.Errorf("container %q: %w", sb.id, err)
	}
	if now.rec.Layer == nil {
		return nil, kindError{errors.New("fork: the container has no layer"), ErrNoLayer}
	}
	b, err := now.forkBundle(e, id, o)
	if err != nil {
		return nil, fmt.Errorf("fork: %w", err)
	}
	from, release, err := sb.forkFrom(ctx, e, now, o.Snapshot)
	if err != nil {
		return nil, fmt.Errorf("fork: %w", err)
	}
	defer release()
	opts := o.CreateOptions
	opts.NoNewKeyring = now.rec.NoNewKeyring
	if now.rec.Owner != nil {
		opts.Owned = true
	}
	if opts.Lifetime == 0 && opts.Idle == 0 {
		opts.Lifetime, opts.Idle = now.rec.Lifetime, now.rec.Idle
	}
	opts.like, opts.parents, opts.volumes = now.rec.Layer, from.chain(), from.volumeChains()
	if opts.size, err = now.layerSize(); err != nil {
		return nil, fmt.Errorf("fork: %w", err)
	}
	return sb.store.Run(ctx, id, b, &opts)
}

// forkFrom finds or makes the layers that a fork stands on. Until release they are there,
// while the container is locked.
func (sb *Sandbox) forkFrom(ctx context.Context, e *entry, now *Sandbox, snapshot string) (from *Snapshot, release func(), err error) {
	if snapshot != "" {
		s, err := e.snapshot(snapshot)
		if err != nil {
			return nil, nil, err
		}
		return s, func() {}, nil
	}
	if s := now.unchanged(); s != nil {
		return s, func() {}, nil
	}
	s, root, err := sb.keep(ctx, e, forkUser)
	if err != nil {
		return nil, nil, err
	}
	return s, func() { _ = s.release(root, forkUser) }, nil
}

// unchanged is what the container's layers stand on, if nothing was written to them since:
// a fork needs no more. nil otherwise.
func (sb *Sandbox) unchanged() *Snapshot {
	root, err := sb.rec.Layer.open()
	if err != nil {
		return nil
	}
	var all []*layer.Layer
	for _, key := range append([]string{sb.rec.current()}, sb.rec.volumes()...) {
		l, err := root.Load(key)
		if err != nil || l.Meta().Committed {
			return nil
		}
		all = append(all, l)
	}
	cg, err := cgroup.Load(sb.rec.Cgroup)
	if err != nil {
		return nil
	}
	if sb.currentStatus() == specs.StateRunning {
		if cg.Freeze() != nil {
			return nil
		}
		defer func() { _ = cg.Thaw() }()
	}
	s := &Snapshot{}
	for i, l := range all {
		if !l.Unchanged() {
			return nil
		}
		p := LayerChain{l.Meta().Parents[0], l.Meta().Parents[1:]}
		if i == 0 {
			s.Key, s.Parents = p.Key, p.Parents
		} else {
			s.Volumes = append(s.Volumes, p)
		}
	}
	return s
}

// forkUser keeps a layer until a fork stands on it. Whoever has the container's lock is
// the only one who uses it.
const forkUser = "fork"

// forkBundle is the bundle of the new container.
func (sb *Sandbox) forkBundle(e *entry, id string, o *ForkOptions) (*spec.Bundle, error) {
	s, err := e.config()
	if err != nil {
		return nil, err
	}
	if path := s.Linux.CgroupsPath; path != "" {
		if rest, ok := strings.CutSuffix(path, sb.id); ok {
			s.Linux.CgroupsPath = rest + id
		} else {
			s.Linux.CgroupsPath = path + "-" + id
		}
	}
	if o.Change != nil {
		if err := o.Change(s); err != nil {
			return nil, err
		}
	}
	b := &spec.Bundle{Dir: sb.rec.Bundle, Spec: s}
	if err := spec.Validate(b); err != nil {
		return nil, err
	}
	b.Raw, err = json.Marshal(s)
	return b, err
}

// layerSize is the limit on the container's layer.
func (sb *Sandbox) layerSize() (int64, error) {
	root, err := sb.rec.Layer.open()
	if err != nil {
		return 0, err
	}
	l, err := root.Load(sb.rec.current())
	if err != nil {
		return 0, err
	}
	return l.Meta().Size, nil
}

// fork makes the plan of a container that stands on the layers of another.
func (p *layerPlan) fork(like *layerRecord, size int64, parents []string) error {
	p.rec.Memory, p.config.Parents, p.config.Lowers = like.Memory, parents, nil
	root, err := like.open()
	if err != nil {
		return err
	}
	top, err := root.Load(parents[0])
	if err != nil {
		return err
	}
	m := top.Meta()
	p.config.Driver, p.config.Size, p.config.UserXattr = m.Driver, size, m.UserXattr
	return nil
}

// GC gives up what is in a layer root, and in its part in memory, and belongs to nobody:
// layers of containers that do not exist any more or are on others now, and what kept
// layers for snapshots and forks that were never completed. Then it deletes the files. It
// leaves alone what belongs to a container that another command is working on. dir is an
// absolute path.
func GC(ctx context.Context, dir string) error {
	for _, open := range []func(string) (*layer.Root, error){layer.Open, layer.OpenMemory} {
		root, err := open(dir)
		if err != nil {
			return err
		}
		c := collection{root: root, stores: map[string]*Store{}, first: map[string]bool{}}
		if err := c.collect(); err != nil {
			return fmt.Errorf("gc: %w", err)
		}
	}
	return EmptyTrash(ctx, dir)
}

// EmptyTrash deletes the files of what was given up in a layer root, and in its part in
// memory, unless somebody else does that already. It takes its time.
func EmptyTrash(ctx context.Context, dir string) error {
	for _, open := range []func(string) (*layer.Root, error){layer.Open, layer.OpenMemory} {
		root, err := open(dir)
		if err == nil {
			err = root.Empty(ctx, pace())
		}
		if err != nil && !errors.Is(err, layer.ErrBusy) {
			return fmt.Errorf("gc: %w", err)
		}
	}
	return nil
}

// collection is one GC of one root.
type collection struct {
	root   *layer.Root
	stores map[string]*Store
	metas  []layer.Meta
	first  map[string]bool // the first layers of all containers there are
}

func (c *collection) collect() (err error) {
	if c.metas, err = c.root.Layers(); err != nil {
		return err
	}
	for i := range c.metas {
		if err := c.open(c.metas[i].Owner.Store); err != nil {
			return err
		}
	}
	for i := range c.metas {
		if err := c.judge(&c.metas[i]); err != nil {
			return err
		}
	}
	return nil
}

// open finds out about the containers of a store.
func (c *collection) open(dir string) error {
	if c.stores[dir] != nil {
		return nil
	}
	s, err := OpenStore(dir)
	if err != nil {
		return err
	}
	c.stores[dir] = s
	all, err := s.List()
	for _, sb := range all {
		if sb.rec.Layer != nil {
			c.first[sb.rec.Layer.Key] = true
			for _, v := range sb.rec.Layer.Volumes {
				c.first[v.Key] = true
			}
		}
	}
	return err
}

// judge gives up a layer, or users of it, that nobody knows of. To have the owner's lock
// says that nobody is about to.
func (c *collection) judge(m *layer.Meta) error {
	s := c.stores[m.Owner.Store]
	owner := &Sandbox{store: s, id: m.Owner.ID}
	var known []string
	var snapshots []Snapshot
	e, err := s.lockWithin(m.Owner.ID, 0)
	switch {
	case err == nil:
		defer e.close()
		if lerr := owner.load(e.path); lerr == nil && owner.rec.Layer != nil {
			known = owner.rec.layers(e)
		}
		snapshots = e.snapshots()
	case errors.Is(err, errBusy):
		return nil
	case !errors.Is(err, ErrNotExist):
		return err
	}
	if m.Committed && owner.rec.Layer != nil && m.Key == owner.rec.current() {
		return nil // a snapshot was interrupted: the container goes on on it
	}
	if m.Committed {
		return c.release(m, snapshots, slices.Contains(known, m.Key))
	}
	if slices.Contains(known, m.Key) {
		return nil
	}
	return dropLayer(c.root, m.Key)
}

// release takes users away that are none any more. A committed layer without any is
// freed with the last one, unless its owner knows it.
func (c *collection) release(m *layer.Meta, snapshots []Snapshot, known bool) error {
	named := slices.ContainsFunc(snapshots, func(s Snapshot) bool { return slices.Contains(s.keys(), m.Key) })
	if len(m.Users) == 0 && !known {
		return dropLayer(c.root, m.Key)
	}
	if err := gone(c.root.Prune(m)); err != nil {
		return err
	}
	for _, user := range m.Users {
		stale := false
		switch origin, isOrigin := strings.CutPrefix(user, "origin-"); {
		case user == snapshotUser:
			stale = !named
		case user == forkUser:
			stale = true
		case isOrigin:
			stale = !c.first[origin] && !c.exists(origin)
		}
		if stale {
			if err := gone(c.root.Release(m.Key, user)); err != nil {
				return err
			}
		}
	}
	return nil
}

// exists says whether there is a layer of that key, as there is while a container is being
// made.
func (c *collection) exists(key string) bool {
	return slices.ContainsFunc(c.metas, func(m layer.Meta) bool { return m.Key == key })
}
