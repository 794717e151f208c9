package seccomp

import "strings"

// entry is a line of the table: where the name ends in tableNames, it starts where
// the one before ends, and its numbers.
type entry struct {
	end uint16

	// num is the number by architecture. absent says that there is none; values
	// from armPrivate on stand for arm's private calls; x32's bit is left out.
	num [arches]uint16

	// mux is what the call is on x86 besides its own number: from 101 a
	// sub-call of socketcall(2), from 201 one of ipc(2).
	mux uint16
}

const (
	absent = 0xffff

	// armPrivate stands for the first number of __ARM_NR_* (asm/unistd.h).
	armPrivate     = 0xf000
	armPrivateBase = 0x0f0000

	muxSocketcall = 100
	muxIPC        = 200

	nrSocketcall = 102
	nrIPC        = 117
)

// number returns the number of the call as seccomp_data.nr has it; ok is false if
// the architecture does not have the call.
func (e *entry) number(a arch) (nr uint32, ok bool) {
	n := uint32(e.num[a])
	switch {
	case n == absent:
		return 0, false
	case a == x32:
		return n | x32Bit, true
	case n >= armPrivate:
		return n - armPrivate + armPrivateBase, true
	}
	return n, true
}

// find returns the entry of a name, or -1.
func find(name string) int { return findFrom(0, name) }

// findFrom is find for names that come in order, as in most profiles: it looks
// right after the entry of the one before first.
func findFrom(before int, name string) int {
	lo, hi := 0, len(table)
	for step := 1; before+step < hi; step *= 2 {
		switch c := strings.Compare(nameOf(before+step), name); {
		case c == 0:
			return before + step
		case c > 0:
			hi = before + step
		default:
			lo = before + step + 1
		}
	}
	for lo < hi {
		mid := int(uint(lo+hi) / 2)
		switch c := strings.Compare(nameOf(mid), name); {
		case c == 0:
			return mid
		case c < 0:
			lo = mid + 1
		default:
			hi = mid
		}
	}
	return -1
}

func nameOf(i int) string {
	start := uint16(0)
	if i > 0 {
		start = table[i-1].end
	}
	return tableNames[start:table[i].end]
}
