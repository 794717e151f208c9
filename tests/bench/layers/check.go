package main

import (
	"fmt"
	"math"
	"slices"
)

// target is a bound that this project has set itself: value must be at most limit, or at
// least where that is set. A value that is not a number was not measured.
type target struct {
	what    string
	value   float64
	limit   float64
	atLeast bool
}

func (t target) String() string {
	if t.atLeast {
		return fmt.Sprintf("%s: at least %.4g", t.what, t.limit)
	}
	return fmt.Sprintf("%s: at most %.4g", t.what, t.limit)
}

func (t target) missed() bool {
	if t.atLeast {
		return t.value < t.limit
	}
	return t.value > t.limit
}

// targets are the bounds on every filesystem that there was.
func (r *report) targets() (all []target) {
	for _, fs := range r.o.fs {
		if !slices.Contains(r.skipped, fs) {
			all = append(all, r.targetsOn(fs)...)
		}
	}
	return all
}

func (r *report) targetsOn(fs string) (all []target) {
	most := func(limit float64, who, what, in string) {
		k := key{fs, who, what, in}
		all = append(all, target{what: k.String() + ", ms", value: r.median(k), limit: limit})
	}
	const byCommand = 3 // ms more
	for mode, limit := range map[string]float64{"restart": 4, "keep-init": 2.5} {
		if fs == btrfs {
			limit = 10
		}
		what := "reset, " + mode
		most(limit, library, what, "empty")
		most(limit+byCommand, "adl", what, "empty")
		all = append(all, target{
			what:  fs + ", " + what + ", 10,000 files / empty",
			value: r.median(key{fs, library, what, "10,000 files"}) / r.median(key{fs, library, what, "empty"}), limit: 1.3,
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
		all = append(all, target{what: k.String(), value: r.median(k), limit: 300, atLeast: true})
		if c := r.course(fs, n); c != nil && c.grows() {
			all = append(all, target{what: k.String() + ": trash or disk use that grows", value: 1})
		}
	}
	slices.SortStableFunc(all, func(a, b target) int { return slices.Compare([]string{a.what}, []string{b.what}) })
	return all
}

func (r *report) course(fs string, n int) *course {
	i := slices.IndexFunc(r.Courses, func(c course) bool { return c.FS == fs && c.Containers == n })
	if i < 0 {
		return nil
	}
	return &r.Courses[i]
}

// verdict lists the targets that are missed, and those without samples: a check that
// passes without data is none.
func (r *report) verdict() (missed, unmeasured []string) {
	for _, t := range r.targets() {
		switch {
		case math.IsNaN(t.value):
			unmeasured = append(unmeasured, t.String())
		case t.missed():
			missed = append(missed, fmt.Sprintf("%s, is %.3g", t, t.value))
		}
	}
	if len(r.skipped) == len(r.o.fs) {
		unmeasured = append(unmeasured, "everything: there was no filesystem")
	}
	return missed, unmeasured
}
