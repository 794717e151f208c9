package layer

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// benchKinds are where layers usually are; "disk" is where temporary files are.
func benchKinds() []kind {
	return []kind{
		{name: "disk", fs: "disk", config: Config{Driver: Overlay}},
		{name: "memory", fs: "disk", memory: true, config: Config{Driver: Overlay}},
		{name: "memory with a limit", fs: "disk", memory: true, config: Config{Driver: Overlay, Size: 64 << 20}},
		{name: "ext4", fs: "ext4", config: Config{Driver: Overlay}},
		{name: "xfs", fs: "xfs", config: Config{Driver: Overlay}},
		{name: "btrfs", fs: "btrfs", subvolume: true, config: Config{Driver: Btrfs}},
	}
}

// stopwatch collects the times of one operation: disks make means useless.
type stopwatch struct {
	b   *testing.B
	all []time.Duration
}

func (s *stopwatch) time(f func()) {
	begin := time.Now()
	f()
	s.all = append(s.all, time.Since(begin))
}

func (s *stopwatch) report(name string) {
	slices.Sort(s.all)
	s.b.ReportMetric(float64(s.all[len(s.all)/2].Nanoseconds())/1e3, name+"-median-µs")
}

// BenchmarkReset is what a reset asks of this package, with a number of files in the
// layer: the next one, and the last one to the trash. Deleting is not in the time.
func BenchmarkReset(b *testing.B) {
	needRoot(b)
	for _, files := range []int{0, 1000, 10000} {
		for _, k := range benchKinds() {
			b.Run(k.name+"/"+strconv.Itoa(files), func(b *testing.B) { benchReset(b, &k, files) })
		}
	}
}

func benchReset(b *testing.B, k *kind, files int) {
	f := newFixture(b, k)
	l := f.new()
	next, discard := stopwatch{b: b}, stopwatch{b: b}
	for b.Loop() {
		write(b, l, files)
		var n *Layer
		next.time(func() { n = f.next(l, l.Meta().Parents...) })
		discard.time(func() { f.check(l.Discard()) })
		l = n
		f.empty()
	}
	next.report("next")
	discard.report("discard")
}

func write(b *testing.B, l *Layer, files int) {
	dir := written(l)
	for n := range files {
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(n)), []byte("x"), 0o600); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkKeep makes a layer, keeps it by reference and loads it.
func BenchmarkKeep(b *testing.B) {
	needRoot(b)
	for _, k := range benchKinds() {
		b.Run(k.name, func(b *testing.B) { benchKeep(b, &k) })
	}
}

func benchKeep(b *testing.B, k *kind) {
	f := newFixture(b, k)
	made, kept, loaded, emptied := stopwatch{b: b}, stopwatch{b: b}, stopwatch{b: b}, stopwatch{b: b}
	for b.Loop() {
		var l *Layer
		made.time(func() { l = f.new() })
		snapshot := l
		kept.time(func() {
			var err error
			if k.config.Driver == Btrfs {
				snapshot, err = l.Snapshot()
			} else {
				err = l.Commit()
			}
			f.check(err)
		})
		loaded.time(func() {
			_, err := f.root.Load(l.Key())
			f.check(err)
		})
		f.check(l.Discard())
		f.check(snapshot.Discard())
		emptied.time(f.empty)
	}
	made.report("new")
	kept.report("keep")
	loaded.report("load")
	emptied.report("empty")
}

// BenchmarkDepth makes, loads and discards layers on a chain.
func BenchmarkDepth(b *testing.B) {
	needRoot(b)
	for _, depth := range []int{1, 100, maxDepth - 1} {
		b.Run(strconv.Itoa(depth), func(b *testing.B) {
			f := newFixture(b, &benchKinds()[1])
			top := chain(f, depth)
			next, load, discard := stopwatch{b: b}, stopwatch{b: b}, stopwatch{b: b}
			f.check(f.root.Hold(top.Key(), "named"))
			for b.Loop() {
				var l *Layer
				next.time(func() { l = f.next(top, on(top)...) })
				load.time(func() {
					_, err := f.root.Load(l.Key())
					f.check(err)
				})
				discard.time(func() { f.check(l.Discard()) })
			}
			next.report("next")
			load.report("load")
			discard.report("discard")
		})
	}
}

// BenchmarkLayers lists a thousand.
func BenchmarkLayers(b *testing.B) {
	needRoot(b)
	f := newFixture(b, &benchKinds()[1])
	for range 1000 {
		f.new()
	}
	for b.Loop() {
		all, err := f.root.Layers()
		if f.check(err); len(all) != 1000 {
			b.Fatalf("%d layers", len(all))
		}
	}
}

// BenchmarkCopy copies 1000 files.
func BenchmarkCopy(b *testing.B) {
	needRoot(b)
	for _, k := range benchKinds() {
		if k.config.Driver != Overlay {
			continue
		}
		b.Run(k.name, func(b *testing.B) {
			f := newFixture(b, &k)
			l := f.new()
			write(b, l, 1000)
			for b.Loop() {
				c, _, err := l.Copy()
				f.check(err)
				b.StopTimer()
				f.check(c.Discard())
				f.empty()
				b.StartTimer()
			}
		})
	}
}
