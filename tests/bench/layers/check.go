package main

import (
	"fmt"
	"slices"

	"adl.run/adl-runtime/tests/bench/frame"
)

// targets are the bounds on every filesystem that there was.
func (r *report) targets() (all []frame.Target) {
	for _, fs := range r.o.fs {
		if !slices.Contains(r.skipped, fs) {
			all = append(all, r.targetsOn(fs)...)
		}
	}
	return all
}

func (r *report) targetsOn(fs string) (all []frame.Target) {
	most := func(limit float64, who, what, in string) {
		k := key{fs, who, what, in}
		all = append(all, frame.Target{What: k.String() + ", ms", Value: r.series.Median(k), Limit: limit})
	}
	const byCommand = 3 // ms more
	for mode, limit := range map[string]float64{"restart": 4, "keep-init": 2.5} {
		if fs == btrfs {
			limit = 10
		}
		what := "reset, " + mode
		most(limit, library, what, "empty")
		most(limit+byCommand, "adl", what, "empty")
		all = append(all, frame.Target{
			What:  fs + ", " + what + ", 10,000 files / empty",
			Value: r.series.Median(key{fs, library, what, "10,000 files"}) / r.series.Median(key{fs, library, what, "empty"}), Limit: 1.3,
		})
	}
	for _, depth := range []int{1, r.o.deep} {
		at := fmt.Sprintf("depth %d", depth)
		most(2, library, "snapshot", at)
		most(2, library, "fork, the layer's work", at)
	}
	most(2, library, "snapshot", "depth 1, 10,000 files")
	most(250, library, "create, exec, reset, delete", fmt.Sprintf("%d at once", crowd))
	for _, n := range []int{2, 8, 32} {
		k := key{fs, library, "resets a second", fmt.Sprintf("%d containers", n)}
		all = append(all, frame.Target{What: k.String(), Value: r.series.Median(k), Limit: 300, AtLeast: true})
		if c := r.course(fs, n); c != nil && c.grows() {
			all = append(all, frame.Target{What: k.String() + ": trash or disk use that grows", Value: 1})
		}
	}
	slices.SortStableFunc(all, func(a, b frame.Target) int { return slices.Compare([]string{a.What}, []string{b.What}) })
	return all
}

func (r *report) course(fs string, n int) *course {
	i := slices.IndexFunc(r.Courses, func(c course) bool { return c.FS == fs && c.Containers == n })
	if i < 0 {
		return nil
	}
	return &r.Courses[i]
}

func (r *report) verdict() *frame.Verdict {
	v := frame.Judge(r.targets())
	if len(r.skipped) == len(r.o.fs) {
		v.Unmeasured = append(v.Unmeasured, "everything: there was no filesystem")
	}
	return v
}
