package main

import (
	"slices"

	"adl.run/adl-runtime/tests/bench/frame"
)

// The metrics.
const (
	latency = "latency" // ms, one command
	wall    = "wall"    // ms, N commands from the first start to the last end
	pss     = "pss"     // KiB, the waiting init
	rss     = "rss"     // KiB, the waiting init
)

// key names one series of samples.
type key struct {
	Op      string `json:"op"`
	Metric  string `json:"metric"`
	N       int    `json:"n"`
	GapMS   int64  `json:"gap_ms"`
	Runtime string `json:"runtime"`
}

// with is the same series of another runtime.
func (k key) with(runtime string) key {
	k.Runtime = runtime
	return k
}

// memoryKey is the series of the init's memory, taken in every cell that runs
// one container at a time.
func memoryKey(metric, runtime string) key {
	return key{Op: opCreate, Metric: metric, N: 1, Runtime: runtime}
}

// samples collects series.
type samples struct{ frame.Series[key] }

// ratio divides the medians of two runtimes in the same series; ok is false
// when either is empty or the divisor is 0.
func (s *samples) ratio(k key, runtime, against string) (float64, bool) {
	a, okA := s.Summary(k.with(runtime))
	b, okB := s.Summary(k.with(against))
	if !okA || !okB || b.Median == 0 {
		return 0, false
	}
	return a.Median / b.Median, true
}

// conditions lists the distinct series without their runtime, in report order:
// operation, metric, N, gap.
func (s *samples) conditions() []key {
	seen := make(map[key]bool)
	for _, k := range s.Keys() {
		seen[k.with("")] = true
	}
	var out []key
	for k := range seen {
		out = append(out, k)
	}
	slices.SortFunc(out, compareKeys)
	return out
}

func compareKeys(a, b key) int {
	rank := func(k key) []int {
		return []int{
			slices.Index([]string{latency, wall, pss, rss}, k.Metric) / 2, // times, then memory
			slices.Index(allOps(), k.Op), k.N,
			slices.Index([]string{latency, wall, pss, rss}, k.Metric), int(k.GapMS),
		}
	}
	return slices.Compare(rank(a), rank(b))
}
