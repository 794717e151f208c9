package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"adl.run/adl-runtime/tests/bench/frame"
)

// key names a series: of times in ms, unless What says otherwise.
type key struct {
	Who  string `json:"who"`
	What string `json:"what"`
}

// result describes a series.
type result struct {
	key
	frame.Summary
}

// report collects series and says what they amount to.
type report struct {
	Machine string   `json:"machine"`
	Notes   []string `json:"notes"`
	Results []result `json:"results"`
	series  frame.Series[key]
}

func newReport() *report {
	m := frame.ThisMachine()
	return &report{Machine: fmt.Sprintf("%s, Linux %s, %s, %d CPUs, load before %s",
		time.Now().UTC().Format(time.RFC3339), m.Kernel, m.Arch, m.CPUs, m.Load)}
}

func (r *report) note(text string) { r.Notes = append(r.Notes, text) }

// median of a series; NaN where there is none.
func (r *report) median(who, what string) float64 { return r.series.Median(key{who, what}) }

func (r *report) targets() (all []frame.Target) {
	for _, who := range []string{byLibrary, byCoprocess} {
		all = append(all,
			frame.Target{What: who + ", " + builtin + ", ms", Value: r.median(who, builtin), Limit: 0.1},
			frame.Target{What: who + ", " + program + " / " + bareBash, Value: r.median(who, program) / r.median(bareBash, program), Limit: 1.3})
	}
	crun := r.median(byCommandLine, builtin) / r.median("crun exec", builtin)
	return append(all,
		frame.Target{What: byLibrary + ", " + mbPerSecond, Value: r.median(byLibrary, mbPerSecond), Limit: 500, AtLeast: true},
		frame.Target{What: byCommandLine + ", " + builtin + " / crun exec", Value: crun, Limit: 0.7})
}

// write prints the tables, and writes them and the numbers to a folder.
func (r *report) write(w io.Writer, folder string) error {
	for _, k := range r.series.Keys() {
		sum, _ := r.series.Summary(k)
		r.Results = append(r.Results, result{k, sum})
	}
	var text strings.Builder
	r.markdown(&text)
	if _, err := io.WriteString(w, text.String()); err != nil {
		return err
	}
	return frame.WriteReport(folder, "shell", text.String(), r)
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
	fmt.Fprintln(w)
	frame.Judge(r.targets()).Print(w)
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
