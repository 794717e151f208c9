package libsandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"adl.run/adl-runtime/spec"
)

// BenchmarkRun runs /bin/true in the default bundle, with an idle gap before each
// run, and reports how long each step of it takes.
func BenchmarkRun(b *testing.B) {
	dir := b.TempDir()
	bundle := trueBundle(b, dir)
	var last time.Time
	spent := map[string]time.Duration{}
	mark := func(name string) {
		now := time.Now()
		spent[name] += now.Sub(last)
		last = now
	}
	store := &Store{root: b.TempDir(), step: mark}
	for b.Loop() {
		b.StopTimer()
		time.Sleep(20 * time.Millisecond)
		b.StartTimer()
		last = time.Now()
		sb, err := store.Run(context.Background(), "bench", bundle, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := sb.Wait(context.Background()); err != nil {
			b.Fatal(err)
		}
		mark("waited")
		if err := sb.Delete(context.Background(), nil); err != nil {
			b.Fatal(err)
		}
		mark("deleted")
	}
	for name, d := range spent {
		b.ReportMetric(float64(d.Microseconds())/float64(b.N), "us-"+name)
	}
}

func trueBundle(b *testing.B, dir string) *spec.Bundle {
	return benchBundle(b, dir, "/bin/true")
}

func benchBundle(b *testing.B, dir string, args ...string) *spec.Bundle {
	b.Helper()
	if err := os.Symlink("busybox", filepath.Join(busybox(b, dir), "true")); err != nil {
		b.Fatal(err)
	}
	s := spec.Default(false)
	s.Process.Terminal = false
	s.Process.Args = args
	s.Linux.CgroupsPath = fmt.Sprintf("/adl-fault-bench-%d", os.Getpid())
	return bundle(b, dir, s)
}

// BenchmarkReset resets a container with an idle gap before each, and reports the median
// of each step.
func BenchmarkReset(b *testing.B) {
	for _, mode := range []ResetMode{ResetRestart, ResetKeepInit} {
		b.Run(string(mode), func(b *testing.B) {
			dir := b.TempDir()
			bundle := benchBundle(b, dir, "/bin/busybox", "sleep", "1000")
			var last time.Time
			spent := map[string][]time.Duration{}
			mark := func(name string) {
				now := time.Now()
				spent[name] = append(spent[name], now.Sub(last))
				last = now
			}
			run, err := os.MkdirTemp("/run", "adltest-") // where the state of containers is
			if err != nil {
				b.Fatal(err)
			}
			defer os.RemoveAll(run)
			store := &Store{root: run}
			sb, err := store.Run(context.Background(), "bench", bundle, &CreateOptions{Layer: &LayerOptions{Driver: "overlay", Root: b.TempDir()}})
			if err != nil {
				b.Fatal(err)
			}
			defer store.ForceDelete(context.Background(), "bench")
			store.step = mark
			for b.Loop() {
				b.StopTimer()
				time.Sleep(40 * time.Millisecond)
				b.StartTimer()
				last = time.Now()
				first := last
				if err := sb.Reset(context.Background(), &ResetOptions{Mode: mode}); err != nil {
					b.Fatal(err)
				}
				mark("end")
				spent["total"] = append(spent["total"], time.Since(first))
			}
			for name, d := range spent {
				slices.Sort(d)
				b.ReportMetric(float64(d[len(d)/2].Microseconds()), "us-"+name)
				b.ReportMetric(float64(d[0].Microseconds()), "min-"+name)
			}
		})
	}
}
