package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"adl.run/adl-runtime/tests/bench/frame"
)

// stepRate is exec of /bin/true in one container at a steady rate, as health checks
// of many kinds add up to.
const stepRate = "exec-rate"

const (
	// maxGrowth bounds how much slower the last quarter of the execs may be.
	maxGrowth = 1.25
	// maxInFlight bounds the execs under way, for a runtime that falls behind.
	maxInFlight = 64
)

// rateMain measures each runtime in turn and prints how the latency develops.
func rateMain(ctx context.Context, opts *options, w io.Writer) (err error) {
	opts.parallel = 1
	opts.timeout = max(opts.timeout, opts.during) // the steady execs are one step
	r, err := newRig(ctx, opts)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.close()) }()
	late := make(map[string][]float64)
	for _, name := range opts.runtimes {
		if late[name], err = r.steadyExecs(ctx, name, opts.rate, opts.during); err != nil {
			return err
		}
	}
	fmt.Fprintf(w, "exec %d times a second for %v in one container, load before %s;\n"+
		"ms from when an exec was due to its end, min / median / p95:\n\n", opts.rate, opts.during, frame.ThisMachine().Load)
	printRate(w, opts.runtimes, late)
	if g := growth(late[nameADL]); opts.check && g > maxGrowth {
		return fmt.Errorf("%w: the last quarter of the execs took %.2f x the first, at most %.2f is wanted", errMissed, g, maxGrowth)
	}
	return nil
}

// steadyExecs makes a container, and returns for each exec in it the milliseconds
// from when it was due to its end.
func (r *rig) steadyExecs(ctx context.Context, runtime string, rate int, during time.Duration) ([]float64, error) {
	for _, step := range []string{opCreate, opStart} {
		if _, err := r.step(runtime, step, 1, 0); err != nil {
			return nil, err
		}
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("interrupted: %w", context.Cause(ctx))
	}
	count := int(during.Seconds() * float64(rate))
	got, err := r.workers[runtime][0].ask(request{Step: stepRate, Rate: rate, Count: count})
	if err != nil {
		return nil, err
	}
	_, err = r.step(runtime, opDeleteForce, 1, 0)
	return append(got.Late, slices.Repeat([]float64{math.Inf(1)}, count-len(got.Late))...), err
}

// steadyExecs is the worker's part. It gives up on a runtime that is not half as fast as
// it should be; what is missing then is infinitely late.
func (w *worker) steadyExecs(rate, count int) (reply, error) {
	out := reply{Late: make([]float64, count)}
	errs := make([]error, count)
	slots := make(chan struct{}, maxInFlight)
	var wg sync.WaitGroup
	begin := now()
	period := int64(time.Second) / int64(rate)
	for i := range count {
		due := begin + int64(i)*period
		sleepUntil(due)
		slots <- struct{}{}
		if now() > begin+2*int64(count)*period {
			out.Late = out.Late[:i]
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			_, end, ws, err := w.launch(w.argv[opExec])
			if err == nil && ws != 0 {
				err = fmt.Errorf("exec %d: status %#x", i, ws)
			}
			errs[i], out.Late[i] = err, float64(end-due)/1e6
		})
	}
	wg.Wait()
	return out, errors.Join(errs...)
}

// parts is how many rows the run is shown in.
const parts = 10

func printRate(w io.Writer, runtimes []string, late map[string][]float64) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "part\t%s\n", strings.Join(runtimes, "\t"))
	for i := range parts {
		row := []string{fmt.Sprintf("%d/%d", i+1, parts)}
		for _, name := range runtimes {
			all := late[name]
			s := frame.Summarize(all[i*len(all)/parts : (i+1)*len(all)/parts])
			row = append(row, fmt.Sprintf("%.2f / %.2f / %.2f", s.Min, s.Median, s.P95))
		}
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	row := []string{"last by first quarter"}
	for _, name := range runtimes {
		row = append(row, fmt.Sprintf("%.2f", growth(late[name])))
	}
	fmt.Fprintln(tw, strings.Join(row, "\t"))
	tw.Flush()
}

// growth is the median of the last quarter by that of the first; 0 without samples.
func growth(late []float64) float64 {
	q := len(late) / 4
	if q == 0 {
		return 0
	}
	return frame.Summarize(late[len(late)-q:]).Median / frame.Summarize(late[:q]).Median
}
