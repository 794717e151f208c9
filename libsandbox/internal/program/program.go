package program

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Call is a system call number of the architecture that this binary was built
// for, or one of the two pseudo-calls below.
type Call uint16

// Test is the only instruction that is not a system call: where
// args[0] & args[1] == args[2] its result is args[3], otherwise it is the
// error args[4]. With a zero mask and a zero third argument it loads a slot.
const Test Call = 0xffff

// Slot is the number of an eight-byte cell on the child's stack.
type Slot uint16

const (
	// Discard receives results that nobody reads.
	Discard Slot = 0
	// FaultFD holds the descriptor that a fault is written to. The first op of
	// every program sets it.
	FaultFD Slot = 1

	// MaxSlots is the size of the interpreter's stack frame.
	MaxSlots = 256
	// MaxOps keeps jump distances within their 16 bits.
	MaxOps = 1 << 15
)

// Kind says how an argument is to be fetched.
type Kind uint8

// The kinds of arguments.
const (
	Imm      Kind = iota // the value itself
	Data                 // the address of Val bytes into the data block
	SlotVal              // the content of slot Val
	SlotAddr             // the address of slot Val; Len slots from there on are read or written
	File                 // the number of the inherited descriptor Files[Val]
)

// Arg is one argument of an op. The zero value is the number 0.
type Arg struct {
	Val  uint64
	Len  uint16 // Data: bytes; SlotAddr: slots
	Kind Kind
	Out  bool // SlotAddr: the kernel writes the slots
}

// Tolerance is an errno that does not end the child, and how many of the
// following ops are skipped when it occurs. The zero value tolerates nothing.
type Tolerance struct {
	Errno Errno
	Skip  uint16
}

// Errno is an error number in the width that an op has for it.
type Errno uint16

// Op is one system call. There are hundreds in a program, and memory that is touched
// for the first time is what starting a container spends most of its time on: so an
// op is small.
type Op struct {
	Args     [6]Arg
	Tolerate [2]Tolerance
	Call     Call
	Dst      Slot
	Skip     uint16 // ops to skip after success
	// Note and Fault are indices of Program.Texts.
	//
	// Note names what the op is for, in the words of the spec: "mounts[3] /proc".
	// It heads the error message of a fault.
	Note uint16
	// Fault, if it is not 0, replaces the call's name and the errno's text in the
	// error message, where the words matter to container managers. Where it ends in
	// ": ", the errno's text follows.
	Fault uint16
}

// Program is a list of ops with the data that they point into.
type Program struct {
	Ops []Op
	// Data is the read-only block that Data arguments and Relocs point into.
	Data []byte
	// Relocs are the places in Data that hold an address within Data: eight
	// bytes at offset At are to be the address of offset To.
	Relocs []Reloc
	// Files names the inherited descriptors, in order; the first one gets the
	// number FirstFile.
	Files     []string
	FirstFile int
	// Texts are the notes and faults of the ops; the first one is empty.
	Texts []string
	// SlotNames gives each slot in use its name in the listing.
	SlotNames []string
}

// Reloc is an address to be filled in when the data block gets its place.
type Reloc struct{ At, To uint32 }

// Builder appends ops and data to a Program.
type Builder struct {
	Program
	strings map[string]uint64
}

// Label is a place further down that a jump goes to. It collects the jumps until
// Bind tells where it is.
type Label struct{ refs []labelRef }

type labelRef struct {
	op  int
	via int // -1: success, 0 and 1: tolerance
}

// NewBuilder returns an empty program whose inherited descriptors begin at
// number firstFile.
func NewBuilder(firstFile int) *Builder {
	b := &Builder{strings: make(map[string]uint64, 64)}
	b.FirstFile = firstFile
	b.Ops = make([]Op, 0, 560) // the default spec's, in one piece
	b.Data = make([]byte, 0, 12<<10)
	b.SlotNames = append(make([]string, 0, 64), "_", "fault")
	b.Texts = append(make([]string, 0, 128), "")
	return b
}

// Note sets the note of all ops that follow.
func (b *Builder) Note(note string) {
	if b.Texts[len(b.Texts)-1] != note {
		b.Texts = append(b.Texts, note)
	}
}

// Fault sets the error message of op i; see Op.Fault. The note stays what it is.
func (b *Builder) Fault(i int, text string) {
	note := b.Texts[len(b.Texts)-1]
	b.Texts = append(b.Texts, text, note)
	b.Ops[i].Fault = uint16(len(b.Texts) - 2)
}

// Emit appends a system call and returns the op's index.
func (b *Builder) Emit(call Call, args ...Arg) int {
	b.Ops = append(b.Ops, Op{Call: call, Note: uint16(len(b.Texts) - 1)})
	i := len(b.Ops) - 1
	copy(b.Ops[i].Args[:], args)
	return i
}

// EmitTo is Emit with the result stored in dst.
func (b *Builder) EmitTo(dst Slot, call Call, args ...Arg) int {
	i := b.Emit(call, args...)
	b.Ops[i].Dst = dst
	return i
}

// Let stores v in dst.
func (b *Builder) Let(dst Slot, v Arg) int {
	return b.EmitTo(dst, Test, Arg{}, Arg{}, Arg{}, v, Arg{})
}

