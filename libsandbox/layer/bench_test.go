package layer

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// benchKinds are where layers usually are. The first is the filesystem of the
// temporary directory, a disk.
func eachBench(b *testing.B, run func(b *testing.B, f *fixture)) {
	needRoot(b)
	for _, k := range kinds() {
		b.Run(k.name, func(b *testing.B) { run(b, newFixture(b, &k)) })
	}
}

// BenchmarkReset is what a reset asks of this package: the next layer, and the last one
// to the trash. Deleting is not in the time.
func BenchmarkReset(b *testing.B) {
	for _, files := range []int{0, 1000} {
		b.Run(strconv.Itoa(files)+" files", func(b *testing.B) {
			eachBench(b, func(b *testing.B, f *fixture) { benchReset(b, f, files) })
		})
	}
}

func benchReset(b *testing.B, f *fixture, files int) {
	l := f.new()
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		write(b, l, files)
		if i%64 == 63 {
			f.empty()
		}
		b.StartTimer()
		n := f.next(l, l.Meta().Parents...)
		f.check(l.Discard())
		l = n
	}
	f.check(l.Discard())
	f.empty()
}

func write(b *testing.B, l *Layer, files int) {
	dir := filepath.Join(l.full(), dataDir)
	if l.Meta().Driver == Overlay {
		dir = filepath.Join(l.full(), upperDir)
	}
	for n := range files {
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(n)), []byte("x"), 0o600); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNext(b *testing.B) {
	eachBench(b, func(b *testing.B, f *fixture) {
		first := f.new()
		for i := 0; b.Loop(); i++ {
			l := f.next(first, first.Meta().Parents...)
			b.StopTimer()
			f.check(l.Discard())
			if i%64 == 63 {
				f.empty()
			}
			b.StartTimer()
		}
		f.check(first.Discard())
		f.empty()
	})
}

func BenchmarkDiscard(b *testing.B) {
	eachBench(b, func(b *testing.B, f *fixture) {
		for i := 0; b.Loop(); i++ {
			b.StopTimer()
			l := f.new()
			if i%64 == 63 {
				f.empty()
			}
			b.StartTimer()
			f.check(l.Discard())
		}
		f.empty()
	})
}

// BenchmarkKeep commits a layer, or copies a subvolume.
func BenchmarkKeep(b *testing.B) {
	eachBench(b, func(b *testing.B, f *fixture) {
		for i := 0; b.Loop(); i++ {
			b.StopTimer()
			if i%64 == 63 {
				f.empty()
			}
			l := f.new()
			b.StartTimer()
			kept := l
			var err error
			if f.config.Driver == Btrfs {
				kept, err = l.Snapshot()
			} else {
				err = l.Commit()
			}
			f.check(err)
			b.StopTimer()
			f.check(kept.Discard())
			if kept != l {
				f.check(l.Discard())
			}
			b.StartTimer()
		}
		f.empty()
	})
}

// BenchmarkDepth is Next and Discard on a chain.
func BenchmarkDepth(b *testing.B) {
	needRoot(b)
	for _, depth := range []int{1, 100, 499} {
		b.Run(strconv.Itoa(depth), func(b *testing.B) {
			f := newFixture(b, &kinds()[1])
			top := chain(f, depth)
			parents := on(top)
			for b.Loop() {
				l := f.next(top, parents...)
				f.check(l.Discard())
			}
		})
	}
}

// BenchmarkLoad reads a layer.json.
func BenchmarkLoad(b *testing.B) {
	needRoot(b)
	for _, depth := range []int{0, 100} {
		b.Run(strconv.Itoa(depth), func(b *testing.B) {
			f := newFixture(b, &kinds()[1])
			l := f.new()
			if depth > 0 {
				f.check(l.Discard())
				top := chain(f, depth)
				l = f.next(top, on(top)...)
			}
			for b.Loop() {
				_, err := f.root.Load(l.Key())
				f.check(err)
			}
		})
	}
}

// BenchmarkCopy copies 1000 files.
func BenchmarkCopy(b *testing.B) {
	eachBench(b, func(b *testing.B, f *fixture) {
		if f.config.Driver == Btrfs {
			b.Skip("needs an overlay: subvolumes are not copied")
		}
		l := f.new()
		write(b, l, 1000)
		for b.Loop() {
			c, _, err := l.Copy()
			f.check(err)
			b.StopTimer()
			f.check(c.Discard())
			f.check(f.root.Empty(context.Background(), Pace{}))
			b.StartTimer()
		}
	})
}
