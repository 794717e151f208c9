package libsandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/compile"
	"adl.run/adl-runtime/libsandbox/layer"
)

// Annotations that say what layer a container gets, for whoever cannot pass options:
// managers. What LayerOptions say goes first.
const (
	// AnnotationLayer is the driver: overlay, btrfs or none.
	AnnotationLayer = "run.adl.layer"
	// AnnotationLower lists directories that lie above root.path and below the layer, top
	// first, with colons between them.
	AnnotationLower = "run.adl.lower"
	// AnnotationLayerUpper is as LayerOptions.Upper.
	AnnotationLayerUpper = "run.adl.layer-upper"
	// AnnotationLayerSize is as LayerOptions.Size, in bytes or with a suffix k, m or g.
	AnnotationLayerSize = "run.adl.layer-size"
	// AnnotationReset is what Sandbox.Reset does by default: keep-init or restart.
	AnnotationReset = "run.adl.reset"
)

// LayerOptions say what writable layer a container gets above its root filesystem, which
// is then never written to. Everything left open is taken from the annotations.
type LayerOptions struct {
	// Driver is "overlay", "btrfs" or "none"; empty is what the annotation says, and
	// none without one.
	Driver string
	// Root is the directory for the layers; empty is DefaultLayerRoot. It is an error where
	// there is neither a layer nor a Driver that says so.
	Root string
	// Upper is where the layer is: "disk" for Root, or "tmpfs" for memory, which
	// "tmpfs:size=N" limits. Empty is the annotation's, and disk without one.
	Upper string
	// Size limits the layer, in bytes; 0 is the annotation's, and no limit without one.
	// It is an error where the filesystem cannot do it.
	Size int64
}

// DefaultLayerRoot is where layers are kept: for root below /var/lib, otherwise in the
// user's data directory (XDG Base Directory Specification, XDG_DATA_HOME).
func DefaultLayerRoot() string {
	if os.Geteuid() == 0 {
		return "/var/lib/adl-runtime"
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "adl-runtime")
	}
	return filepath.Join(os.Getenv("HOME"), ".local/share/adl-runtime")
}

// ResetMode is what becomes of a container's init at a reset.
type ResetMode string

// The modes.
const (
	// ResetRestart ends init and starts it again.
	ResetRestart ResetMode = "restart"
	// ResetKeepInit lets init live on.
	ResetKeepInit ResetMode = "keep-init"
)

// layerRecord is what is written down of a container's layer when it is made.
type layerRecord struct {
	// Root is the layer root, and Memory says that it is the one in memory there.
	Root   string `json:"root"`
	Memory bool   `json:"memory"`
	// Key is the container's first layer.
	Key string `json:"key"`
	// Parents are what the container's first state stands on; see layer.Meta.
	Parents []string `json:"parents"`
	// Volumes are the first layers of the mounts of type cow, in the spec's order.
	Volumes []LayerChain `json:"volumes"`
	// Reset is what a reset does by default.
	Reset ResetMode `json:"reset"`
	// ConsoleSocket and PidFile are as in CreateOptions.
	ConsoleSocket string `json:"consoleSocket"`
	PidFile       string `json:"pidFile"`
}

// open opens the layer root.
func (l *layerRecord) open() (*layer.Root, error) {
	if l.Memory {
		return layer.OpenMemory(l.Root)
	}
	return layer.Open(l.Root)
}

// origin is the name of what keeps the first state's layers while the container stands
// on others.
func (l *layerRecord) origin() string { return originOf(l.Key) }

// originOf is the same for any first layer.
func originOf(key string) string { return "origin-" + key }

// layerPlan is what options and annotations amount to.
type layerPlan struct {
	rec    layerRecord
	config layer.Config
}

