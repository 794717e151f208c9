package seccomp

import "github.com/opencontainers/runtime-spec/specs-go"

// version is part of every key. It goes up whenever Compile comes to make another
// filter of the same profile; TestVersion notices.
const version = 1

// Key returns a text that says everything that Compile goes by. Filters may be kept
// under it: the same key means the same filter, on every machine. It is some
// kilobytes long; where a short name is needed, take any hash of it, and compare
// the whole key, so that a collision does no harm.
func Key(s *specs.LinuxSeccomp, native specs.Arch) []byte {
	k := make(keyText, 0, 8192)
	k.number(version)
	k.text(string(native))
	if s == nil {
		return k
	}
	k.text(string(s.DefaultAction))
	k.errno(s.DefaultErrnoRet)
	k.number(uint64(len(s.Architectures)))
	for _, a := range s.Architectures {
		k.text(string(a))
	}
	if s.Flags == nil {
		k.number(0)
	} else {
		k.number(1 + uint64(len(s.Flags)))
	}
	for _, f := range s.Flags {
		k.text(string(f))
	}
	k.text(s.ListenerPath)
	k.text(s.ListenerMetadata)
	k.number(uint64(len(s.Syscalls)))
	for i := range s.Syscalls {
		k.syscall(&s.Syscalls[i])
	}
	return k
}

// keyText grows by values that say where they end.
type keyText []byte

func (k *keyText) number(n uint64) {
	for n >= 0x80 {
		*k = append(*k, byte(n)|0x80)
		n >>= 7
	}
	*k = append(*k, byte(n))
}

func (k *keyText) text(s string) {
	k.number(uint64(len(s)))
	*k = append(*k, s...)
}

func (k *keyText) errno(n *uint) {
	if n == nil {
		k.number(0)
		return
	}
	k.number(1)
	k.number(uint64(*n))
}

func (k *keyText) syscall(s *specs.LinuxSyscall) {
	k.number(uint64(len(s.Names)))
	for _, name := range s.Names {
		k.text(name)
	}
	k.text(string(s.Action))
	k.errno(s.ErrnoRet)
	k.number(uint64(len(s.Args)))
	for i := range s.Args {
		a := &s.Args[i]
		k.number(uint64(a.Index))
		k.number(a.Value)
		k.number(a.ValueTwo)
		k.text(string(a.Op))
	}
}
