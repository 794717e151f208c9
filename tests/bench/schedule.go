package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"
)

// step is one part of a cycle. Only a timed step is preceded by the cell's gap.
type step struct {
	name  string
	timed bool
}

// cycle is a container's life, or a command without a container. It ends as it
// began: nothing is left.
type cycle struct {
	steps  []step
	single bool // not measured N at once
}

// cycles lists what to do for the wanted operations. A step that is there only
// to reach another one is not timed.
func cycles(ops []string) []cycle {
	want := func(op string) step { return step{op, slices.Contains(ops, op)} }
	all := []cycle{
		{steps: []step{want(opRun)}},
		{steps: []step{want(opRunPodman)}},
		{steps: []step{{opCreate, false}, {opStart, false}, want(opPause), want(opResume), {opDeleteForce, false}}},
		{steps: []step{want(opCreate), {stepMemory, false}, want(opStart), {stepKill, false}, want(opDelete)}},
		{steps: []step{{opCreate, false}, {opStart, false}, want(opDeleteForce)}},
		execCycle(opCreate, want(opExec)),
		execCycle(stepCreateUser, want(opExecUser)),
		shellCycle(want(opShell)),
		{steps: []step{want(opVersion)}, single: true},
	}
	return slices.DeleteFunc(all, func(c cycle) bool {
		return !slices.ContainsFunc(c.steps, func(s step) bool { return s.timed })
	})
}

// cell is one row of conditions: every runtime is measured in it in each round.
type cell struct {
	cycle cycle
	n     int // containers at once
	gap   time.Duration
	reps  int // repetitions within one round
	turn  int // how often order was asked; cells go through it on their own
}

// schedule runs the rounds.
type schedule struct {
	rounds   int
	runtimes []string
	cells    []*cell
	rig      *rig
	samples  *samples
}

func newSchedule(opts *options, r *rig, s *samples) *schedule {
	sch := &schedule{rounds: opts.rounds, runtimes: opts.runtimes, rig: r, samples: s}
	for _, c := range cycles(opts.ops) {
		for _, gap := range []time.Duration{0, opts.gap} {
			sch.cells = append(sch.cells, &cell{cycle: c, n: 1, gap: gap, reps: opts.reps})
			if !c.single {
				sch.cells = append(sch.cells, &cell{cycle: c, n: opts.parallel, gap: gap, reps: 1})
			}
		}
	}
	return sch
}

// run does one round that is not recorded (page cache, branch predictors, the
// first errors) and then the recorded ones, and says on stderr how far it is.
func (s *schedule) run(ctx context.Context) error {
	begin := time.Now()
	for round := range s.rounds + 1 {
		if err := s.round(ctx, round > 0); err != nil {
			return err
		}
		spent := time.Since(begin)
		left := spent / time.Duration(round+1) * time.Duration(s.rounds-round)
		fmt.Fprintf(os.Stderr, "bench: round %d of %d, %v left\n", round, s.rounds, left.Round(time.Second))
	}
	return nil
}

// round visits all cells in a random order.
func (s *schedule) round(ctx context.Context, record bool) error {
	for _, i := range rand.Perm(len(s.cells)) {
		c := s.cells[i]
		for range c.reps {
			for _, name := range order(s.runtimes, c.turn) {
				if err := s.measure(ctx, c, name, record); err != nil {
					return err
				}
			}
			c.turn++
		}
	}
	return nil
}

// order rotates the names by turn and reverses them after every full turn. For
// three names that walks through all six permutations, so that each runtime
// comes equally often after each other one.
func order(names []string, turn int) []string {
	k := turn % len(names)
	out := slices.Concat(names[k:], names[:k])
	if turn/len(names)%2 == 1 {
		slices.Reverse(out)
	}
	return out
}

// measure takes one runtime through a cell's cycle.
func (s *schedule) measure(ctx context.Context, c *cell, runtime string, record bool) error {
	for _, st := range c.cycle.steps {
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted: %w", context.Cause(ctx))
		}
		if st.name == stepMemory && c.n > 1 {
			continue // N inits share their pages: PSS would not be one init's
		}
		var gap time.Duration
		if st.timed {
			gap = c.gap
		}
		replies, err := s.rig.step(runtime, st.name, c.n, gap)
		if err != nil {
			return err
		}
		if record {
			s.record(c, st, runtime, replies)
		}
	}
	return nil
}

// record keeps each command's latency and, of N at once, the time from the
// first start to the last end.
func (s *schedule) record(c *cell, st step, runtime string, replies []reply) {
	k := key{Op: st.name, Metric: latency, N: c.n, GapMS: c.gap.Milliseconds(), Runtime: runtime}
	switch {
	case st.name == stepMemory:
		s.samples.Add(memoryKey(pss, runtime), float64(replies[0].PSS))
		s.samples.Add(memoryKey(rss, runtime), float64(replies[0].RSS))
	case st.timed:
		first, last := replies[0].Start, replies[0].End
		for _, r := range replies {
			s.samples.Add(k, float64(r.End-r.Start)/1e6)
			first, last = min(first, r.Start), max(last, r.End)
		}
		if c.n > 1 {
			k.Metric = wall
			s.samples.Add(k, float64(last-first)/1e6)
		}
	}
}
