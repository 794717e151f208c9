package frame

import (
	"errors"
	"fmt"
	"io"
	"math"
)

// Target is a bound that this project has set itself: Value must be at most Limit, or at
// least where AtLeast is set. A value that is not a number was not measured.
type Target struct {
	What         string
	Value, Limit float64
	AtLeast      bool
}

func (t *Target) String() string {
	if t.AtLeast {
		return fmt.Sprintf("%s: at least %.4g", t.What, t.Limit)
	}
	return fmt.Sprintf("%s: at most %.4g", t.What, t.Limit)
}

func (t *Target) missed() bool {
	if t.AtLeast {
		return t.Value < t.Limit
	}
	return t.Value > t.Limit
}

// Verdict is what targets amount to: how many there are, those that are missed, and those
// without samples, as a check that passes without data is none.
type Verdict struct {
	Targets            int
	Missed, Unmeasured []string
}

// Judge looks at targets.
func Judge(targets []Target) *Verdict {
	v := &Verdict{Targets: len(targets)}
	for i := range targets {
		switch t := &targets[i]; {
		case math.IsNaN(t.Value):
			v.Unmeasured = append(v.Unmeasured, t.String())
		case t.missed():
			v.Missed = append(v.Missed, fmt.Sprintf("%s, is %.3g", t, t.Value))
		}
	}
	return v
}

// Print says it.
func (v *Verdict) Print(w io.Writer) {
	fmt.Fprintf(w, "Of %d targets, %d are missed and %d not measured.\n", v.Targets, len(v.Missed), len(v.Unmeasured))
	for _, m := range v.Missed {
		fmt.Fprintf(w, "- missed: %s\n", m)
	}
	for _, u := range v.Unmeasured {
		fmt.Fprintf(w, "- not measured: %s\n", u)
	}
}

// Err is an error unless all targets are met.
func (v *Verdict) Err() error {
	if len(v.Missed)+len(v.Unmeasured) > 0 {
		return errors.New("targets missed or not measured")
	}
	return nil
}
