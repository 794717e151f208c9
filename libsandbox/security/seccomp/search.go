package seccomp

import (
	"fmt"
	"slices"
)

// span is a range of system call numbers, up to the next span's first, with the
// verdict for them. If there are rules with conditions, the verdict is for calls
// that none of them fits.
type span struct {
	first   uint32
	verdict uint32
	rules   *level
}

// spans covers all numbers, in order.
type spans []span

// from says what holds from a number on. Numbers must not go down.
func (s *spans) from(first, verdict uint32, rules *level) {
	n := len(*s)
	if n > 0 && (*s)[n-1].first == first {
		n--
		*s = (*s)[:n]
	}
	if n > 0 && rules == nil && (*s)[n-1].rules == nil && (*s)[n-1].verdict == verdict {
		return
	}
	*s = append(*s, span{first, verdict, rules})
}

// write writes a binary search for the number in A.
func (s spans) write(a *assembler) label {
	if len(s) == 1 {
		miss := a.ret(s[0].verdict)
		return s[0].rules.write(a, miss)
	}
	mid := len(s) / 2
	right := s[mid:].write(a)
	left := s[:mid].write(a)
	return a.branch(opJGE, s[mid].first, right, left)
}

// search says what becomes of each number of the architecture.
//
// To the kernel x86-64 and x32 are one. Of the numbers from 2^30 on, which x86-64
// does not have, libseccomp kills all but -1 (a tracer sets it to skip a call,
// seccomp(2)) if the profile lacks x32; runc, which looks at bit 30 alone, first
// answers ENOSYS to those without it.
func (p *profile) search(a arch) (spans, error) {
	s := make(spans, 0, 256)
	s.from(0, p.defaultVerdict, nil)
	newer, refused, err := p.addCalls(&s, a)
	if err != nil || a != x86_64 {
		return s, err
	}
	if !p.archs[x32] {
		odd := uint32(retKillThread)
		if refused {
			odd = newer
		}
		s.from(1*x32Bit, retKillThread, nil)
		s.from(2*x32Bit, odd, nil)
		s.from(3*x32Bit, retKillThread, nil)
		s.from(1<<32-1, p.defaultVerdict, nil)
		return s, nil
	}
	s.from(1*x32Bit, p.defaultVerdict, nil)
	newer32, _, err := p.addCalls(&s, x32)
	s.from(2*x32Bit, newer, nil)
	s.from(3*x32Bit, newer32, nil)
	return s, err
}

// addCalls adds what the profile says of the architecture's calls, and returns the
// verdict for the numbers above, and whether that is to refuse them as new.
func (p *profile) addCalls(s *spans, a arch) (newer uint32, refused bool, err error) {
	keys, last := p.numbers(a)
	newer, refused = p.defaultVerdict, last > 0 && refusesNew(p.defaultVerdict)
	if refused {
		newer = retErrno | enosys
	} else {
		last = 1<<32 - 1
	}
	for len(keys) > 0 {
		number, n := keys[0].number(), 1
		for n < len(keys) && keys[n].number() == number {
			n++
		}
		verdict, rules, err := p.decide(a, keys[:n])
		if err != nil {
			return 0, false, err
		}
		if number <= last {
			s.from(number, verdict, rules)
			s.from(number+1, p.defaultVerdict, nil)
		}
		keys = keys[n:]
	}
	if refused {
		s.from(last+1, newer, nil)
	}
	return newer, refused, nil
}

// decide returns what the rules for one number come to: alternatives, and the
// verdict if none of them fits.
func (p *profile) decide(a arch, same []key) (verdict uint32, rules *level, err error) {
	for _, k := range same {
		call := p.calls[k.call()]
		r := &p.rules[call.rule]
		sub := uint16(0)
		if k.muxed() {
			sub = table[call.entry].mux % 100
		}
		if len(r.conditions) == 0 && sub == 0 {
			return r.verdict, nil, nil
		}
		if rules == nil {
			rules = new(level)
		}
		always, ok := rules.addRule(a, r, sub)
		if !ok {
			return 0, nil, fmt.Errorf("linux.seccomp.syscalls[%d]: %q has another action in an earlier entry, and their conditions do not tell them apart",
				call.rule, nameOf(int(call.entry)))
		}
		if always {
			return r.verdict, nil, nil
		}
	}
	return p.defaultVerdict, rules, nil
}

// addRule adds a rule as the architecture has it; with sub, for that sub-call of
// socketcall(2) or ipc(2). always says that it has no conditions, and was not
// added; ok is as in add.
func (l *level) addRule(a arch, r *rule, sub uint16) (always, ok bool) {
	if !r.each {
		return l.addConditions(a, r.conditions, r.verdict, sub)
	}
	for i := range r.conditions {
		if always, ok = l.addConditions(a, r.conditions[i:i+1], r.verdict, sub); always || !ok {
			break
		}
	}
	return always, ok
}

func (l *level) addConditions(a arch, conds []condition, verdict uint32, sub uint16) (always, ok bool) {
	mine := make([]condition, 0, maxArgs)
	if sub != 0 {
		// The real arguments are in memory, out of a filter's sight, and the
		// first is the sub-call's number. libseccomp leaves the others alone.
		mine = append(mine, condition{op: opEQ, mask: 1<<32 - 1, value: uint64(sub)})
		if len(conds) > 0 && conds[0].arg == 0 {
			conds = conds[1:]
		}
	}
	if mine = appendFor(a, mine, conds); len(mine) == 0 {
		return true, true
	}
	return false, l.add(chain(mine, a.wide(), verdict))
}

// key is a number with the place in profile.calls that it comes from, sorted by
// number, then by place.
type key uint64

func makeKey(number uint32, call int, muxed bool) key {
	k := key(number)<<32 | key(call)<<1
	if muxed {
		k |= 1
	}
	return k
}

func (k key) number() uint32 { return uint32(k >> 32) }
func (k key) call() int      { return int(uint32(k) >> 1) }
func (k key) muxed() bool    { return k&1 != 0 }

// numbers returns the numbers of the calls whose rules matter, and the largest
// number that the profile names: those which x86 also has through socketcall(2) or
// ipc(2) do not count there, as in libseccomp.
func (p *profile) numbers(a arch) (keys []key, last uint32) {
	keys = make([]key, 0, len(p.calls)+32)
	for i, c := range p.calls {
		e := &table[c.entry]
		muxed := a == x86 && e.mux != 0
		number, ok := e.number(a)
		if ok && !muxed {
			last = max(last, number)
		}
		if p.rules[c.rule].verdict == p.defaultVerdict {
			continue
		}
		if ok {
			keys = append(keys, makeKey(number, i, false))
		}
		if muxed {
			number = nrSocketcall
			if e.mux > muxIPC {
				number = nrIPC
			}
			keys = append(keys, makeKey(number, i, true))
		}
	}
	slices.Sort(keys)
	return keys, last
}
