package main

import (
	"math"
	"slices"
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

// summary describes a series. All zero means there were no samples.
type summary struct {
	Samples int     `json:"samples"`
	Min     float64 `json:"min"`
	Median  float64 `json:"median"`
	P95     float64 `json:"p95"`
}

// samples collects series.
type samples struct {
	series map[key][]float64
}

func newSamples() *samples { return &samples{series: make(map[key][]float64)} }

func (s *samples) add(k key, v float64) { s.series[k] = append(s.series[k], v) }

// summary summarizes a series; ok is false when it is empty.
func (s *samples) summary(k key) (sum summary, ok bool) {
	v := slices.Sorted(slices.Values(s.series[k]))
	if len(v) == 0 {
		return summary{}, false
	}
	return summary{Samples: len(v), Min: v[0], Median: median(v), P95: quantile(v, 0.95)}, true
}

// ratio divides the medians of two runtimes in the same series; ok is false
// when either is empty or the divisor is 0.
func (s *samples) ratio(k key, runtime, against string) (float64, bool) {
	a, okA := s.summary(k.with(runtime))
	b, okB := s.summary(k.with(against))
	if !okA || !okB || b.Median == 0 {
		return 0, false
	}
	return a.Median / b.Median, true
}

// conditions lists the distinct series without their runtime, in report order:
// operation, metric, N, gap.
func (s *samples) conditions() []key {
	seen := make(map[key]bool)
	for k := range s.series {
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

// median of sorted, non-empty values: the middle one or the mean of the two.
func median(v []float64) float64 {
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}

// quantile of sorted, non-empty values by nearest rank: the smallest value that
// at least the share q of the values does not exceed.
func quantile(v []float64, q float64) float64 {
	i := int(math.Ceil(q*float64(len(v)))) - 1
	return v[max(i, 0)]
}