// planLayer returns nil for a container without a layer.
func planLayer(id, store, rootfs string, s *specs.Spec, o *LayerOptions, made ResetMode) (*layerPlan, error) {
	if o == nil {
		o = &LayerOptions{}
	}
	p := &layerPlan{rec: layerRecord{Root: o.Root, Reset: made}}
	p.config.Owner = layer.Owner{Store: store, ID: id}
	switch driver, field := either(o.Driver, "layer", s, AnnotationLayer); driver {
	case "", "none":
		return nil, noLayer(s, o)
	case string(layer.Overlay), string(layer.Btrfs):
		p.config.Driver = layer.Driver(driver)
	default:
		return nil, fmt.Errorf("%s %q: must be overlay, btrfs or none", field, driver)
	}
	if err := p.place(s, o); err != nil {
		return nil, err
	}
	switch mode := ResetMode(s.Annotations[AnnotationReset]); mode {
	case "":
	case ResetRestart, ResetKeepInit:
		p.rec.Reset = mode
	default:
		return nil, fmt.Errorf("annotations[%q] %q: must be %s or %s", AnnotationReset, mode, ResetKeepInit, ResetRestart)
	}
	own := slices.ContainsFunc(s.Linux.Namespaces, func(ns specs.LinuxNamespace) bool {
		return ns.Type == specs.MountNamespace && ns.Path == ""
	})
	if !own {
		return nil, errors.New("linux.namespaces: a layer needs a mount namespace of the container's own")
	}
	lowers, err := lowerDirs(s.Annotations[AnnotationLower])
	p.config.Lowers = append(lowers, rootfs)
	return p, err
}

// noLayer refuses options that a container without a layer has no use for.
func noLayer(s *specs.Spec, o *LayerOptions) error {
	switch {
	case o.Upper != "" || o.Size != 0:
		return errors.New("layer upper, layer size: the container has no layer")
	case o.Driver == "none":
		return nil // whatever the annotations say
	case o.Root != "":
		return errors.New("layer root: the container has no layer")
	}
	for _, name := range []string{AnnotationLower, AnnotationLayerUpper, AnnotationLayerSize} {
		if s.Annotations[name] != "" {
			return fmt.Errorf("annotations[%q]: the container has no layer", name)
		}
	}
	return nil
}

// either is an option, or the annotation where that is empty, and its name for messages.
func either(option, name string, s *specs.Spec, annotation string) (value, field string) {
	if option != "" {
		return option, name
	}
	return s.Annotations[annotation], fmt.Sprintf("annotations[%q]", annotation)
}

// place works out where the layer is and what limits it.
func (p *layerPlan) place(s *specs.Spec, o *LayerOptions) error {
	if p.rec.Root == "" {
		p.rec.Root = DefaultLayerRoot()
	}
	if !filepath.IsAbs(p.rec.Root) {
		return fmt.Errorf("layer root %q: must be an absolute path", p.rec.Root)
	}
	p.config.Size = o.Size
	if size := s.Annotations[AnnotationLayerSize]; size != "" && o.Size == 0 {
		n, err := ParseSize(size)
		if err != nil {
			return fmt.Errorf("annotations[%q]: %w", AnnotationLayerSize, err)
		}
		p.config.Size = n
	}
	upper, field := either(o.Upper, "layer upper", s, AnnotationLayerUpper)
	kind, size, limited := strings.Cut(upper, ":size=")
	switch {
	case kind == "" && !limited, kind == "disk" && !limited:
		return nil
	case kind != "tmpfs":
		return fmt.Errorf("%s %q: must be disk, tmpfs or tmpfs:size=N", field, upper)
	}
	p.rec.Memory = true
	if !limited {
		return nil
	}
	n, err := ParseSize(size)
	switch {
	case err != nil:
		return fmt.Errorf("%s %q: %w", field, upper, err)
	case p.config.Size != 0 && p.config.Size != n:
		return fmt.Errorf("%s %q: the layer's size is given as %d, too", field, upper, p.config.Size)
	}
	p.config.Size = n
	return nil
}

