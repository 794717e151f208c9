package main

import "fmt"

// target is a bound that this project has set itself. Against empty
// means that the median itself is bounded and not a ratio of medians.
type target struct {
	key     key // Runtime is not used
	against string
	limit   float64
}

// targets lists all bounds for one at a time and n at once, back to back and
// with gaps.
func targets(n int, gapMS int64) []target {
	var out []target
	for _, gap := range []int64{0, gapMS} {
		one := func(op, against string, limit float64) {
			out = append(out, target{key{Op: op, Metric: latency, N: 1, GapMS: gap}, against, limit})
		}
		one(opRun, nameCrun, 0.6)
		one(opRun, nameRunc, 0.25)
		one(opCreate, nameCrun, 0.6)
		one(opDelete, nameCrun, 0.6)
		one(opDeleteForce, nameCrun, 0.6)
		one(opVersion, nameCrun, 1)
		for _, op := range []string{opRun, opCreate, opStart, opDelete, opDeleteForce} {
			for _, metric := range []string{latency, wall} {
				out = append(out, target{key{Op: op, Metric: metric, N: n, GapMS: gap}, nameCrun, 0.8})
			}
		}
	}
	out = append(out, append(execTargets(gapMS), podmanTargets(gapMS)...)...)
	return append(out, target{memoryKey(pss, ""), "", 64})
}

// String names the target.
func (t target) String() string {
	if t.against == "" {
		return fmt.Sprintf("%s: at most %.3g KiB", t.key, t.limit)
	}
	return fmt.Sprintf("%s: at most %.3g x %s", t.key, t.limit, t.against)
}

// value is what the target bounds; ok is false when it was not measured.
func (t target) value(s *samples) (v float64, ok bool) {
	if t.against != "" {
		return s.ratio(t.key, nameADL, t.against)
	}
	sum, ok := s.Summary(t.key.with(nameADL))
	return sum.Median, ok
}

// checkTargets lists the targets that are missed, and those that have no
// samples: a check that passes without data is none.
func checkTargets(s *samples, n int, gapMS int64) (missed, unmeasured []string) {
	for _, t := range targets(n, gapMS) {
		switch v, ok := t.value(s); {
		case !ok:
			unmeasured = append(unmeasured, t.String())
		case v > t.limit:
			missed = append(missed, fmt.Sprintf("%s, is %.3g", t, v))
		}
	}
	return missed, unmeasured
}

// String names a series without its runtime, as in "create, 8 at once (batch),
// 40 ms gaps".
func (k key) String() string {
	if k.Metric == pss || k.Metric == rss {
		return "waiting init, " + k.Metric
	}
	return k.Op + ", " + k.atOnce() + ", " + k.gaps()
}

func (k key) atOnce() string {
	switch {
	case k.N == 1:
		return "one at a time"
	case k.Metric == wall:
		return fmt.Sprintf("%d at once (batch)", k.N)
	default:
		return fmt.Sprintf("%d at once (each)", k.N)
	}
}

func (k key) gaps() string {
	if k.GapMS == 0 {
		return "back to back"
	}
	return fmt.Sprintf("%d ms gaps", k.GapMS)
}
