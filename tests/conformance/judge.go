package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// A row is one program with the result of each runtime.
type row struct {
	program string
	results map[string]*result
	why     string
}

// A report is what the results mean.
type report struct {
	rows       []row
	violations []string
}

// judge compares ours with the others. In a partial run a reason for a program
// that did not run is not looked at.
func judge(results []*result, reasons map[string]reason, partial bool) report {
	var rep report
	for _, program := range programsOf(results) {
		r := row{program: program, results: make(map[string]*result)}
		for _, res := range results {
			if res.program == program {
				r.results[res.target] = res
			}
		}
		rep.judgeRow(&r, reasons)
		rep.rows = append(rep.rows, r)
	}
	if !partial {
		rep.unknownReasons(reasons)
	}
	return rep
}

func programsOf(results []*result) []string {
	var names []string
	for _, r := range results {
		names = append(names, r.program)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (rep *report) judgeRow(r *row, reasons map[string]reason) {
	mine := r.results[ours]
	why, explained := reasons[r.program]
	if explained && !(mine.passed() && why.when == whenMaybe) {
		r.why = why.text
	}
	if !mine.passed() && !explained {
		r.why = "?"
	}
	peers := r.passingPeers()
	switch {
	case mine.passed() && explained && why.when != whenMaybe:
		rep.violate("%s passes, but reasons.txt says why it does not", r.program)
	case mine.passed() || explained && why.when == whenMaybe:
	case len(peers) > 0:
		rep.violate("%s does not pass, but %s does: %s", r.program, strings.Join(peers, " and "), mine.failure)
	case !explained:
		rep.violate("%s does not pass, and reasons.txt does not say why: %s", r.program, mine.failure)
	}
	if mine.passed() && len(mine.left) > 0 && r.cleanPeer() {
		rep.violate("%s: ours leaves something behind where another runtime does not", r.program)
	}
}

func (rep *report) violate(format string, args ...any) {
	rep.violations = append(rep.violations, fmt.Sprintf(format, args...))
}

func (r *row) passingPeers() []string {
	var names []string
	for _, peer := range []string{runc, crun} {
		if res := r.results[peer]; res != nil && res.passed() {
			names = append(names, peer)
		}
	}
	return names
}

// cleanPeer says whether another runtime passes and leaves nothing.
func (r *row) cleanPeer() bool {
	return slices.ContainsFunc(r.passingPeers(), func(peer string) bool { return len(r.results[peer].left) == 0 })
}

// unknownReasons finds reasons for programs that the suite does not have.
func (rep *report) unknownReasons(reasons map[string]reason) {
	for program := range reasons {
		known := func(r row) bool { return r.program == program }
		if !slices.ContainsFunc(rep.rows, known) {
			rep.violate("reasons.txt names %s, which is not in the suite", program)
		}
	}
	slices.Sort(rep.violations)
}

func (rep *report) print(w io.Writer, logs string) {
	rep.printTable(w)
	rep.printLeftovers(w)
	if len(rep.violations) > 0 {
		fmt.Fprintf(w, "\nviolations (logs in %s):\n", logs)
		for _, v := range rep.violations {
			fmt.Fprintln(w, " ", v)
		}
	}
}

func (rep *report) printTable(w io.Writer) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "program\tours\trunc\tcrun\twhy ours does not pass")
	passed := make(map[string]int)
	for _, r := range rep.rows {
		for target, res := range r.results {
			if res.passed() {
				passed[target]++
			}
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", r.program, cell(r.results[ours]), cell(r.results[runc]), cell(r.results[crun]), r.why)
	}
	fmt.Fprintf(table, "passed of %d\t%d\t%d\t%d\t\n", len(rep.rows), passed[ours], passed[runc], passed[crun])
	table.Flush()
}

// cell shows a result in a word, with the failed points of all points and,
// where it took more than one, the number of tries.
func cell(r *result) string {
	if r == nil {
		return "-"
	}
	text := "pass"
	switch {
	case r.passed():
	case r.TimedOut:
		text = "timeout"
	case r.tap.failed > 0:
		text = fmt.Sprintf("FAIL %d/%d", r.tap.failed, r.tap.failed+r.tap.passed)
	default:
		text = "FAIL"
	}
	if r.tries > 1 {
		text += fmt.Sprintf(", try %d", r.tries)
	}
	return text
}

// printLeftovers counts by kind; the full lists are among the logs.
func (rep *report) printLeftovers(w io.Writer) {
	title := "\nleft behind, and removed by this run:\n"
	for _, r := range rep.rows {
		var parts []string
		for _, target := range []string{ours, runc, crun} {
			if res := r.results[target]; res != nil && len(res.left) > 0 {
				parts = append(parts, target+" "+countKinds(res.left))
			}
		}
		if len(parts) > 0 {
			fmt.Fprintf(w, "%s  %s: %s\n", title, r.program, strings.Join(parts, "; "))
			title = ""
		}
	}
}

// countKinds turns "mount a", "mount b", "process c" into "2 mount, 1 process".
func countKinds(left []string) string {
	var kinds []string
	counts := make(map[string]int)
	for _, l := range left {
		kind, _, _ := strings.Cut(l, " ")
		if counts[kind] == 0 {
			kinds = append(kinds, kind)
		}
		counts[kind]++
	}
	for i, kind := range kinds {
		kinds[i] = fmt.Sprintf("%d %s", counts[kind], kind)
	}
	return strings.Join(kinds, ", ")
}
