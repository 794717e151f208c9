package seccomp

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func BenchmarkCompile(b *testing.B) {
	for _, file := range []string{"docker.json", "podman.json"} {
		b.Run(file, func(b *testing.B) {
			s := load(b, file)
			b.ReportAllocs()
			for b.Loop() {
				f, err := Compile(s, specs.ArchX86_64)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(len(f.Program)/8), "insns")
			}
		})
	}
}
