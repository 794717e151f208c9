package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"adl.run/adl-runtime/tests/bench/frame"
)

// report is the outcome; its exported fields are bench.json.
type report struct {
	Date    string        `json:"date"`
	Machine frame.Machine `json:"machine"`
	Tools   []tool        `json:"runtimes"`
	Rounds  int           `json:"rounds"`
	Reps    int           `json:"reps"`
	Results []result      `json:"results"`
	Ratios  []ratios      `json:"ratios"`
	Missed  []string      `json:"missed_targets"`
	// Unmeasured lists the targets that -ops or -runtimes left without samples.
	Unmeasured []string `json:"unmeasured_targets"`

	samples  *samples
	runtimes []string
	parallel int
	gapMS    int64
}

// result is one series, times in ms and memory in KiB.
type result struct {
	key
	frame.Summary
}

// ratios are quotients of medians, ours by a peer's.
type ratios struct {
	key
	Against map[string]float64 `json:"adl_by"`
}

// newReport looks at the machine before the first measurement.
func newReport(opts *options) *report {
	return &report{
		Date: time.Now().UTC().Format(time.RFC3339), Machine: frame.ThisMachine(), Tools: describeTools(opts),
		Rounds: opts.rounds, Reps: opts.reps,
		samples: &samples{}, runtimes: opts.runtimes, parallel: opts.parallel, gapMS: opts.gap.Milliseconds(),
	}
}

// finish computes everything from the samples.
func (r *report) finish() {
	for _, c := range r.samples.conditions() {
		q := ratios{key: c.with(nameADL), Against: make(map[string]float64)}
		for _, name := range r.runtimes {
			if s, ok := r.samples.Summary(c.with(name)); ok {
				r.Results = append(r.Results, result{c.with(name), s})
			}
			if v, ok := r.samples.ratio(c, nameADL, name); ok && name != nameADL {
				q.Against[name] = v
			}
		}
		if len(q.Against) > 0 {
			r.Ratios = append(r.Ratios, q)
		}
	}
	r.Missed, r.Unmeasured = checkTargets(r.samples, r.parallel, r.gapMS)
}

// write prints the tables to w and writes bench.md, bench.json and bench.svg to
// the folder.
func (r *report) write(w io.Writer, folder string) error {
	var md strings.Builder
	r.markdown(&md)
	if err := frame.WriteReport(folder, "bench", md.String(), r); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, "bench.svg"), []byte(r.plot()), 0o644); err != nil {
		return err
	}
	r.text(w)
	_, err := fmt.Fprintf(w, "\nwritten: %s/bench.md, bench.json, bench.svg\n", folder)
	return err
}

// text is the report for a terminal.
func (r *report) text(w io.Writer) {
	for _, line := range r.heading() {
		fmt.Fprintln(w, line)
	}
	for _, t := range r.tables() {
		fmt.Fprintf(w, "\n%s\n", t.title)
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, row := range t.rows {
			fmt.Fprintln(tw, strings.Join(row, "\t"))
		}
		tw.Flush()
	}
	fmt.Fprintf(w, "\n%s\n", strings.Join(r.verdict(), "\n"))
}

// markdown is the same for bench.md.
func (r *report) markdown(w io.Writer) {
	fmt.Fprintf(w, "# Benchmark\n\n")
	for _, line := range r.heading() {
		fmt.Fprintf(w, "- %s\n", line)
	}
	for _, t := range r.tables() {
		fmt.Fprintf(w, "\n## %s\n\n", t.title)
		for i, row := range t.rows {
			fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
			if i == 0 {
				fmt.Fprintf(w, "|%s\n", strings.Repeat("---|", len(row)))
			}
		}
	}
	fmt.Fprintf(w, "\n## Targets\n\n%s\n\n![medians and 95th percentiles](bench.svg)\n",
		strings.Join(r.verdict(), "\n"))
}

func (r *report) heading() []string {
	lines := []string{r.Date + ", " + r.Machine.String()}
	for _, t := range r.Tools {
		lines = append(lines, fmt.Sprintf("%s: %s (%.1f MB)", t.Name, t.Version, float64(t.Bytes)/1e6))
	}
	return append(lines, fmt.Sprintf("%d rounds, interleaved; one at a time %d times a round, %d at once once a round",
		r.Rounds, r.Reps, r.parallel))
}

func (r *report) verdict() []string {
	total := len(targets(r.parallel, r.gapMS))
	out := []string{fmt.Sprintf("Of the %d targets, %d are met, %d missed, %d not measured.",
		total, total-len(r.Missed)-len(r.Unmeasured), len(r.Missed), len(r.Unmeasured))}
	if len(r.Missed) > 0 {
		out = append(out, "")
	}
	for _, m := range r.Missed {
		out = append(out, "- missed: "+m)
	}
	return out
}

// table is a title, a header row and rows.
type table struct {
	title string
	rows  [][]string
}

func (r *report) tables() []table {
	head := append([]string{"operation", "at once", "gaps"}, r.runtimes...)
	for _, name := range r.peers() {
		head = append(head, nameADL+"/"+name)
	}
	times := table{"Time in ms: min / median / p95, and ratios of medians", [][]string{head}}
	memory := table{
		"Memory of the waiting init in KiB: min / median / p95, and ratios of medians",
		[][]string{append([]string{"memory"}, head[3:]...)},
	}
	for _, c := range r.samples.conditions() {
		if c.Metric == pss || c.Metric == rss {
			memory.rows = append(memory.rows, append([]string{strings.ToUpper(c.Metric)}, r.values(c, "%.0f")...))
		} else {
			times.rows = append(times.rows, append([]string{c.Op, c.atOnce(), c.gaps()}, r.values(c, "%.2f")...))
		}
	}
	return []table{times, memory}
}

// values are a row's summaries and ratios.
func (r *report) values(c key, format string) []string {
	var out []string
	for _, name := range r.runtimes {
		cellText := "-"
		if s, ok := r.samples.Summary(c.with(name)); ok {
			cellText = fmt.Sprintf(format+" / "+format+" / "+format, s.Min, s.Median, s.P95)
		}
		out = append(out, cellText)
	}
	for _, name := range r.peers() {
		cellText := "-"
		if v, ok := r.samples.ratio(c, nameADL, name); ok {
			cellText = fmt.Sprintf("%.3f", v)
		}
		out = append(out, cellText)
	}
	return out
}

// peers are the measured runtimes but ours, when ours is measured too.
func (r *report) peers() []string {
	var out []string
	ours := false
	for _, name := range r.runtimes {
		if name == nameADL {
			ours = true
		} else {
			out = append(out, name)
		}
	}
	if !ours {
		return nil
	}
	return out
}
