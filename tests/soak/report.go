package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// report is what was seen.
type report struct {
	mu     sync.Mutex
	began  time.Time
	ended  time.Time
	times  map[string][]time.Duration
	faults map[string]int
	rss    []int64 // of this process, in bytes
}

func newReport() *report {
	return &report{began: time.Now(), times: map[string][]time.Duration{}, faults: map[string]int{}}
}

func (r *report) took(what string, d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.times[what] = append(r.times[what], d)
}

func (r *report) fault(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults[what]++
}

func (r *report) finish() { r.ended = time.Now() }

// counts are commands and resets.
func (r *report) counts() (commands, resets int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for what, all := range r.times {
		switch {
		case strings.HasPrefix(what, "reset, "):
			resets += len(all)
		case what != "snapshot":
			commands += len(all)
		}
	}
	return commands, resets
}

// watch says from time to time how far it is.
func (r *report) watch(done <-chan struct{}, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		commands, resets := r.counts()
		m := memory()
		r.mu.Lock()
		r.rss = append(r.rss, m)
		r.mu.Unlock()
		fmt.Fprintf(os.Stderr, "%8s %7d commands %5d resets, %d MB\n", time.Since(r.began).Round(time.Second), commands, resets, m>>20)
	}
}

// write writes it all.
func (r *report) write(w io.Writer) {
	if r.ended.IsZero() {
		r.ended = time.Now()
	}
	commands, resets := r.counts()
	took := r.ended.Sub(r.began)
	fmt.Fprintf(w, "%d commands and %d resets in %v: %.0f and %.1f a second\n", commands, resets, took.Round(time.Millisecond),
		float64(commands)/took.Seconds(), float64(resets)/took.Seconds())
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.rss); n > 0 {
		fmt.Fprintf(w, "memory of the process: %d MB after a quarter, %d MB at the end\n", r.rss[n/4]>>20, r.rss[n-1]>>20)
	}
	fmt.Fprint(w, "\n| what | times | median, ms | p99 | worst |\n|---|---|---|---|---|\n")
	for _, what := range sorted(r.times) {
		v := slices.Sorted(slices.Values(r.times[what]))
		ms := func(i int) float64 { return float64(v[i]) / 1e6 }
		fmt.Fprintf(w, "| %s | %d | %.2f | %.2f | %.1f |\n", what, len(v), ms(len(v)/2), ms(len(v)*99/100), ms(len(v)-1))
	}
	fmt.Fprint(w, "\n| fault | times |\n|---|---|\n")
	for _, what := range sorted(r.faults) {
		fmt.Fprintf(w, "| %s | %d |\n", what, r.faults[what])
	}
}

// grows says whether the process needs much more memory at the end than it did after a
// quarter of the time: results and jobs that are remembered are all there by then.
func (r *report) grows() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.rss)
	if n < 8 {
		return nil // too short to say
	}
	const most = 64 << 20
	if early, late := r.rss[n/4], r.rss[n-1]; late > early+most {
		return fmt.Errorf("memory grows: %d MB after a quarter of the time, %d MB at the end", early>>20, late>>20)
	}
	return nil
}
