package seccomp

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// op is how a condition compares, unsigned.
type op uint8

const (
	opNE op = iota + 1
	opLT
	opLE
	opEQ
	opGE
	opGT
	opMaskedEQ
)

func operator(o specs.LinuxSeccompOperator) (op, error) {
	switch o {
	case specs.OpNotEqual:
		return opNE, nil
	case specs.OpLessThan:
		return opLT, nil
	case specs.OpLessEqual:
		return opLE, nil
	case specs.OpEqualTo:
		return opEQ, nil
	case specs.OpGreaterEqual:
		return opGE, nil
	case specs.OpGreaterThan:
		return opGT, nil
	case specs.OpMaskedEqual:
		return opMaskedEQ, nil
	}
	return 0, fmt.Errorf("unknown operator %q", o)
}

// condition is what one argument of a call must be: arg&mask, compared with value,
// which has no bits outside the mask. The mask is all ones for all operators but
// one; on 32-bit architectures its upper half is zero.
type condition struct {
	arg   uint8
	op    op
	mask  uint64
	value uint64
}

// maxArgs is how many arguments a system call has.
const maxArgs = 6

func readCondition(arg *specs.LinuxSeccompArg) (condition, error) {
	if arg.Index >= maxArgs {
		return condition{}, fmt.Errorf("index %d: must be at most %d", arg.Index, maxArgs-1)
	}
	o, err := operator(arg.Op)
	if err != nil {
		return condition{}, err
	}
	c := condition{arg: uint8(arg.Index), op: o, mask: 1<<64 - 1, value: arg.Value}
	if o == opMaskedEQ {
		c.mask, c.value = arg.Value, arg.Value&arg.ValueTwo
	}
	return c, nil
}

// appendFor appends the conditions as a 32-bit architecture compares them: the upper
// halves are dropped on both sides, as in libseccomp. What always holds is left
// out; without a condition left, a rule has none.
func appendFor(a arch, to, conds []condition) []condition {
	for _, c := range conds {
		if !a.wide() {
			c.mask &= 1<<32 - 1
			c.value &= 1<<32 - 1
		}
		if c.mask != 0 {
			to = append(to, c)
		}
	}
	return to
}
