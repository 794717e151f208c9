package seccomp

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// bytesSource makes the fuzzer's bytes the choices of a generator. After them come
// some that differ, since a generator may ask until it gets another one.
type bytesSource struct {
	bytes []byte
	after rand.PCG
}

func (b *bytesSource) Uint64() uint64 {
	if len(b.bytes) == 0 {
		return b.after.Uint64()
	}
	var word [8]byte
	b.bytes = b.bytes[copy(word[:], b.bytes):]
	return binary.LittleEndian.Uint64(word[:])
}

// FuzzCompile: every profile compiles to a program that the kernel takes and that
// gives a verdict which the profile asks for, or is refused with an error.
func FuzzCompile(f *testing.F) {
	var names []string
	for i := range table {
		names = append(names, nameOf(i))
	}
	for seed := range uint64(8) {
		text := make([]byte, 400)
		rand.NewChaCha8([32]byte{byte(seed)}).Read(text)
		f.Add(text, seed%2 == 0)
	}
	f.Fuzz(func(t *testing.T, text []byte, wrong bool) {
		r := rand.New(&bytesSource{bytes: text})
		s, native := generate(r, names, true)
		if wrong {
			spoil(r, s)
		}
		filter, err := Compile(s, native)
		if err != nil {
			return
		}
		if err := verify(filter.Program); err != nil {
			t.Fatal(err)
		}
		code, profile := parse(filter.Program), readPlain(s, native, findStub(s, native, resolve))
		for _, d := range calls(s, native, rand.New(rand.NewPCG(1, uint64(len(text))))) {
			got, _ := run(code, &d)
			if fit := profile.verdicts(&d); !slices.Contains(fit, got) {
				t.Fatalf("arch %#x nr %#x args %#x: %#x, the profile says %#x", d.arch, d.nr, d.args, got, fit)
			}
		}
	})
}

// spoil writes something into the profile that may not be there.
func spoil(r *rand.Rand, s *specs.LinuxSeccomp) {
	sys := &s.Syscalls[r.IntN(len(s.Syscalls))]
	switch r.IntN(8) {
	case 0:
		s.DefaultAction = pick(r, "", "X", specs.ActNotify)
	case 1:
		s.Architectures = append(s.Architectures, pick(r, "", specs.ArchS390X, specs.ArchPARISC))
	case 2:
		s.Flags = []specs.LinuxSeccompFlag{""}
	case 3:
		sys.Action = ""
	case 4:
		sys.ErrnoRet = new(uint(r.Uint64()))
	case 5:
		sys.Args = []specs.LinuxSeccompArg{{Index: uint(r.Uint64()), Op: specs.OpEqualTo}}
	case 6:
		sys.Args = []specs.LinuxSeccompArg{{Op: "X"}}
	case 7:
		sys.Names = append(sys.Names, "", "no such call")
	}
}

// resolve is oracle.resolve by our table.
func resolve(a arch, name string) int {
	if i := find(name); i >= 0 && (a != x86 || table[i].mux == 0) {
		if nr, ok := table[i].number(a); ok {
			return int(nr)
		}
	}
	return -1
}
