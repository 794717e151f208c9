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

// library is who does what no command does.
const library = "library"

// key names a series of times in ms, or of rates.
type key struct {
	FS   string `json:"fs"`
	Who  string `json:"who"` // library, adl, crun or runc
	What string `json:"what"`
	Case string `json:"case"`
}

func (k key) String() string { return strings.Join([]string{k.FS, k.Who, k.What, k.Case}, ", ") }

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
	Courses []course `json:"courses"`
	o       *options
	series  frame.Series[key]
	skipped []string // filesystems
}

func newReport(o *options) *report {
	return &report{Machine: time.Now().UTC().Format(time.RFC3339) + ", " + frame.ThisMachine().String(), o: o}
}

func (r *report) note(text string) { r.Notes = append(r.Notes, text) }

func (r *report) skip(fs, why string) {
	r.skipped = append(r.skipped, fs)
	r.note(fs + " is left out: " + why)
}

// finish computes the results, in an order that does not depend on chance.
func (r *report) finish() {
	rank := func(k key) string {
		return fmt.Sprintf("%d%d", slices.Index(r.o.fs, k.FS), slices.Index([]string{library, "adl", "crun", "runc"}, k.Who))
	}
	keys := r.series.Keys()
	slices.SortStableFunc(keys, func(a, b key) int {
		return strings.Compare(rank(a)+a.What, rank(b)+b.What)
	})
	for _, k := range keys {
		sum, _ := r.series.Summary(k)
		r.Results = append(r.Results, result{k, sum})
	}
}

// write prints the tables to w and writes them to the folder.
func (r *report) write(w io.Writer, folder string) error {
	r.finish()
	var md strings.Builder
	r.markdown(&md)
	if err := frame.WriteReport(folder, "layers", md.String(), r); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%s\nwritten: %s/layers.md, layers.json\n", md.String(), folder)
	return err
}

func (r *report) markdown(w io.Writer) {
	fmt.Fprintf(w, "# Layers\n\n- %s\n", r.Machine)
	fmt.Fprintf(w, "- %d rounds, interleaved, %v idle before each; without a pause: %v each\n", r.o.rounds, gap, r.o.sustained)
	for _, n := range r.Notes {
		fmt.Fprintf(w, "- %s\n", n)
	}
	fmt.Fprintf(w, "\n## Times in ms, and rates\n\n| filesystem | by | what | case | samples | min | median | p95 | predecessor, min / median |\n|%s\n",
		strings.Repeat("---|", 9))
	for _, s := range r.Results {
		fmt.Fprintf(w, "| %s | %s | %s | %s | %d | %.2f | %.2f | %.2f | %s |\n",
			s.FS, s.Who, s.What, s.Case, s.Samples, s.Min, s.Median, s.P95, predecessor(s.key))
	}
	r.ratios(w)
	r.courses(w)
	fmt.Fprint(w, "\n## Targets\n\n")
	r.verdict().Print(w)
}

// predecessor is what docs say of the container runtime that this one follows, measured
// on another day of the same machine: orders of magnitude.
func predecessor(k key) string {
	switch reset, onBtrfs := k.What == "reset, restart", k.FS == btrfs; {
	case k.Who != library:
	case reset && k.Case == "empty" && onBtrfs:
		return "21 / 50"
	case reset && k.Case == "empty":
		return "11 / 14"
	case reset && k.Case == "10,000 files" && !onBtrfs:
		return "120 / 165"
	case strings.HasPrefix(k.What, "create, exec") && !onBtrfs:
		return "545 / 619"
	}
	return ""
}

// ratios compare medians.
func (r *report) ratios(w io.Writer) {
	fmt.Fprintf(w, "\n## Ratios of medians\n\n| filesystem | what | ratio |\n|---|---|---|\n")
	row := func(fs, what string, a, b key) {
		if v := r.series.Median(a) / r.series.Median(b); !math.IsNaN(v) {
			fmt.Fprintf(w, "| %s | %s | %.2f |\n", fs, what, v)
		}
	}
	for _, fs := range r.o.fs {
		for _, mode := range modes() {
			what := "reset, " + mode
			empty := key{fs, library, what, "empty"}
			for _, c := range contents()[1:] {
				row(fs, what+": "+c.name+" / empty", key{fs, library, what, c.name}, empty)
			}
			row(fs, what+" / delete and run", empty, key{fs, library, "delete and run", "empty"})
			for _, peer := range []string{"crun", "runc"} {
				row(fs, what+", command / "+peer, key{fs, "adl", what, "empty"}, key{fs, peer, "delete -f, mount an overlay, run -d", "empty"})
			}
		}
	}
}

func (r *report) courses(w io.Writer) {
	if len(r.Courses) == 0 {
		return
	}
	fmt.Fprint(w, "\n## Without a pause\n\nTrash and disk: mean of the second quarter of the time, of the last, and the most.\n\n",
		"| filesystem | containers | resets a second | layers in the trash | MB more | files more | trash empty after, ms |\n|---|---|---|---|---|---|---|\n")
	three := func(v [3]float64, unit float64) string {
		return fmt.Sprintf("%.0f, %.0f, %.0f", v[0]/unit, v[1]/unit, v[2]/unit)
	}
	for _, c := range r.Courses {
		fmt.Fprintf(w, "| %s | %d | %.0f | %s | %s | %s | %.0f |\n", c.FS, c.Containers, c.Rate,
			three(c.Trash, 1), three(c.Bytes, 1e6), three(c.Files, 1), c.Drained)
	}
}

func modes() []string { return []string{"restart", "keep-init"} }
