package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"adl.run/adl-runtime/libsandbox"
	"adl.run/adl-runtime/libsandbox/layer"
	"adl.run/adl-runtime/spec"
)

// content is what is in a layer.
type content struct {
	name  string
	files int
	bytes int // of one more file
}

func contents() []content {
	return []content{{"empty", 0, 0}, {"1,000 files", 1000, 0}, {"10,000 files", 10000, 0}, {"50 MB", 0, 50e6}}
}

// options are for a container on a layer.
func (p *place) options() *libsandbox.CreateOptions {
	return &libsandbox.CreateOptions{Layer: &libsandbox.LayerOptions{Driver: string(p.driver), Root: p.layerRoot()}}
}

func (p *place) bundle(id string) (*spec.Bundle, error) {
	dir, err := p.writeBundle(id, p.rootfs())
	if err != nil {
		return nil, err
	}
	return spec.Open(dir)
}

func (p *place) newBox(ctx context.Context, id string) (*libsandbox.Sandbox, error) {
	bundle, err := p.bundle(id)
	if err != nil {
		return nil, err
	}
	return p.store.Run(ctx, id, bundle, p.options())
}

// deleteAll removes the containers of the library.
func (p *place) deleteAll() error {
	all, err := p.store.List()
	errs := []error{err}
	for _, sb := range all {
		errs = append(errs, p.store.ForceDelete(context.Background(), sb.ID()))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return p.settle()
}

// write puts the content into the root filesystem of a process.
func (c *content) write(pid int) error {
	dir := fmt.Sprintf("/proc/%d/root/data", pid)
	for i := range c.files {
		sub := filepath.Join(dir, strconv.Itoa(i/100))
		if i%100 == 0 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(sub, strconv.Itoa(i)), []byte("x"), 0o644); err != nil {
			return err
		}
	}
	if c.bytes == 0 {
		return nil
	}
	data := make([]byte, c.bytes)
	for i := range data {
		data[i] = byte(i * 31 >> 7)
	}
	return os.WriteFile(fmt.Sprintf("/proc/%d/root/large", pid), data, 0o644)
}

// resets measures reset and, beside it, delete and run.
func (b *bench) resets(p *place) error {
	var cells []cell
	defer func() { _ = p.deleteAll() }()
	for _, mode := range []libsandbox.ResetMode{libsandbox.ResetRestart, libsandbox.ResetKeepInit} {
		if !b.wants(opReset) {
			break
		}
		sb, err := p.newBox(b.ctx, "reset-"+string(mode))
		if err != nil {
			return err
		}
		for _, c := range contents() {
			cells = append(cells, cell{
				key:    key{p.fs, library, "reset, " + string(mode), c.name},
				before: func() error { return c.write(sb.Pid()) },
				run:    func() error { return sb.Reset(b.ctx, &libsandbox.ResetOptions{Mode: mode}) },
			})
		}
	}
	if b.wants(opRecreate) {
		bundle, err := p.bundle("recreate")
		if err != nil {
			return err
		}
		sb, err := p.store.Run(b.ctx, "recreate", bundle, p.options())
		if err != nil {
			return err
		}
		for _, c := range []content{contents()[0], contents()[2]} {
			cells = append(cells, b.recreate(p, bundle, &sb, c))
		}
	}
	return b.rounds(p, cells)
}

func (b *bench) recreate(p *place, bundle *spec.Bundle, sb **libsandbox.Sandbox, c content) cell {
	return cell{
		key:    key{p.fs, library, "delete and run", c.name},
		before: func() error { return c.write((*sb).Pid()) },
		run: func() (err error) {
			if err := (*sb).Delete(b.ctx, &libsandbox.DeleteOptions{Force: true}); err != nil {
				return err
			}
			*sb, err = p.store.Run(b.ctx, "recreate", bundle, p.options())
			return err
		},
	}
}

// chain is a container on a number of snapshots, s1 and so on.
type chain struct {
	*libsandbox.Sandbox
	top  libsandbox.Snapshot
	last string // name of the snapshot below the last one; empty for the first state
}

