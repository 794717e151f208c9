package libsandbox

import (
	"errors"
	"fmt"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"adl.run/adl-runtime/libsandbox/internal/compile"
	"adl.run/adl-runtime/libsandbox/layer"
)

// TypeCow is the type of a mount whose source is a directory of the host that the
// container sees as its own: what it writes goes to a layer of the mount's own, beside the
// container's. A reset gives the mount a fresh one; a snapshot keeps a copy of it.
const TypeCow = compile.TypeCow

// LayerChain is a layer by its key, and those that it stands on, top first.
type LayerChain struct {
	Key     string   `json:"key"`
	Parents []string `json:"parents"`
}

// chain is what a layer that begins as this one stands on.
func (l *LayerChain) chain() []string { return append([]string{l.Key}, l.Parents...) }

// cowMounts are the indices of the mounts of type cow.
func cowMounts(s *specs.Spec) (list []int) {
	for i := range s.Mounts {
		if s.Mounts[i].Type == TypeCow {
			list = append(list, i)
		}
	}
	return list
}

// makeVolumes makes the first layers of the cow volumes.
func (c *creation) makeVolumes(root *layer.Root) error {
	for n, i := range cowMounts(c.bundle.Spec) {
		m := &c.bundle.Spec.Mounts[i]
		conf := layer.Config{
			Driver: layer.Overlay, Owner: c.plan.config.Owner, Size: c.plan.config.Size,
			UserXattr: c.plan.config.UserXattr, Lowers: []string{c.source(m)},
		}
		if c.o.like != nil {
			if n >= len(c.o.volumes) {
				return fmt.Errorf("mounts[%d] %s: type %s: the container that it is a fork of has none", i, m.Destination, TypeCow)
			}
			conf.Parents = c.o.volumes[n]
		}
		err := errors.New("the layer's driver must be overlay")
		if c.plan.config.Driver == layer.Overlay {
			err = c.makeVolume(root, &conf)
		}
		if err != nil {
			return fmt.Errorf("mounts[%d] %s: type %s: %w", i, m.Destination, TypeCow, err)
		}
	}
	return nil
}

func (c *creation) makeVolume(root *layer.Root, conf *layer.Config) error {
	l, err := root.New(conf)
	if err != nil {
		return err
	}
	c.volumes = append(c.volumes, l)
	c.undo.add(func() { _ = l.Discard() })
	rec := LayerChain{l.Key(), l.Meta().Parents}
	if len(rec.Parents) > 0 {
		if err := root.Hold(rec.Parents[0], originOf(rec.Key)); err != nil {
			return err
		}
		c.undo.add(func() { _ = root.Release(rec.Parents[0], originOf(rec.Key)) })
	}
	c.plan.rec.Volumes = append(c.plan.rec.Volumes, rec)
	return nil
}

// source is the host's path of a mount's source.
func (c *creation) source(m *specs.Mount) string {
	if filepath.IsAbs(m.Source) {
		return filepath.Clean(m.Source)
	}
	return filepath.Join(c.bundle.Dir, m.Source)
}

// volumeFacts tells the compiler of the layers of cow volumes. For a mere listing they
// are ones that do not exist.
func (c *creation) volumeFacts(facts *compile.Facts) error {
	for n, i := range cowMounts(c.bundle.Spec) {
		if c.recorded() == nil {
			return fmt.Errorf("mounts[%d] %s: type %s: %w", i, c.bundle.Spec.Mounts[i].Destination, TypeCow, errNoLayerFor("it"))
		}
		src := facts.Sources[i]
		if n < len(c.volumes) {
			src.Layer = &c.volumes[n].Mounts()[0]
		} else {
			base := filepath.Join(c.recorded().Root, "layers/NEW")
			src.Layer = &specs.Mount{Type: "overlay", Options: []string{
				"lowerdir=" + src.Path, "upperdir=" + base + "/upper", "workdir=" + base + "/work", "volatile",
			}}
		}
		facts.Sources[i] = src
	}
	return nil
}

// volumeKeys are the keys of layers.
func volumeKeys(list []*layer.Layer) (keys []string) {
	for _, l := range list {
		keys = append(keys, l.Key())
	}
	return keys
}

// volumes are the keys of the layers that the container's cow volumes are on.
func (r *record) volumes() []string {
	if len(r.Init.Volumes) > 0 {
		return r.Init.Volumes
	}
	var keys []string
	for _, v := range r.Layer.Volumes {
		keys = append(keys, v.Key)
	}
	return keys
}

// nextVolumes makes the layers of cow volumes for the container to go on, as they are at
// first or in a snapshot.
func (r *resetting) nextVolumes(snap *Snapshot) error {
	for n, key := range r.now.rec.volumes() {
		parents := r.now.rec.Layer.Volumes[n].Parents
		if snap != nil && n < len(snap.Volumes) {
			parents = snap.Volumes[n].chain()
		}
		l, err := r.root.Load(key)
		if err != nil {
			return err
		}
		next, err := l.Next(parents)
		if err != nil {
			return fmt.Errorf("cow volume: %w", err)
		}
		r.stale = append(r.stale, key)
		r.volumes = append(r.volumes, next)
	}
	return nil
}

// dropVolumes gives up the layers of a reset that has failed.
func (r *resetting) dropVolumes() error {
	var errs []error
	for _, l := range r.volumes {
		errs = append(errs, gone(l.Discard()))
	}
	return errors.Join(errs...)
}

// copyVolumes keeps copies of what is in the cow volumes, of which nobody writes to one
// meanwhile.
func (k *keeping) copyVolumes() error {
	for _, key := range k.r.now.rec.volumes() {
		l, err := k.r.root.Load(key)
		if err != nil {
			return err
		}
		c, stats, err := l.Copy()
		if err == nil {
			err = k.r.root.Hold(c.Key(), k.user)
		}
		if err != nil {
			return fmt.Errorf("cow volume: %w", err)
		}
		k.snap.Volumes = append(k.snap.Volumes, LayerChain{c.Key(), c.Meta().Parents})
		k.snap.Bytes += stats.Bytes
		k.snap.Files += stats.Files
		k.r.step("copied")
	}
	return nil
}

// release gives up the layers of a snapshot, which user has held.
func (s *Snapshot) release(root *layer.Root, user string) error {
	var errs []error
	for _, key := range s.keys() {
		errs = append(errs, gone(root.Release(key, user)))
	}
	return errors.Join(errs...)
}

// keys are those of all layers of the snapshot.
func (s *Snapshot) keys() []string {
	var keys []string
	if s.Key != "" {
		keys = append(keys, s.Key)
	}
	for _, v := range s.Volumes {
		keys = append(keys, v.Key)
	}
	return keys
}
