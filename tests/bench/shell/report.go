package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// key names a series: of times in ms, unless What says otherwise.
type key struct {
	Who  string `json:"who"`
	What string `json:"what"`
}

// result describes a series.
type result struct {
	key
	Samples int     `json:"samples"`
	Min     float64 `json:"min"`
	Median  float64 `json:"median"`
	P95     float64 `json:"p95"`
}

// report collects series and says what they amount to.
type report struct {
	Machine string   `json:"machine"`
	Notes   []string `json:"notes"`
	Results []result `json:"results"`
	keys    []key    // in the order of the first samples
	series  map[key][]float64
}

func newReport() *report { return &report{Machine: machine(), series: make(map[key][]float64)} }

func (r *report) note(text string) { r.Notes = append(r.Notes, text) }

func (r *report) add(k key, v float64) {
	if r.series[k] == nil {
		r.keys = append(r.keys, k)
	}
	r.series[k] = append(r.series[k], v)
}

// median of a series; NaN where there is none.
func (r *report) median(who, what string) float64 {
	v := slices.Sorted(slices.Values(r.series[key{who, what}]))
	if len(v) == 0 {
		return math.NaN()
	}
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// target is a bound that this project has set itself: value must be at most limit, or at
// least where that is set. A value that is not a number was not measured.
type target struct {
	what         string
	value, limit float64
	atLeast      bool
}

func (r *report) targets() (all []target) {
	for _, who := range []string{byLibrary, byCoprocess} {
		all = append(all,
			target{who + ", " + builtin + ", ms", r.median(who, builtin), 0.1, false},
			target{who + ", " + program + " / " + bareBash, r.median(who, program) / r.median(bareBash, program), 1.3, false})
	}
	return append(all,
		target{byLibrary + ", " + mbPerSecond, r.median(byLibrary, mbPerSecond), 500, true},
		target{byCommandLine + ", " + builtin + " / crun exec", r.median(byCommandLine, builtin) / r.median("crun exec", builtin), 0.7, false})
}

// verdict lists the targets that are missed, and those without samples: a check that
// passes without data is none.
func (r *report) verdict() (missed, unmeasured []string) {
	for _, t := range r.targets() {
		bound := "at most"
		if t.atLeast {
			bound = "at least"
		}
		say := fmt.Sprintf("%s: %s %g", t.what, bound, t.limit)
		switch {
		case math.IsNaN(t.value):
			unmeasured = append(unmeasured, say)
		case t.atLeast && t.value < t.limit, !t.atLeast && t.value > t.limit:
			missed = append(missed, fmt.Sprintf("%s, is %.3g", say, t.value))
		}
	}
	return missed, unmeasured
}

// write prints the tables, and writes them and the numbers to a folder.
func (r *report) write(w io.Writer, folder string) error {
	for _, k := range r.keys {
		v := slices.Sorted(slices.Values(r.series[k]))
		p95 := v[max(0, int(math.Ceil(0.95*float64(len(v))))-1)]
		r.Results = append(r.Results, result{k, len(v), v[0], r.median(k.Who, k.What), p95})
	}
	var text strings.Builder
	r.markdown(&text)
	if _, err := io.WriteString(w, text.String()); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(r, "", "\t")
	if err == nil {
		err = os.MkdirAll(folder, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, "shell.json"), append(raw, '\n'), 0o644)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(folder, "shell.md"), []byte(text.String()), 0o644)
	}
	return err
}

func (r *report) markdown(w io.Writer) {
	fmt.Fprintf(w, "# Commands in shells\n\n%s\n\n", r.Machine)
	for _, n := range r.Notes {
		fmt.Fprintf(w, "- %s\n", n)
	}
	fmt.Fprint(w, "\nTimes are in ms. The last column compares medians with the bare bash's.\n\n",
		"| what | who | samples | min | median | p95 | / bare bash |\n|---|---|---|---|---|---|---|\n")
	byWhat := slices.Clone(r.Results)
	order := map[string]int{}
	for i, s := range r.Results {
		if _, ok := order[s.What]; !ok {
			order[s.What] = i
		}
	}
	slices.SortStableFunc(byWhat, func(a, b result) int { return order[a.What] - order[b.What] })
	for _, s := range byWhat {
		ratio := ""
		if v := s.Median / r.median(bareBash, s.What); !math.IsNaN(v) {
			ratio = fmt.Sprintf("%.2f", v)
		}
		fmt.Fprintf(w, "| %s | %s | %d | %.4g | %.4g | %.4g | %s |\n", s.What, s.Who, s.Samples, s.Min, s.Median, s.P95, ratio)
	}
	r.ratios(w)
	missed, unmeasured := r.verdict()
	fmt.Fprintf(w, "\nOf %d targets, %d are missed and %d not measured.\n", len(r.targets()), len(missed), len(unmeasured))
	for _, m := range missed {
		fmt.Fprintf(w, "- missed: %s\n", m)
	}
	for _, u := range unmeasured {
		fmt.Fprintf(w, "- not measured: %s\n", u)
	}
}

// ratios compare our command line with the others.
func (r *report) ratios(w io.Writer) {
	fmt.Fprint(w, "\n| what | who | "+byCommandLine+" / who |\n|---|---|---|\n")
	for _, what := range []string{builtin, program, output} {
		for _, who := range []string{"crun exec", "runc exec", "podman exec"} {
			if v := r.median(byCommandLine, what) / r.median(who, what); !math.IsNaN(v) {
				fmt.Fprintf(w, "| %s | %s | %.2f |\n", what, who, v)
			}
		}
	}
}

// machine says where the numbers come from.
func machine() string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	load, _ := os.ReadFile("/proc/loadavg")
	before := strings.Join(strings.Fields(string(load) + " ? ? ?")[:3], " ")
	return fmt.Sprintf("%s, Linux %s, %s, %d CPUs, load before %s", time.Now().UTC().Format(time.RFC3339),
		unix.ByteSliceToString(u.Release[:]), runtime.GOARCH, runtime.NumCPU(), before)
}
