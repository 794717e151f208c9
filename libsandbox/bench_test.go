package libsandbox

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
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
	b.Helper()
	if err := os.Symlink("busybox", filepath.Join(busybox(b, dir), "true")); err != nil {
		b.Fatal(err)
	}
	s := spec.Default(false)
	s.Process.Terminal = false
	s.Process.Args = []string{"/bin/true"}
	s.Linux.CgroupsPath = fmt.Sprintf("/adl-fault-bench-%d", os.Getpid())
	return bundle(b, dir, s)
}
