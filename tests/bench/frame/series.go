package frame

import (
	"math"
	"slices"
)

// Series collects samples, by what they are samples of. The zero value is empty.
type Series[K comparable] struct {
	keys   []K
	values map[K][]float64
}

// Add adds a sample.
func (s *Series[K]) Add(k K, v float64) {
	if s.values == nil {
		s.values = make(map[K][]float64)
	}
	if s.values[k] == nil {
		s.keys = append(s.keys, k)
	}
	s.values[k] = append(s.values[k], v)
}

// Keys are those that there are samples of, in the order of the first ones.
func (s *Series[K]) Keys() []K { return slices.Clone(s.keys) }

// Summary summarizes the samples of k; ok is false where there are none.
func (s *Series[K]) Summary(k K) (sum Summary, ok bool) {
	v := s.values[k]
	return Summarize(v), len(v) > 0
}

// Median is that of the samples of k; NaN where there are none.
func (s *Series[K]) Median(k K) float64 { return Summarize(s.values[k]).Median }

// Summary describes a series.
type Summary struct {
	Samples int     `json:"samples"`
	Min     float64 `json:"min"`
	// Median is the middle one, or the mean of the two.
	Median float64 `json:"median"`
	// P95 is the smallest that at least 95 % do not exceed.
	P95 float64 `json:"p95"`
}

// Summarize describes some samples, in any order. Without any, all but their number is NaN.
func Summarize(samples []float64) Summary {
	v := slices.Sorted(slices.Values(samples))
	n := len(v)
	if n == 0 {
		return Summary{Min: math.NaN(), Median: math.NaN(), P95: math.NaN()}
	}
	p95 := int(math.Ceil(0.95*float64(n))) - 1
	return Summary{Samples: n, Min: v[0], Median: (v[(n-1)/2] + v[n/2]) / 2, P95: v[p95]}
}
