package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox"
	"adl.run/adl-runtime/libsandbox/layer"
	"adl.run/adl-runtime/spec"
	"adl.run/adl-runtime/tests/bench/frame"
)

// skipped says why a filesystem cannot be had.
type skipped struct{ error }

// place is a filesystem with a rootfs, a layer root and a store for its containers:
//
//	DIR/rootfs        busybox
//	DIR/layers        the layer root
//	RUN/store-NAME    --root of a runtime
//	RUN/bundle-ID     config.json
type place struct {
	fs     string
	dir    string
	run    string // a tmpfs, as /run is
	image  string // of the filesystem; empty for none
	cgroup string // the parent of all containers' cgroups
	driver layer.Driver
	store  *libsandbox.Store
	layers *layer.Root
	// forgotten is how often the trash was not empty, and nobody was at it.
	forgotten int
}

// newPlace returns a place to close even with an error.
func (b *bench) newPlace(fs string) (*place, error) {
	p := &place{fs: fs, dir: filepath.Join(b.base, fs), run: filepath.Join(b.base, "run-"+fs), cgroup: b.cgroup, driver: layer.Overlay}
	if fs == btrfs {
		p.driver = layer.Btrfs
	}
	if err := os.Mkdir(p.dir, 0o755); err != nil {
		return p, err
	}
	if err := p.mount(b.base); err != nil {
		return p, err
	}
	err := os.Mkdir(p.run, 0o700)
	if err == nil {
		err = unix.Mount("tmpfs", p.run, "tmpfs", 0, "mode=700")
	}
	if err == nil {
		err = frame.MakeRootfs(p.rootfs(), b.o.busybox)
	}
	if err == nil {
		p.store, err = libsandbox.OpenStore(p.state("library"))
	}
	if err == nil {
		p.layers, err = layer.Open(p.layerRoot())
	}
	return p, err
}

// mount makes the filesystem on p.dir.
func (p *place) mount(base string) error {
	var st unix.Statfs_t
	switch err := unix.Statfs(base, &st); {
	case err != nil:
		return err
	case p.fs == tmpfs:
		return os.NewSyscallError("mount", unix.Mount("tmpfs", p.dir, "tmpfs", 0, "mode=755"))
	case p.fs == ext4 && st.Type == unix.EXT4_SUPER_MAGIC:
		return nil
	}
	p.image = filepath.Join(base, p.fs+".img")
	f, err := os.Create(p.image)
	if err == nil {
		err = errors.Join(f.Truncate(2<<30), f.Close())
	}
	if err != nil {
		return err
	}
	for _, argv := range [][]string{{"mkfs." + p.fs, "-q", p.image}, {"mount", "-o", "loop", "-t", p.fs, p.image, p.dir}} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return skipped{fmt.Errorf("%s: %w %s", argv[0], err, out)}
		}
	}
	return nil
}

func (p *place) rootfs() string              { return filepath.Join(p.dir, "rootfs") }
func (p *place) layerRoot() string           { return filepath.Join(p.dir, "layers") }
func (p *place) state(runtime string) string { return filepath.Join(p.run, "store-"+runtime) }

// writeBundle writes the bundle of a container that sleeps, and returns its directory.
func (p *place) writeBundle(id, rootfs string) (string, error) {
	s := spec.Default(false)
	s.Version = "1.0.2" // crun 1.8 knows no newer one
	s.Process.Args, s.Process.Terminal = []string{"/bin/sleep", "100000"}, false
	s.Root.Path, s.Root.Readonly = rootfs, false
	s.Linux.CgroupsPath = "/" + p.cgroup + "/" + id
	raw, err := json.Marshal(s)
	dir := filepath.Join(p.run, "bundle-"+id)
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), raw, 0o644)
	}
	return dir, err
}

// used is how much of the filesystem is taken, in bytes, and by how many files. btrfs
// does not count files.
func (p *place) used() (bytes, files int64) {
	var st unix.Statfs_t
	if unix.Statfs(p.dir, &st) != nil {
		return 0, 0
	}
	return int64(st.Blocks-st.Bfree) * st.Bsize, int64(st.Files - st.Ffree)
}

// settle waits until nothing is left to be deleted. What nobody else deletes it deletes
// itself, and counts that.
func (p *place) settle() error {
	const patience = 250 * time.Millisecond
	began := time.Now()
	for ; ; time.Sleep(2 * time.Millisecond) {
		n, err := p.layers.TrashLen()
		switch since := time.Since(began); {
		case n == 0 || err != nil:
			return err
		case since > time.Minute:
			return fmt.Errorf("after a minute, %d layers are still in the trash", n)
		case since < patience:
			continue
		}
		if err := p.layers.Empty(context.Background(), layer.Pace{}); err == nil {
			p.forgotten++
		} else if !errors.Is(err, layer.ErrBusy) {
			return err
		}
	}
}

// close removes the containers and the filesystem.
func (p *place) close() error {
	if p == nil {
		return nil
	}
	var errs []error
	if p.layers != nil {
		errs = append(errs, p.deleteAll())
	}
	for _, dir := range []string{p.run, p.dir} {
		for unix.Unmount(dir, unix.MNT_DETACH) == nil {
		}
		errs = append(errs, os.RemoveAll(dir))
	}
	if p.image != "" {
		errs = append(errs, os.Remove(p.image))
	}
	return errors.Join(errs...)
}
