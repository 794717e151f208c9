package main

import (
	"math"
	"strings"
	"testing"
)

func TestVerdict(t *testing.T) {
	r := newReport()
	if missed, unmeasured := r.verdict(); len(missed) > 0 || len(unmeasured) != len(r.targets()) {
		t.Errorf("without samples: missed %q, unmeasured %q", missed, unmeasured)
	}
	for k, v := range map[key]float64{
		{byLibrary, builtin}: 0.05, {byLibrary, program}: 1.2, {byCoprocess, builtin}: 0.2, {byCoprocess, program}: 1.4,
		{bareBash, program}: 1, {byLibrary, mbPerSecond}: 400, {byCommandLine, builtin}: 6, {"crun exec", builtin}: 10,
	} {
		r.add(k, v)
	}
	missed, unmeasured := r.verdict()
	if len(unmeasured) > 0 || len(missed) != 3 || !strings.Contains(missed[2], "500, is 400") {
		t.Errorf("missed %q, unmeasured %q", missed, unmeasured)
	}
}

func TestMedian(t *testing.T) {
	r := newReport()
	for _, v := range []float64{4, 1, 3, 2} {
		r.add(key{"a", "b"}, v)
	}
	if m := r.median("a", "b"); m != 2.5 {
		t.Errorf("median %v", m)
	}
	if m := r.median("a", "c"); !math.IsNaN(m) {
		t.Errorf("median of nothing %v", m)
	}
	var out strings.Builder
	if err := r.write(&out, t.TempDir()); err != nil || !strings.Contains(out.String(), "| b | a | 4 | 1 | 2.5 | 4 |") {
		t.Errorf("%v: %s", err, out.String())
	}
}
