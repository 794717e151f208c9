package seccomp

// insn is struct sock_filter (linux/filter.h).
type insn struct {
	code   uint16
	jt, jf uint8
	k      uint32
}

// The instructions that are used (linux/bpf_common.h).
const (
	opLoad = 0x20 // A = the 32 bits at offset k of struct seccomp_data
	opAnd  = 0x54 // A &= k
	opJump = 0x05
	opJEQ  = 0x15 // A == k
	opJGT  = 0x25 // A > k, unsigned
	opJGE  = 0x35 // A >= k, unsigned
	opRet  = 0x06
)

// Offsets in struct seccomp_data (linux/seccomp.h).
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
)

// maxInsns is the kernel's limit for one program (BPF_MAXINSNS).
const maxInsns = 4096

// label is the place of an instruction, counted from the program's end.
type label int

// assembler writes a program from its end to its start: jumps go forward only, so
// that the targets of each instruction are there before it is.
//
// Code runs from one instruction into the one written before it. What returns a
// label has ended whatever would run into what is written next.
type assembler struct {
	code []insn
	rets []label // the latest return of each value
}

func (a *assembler) emit(i insn) label {
	a.code = append(a.code, i)
	return label(len(a.code) - 1)
}

// skip is how many instructions lie between the next one and the target.
func (a *assembler) skip(to label) int { return len(a.code) - int(to) - 1 }

// maxSkip is the longest conditional jump, less what may come between its target
// being chosen and it being written: a step for the other target.
const maxSkip = 255 - 1

// near returns a place that a conditional jump can reach and that does the same as
// the target: the target itself, or a step written now.
func (a *assembler) near(to label) label {
	switch {
	case a.skip(to) <= maxSkip:
		return to
	case a.code[to].code == opRet:
		return a.ret(a.code[to].k)
	}
	return a.emit(insn{code: opJump, k: uint32(a.skip(to))})
}

// ret returns the place of an instruction that returns the value, near if it can.
func (a *assembler) ret(value uint32) label {
	for i, l := range a.rets {
		if a.code[l].k == value {
			if a.skip(l) > maxSkip-1 {
				a.rets[i] = a.emit(insn{code: opRet, k: value})
			}
			return a.rets[i]
		}
	}
	l := a.emit(insn{code: opRet, k: value})
	a.rets = append(a.rets, l)
	return l
}

// branch compares A with k and goes to one place or the other.
func (a *assembler) branch(op uint16, k uint32, yes, no label) label {
	yes = a.near(yes)
	no = a.near(no)
	return a.emit(insn{code: op, jt: uint8(a.skip(yes)), jf: uint8(a.skip(no)), k: k})
}

// full reports whether the program is too long already.
func (a *assembler) full() bool { return len(a.code) > maxInsns }

// load puts 32 bits of struct seccomp_data into A and goes to next.
func (a *assembler) load(offset uint32, next label) label {
	if a.skip(next) > 0 {
		a.emit(insn{code: opJump, k: uint32(a.skip(next))})
	}
	return a.emit(insn{code: opLoad, k: offset})
}

// program returns the instructions as struct sock_filter has them, in the byte
// order of the architectures that there are filters for.
func (a *assembler) program() []byte {
	b := make([]byte, 0, 8*len(a.code))
	for n := len(a.code) - 1; n >= 0; n-- {
		i := a.code[n]
		b = append(b, byte(i.code), byte(i.code>>8), i.jt, i.jf,
			byte(i.k), byte(i.k>>8), byte(i.k>>16), byte(i.k>>24))
	}
	return b
}
