package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"adl.run/adl-runtime/libsandbox"
	"adl.run/adl-runtime/spec"
)

// crowd is how many sandboxes live a short life at once.
const crowd = 32

// together measures a crowd that is created, executes something, is reset and deleted.
func (b *bench) together(p *place) error {
	defer func() { _ = p.deleteAll() }()
	var bundles []*spec.Bundle
	for i := range crowd {
		bundle, err := p.bundle("crowd-" + strconv.Itoa(i))
		if err != nil {
			return err
		}
		bundles = append(bundles, bundle)
	}
	return b.rounds(p, []cell{{
		key: key{p.fs, library, "create, exec, reset, delete", strconv.Itoa(crowd) + " at once"},
		run: func() error {
			return each(crowd, func(i int) error { return b.life(p, "crowd-"+strconv.Itoa(i), bundles[i]) })
		},
	}})
}

// each calls f for 0 to n-1 at once.
func each(n int, f func(i int) error) error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// life is the life of one of a crowd.
func (b *bench) life(p *place, id string, bundle *spec.Bundle) error {
	sb, err := p.store.Run(b.ctx, id, bundle, p.options())
	if err != nil {
		return err
	}
	what, err := sb.Process()
	if err != nil {
		return err
	}
	what.Args = []string{"/bin/true"}
	process, err := sb.Exec(b.ctx, what, nil)
	if err != nil {
		return err
	}
	if status, err := process.Wait(b.ctx); err != nil || status != 0 {
		return fmt.Errorf("exec: status %d, %w", status, err)
	}
	if err := sb.Reset(b.ctx, nil); err != nil {
		return err
	}
	return sb.Delete(b.ctx, &libsandbox.DeleteOptions{Force: true})
}

// course is what was seen while containers were reset without a pause.
type course struct {
	FS         string  `json:"fs"`
	Containers int     `json:"containers"`
	Rate       float64 `json:"resets_per_second"`
	// Trash and Bytes are means over the second and the last quarter of the time, and
	// the highest; of Bytes, above what was used before.
	Trash   [3]float64 `json:"trash"`
	Bytes   [3]float64 `json:"bytes"`
	Files   [3]float64 `json:"files"`
	Drained float64    `json:"drained_ms"` // until the trash was empty, afterwards
}

// grows says whether the trash or the disk use would go on to grow: more than half as
// much again late as early, beyond what a few layers more or less make.
func (c *course) grows() bool {
	more := func(v [3]float64, slack float64) bool { return v[1] > 1.5*v[0]+slack }
	return more(c.Trash, float64(2*c.Containers)) || more(c.Bytes, 64e6)
}

func (b *bench) sustained(p *place) error {
	for _, n := range []int{2, 8, 32} {
		c, err := b.resetFor(p, n)
		if err != nil {
			return fmt.Errorf("%d containers without a pause: %w", n, err)
		}
		b.rep.Courses = append(b.rep.Courses, *c)
		b.rep.series.Add(key{p.fs, library, "resets a second", strconv.Itoa(n) + " containers"}, c.Rate)
	}
	return nil
}

// resetFor resets n containers, each of which writes a file between two resets.
func (b *bench) resetFor(p *place, n int) (*course, error) {
	defer func() { _ = p.deleteAll() }()
	boxes := make([]*libsandbox.Sandbox, n)
	err := each(n, func(i int) (err error) {
		boxes[i], err = p.newBox(b.ctx, "course-"+strconv.Itoa(i))
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := p.settle(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(b.ctx, b.o.sustained)
	defer cancel()
	watch := p.watch(ctx)
	counts := make([]int, n)
	began := time.Now()
	err = each(n, func(i int) (err error) {
		counts[i], err = resetUntil(ctx, boxes[i])
		return err
	})
	took := time.Since(began)
	cancel()
	c := <-watch
	c.Containers = n
	for _, k := range counts {
		c.Rate += float64(k) / took.Seconds()
	}
	if err = errors.Join(err, b.ctx.Err(), p.settle()); err != nil {
		return nil, err
	}
	c.Drained = float64(time.Since(began)-took) / 1e6
	return &c, nil
}

func resetUntil(ctx context.Context, sb *libsandbox.Sandbox) (n int, err error) {
	for ctx.Err() == nil {
		c := content{files: 1, bytes: 64 << 10}
		if err := c.write(sb.Pid()); err != nil {
			return n, err
		}
		if err := sb.Reset(context.WithoutCancel(ctx), nil); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// watch samples the trash and the disk until ctx is done.
func (p *place) watch(ctx context.Context) <-chan course {
	done := make(chan course, 1)
	bytes0, files0 := p.used()
	go func() {
		var trash, used, files []float64
		for ctx.Err() == nil {
			n, _ := p.layers.TrashLen()
			u, f := p.used()
			trash, used, files = append(trash, float64(n)), append(used, float64(u-bytes0)), append(files, float64(f-files0))
			time.Sleep(100 * time.Millisecond)
		}
		done <- course{FS: p.fs, Trash: quarters(trash), Bytes: quarters(used), Files: quarters(files)}
	}()
	return done
}

// quarters are the means of the second and the last quarter, and the highest.
func quarters(v []float64) [3]float64 {
	n := len(v)
	return [3]float64{mean(v[n/4 : n/2]), mean(v[n*3/4:]), slices.Max(append(v, 0))}
}

func mean(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(max(1, len(v)))
}

// among measures a reset beside many live containers, or as many as there is room for.
func (b *bench) among(p *place) error {
	defer func() { _ = p.deleteAll() }()
	n := 0
	for ; n < b.o.many; n++ {
		if err := b.ctx.Err(); err != nil {
			return err
		}
		if room() < 0.1 {
			b.rep.note(fmt.Sprintf("of %d containers only %d were made: less than a tenth of the memory is left", b.o.many, n))
			break
		}
		if _, err := p.newBox(b.ctx, "many-"+strconv.Itoa(n)); err != nil {
			b.rep.note(fmt.Sprintf("of %d containers only %d were made: %v", b.o.many, n, err))
			break
		}
	}
	sb, err := p.newBox(b.ctx, "one-of-many")
	if err != nil {
		return err
	}
	var cells []cell
	for _, mode := range []libsandbox.ResetMode{libsandbox.ResetRestart, libsandbox.ResetKeepInit} {
		cells = append(cells, cell{
			key: key{p.fs, library, "reset, " + string(mode), fmt.Sprintf("beside %d others", n)},
			run: func() error { return sb.Reset(b.ctx, &libsandbox.ResetOptions{Mode: mode}) },
		})
	}
	return b.rounds(p, cells)
}

// room is the share of the memory that is available; 1 where that is not known.
func room() float64 {
	raw, _ := os.ReadFile("/proc/meminfo")
	var total, available float64
	for line := range bytes.Lines(raw) {
		_, _ = fmt.Sscanf(string(line), "MemTotal: %f", &total)
		_, _ = fmt.Sscanf(string(line), "MemAvailable: %f", &available)
	}
	if total == 0 {
		return 1
	}
	return available / total
}
