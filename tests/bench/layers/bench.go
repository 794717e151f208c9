package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"adl.run/adl-runtime/tests/bench/frame"
)

// gap is the idle time before what is timed.
const gap = 20 * time.Millisecond

// bench is what all measurements share.
type bench struct {
	ctx    context.Context
	o      *options
	rep    *report
	base   string // the scratch folder
	cgroup string
}

// newBench returns a bench to close even with an error. Inits that commands leave to
// themselves become its children.
func newBench(ctx context.Context, o *options, rep *report) (*bench, error) {
	b := &bench{ctx: ctx, o: o, rep: rep, cgroup: fmt.Sprintf("adl-layers-%d", os.Getpid())}
	err := frame.AdoptOrphans()
	if err != nil {
		return b, err
	}
	b.base, err = os.MkdirTemp(o.dir, "adl-layers-")
	return b, err
}

func (b *bench) wants(op string) bool { return slices.Contains(b.o.ops, op) }

// close removes what is no place's.
func (b *bench) close() error {
	err := errors.Join(frame.KillDescendants(5*time.Second), frame.RemoveCgroup(b.cgroup, 2*time.Second))
	if b.base != "" {
		err = errors.Join(err, os.RemoveAll(b.base))
	}
	return err
}

// cell is one thing to measure. before and after may be nil; run alone is timed.
type cell struct {
	key                key
	before, run, after func() error
}

// rounds measures the cells in turn, each once in a round. The first round is not
// recorded.
func (b *bench) rounds(p *place, cells []cell) error {
	for turn := range b.o.rounds + 1 {
		for _, i := range rand.Perm(len(cells)) {
			took, err := b.once(p, &cells[i])
			if err != nil {
				return fmt.Errorf("%s: %w", cells[i].key, err)
			}
			if turn > 0 {
				b.rep.series.Add(cells[i].key, took)
			}
		}
	}
	return nil
}

// once measures a cell, in ms.
func (b *bench) once(p *place, c *cell) (ms float64, err error) {
	if err := b.ctx.Err(); err != nil {
		return 0, fmt.Errorf("interrupted: %w", err)
	}
	if c.before != nil {
		if err := c.before(); err != nil {
			return 0, err
		}
	}
	if err := p.settle(); err != nil {
		return 0, err
	}
	time.Sleep(gap)
	began := time.Now()
	err = c.run()
	took := time.Since(began)
	if err == nil && c.after != nil {
		err = c.after()
	}
	return float64(took) / 1e6, err
}