// Check faults with errno unless v & mask == want.
func (b *Builder) Check(v Slot, mask, want uint64, errno unix.Errno) int {
	return b.Emit(Test, Val(v), Num(mask), Num(want), Arg{}, Num(uint64(errno)))
}

// Tolerate lets op i go on at the next op when it fails with errno.
func (b *Builder) Tolerate(i int, errno unix.Errno) { b.tolerance(i, errno) }

// OnError lets op i go on at l when it fails with errno.
func (b *Builder) OnError(i int, errno unix.Errno, l *Label) {
	l.refs = append(l.refs, labelRef{i, b.tolerance(i, errno)})
}

// OnSuccess lets op i go on at l when it succeeds.
func (b *Builder) OnSuccess(i int, l *Label) { l.refs = append(l.refs, labelRef{i, -1}) }

// Jump goes on at l.
func (b *Builder) Jump(l *Label) { b.OnSuccess(b.Let(Discard, Arg{}), l) }

func (b *Builder) tolerance(i int, errno unix.Errno) int {
	for k := range b.Ops[i].Tolerate {
		if b.Ops[i].Tolerate[k].Errno == 0 {
			b.Ops[i].Tolerate[k].Errno = Errno(errno)
			return k
		}
	}
	panic("program: an op tolerates two errnos at most")
}

// Bind puts l in front of the next op.
func (b *Builder) Bind(l *Label) {
	for _, r := range l.refs {
		skip := uint16(len(b.Ops) - r.op - 1)
		if r.via < 0 {
			b.Ops[r.op].Skip = skip
		} else {
			b.Ops[r.op].Tolerate[r.via].Skip = skip
		}
	}
	l.refs = nil
}

// Slot returns a new slot.
func (b *Builder) Slot(name string) Slot { return b.Slots(name, 1) }

// Slots returns the first of n new adjacent slots: a buffer, or a structure that
// is put together at run time.
func (b *Builder) Slots(name string, n int) Slot {
	s := Slot(len(b.SlotNames))
	for range n {
		b.SlotNames = append(b.SlotNames, name)
	}
	return s
}

// File returns the inherited descriptor called name, which is appended to Files
// on first use.
func (b *Builder) File(name string) Arg {
	for i, f := range b.Files {
		if f == name {
			return Arg{Kind: File, Val: uint64(i)}
		}
	}
	b.Files = append(b.Files, name)
	return Arg{Kind: File, Val: uint64(len(b.Files) - 1)}
}

// String puts s and a terminating NUL into the data block, once.
func (b *Builder) String(s string) Arg {
	off, ok := b.strings[s]
	if !ok {
		off = uint64(len(b.Data))
		b.Data = append(append(b.Data, s...), 0)
		b.strings[s] = off
	}
	return Arg{Kind: Data, Val: off, Len: uint16(min(len(s)+1, 1<<16-1))}
}

// Bytes puts p into the data block at an eight-byte boundary.
func (b *Builder) Bytes(p []byte) Arg {
	off := b.align()
	b.Data = append(b.Data, p...)
	return Arg{Kind: Data, Val: off, Len: uint16(min(len(p), 1<<16-1))}
}

// Words puts 64-bit words in native byte order into the data block.
func (b *Builder) Words(w ...uint64) Arg {
	off := b.align()
	for _, v := range w {
		b.Data = binary.NativeEndian.AppendUint64(b.Data, v)
	}
	return Arg{Kind: Data, Val: off, Len: uint16(8 * len(w))}
}

// Strings puts a NULL-terminated array of pointers to strings into the data
// block, as execve takes it.
func (b *Builder) Strings(list []string) Arg {
	at := make([]uint64, len(list))
	for i, s := range list {
		at[i] = b.String(s).Val
	}
	off := b.align()
	for i, to := range at {
		b.Relocs = append(b.Relocs, Reloc{At: uint32(off) + uint32(8*i), To: uint32(to)})
		b.Data = append(b.Data, 0, 0, 0, 0, 0, 0, 0, 0)
	}
	b.Data = append(b.Data, 0, 0, 0, 0, 0, 0, 0, 0)
	return Arg{Kind: Data, Val: off, Len: uint16(min(8*len(list)+8, 1<<16-1))}
}

func (b *Builder) align() uint64 {
	for len(b.Data)%8 != 0 {
		b.Data = append(b.Data, 0)
	}
	return uint64(len(b.Data))
}

// Num is an immediate argument.
func Num[T ~int | ~int32 | ~uint32 | ~uint64 | ~uintptr](v T) Arg { return Arg{Val: uint64(v)} }

// Val is the content of slot s.
func Val(s Slot) Arg { return Arg{Kind: SlotVal, Val: uint64(s)} }

// In is the address of n slots that the kernel reads.
func In(s Slot, n int) Arg { return Arg{Kind: SlotAddr, Val: uint64(s), Len: uint16(n)} }

// Out is the address of n slots that the kernel writes.
func Out(s Slot, n int) Arg { return Arg{Kind: SlotAddr, Val: uint64(s), Len: uint16(n), Out: true} }
