package compile

import (
	"testing"

	"adl.run/adl-runtime/spec"
)

// BenchmarkCompile compiles the default spec; see libsandbox.BenchmarkRun for what
// follows.
func BenchmarkCompile(b *testing.B) {
	s := spec.Default(false)
	s.Process.Terminal = false
	facts := modern()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := NewInit(s, facts, &Options{Listen: true}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	s := spec.Default(false)
	s.Process.Terminal = false
	p, err := NewInit(s, modern(), &Options{Listen: true})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Verify(); err != nil {
			b.Fatal(err)
		}
	}
}
