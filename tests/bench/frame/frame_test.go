package frame

import (
	"math"
	"strings"
	"testing"
)

func TestSummary(t *testing.T) {
	var s Series[string]
	if sum, ok := s.Summary("a"); ok || !math.IsNaN(sum.Median) || !math.IsNaN(s.Median("a")) {
		t.Errorf("an empty series has a summary: %+v", sum)
	}
	for i := range 20 { // 20 .. 1, unsorted on purpose
		s.Add("a", float64(20-i))
	}
	got, _ := s.Summary("a")
	if want := (Summary{Samples: 20, Min: 1, Median: 10.5, P95: 19}); got != want {
		t.Errorf("summary = %+v, want %+v", got, want)
	}
	if m := Summarize([]float64{1, 9, 2}).Median; m != 2 {
		t.Errorf("median of three = %v, want the middle one", m)
	}
	if q := Summarize([]float64{5}).P95; q != 5 {
		t.Errorf("quantile of one = %v, want it", q)
	}
}

func TestVerdict(t *testing.T) {
	v := Judge([]Target{{"at the bound", 2, 2, false}, {"slow", 2.25, 2, false}, {"few", 399, 400, true}, {"no samples", math.NaN(), 1, false}})
	var out strings.Builder
	v.Print(&out)
	const want = `Of 4 targets, 2 are missed and 1 not measured.
- missed: slow: at most 2, is 2.25
- missed: few: at least 400, is 399
- not measured: no samples: at most 1
`
	if out.String() != want || v.Err() == nil {
		t.Errorf("%v: %s", v.Err(), out.String())
	}
	if err := Judge([]Target{{"at the bound", 2, 2, true}}).Err(); err != nil {
		t.Error(err)
	}
}

func TestParseRollup(t *testing.T) {
	const text = `55d0c7a00000-7ffd1e5f3000 ---p 00000000 00:00 0                          [rollup]
Rss:                2220 kB
Pss:                 905 kB
Pss_Dirty:           412 kB
Shared_Clean:       1456 kB
`
	p, r, err := parseRollup(text)
	if p != 905 || r != 2220 || err != nil {
		t.Errorf("parseRollup = %d, %d, %v", p, r, err)
	}
	// A process without memory (a zombie) has an empty file.
	if _, _, err := parseRollup(""); err == nil {
		t.Error("an empty file gives no error")
	}
}

func TestParentOf(t *testing.T) {
	for text, want := range map[string]int{
		"7 (sleep) S 12 7 7 0":         12,
		"7 (a) S 1 (b) S 12 7 7 0":     12, // the command is "a) S 1 (b"
		"7 (x":                         0,
		"":                             0,
		"7 (sh) Z 4194304 7 7 0 -1 41": 4194304,
	} {
		if got := parentOf([]byte(text)); got != want {
			t.Errorf("parentOf(%q) = %d, want %d", text, got, want)
		}
	}
}
