package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
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
	Courses []course `json:"courses"`
	o       *options
	keys    []key // in the order of the first samples
	series  map[key][]float64
	skipped []string // filesystems
}

func newReport(o *options) *report {
	return &report{Machine: machine(), o: o, series: make(map[key][]float64)}
}

func (r *report) note(text string) { r.Notes = append(r.Notes, text) }

func (r *report) skip(fs, why string) {
	r.skipped = append(r.skipped, fs)
	r.note(fs + " is left out: " + why)
}

func (r *report) add(k key, v float64) {
	if r.series[k] == nil {
		r.keys = append(r.keys, k)
	}
	r.series[k] = append(r.series[k], v)
}

// median of a series; NaN where there is none.
func (r *report) median(k key) float64 {
	v := slices.Sorted(slices.Values(r.series[k]))
	if len(v) == 0 {
		return math.NaN()
	}
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// finish computes the results, in an order that does not depend on chance.
func (r *report) finish() {
	rank := func(k key) string {
		return fmt.Sprintf("%d%d", slices.Index(r.o.fs, k.FS), slices.Index([]string{library, "adl", "crun", "runc"}, k.Who))
	}
	slices.SortStableFunc(r.keys, func(a, b key) int {
		return strings.Compare(rank(a)+a.What, rank(b)+b.What)
	})
	for _, k := range r.keys {
		v := slices.Sorted(slices.Values(r.series[k]))
		i := int(math.Ceil(0.95*float64(len(v)))) - 1
		r.Results = append(r.Results, result{k, len(v), v[0], r.median(k), v[i]})
	}
}

// write prints the tables to w and writes them to the folder.
func (r *report) write(w io.Writer, folder string) error {
	r.finish()
	var md strings.Builder
	r.markdown(&md)
	js, err := json.MarshalIndent(r, "", "  ")
	err = errors.Join(err, os.MkdirAll(folder, 0o755),
		os.WriteFile(filepath.Join(folder, "layers.md"), []byte(md.String()), 0o644),
		os.WriteFile(filepath.Join(folder, "layers.json"), append(js, '\n'), 0o644))
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\nwritten: %s/layers.md, layers.json\n", md.String(), folder)
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
	missed, unmeasured := r.verdict()
	fmt.Fprintf(w, "\n## Targets\n\nOf %d targets, %d are missed and %d not measured.\n", len(r.targets()), len(missed), len(unmeasured))
	for _, m := range missed {
		fmt.Fprintf(w, "- missed: %s\n", m)
	}
	for _, u := range unmeasured {
		fmt.Fprintf(w, "- not measured: %s\n", u)
	}
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
		if v := r.median(a) / r.median(b); !math.IsNaN(v) {
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

// machine says where the numbers come from.
func machine() string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	load, _ := os.ReadFile("/proc/loadavg")
	before := strings.Fields(string(load) + " ? ? ?")[:3]
	cpu := "unknown"
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			cpu = strings.TrimSpace(value)
			break
		}
	}
	layout := "v1"
	var st unix.Statfs_t
	for dir, name := range map[string]string{"/sys/fs/cgroup": "v2", "/sys/fs/cgroup/unified": "hybrid"} {
		if unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			layout = name
		}
	}
	return fmt.Sprintf("%s, Linux %s, %s, %d x %s, cgroup %s, load before %s", time.Now().UTC().Format(time.RFC3339),
		unix.ByteSliceToString(u.Release[:]), runtime.GOARCH, runtime.NumCPU(), cpu, layout, strings.Join(before, " "))
}

// parentOf takes the parent's pid from the text of /proc/PID/stat, or 0. The command in
// parentheses may itself hold parentheses (proc_pid_stat(5)).
func parentOf(stat []byte) int {
	_, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
	f := strings.Fields(rest)
	if len(f) < 2 {
		return 0
	}
	pid, _ := strconv.Atoi(f[1])
	return pid
}
