package seccomp

import (
	"encoding/binary"
	"fmt"
	"testing"
)

// opJumpSet, A&k != 0, is an instruction that only runc uses.
const opJumpSet = 0x45

// data is struct seccomp_data.
type data struct {
	nr   uint32
	arch uint32
	args [6]uint64
}

func (d *data) word(offset uint32) uint32 {
	switch {
	case offset == offNumber:
		return d.nr
	case offset == offArch:
		return d.arch
	case offset < offArgs:
		return 0
	case offset%8 == 4:
		return uint32(d.args[(offset-offArgs)/8] >> 32)
	}
	return uint32(d.args[(offset-offArgs)/8])
}

// parse takes an array of struct sock_filter apart.
func parse(raw []byte) []insn {
	code := make([]insn, 0, len(raw)/8)
	for ; len(raw) >= 8; raw = raw[8:] {
		code = append(code, insn{binary.LittleEndian.Uint16(raw), raw[2], raw[3], binary.LittleEndian.Uint32(raw[4:])})
	}
	return code
}

// verify reports what the kernel would refuse of a program (bpf_check_classic,
// seccomp_check_filter). Of its instructions only those of this package and of
// libseccomp are known.
func verify(raw []byte) error {
	code := parse(raw)
	if len(code) == 0 || len(code) > 4096 || len(raw)%8 != 0 {
		return fmt.Errorf("%d bytes", len(raw))
	}
	reach := func(from int, skip uint64) error {
		if to := uint64(from) + 1 + skip; to >= uint64(len(code)) {
			return fmt.Errorf("%d: goes to %d of %d", from, to, len(code))
		}
		return nil
	}
	for n, i := range code {
		var err error
		switch i.code {
		case opLoad:
			if i.k%4 != 0 || i.k > 60 {
				return fmt.Errorf("%d: loads from %d", n, i.k)
			}
			err = reach(n, 0)
		case opAnd:
			err = reach(n, 0)
		case opJump:
			err = reach(n, uint64(i.k))
		case opJEQ, opJGT, opJGE:
			if err = reach(n, uint64(i.jt)); err == nil {
				err = reach(n, uint64(i.jf))
			}
		case opRet:
		default:
			return fmt.Errorf("%d: unknown code %#x", n, i.code)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// run is what the kernel does with a program; steps counts instructions.
func run(code []insn, d *data) (verdict uint32, steps int) {
	var a uint32
	for pc := 0; ; pc++ {
		steps++
		i := &code[pc]
		jump := false
		switch i.code {
		case opLoad:
			a = d.word(i.k)
			continue
		case opAnd:
			a &= i.k
			continue
		case opJump:
			pc += int(i.k)
			continue
		case opRet:
			return i.k, steps
		case opJEQ:
			jump = a == i.k
		case opJGT:
			jump = a > i.k
		case opJGE:
			jump = a >= i.k
		case opJumpSet:
			jump = a&i.k != 0
		default:
			panic(fmt.Sprintf("%d: code %#x", pc, i.code))
		}
		if jump {
			pc += int(i.jt)
		} else {
			pc += int(i.jf)
		}
	}
}

func TestVerify(t *testing.T) {
	ret := insn{code: opRet}
	for name, code := range map[string][]insn{
		"empty":              {},
		"no end":             {{code: opLoad}},
		"far":                {{code: opJump, k: 1}, ret},
		"backwards":          {ret, {code: opJump, k: 1<<32 - 1}},
		"far if true":        {{code: opJEQ, jt: 1}, ret},
		"far if false":       {{code: opJEQ, jf: 1}, ret},
		"unaligned":          {{code: opLoad, k: 2}, ret},
		"outside":            {{code: opLoad, k: 64}, ret},
		"unknown":            {{code: 0x16}, ret},
		"too long":           make([]insn, 4097),
		"falls over the end": {ret, {code: opAnd}},
	} {
		a := assembler{}
		for i := len(code) - 1; i >= 0; i-- {
			a.emit(code[i])
		}
		if verify(a.program()) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	a := assembler{}
	a.ret(1)
	if err := verify(a.program()); err != nil {
		t.Error(err)
	}
}
