package libsandbox

import (
	"context"
	"encoding/json"
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
	if os.Getuid() != 0 {
		b.Skip("needs root: makes containers")
	}
	raw, err := os.ReadFile("/usr/bin/busybox")
	if err != nil {
		b.Skip("needs busybox-static: " + err.Error())
	}
	bin := filepath.Join(dir, "rootfs/bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "true"), raw, 0o755); err != nil {
		b.Fatal(err)
	}
	s := spec.Default(false)
	s.Process.Terminal = false
	s.Process.Args = []string{"/bin/true"}
	s.Linux.CgroupsPath = fmt.Sprintf("/adl-fault-bench-%d", os.Getpid())
	bundle := &spec.Bundle{Dir: dir, Spec: s}
	if bundle.Raw, err = json.Marshal(s); err != nil {
		b.Fatal(err)
	}
	return bundle
}
