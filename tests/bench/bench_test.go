package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Every runtime must follow every other one equally often.
func TestOrderWalksAllPermutations(t *testing.T) {
	seen := make(map[string]int)
	for turn := range 12 {
		seen[fmt.Sprint(order([]string{"a", "b", "c"}, turn))]++
	}
	if len(seen) != 6 {
		t.Fatalf("%d permutations, want 6: %v", len(seen), seen)
	}
	for p, n := range seen {
		if n != 2 {
			t.Errorf("%s came %d times in 12 turns, want 2", p, n)
		}
	}
}

func TestCyclesTimeOnlyWhatIsWanted(t *testing.T) {
	var timed []string
	for _, c := range cycles([]string{opStart}) {
		for _, s := range c.steps {
			if s.timed {
				timed = append(timed, s.name)
			}
		}
	}
	if !slices.Equal(timed, []string{opStart}) {
		t.Errorf("timed = %v, want start only", timed)
	}
}

func TestBundleConfig(t *testing.T) {
	const template = `{"process":{"terminal":true,"args":["sh"],"cwd":"/"},
		"root":{"path":"rootfs","readonly":true},"linux":{"maskedPaths":["/proc/keys"]},"new":1}`
	got, err := bundleConfig([]byte(template), []string{"/bin/true"}, "/r", "/c/1", nil)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"process":{"terminal":false,"args":["/bin/true"],"cwd":"/"},
		"root":{"path":"/r","readonly":true},"linux":{"maskedPaths":["/proc/keys"],"cgroupsPath":"/c/1"},"new":1}`
	var g, w any
	if err := errors.Join(json.Unmarshal(got, &g), json.Unmarshal([]byte(want), &w)); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(w, g); d != "" {
		t.Errorf("config (-want +got):\n%s", d)
	}
	if _, err := bundleConfig([]byte(`{"process":{},"root":{}}`), nil, "", "", nil); err == nil {
		t.Error("a spec without linux gives no error")
	}
}

// fill gives every condition of all operations one sample for each runtime.
func fill(ms map[string]float64, kib float64) *samples {
	s := &samples{}
	for name, v := range ms {
		for _, op := range allOps() {
			v := v
			if op == opExec && name == nameADL {
				v /= 2 // has bounds of its own
			}
			for _, gap := range []int64{0, 40} {
				s.Add(key{op, latency, 1, gap, name}, v)
				s.Add(key{op, latency, 8, gap, name}, v)
				s.Add(key{op, wall, 8, gap, name}, v)
			}
		}
		s.Add(memoryKey(pss, name), kib)
		s.Add(memoryKey(rss, name), 2*kib)
	}
	return s
}

func TestTargets(t *testing.T) {
	missed, unmeasured := checkTargets(fill(map[string]float64{nameADL: 6, nameCrun: 10, nameRunc: 24}, 64), 8, 40)
	if len(missed)+len(unmeasured) != 0 {
		t.Errorf("bounds that are reached exactly: missed %q, unmeasured %q", missed, unmeasured)
	}
	s := fill(map[string]float64{nameADL: 6.1, nameCrun: 10, nameRunc: 24}, 65)
	missed, _ = checkTargets(s, 8, 40)
	want := []string{
		"run, one at a time, back to back: at most 0.6 x crun, is 0.61",
		"run, one at a time, back to back: at most 0.25 x runc, is 0.254",
		"create, one at a time, back to back: at most 0.6 x crun, is 0.61",
		"delete, one at a time, back to back: at most 0.6 x crun, is 0.61",
		"delete-force, one at a time, back to back: at most 0.6 x crun, is 0.61",
		"run, one at a time, 40 ms gaps: at most 0.6 x crun, is 0.61",
		"run, one at a time, 40 ms gaps: at most 0.25 x runc, is 0.254",
		"create, one at a time, 40 ms gaps: at most 0.6 x crun, is 0.61",
		"delete, one at a time, 40 ms gaps: at most 0.6 x crun, is 0.61",
		"delete-force, one at a time, 40 ms gaps: at most 0.6 x crun, is 0.61",
		"run-podman, one at a time, back to back: at most 0.6 x crun, is 0.61",
		"run-podman, one at a time, 40 ms gaps: at most 0.6 x crun, is 0.61",
		"waiting init, pss: at most 64 KiB, is 65",
	}
	if d := cmp.Diff(want, missed); d != "" {
		t.Errorf("missed (-want +got):\n%s", d)
	}
	_, unmeasured = checkTargets(&samples{}, 8, 40)
	if len(unmeasured) != len(targets(8, 40)) {
		t.Errorf("without samples %d targets are unmeasured, want all %d", len(unmeasured), len(targets(8, 40)))
	}
}

func testReport() *report {
	r := &report{
		Tools:    []tool{{nameADL, "adl-runtime version <1>", 4e6}, {nameCrun, "crun version 1", 5e5}},
		samples:  fill(map[string]float64{nameADL: 5.5, nameCrun: 9.25}, 28),
		runtimes: []string{nameADL, nameCrun}, parallel: 8, gapMS: 40,
	}
	r.finish()
	return r
}

func TestReportTables(t *testing.T) {
	var md strings.Builder
	testReport().markdown(&md)
	for _, want := range []string{
		"| operation | at once | gaps | adl | crun | adl/crun |\n|---|---|---|---|---|---|\n",
		"| run | one at a time | back to back | 5.50 / 5.50 / 5.50 | 9.25 / 9.25 / 9.25 | 0.595 |\n",
		"| run | 8 at once (batch) | 40 ms gaps | 5.50 / 5.50 / 5.50 | 9.25 / 9.25 / 9.25 | 0.595 |\n",
		"| PSS | 28 / 28 / 28 | 28 / 28 / 28 | 1.000 |\n",
	} {
		if !strings.Contains(md.String(), want) {
			t.Errorf("no %q in\n%s", want, md.String())
		}
	}
}

// The plot is well-formed and has one bar for each runtime and condition.
func TestPlot(t *testing.T) {
	r := testReport()
	svg := r.plot()
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
	}
	bars := 0
	for _, p := range append(r.panels(1), r.panels(8)...) {
		bars += len(p.groups) * len(r.runtimes)
	}
	whiskers := strings.Count(svg, "<path ")
	if want := (len(allOps())*2*2 + 2) * 2; bars != want || whiskers != want {
		t.Errorf("%d bars, %d whiskers, want %d", bars, whiskers, want)
	}
}

func TestAxisStep(t *testing.T) {
	for _, top := range []float64{0.31, 1, 5.85, 9.9, 54, 111, 187, 9876} {
		if marks := top / axisStep(top); marks < 3 || marks > 9 {
			t.Errorf("axisStep(%v) = %v: %.1f marks", top, axisStep(top), marks)
		}
	}
}

func TestParseFlagsRefuses(t *testing.T) {
	for _, args := range [][]string{
		{"-rounds", "0"},
		{"-parallel", "1"},
		{"-gap", "0s"},
		{"-timeout", "0s"},
		{"-ops", "run,stop"},
		{"-rate", "-1"},
		{"-rate", "10", "-for", "900ms"},
		{"-runtimes", "adl,youki"},
		{"-runtimes", "adl", "-adl", "/nonexistent"},
	} {
		if _, err := parseFlags(args); err == nil {
			t.Errorf("%v is accepted", args)
		}
	}
}

func TestSleepUntil(t *testing.T) {
	at := after(3 * time.Millisecond)
	sleepUntil(at)
	if late := now() - at; late < 0 {
		t.Errorf("woke %v early", time.Duration(-late))
	}
	sleepUntil(0) // the past: returns at once
}
