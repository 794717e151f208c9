package program

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// whole returns a program that Verify accepts: it ends in execve, with a jump on
// the way.
func whole() *Builder {
	b := NewBuilder(3)
	b.Note("start")
	b.Let(FaultFD, b.File("sync"))
	v := b.Slot("v")
	var end Label
	b.OnError(b.EmitTo(v, unix.SYS_OPENAT, Num(unix.AT_FDCWD), b.String("/x"), Num(0)), unix.ENOENT, &end)
	b.Emit(unix.SYS_CLOSE, Val(v))
	b.Bind(&end)
	b.Emit(unix.SYS_FCNTL, b.File("sync"), Num(unix.F_SETFD), Num(unix.FD_CLOEXEC))
	b.Emit(unix.SYS_CLOSE_RANGE, Num(4), Num(^uint32(0)), Num(0))
	b.Note("process.args")
	b.Emit(unix.SYS_EXECVE, b.String("/x"), b.Strings([]string{"x"}), b.Strings(nil))
	return b
}

// The ops of whole.
const (
	opBegin = iota
	opOpen
	opClose
	opMark
	opSeal
	opExec
)

func TestVerifyAccepts(t *testing.T) {
	cases := map[string]func(*Builder){
		"as it is": func(*Builder) {},
		"an address of no bytes at the end of the data": func(b *Builder) {
			b.Ops[opClose].Args[1] = Arg{Kind: Data, Val: uint64(len(b.Data))}
		},
		"an address of no slots behind the last": func(b *Builder) {
			b.Ops[opClose].Args[1] = Out(Slot(len(b.SlotNames)), 0)
		},
		"the last slot": func(b *Builder) {
			b.Ops[opClose].Args[1] = Out(Slot(len(b.SlotNames)-1), 1)
		},
		"as many slots as there are": func(b *Builder) { b.Slots("buf", MaxSlots-len(b.SlotNames)) },
		"a result that is discarded and read again": func(b *Builder) {
			b.Ops[opClose].Args[0] = Val(Discard)
		},
		"descriptors sealed from further down": func(b *Builder) { b.Ops[opSeal].Args[0] = Num(0) },
		"an unreachable errno":                 func(b *Builder) { b.Tolerate(opClose, unix.EBADF) },
	}
	for name, change := range cases {
		b := whole()
		change(b)
		if err := b.Verify(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	cases := []struct {
		name   string
		change func(*Builder)
		want   string
	}{
		{"no ops", func(b *Builder) { b.Ops = nil }, "program: empty"},
		{"too many ops", func(b *Builder) { b.Ops = make([]Op, MaxOps+1) }, "program: 32769 ops, at most 32768 fit"},
		{"too many texts", func(b *Builder) { b.Texts = make([]string, 1<<16) }, "program: 65536 texts, at most 65535 fit"},
		{"too many slots", func(b *Builder) { b.Slots("buf", MaxSlots) }, "program: 259 slots, at most 256 fit"},
		{"no fault descriptor", func(b *Builder) { b.Ops[opBegin].Dst = Discard }, "program: op 0 does not set the fault descriptor"},
		{"a call in its place", func(b *Builder) { b.Ops[opBegin].Call = unix.SYS_OPENAT }, "program: op 0 does not set the fault descriptor"},
		{
			"a relocation at the end of the data", func(b *Builder) {
				b.Relocs[0].At = uint32(len(b.Data) - 7)
			}, "program: relocation 25 -> 3 lies outside the data",
		},
		{"a relocation to behind the data", func(b *Builder) { b.Relocs[0].To = uint32(len(b.Data)) }, "program: relocation 8 -> 32 lies outside the data"},
		{"an unknown note", func(b *Builder) { b.Ops[opClose].Note = 9 }, "program: op 2 has texts 9 and 0 of 3"},
		{"an unknown fault", func(b *Builder) { b.Ops[opClose].Fault = 3 }, "program: op 2 has texts 1 and 3 of 3"},
		{"an op behind execve", func(b *Builder) { b.Emit(unix.SYS_CLOSE, Num(3)) }, "program: op 6 (process.args) is never reached"},
		{"an op behind fail", func(b *Builder) {
			b.Ops[opClose] = Op{Call: Test, Note: 1, Args: [6]Arg{{}, {}, Num(1), {}, Num(int(unix.EPERM))}}
			b.Ops[opOpen].Tolerate[0] = Tolerance{}
		}, "program: op 3 (start) is never reached"},
		{"success that runs off the end", func(b *Builder) { b.Ops = b.Ops[:opExec] }, "program: op 4 goes on at 5, behind the last op"},
		{"success that jumps off the end", func(b *Builder) { b.Ops[opSeal].Skip = 1 }, "program: op 4 goes on at 6, behind the last op"},
		{"an error that jumps off the end", func(b *Builder) { b.Ops[opOpen].Tolerate[0].Skip = 4 }, "program: op 1 goes on at 6, behind the last op"},
		{"the second error does", func(b *Builder) { b.Ops[opOpen].Tolerate[1] = Tolerance{Errno(unix.EPERM), 65535} }, "program: op 1 goes on at 65537, behind the last op"},
		{"a tolerated failure of execve at the end", func(b *Builder) { b.Tolerate(opExec, unix.ENOENT) }, "program: op 5 goes on at 6, behind the last op"},
		{"a result in no slot", func(b *Builder) { b.Ops[opClose].Dst = 3 }, "program: op 2 (start): result slot 3 does not exist"},
		{"a result that is an errno", func(b *Builder) { b.Ops[opClose] = Op{Call: Test, Note: 1, Args: [6]Arg{3: Num(unix.AT_FDCWD)}} }, "program: op 2 (start): the result -100 would be an error"},
		{"a slot that nobody writes", func(b *Builder) { b.Slot("w"); b.Ops[opClose].Args[0] = Val(3) }, "program: op 2 (start): argument 0: slot 3 is read before it is written"},
		{"a slot that does not exist", func(b *Builder) { b.Ops[opClose].Args[5] = Val(3) }, "program: op 2 (start): argument 5: slot 3 is read before it is written"},
		{"a slot number of 64 bits", func(b *Builder) { b.Ops[opClose].Args[0] = Arg{Kind: SlotVal, Val: 1<<16 + 1} }, "program: op 2 (start): argument 0: slot 65537 is read before it is written"},
		{"a buffer that is read and not written", func(b *Builder) { b.Ops[opOpen].Args[3] = In(2, 1) }, "program: op 1 (start): argument 3: slot 2 is read before it is written"},
		{"a buffer behind the slots", func(b *Builder) { b.Ops[opClose].Args[1] = Out(2, 2) }, "program: op 2 (start): argument 1: slots 2+2 do not exist"},
		{"a buffer whose end wraps", func(b *Builder) { b.Ops[opClose].Args[1] = Arg{Kind: SlotAddr, Val: ^uint64(0), Len: 1} }, "program: op 2 (start): argument 1: slots 18446744073709551615+1 do not exist"},
		{"data behind the end", func(b *Builder) { b.Ops[opOpen].Args[1].Val = 30 }, "program: op 1 (start): argument 1: data 30+3 lies outside 32 bytes"},
		{"data whose end wraps", func(b *Builder) { b.Ops[opOpen].Args[1].Val = ^uint64(2) }, "program: op 1 (start): argument 1: data 18446744073709551613+3 lies outside 32 bytes"},
		{"a descriptor that nobody hands down", func(b *Builder) { b.Ops[opBegin].Args[3].Val = 1 }, "program: op 0 (start): argument 3: inherited descriptor 1 does not exist"},
		{"an unknown kind", func(b *Builder) { b.Ops[opClose].Args[2].Kind = 5 }, "program: op 2 (start): argument 2: unknown kind 5"},
	}
	for _, c := range cases {
		b := whole()
		c.change(b)
		if err := b.Verify(); err == nil || err.Error() != c.want {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
}

// What is known behind a jump is what is known on every path that leads there.
func TestVerifyJumpOverADefinition(t *testing.T) {
	build := func(define func(b *Builder, v Slot, l *Label)) error {
		b := NewBuilder(3)
		b.Let(FaultFD, b.File("sync"))
		v := b.Slot("v")
		var l Label
		define(b, v, &l)
		b.Bind(&l)
		b.Emit(unix.SYS_CLOSE, Val(v))
		b.Emit(unix.SYS_EXIT_GROUP, Num(0))
		return b.Verify()
	}
	open := func(b *Builder, v Slot) int {
		return b.EmitTo(v, unix.SYS_OPENAT, Num(unix.AT_FDCWD), b.String("/x"), Num(0))
	}
	cases := []struct {
		name   string
		ok     bool
		define func(b *Builder, v Slot, l *Label)
	}{
		{"defined on the only path", true, func(b *Builder, v Slot, _ *Label) { open(b, v) }},
		{"success jumps over it", false, func(b *Builder, v Slot, l *Label) {
			b.OnSuccess(b.Emit(unix.SYS_UMASK, Num(0)), l)
			b.Ops[1].Tolerate[0].Errno = Errno(unix.EPERM)
			open(b, v)
		}},
		{"an error jumps over it", false, func(b *Builder, v Slot, l *Label) {
			b.OnError(b.Emit(unix.SYS_UMASK, Num(0)), unix.EPERM, l)
			open(b, v)
		}},
		{"defined on both paths", true, func(b *Builder, v Slot, l *Label) {
			b.Tolerate(open(b, v), unix.ENOENT)
			b.OnSuccess(1, l)
			open(b, v)
		}},
		{"a tolerated failure defines nothing", false, func(b *Builder, v Slot, _ *Label) {
			b.Tolerate(open(b, v), unix.ENOENT)
		}},
		{"a tolerated failure undoes the old value", false, func(b *Builder, v Slot, _ *Label) {
			open(b, v)
			b.Tolerate(open(b, v), unix.ENOENT)
		}},
		{"a tolerated failure of a call that fills a buffer", false, func(b *Builder, v Slot, _ *Label) {
			b.Tolerate(b.Emit(unix.SYS_READ, Num(0), Out(v, 1), Num(8)), unix.EAGAIN)
		}},
		{"a call that fills a buffer", true, func(b *Builder, v Slot, _ *Label) {
			b.Emit(unix.SYS_READ, Num(0), Out(v, 1), Num(8))
		}},
	}
	for _, c := range cases {
		err := build(c.define)
		if c.ok && err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if !c.ok && (err == nil || !strings.HasSuffix(err.Error(), "slot 2 is read before it is written")) {
			t.Errorf("%s: got %v", c.name, err)
		}
	}
}

// Before an execve, on every path, some Files are marked and all descriptors behind them
// closed (CVE-2024-21626).
func TestVerifySealed(t *testing.T) {
	const want = "program: op 5 (process.args): execve with descriptors that are left open"
	cases := map[string]func(*Builder){
		"another call":              func(b *Builder) { b.Ops[opSeal] = Op{Call: unix.SYS_UMASK, Note: 1} },
		"marking what is behind":    func(b *Builder) { b.Ops[opSeal].Args[2] = Num(unix.CLOSE_RANGE_CLOEXEC) },
		"not the first descriptors": func(b *Builder) { b.Ops[opSeal].Args[0] = Num(5) },
		"none marked":               func(b *Builder) { b.Ops[opMark] = Op{Call: unix.SYS_UMASK, Note: 1} },
		"unmarked":                  func(b *Builder) { b.Ops[opMark].Args[2] = Num(0) },
		"a flag of the file":        func(b *Builder) { b.Ops[opMark].Args[1] = Num(unix.F_SETFL) },
		"the second one marked":     func(b *Builder) { b.File("more"); b.Ops[opMark].Args[0].Val = 1 },
		"stdin marked":              func(b *Builder) { b.Ops[opMark].Args[0] = Num(0) },
		"marking jumped over":       func(b *Builder) { b.Ops[opOpen].Tolerate[0].Skip = 2 },
		"not the last":              func(b *Builder) { b.Ops[opSeal].Args[1] = Num(1000) },
		"a number from a slot":      func(b *Builder) { b.Ops[opSeal].Args[0] = Val(Discard) },
		"jumped over":               func(b *Builder) { b.Ops[opOpen].Tolerate[0].Skip = 3 },
		"failed":                    func(b *Builder) { b.Tolerate(opSeal, unix.ENOSYS) },
		"marking failed":            func(b *Builder) { b.Tolerate(opMark, unix.EBADF) },
	}
	for name, change := range cases {
		b := whole()
		change(b)
		if err := b.Verify(); err == nil || err.Error() != want {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// What is done between marking and closing may undo the mark.
func TestVerifySealedAtOnce(t *testing.T) {
	sync := Arg{Kind: File}
	for name, op := range map[string]Op{
		"marked the other way": {Call: unix.SYS_FCNTL, Args: [6]Arg{sync, Num(unix.F_SETFD), Num(0)}, Note: 1},
		"another file there":   {Call: unix.SYS_DUP3, Args: [6]Arg{Num(0), sync, Num(0)}, Note: 1},
		"closed":               {Call: unix.SYS_CLOSE, Args: [6]Arg{sync}, Note: 1},
	} {
		b := whole()
		b.Ops = slices.Insert(b.Ops, opSeal, op)
		if err := b.Verify(); err == nil || !strings.Contains(err.Error(), "descriptors that are left open") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestThirdTolerancePanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a third errno was accepted")
		}
	}()
	b := whole()
	for range 3 {
		b.Tolerate(opClose, unix.EPERM)
	}
}

func TestBuilderSharesStrings(t *testing.T) {
	b := NewBuilder(3)
	one, two := b.String("/proc"), b.String("/proc")
	if one != two {
		t.Errorf("one string lies at %d and %d", one.Val, two.Val)
	}
	if w := b.Words(1); w.Val%8 != 0 {
		t.Errorf("words lie at %d", w.Val)
	}
	if f, g, h := b.File("a"), b.File("b"), b.File("a"); f != h || f == g {
		t.Errorf("descriptors %v %v %v", f, g, h)
	}
}

// FuzzVerify builds programs from noise. Whatever Verify says, neither it nor, for a
// program that it accepts, Explain may panic, and what it accepts has the properties
// that the interpreter relies on.
func FuzzVerify(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20})
	f.Add([]byte(strings.Repeat("\xff", 100)))
	f.Add([]byte(strings.Repeat("\x00\x01", 100)))
	f.Fuzz(func(t *testing.T, noise []byte) {
		p := noisy(noise)
		if p.Verify() != nil {
			return
		}
		for i := range p.Ops {
			if i+1+int(p.Ops[i].Skip) >= len(p.Ops) && !p.Ops[i].never() {
				t.Fatalf("op %d leaves the program", i)
			}
			for _, a := range p.Ops[i].Args {
				if a.Kind == SlotAddr && a.Val+uint64(a.Len) > MaxSlots || a.Kind == SlotVal && a.Val >= MaxSlots {
					t.Fatalf("op %d uses slot %d+%d", i, a.Val, a.Len)
				}
			}
			_ = p.Explain(i, unix.EPERM).Error()
		}
	})
}

// noise hands out the bytes of the fuzzer's input, then zeros.
type noise []byte

func (n *noise) byte() (b byte) {
	if len(*n) > 0 {
		b, *n = (*n)[0], (*n)[1:]
	}
	return b
}

// number is mostly small, so that some programs are right, and sometimes huge.
func (n *noise) number() uint64 {
	switch b := n.byte(); {
	case b < 200:
		return uint64(b % 8)
	case b < 240:
		return uint64(b) << 8
	default:
		return -uint64(b - 239)
	}
}

func noisy(raw []byte) *Program {
	n := noise(raw)
	p := &Program{
		FirstFile: int(n.number() % 8), Files: make([]string, n.byte()%4),
		Data: make([]byte, n.byte()%32), Texts: make([]string, n.byte()%4), SlotNames: make([]string, n.byte()%16),
	}
	for range n.byte() % 3 {
		p.Relocs = append(p.Relocs, Reloc{uint32(n.number()), uint32(n.number())})
	}
	calls := [...]Call{Test, unix.SYS_READ, unix.SYS_EXECVE, unix.SYS_EXIT_GROUP, unix.SYS_CLOSE_RANGE, unix.SYS_FCNTL}
	for len(n) > 0 {
		op := Op{Call: calls[int(n.byte())%len(calls)], Dst: Slot(n.number()), Skip: uint16(n.number()), Note: uint16(n.number()), Fault: uint16(n.number())}
		for k := range op.Args {
			op.Args[k] = Arg{Val: n.number(), Len: uint16(n.number()), Kind: Kind(n.byte() % 6), Out: n.byte()%2 == 0}
		}
		for k := range op.Tolerate {
			op.Tolerate[k] = Tolerance{Errno(n.number()), uint16(n.number())}
		}
		p.Ops = append(p.Ops, op)
	}
	if len(p.Ops) > 0 && n.byte() == 0 {
		p.Ops[0].Call, p.Ops[0].Dst = Test, FaultFD
	}
	return p
}