func (b *bench) newChain(p *place, depth int) (*chain, error) {
	sb, err := p.newBox(b.ctx, fmt.Sprintf("chain-%d", depth))
	if err != nil {
		return nil, err
	}
	c := &chain{Sandbox: sb}
	for i := range depth {
		if err := b.ctx.Err(); err != nil {
			return nil, err
		}
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/root/%d", sb.Pid(), i), nil, 0o644); err != nil {
			return nil, err
		}
		s, err := sb.Snapshot(b.ctx, fmt.Sprintf("s%d", i+1))
		if err != nil {
			return nil, fmt.Errorf("snapshot %d: %w", i+1, err)
		}
		c.last, c.top = c.top.Name, *s
	}
	return c, nil
}

// states measures snapshots, forks and going to a snapshot.
func (b *bench) states(p *place) error {
	var cells []cell
	defer func() { _ = p.deleteAll() }()
	for _, depth := range []int{1, b.o.deep} {
		c, err := b.newChain(p, depth)
		if err != nil {
			return fmt.Errorf("depth %d: %w", depth, err)
		}
		at := fmt.Sprintf("depth %d", depth)
		if b.wants(opSnapshot) {
			cells = append(cells, b.snapshot(p, c, at, content{files: 1}))
		}
		if b.wants(opSnapshot) && depth == 1 {
			cells = append(cells, b.snapshot(p, c, at+", 10,000 files", content{files: 10000}))
		}
		if b.wants(opFork) {
			cells = append(cells, b.fork(p, c, at), b.forkLayer(p, c, at))
		}
		if b.wants(opTo) {
			cells = append(cells, b.to(p, c, at)...)
		}
	}
	return b.rounds(p, cells)
}

// snapshot adds one to the snapshots below the last one.
func (b *bench) snapshot(p *place, c *chain, at string, with content) cell {
	var s *libsandbox.Snapshot
	return cell{
		key: key{p.fs, library, "snapshot", at},
		before: func() error {
			if err := c.Reset(b.ctx, &libsandbox.ResetOptions{To: c.last, Mode: libsandbox.ResetRestart}); err != nil {
				return err
			}
			return with.write(c.Pid())
		},
		run: func() (err error) {
			s, err = c.Snapshot(b.ctx, "measured")
			return err
		},
		after: func() error {
			if s.Method != libsandbox.ByReference {
				return fmt.Errorf("by %s: %s", s.Method, s.Why)
			}
			// Off the layer, which goes with the snapshot.
			err := c.Reset(b.ctx, &libsandbox.ResetOptions{Mode: libsandbox.ResetRestart})
			return errors.Join(err, c.DeleteSnapshot(s.Name))
		},
	}
}

func (b *bench) fork(p *place, c *chain, at string) cell {
	var fork *libsandbox.Sandbox
	return cell{
		key: key{p.fs, library, "fork, until init runs", at},
		run: func() (err error) {
			fork, err = c.Fork(b.ctx, c.ID()+"-fork", &libsandbox.ForkOptions{Snapshot: c.top.Name})
			return err
		},
		after: func() error { return fork.Delete(b.ctx, &libsandbox.DeleteOptions{Force: true}) },
	}
}

// forkLayer is what a fork asks of the layer root.
func (b *bench) forkLayer(p *place, c *chain, at string) cell {
	var l *layer.Layer
	parents := slices.Concat([]string{c.top.Key}, c.top.Parents)
	return cell{
		key: key{p.fs, library, "fork, the layer's work", at},
		run: func() (err error) {
			owner := layer.Owner{Store: p.state("library"), ID: c.ID()}
			l, err = p.layers.New(&layer.Config{Driver: p.driver, Owner: owner, Parents: parents})
			return err
		},
		after: func() error { return errors.Join(l.Discard(), libsandbox.EmptyTrash(b.ctx, p.layerRoot())) },
	}
}

func (b *bench) to(p *place, c *chain, at string) []cell {
	var cells []cell
	for _, mode := range []libsandbox.ResetMode{libsandbox.ResetRestart, libsandbox.ResetKeepInit} {
		one := content{files: 1}
		cells = append(cells, cell{
			key:    key{p.fs, library, "reset --to, " + string(mode), at},
			before: func() error { return one.write(c.Pid()) },
			run:    func() error { return c.Reset(b.ctx, &libsandbox.ResetOptions{To: c.top.Name, Mode: mode}) },
			after: func() error {
				if _, err := os.Stat(fmt.Sprintf("/proc/%d/root/data", c.Pid())); !errors.Is(err, os.ErrNotExist) {
					return fmt.Errorf("a file has outlived the reset: %v", err)
				}
				return nil
			},
		})
	}
	return cells
}
