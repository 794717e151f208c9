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
	s.Root.Readonly = false
	s.Linux.CgroupsPath = fmt.Sprintf("/adl-fault-bench-%d", os.Getpid())
	return bundle(b, dir, s)
}

// stages are what something that is done again and again spends its time on.
type stages struct {
	first, last time.Time
	spent       map[string][]time.Duration
}

func (s *stages) begin() {
	s.last = time.Now()
	s.first = s.last
}

func (s *stages) mark(name string) {
	now := time.Now()
	s.spent[name] = append(s.spent[name], now.Sub(s.last))
	s.last = now
}

// end ends what begin began.
func (s *stages) end() {
	s.mark("end")
	s.spent["total"] = append(s.spent["total"], s.last.Sub(s.first))
}

// report gives the median and the least of each stage.
func (s *stages) report(b *testing.B) {
	for name, d := range s.spent {
		slices.Sort(d)
		b.ReportMetric(float64(d[len(d)/2].Microseconds()), "us-"+name)
		b.ReportMetric(float64(d[0].Microseconds()), "min-"+name)
	}
}

// benchLayered runs a container on a layer.
func benchLayered(b *testing.B) (*Sandbox, *Store) {
	dir := b.TempDir()
	bundle := benchBundle(b, dir, "/bin/busybox", "sleep", "1000")
	for _, d := range []string{"proc", "dev", "sys"} { // as images have them
		if err := os.Mkdir(filepath.Join(dir, "rootfs", d), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	run, err := os.MkdirTemp("/run", "adltest-") // where the state of containers is
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(run) })
	store := &Store{root: run}
	sb, err := store.Run(context.Background(), "bench", bundle, &CreateOptions{Layer: &LayerOptions{Driver: "overlay", Root: b.TempDir()}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = store.ForceDelete(context.Background(), "bench") })
	return sb, store
}

// BenchmarkReset resets a container with an idle gap before each.
func BenchmarkReset(b *testing.B) {
	for _, mode := range []ResetMode{ResetRestart, ResetKeepInit} {
		b.Run(string(mode), func(b *testing.B) {
			sb, store := benchLayered(b)
			s := &stages{spent: map[string][]time.Duration{}}
			store.step = s.mark
			for b.Loop() {
				b.StopTimer()
				time.Sleep(40 * time.Millisecond)
				b.StartTimer()
				s.begin()
				if err := sb.Reset(context.Background(), &ResetOptions{Mode: mode}); err != nil {
					b.Fatal(err)
				}
				s.end()
			}
			s.report(b)
		})
	}
}

// BenchmarkSnapshot takes a snapshot by reference with an idle gap before each.
func BenchmarkSnapshot(b *testing.B) {
	sb, store := benchLayered(b)
	s := &stages{spent: map[string][]time.Duration{}}
	for b.Loop() {
		b.StopTimer()
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/root/file", sb.Pid()), nil, 0o644); err != nil {
			b.Fatal(err)
		}
		time.Sleep(40 * time.Millisecond)
		store.step = s.mark
		b.StartTimer()
		s.begin()
		snap, err := sb.Snapshot(context.Background(), "taken")
		if err != nil || snap.Method != ByReference {
			b.Fatal(snap, err)
		}
		s.end()
		b.StopTimer()
		store.step = nil
		if err := sb.Reset(context.Background(), &ResetOptions{Mode: ResetRestart}); err != nil {
			b.Fatal(err)
		}
		if err := sb.DeleteSnapshot("taken"); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	s.report(b)
}
