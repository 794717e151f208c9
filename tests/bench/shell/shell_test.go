package main

import (
	"strings"
	"testing"

	"adl.run/adl-runtime/tests/bench/frame"
)

func TestVerdict(t *testing.T) {
	r := newReport()
	if v := frame.Judge(r.targets()); len(v.Missed) > 0 || len(v.Unmeasured) != v.Targets {
		t.Errorf("without samples: %+v", v)
	}
	for k, v := range map[key]float64{
		{byLibrary, builtin}: 0.05, {byLibrary, program}: 1.2, {byCoprocess, builtin}: 0.2, {byCoprocess, program}: 1.4,
		{bareBash, program}: 1, {byLibrary, mbPerSecond}: 400, {byCommandLine, builtin}: 6, {"crun exec", builtin}: 10,
	} {
		r.series.Add(k, v)
	}
	v := frame.Judge(r.targets())
	if len(v.Unmeasured) > 0 || len(v.Missed) != 3 || !strings.Contains(v.Missed[2], "500, is 400") {
		t.Errorf("%+v", v)
	}
}

func TestReport(t *testing.T) {
	r := newReport()
	for _, v := range []float64{4, 1, 3, 2} {
		r.series.Add(key{"a", "b"}, v)
	}
	var out strings.Builder
	if err := r.write(&out, t.TempDir()); err != nil || !strings.Contains(out.String(), "| b | a | 4 | 1 | 2.5 | 4 |") {
		t.Errorf("%v: %s", err, out.String())
	}
}