// ParseSize reads a number of bytes, which may have one of the suffixes k, m, g and t for
// powers of 1024. It must be positive.
func ParseSize(s string) (int64, error) {
	digits, shift := s, 0
	if n := len(s); n > 0 {
		if i := strings.IndexByte("kmgt", s[n-1]|0x20); i >= 0 {
			digits, shift = s[:n-1], 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n <= 0 || n > (1<<63-1)>>shift {
		return 0, fmt.Errorf("size %q: must be a positive number of bytes, with k, m, g or t for powers of 1024", s)
	}
	return n << shift, nil
}

// lowerDirs reads the annotation for more lower directories.
func lowerDirs(list string) ([]string, error) {
	if list == "" {
		return nil, nil
	}
	dirs := strings.Split(list, ":")
	for _, d := range dirs {
		if !filepath.IsAbs(d) {
			return nil, fmt.Errorf("annotations[%q]: %q: must be an absolute path", AnnotationLower, d)
		}
	}
	return dirs, nil
}

// planLayer finds out what layer the container is to have.
func (c *creation) planLayer(store string) (err error) {
	made := ResetRestart
	if c.wait {
		made = ResetKeepInit // somebody watches it
	}
	o := c.o.Layer
	if c.o.like != nil {
		o = &LayerOptions{Driver: string(layer.Overlay), Root: c.o.like.Root} // fork knows better
	}
	c.plan, err = planLayer(c.id, store, c.bundle.Rootfs(), c.bundle.Spec, o, made)
	if err == nil && c.o.like != nil {
		err = c.plan.fork(c.o.like, c.o.size, c.o.parents)
	}
	return err
}

// recorded is what is written down, or about to be, of the layer.
func (c *creation) recorded() *layerRecord {
	if c.plan != nil {
		return &c.plan.rec
	}
	return c.sb.rec.Layer
}

// layerFact is what the compiler is told of the layer; nil for none. For a mere listing
// it is one that does not exist.
func (c *creation) layerFact() *compile.Layer {
	switch {
	case c.reset != nil && c.reset.ahead.mount != nil:
		return &compile.Layer{Mount: specs.Mount{Destination: "/", Type: "overlay"}, Mounted: true, Filled: c.reset.ahead.filled != nil}
	case c.layer != nil:
		mounts := c.layer.Mounts()
		return &compile.Layer{
			Mount: mounts[0], Base: filepath.Join(c.recorded().Root, "layers"),
		}
	case c.plan == nil:
		return nil
	}
	base := filepath.Join(c.plan.rec.Root, "layers")
	m := specs.Mount{Destination: "/", Type: "overlay", Source: "overlay", Options: []string{
		"lowerdir=" + strings.Join(c.plan.config.Lowers, ":"), "upperdir=" + base + "/NEW/upper", "workdir=" + base + "/NEW/work", "volatile",
	}}
	if c.plan.config.Driver == layer.Btrfs {
		m = specs.Mount{Destination: "/", Type: "bind", Source: base + "/NEW/root", Options: []string{"bind"}}
	}
	return &compile.Layer{Mount: m, Base: base}
}

// makeLayer makes the container's first layer.
func (c *creation) makeLayer() error {
	if c.plan == nil {
		return nil
	}
	root, err := c.plan.rec.open()
	if err != nil {
		return fmt.Errorf("layer: %w", err)
	}
	if c.layer, err = root.New(&c.plan.config); err != nil {
		return fmt.Errorf("layer: %w", err)
	}
	c.plan.rec.Key, c.plan.rec.Parents = c.layer.Key(), c.layer.Meta().Parents
	c.undo.add(func() {
		_ = c.layer.Discard()
		emptyNow(root)
	})
	if len(c.plan.rec.Parents) > 0 {
		if err := root.Hold(c.plan.rec.Parents[0], c.plan.rec.origin()); err != nil {
			return fmt.Errorf("layer: %w", err)
		}
		c.undo.add(func() { _ = root.Release(c.plan.rec.Parents[0], c.plan.rec.origin()) })
	}
	if err := c.makeVolumes(root); err != nil {
		return err
	}
	c.step("layered")
	return nil
}

// current is the key of the layer that the container is on.
func (r *record) current() string {
	if r.Init.Layer != "" {
		return r.Init.Layer
	}
	return r.Layer.Key
}

// emptyTime is how long a command stays to delete what is in a layer root's trash
// before it leaves that to the background.
const emptyTime = 3 * time.Millisecond

// emptyNow deletes what is in the trash, if that is quick.
func emptyNow(root *layer.Root) (done bool) {
	ctx, cancel := context.WithTimeout(context.Background(), emptyTime)
	defer cancel()
	return root.Empty(ctx, layer.Pace{}) == nil
}

// dropLayers gives up all that a container has in its layer root: the layers, by
// whatever interrupted command, and its hold on those below. What others stand on stays.
func (sb *Sandbox) dropLayers(e *entry) error {
	r := sb.rec.Layer
	if r == nil {
		return nil
	}
	sb.replace(&sb.ahead, ahead{})
	sb.replace(&sb.over, ahead{})
	root, err := r.open()
	if err != nil {
		return fmt.Errorf("layer: %w", err)
	}
	var errs []error
	for _, key := range sb.rec.layers(e) {
		errs = append(errs, dropLayer(root, key))
	}
	if len(r.Parents) > 0 {
		errs = append(errs, gone(root.Release(r.Parents[0], r.origin())))
	}
	for _, v := range r.Volumes {
		if len(v.Parents) > 0 {
			errs = append(errs, gone(root.Release(v.Parents[0], originOf(v.Key))))
		}
	}
	for _, s := range e.snapshots() {
		errs = append(errs, s.release(root, snapshotUser))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("layer: %w", err)
	}
	sb.store.emptyLater(r)
	return nil
}

// dropLayer discards a layer that is nobody's but the container's. One that became
// read-only is freed unless somebody stands on it.
func dropLayer(root *layer.Root, key string) error {
	l, err := root.Load(key)
	switch {
	case err != nil:
		return gone(err)
	case !l.Meta().Committed:
		return gone(l.Discard())
	}
	if err := root.Hold(key, forkUser); err != nil {
		return gone(err)
	}
	return gone(root.Release(key, forkUser))
}

// gone forgives that a layer has gone.
func gone(err error) error {
	if errors.Is(err, layer.ErrNotExist) || errors.Is(err, layer.ErrGone) {
		return nil
	}
	return err
}

// emptyLater has the trash deleted, off the caller's path.
func (s *Store) emptyLater(l *layerRecord, held ...*os.File) {
	root, err := l.open()
	if err != nil || len(held) == 0 && emptyNow(root) {
		return
	}
	if s.background == nil {
		emptyInBackground(root, held)
		return
	}
	err = s.background(l.Root, held)
	for _, f := range held {
		f.Close()
	}
	if err != nil {
		slog.Warn("layer: " + err.Error() + "; gc will delete what is left")
	}
}

// pace is how fast layers are deleted in the background.
func pace() layer.Pace { return layer.Pace{Files: 256, Pause: time.Millisecond} }

// emptyInBackground is for a process that lives on.
func emptyInBackground(root *layer.Root, held []*os.File) {
	go func() {
		for _, f := range held {
			f.Close()
		}
		if err := root.Empty(context.Background(), pace()); err != nil && !errors.Is(err, layer.ErrBusy) {
			slog.Warn("layer: " + err.Error())
		}
	}()
}

// letGo closes a root directory that processes have left, where this process lives on off
// the caller's path: it may be the last that keeps a file system mounted. nil is none.
func (s *Store) letGo(root *os.File) {
	if s.background == nil {
		go root.Close()
		return
	}
	root.Close()
}

// layers are the keys of all layers that the container may have.
func (r *record) layers(e *entry) []string {
	keys := append(e.nextLayers(), r.current(), r.Layer.Key)
	for _, key := range []string{e.spare(), e.above()} {
		if key != "" {
			keys = append(keys, key)
		}
	}
	keys = append(keys, r.volumes()...)
	for _, v := range r.Layer.Volumes {
		keys = append(keys, v.Key)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// spare is the key of the layer that was made for the next reset; empty for none.
func (e *entry) spare() string { return e.key(spareFile) }

// above is the key of a layer that a snapshot has made which did not get so far that the
// container depends on it, or of the one that was made for the next.
func (e *entry) above() string { return e.key(aboveFile) }

// key reads a file that has a layer's key, or returns an empty string.
func (e *entry) key(name string) string {
	raw, _ := os.ReadFile(e.join(name))
	return string(raw)
}

// nextLayers are the layers of resets that have not been completed.
func (e *entry) nextLayers() []string {
	raw, _ := os.ReadFile(e.join(nextFile))
	return strings.Fields(string(raw))
}

// openOldRoot keeps hold of the root filesystem of a process that is about to lose it, so
// that taking it apart, which takes the longer the more was used of it, waits for the
// descriptor's end. nil: there is none.
func openOldRoot(pid int) *os.File {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), "root")
}
