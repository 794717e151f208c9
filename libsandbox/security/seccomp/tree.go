package seccomp

import "slices"

// level is a list of alternatives, tried in turn.
type level struct {
	nodes []*node

	// last are tried after the nodes.
	last []*node

	// Where it has been written, for which miss. Branches of several nodes may
	// lead to one level.
	written  bool
	at, miss label
}

// node compares half an argument: masked by mask, by op, with value.
type node struct {
	half  uint8 // twice the argument, and 1 for the upper half
	op    uint16
	whole *condition // what this is a half of
	mask  uint32
	value uint32

	yes, no branch
}

// branch is what comes of a comparison: a verdict, more comparisons, or the next
// alternative.
type branch struct {
	final   bool
	verdict uint32
	next    *level
}

func (b branch) open() bool { return !b.final && b.next == nil }

func to(n *node) branch { return branch{next: &level{nodes: []*node{n}}} }

// chain returns the comparisons for a rule, whose conditions are in the order of
// their arguments.
func chain(conds []condition, wide bool, verdict uint32) *node {
	then := branch{final: true, verdict: verdict}
	for i := len(conds) - 1; i > 0; i-- {
		then = to(conds[i].compare(wide, then))
	}
	return conds[0].compare(wide, then)
}

// compare returns the comparisons for a condition, the upper half first.
func (c *condition) compare(wide bool, then branch) *node {
	lower := &node{half: 2 * c.arg, op: opJEQ, whole: c, mask: uint32(c.mask), value: uint32(c.value)}
	switch c.op {
	case opGT, opLE:
		lower.op = opJGT
	case opGE, opLT:
		lower.op = opJGE
	}
	negated := c.op == opNE || c.op == opLT || c.op == opLE
	if negated {
		lower.no = then
	} else {
		lower.yes = then
	}
	if !wide {
		return lower
	}
	equal := &node{half: 2*c.arg + 1, op: opJEQ, whole: c, mask: uint32(c.mask >> 32), value: uint32(c.value >> 32), yes: to(lower)}
	if negated {
		equal.no = then
	}
	if lower.op == opJEQ {
		return equal
	}
	above := *equal
	above.op, above.yes, above.no = opJGT, branch{}, to(equal)
	if !negated {
		above.yes = then
	}
	return &above
}

// result is what came of adding a rule.
type result int

const (
	added   result = iota
	refused        // libseccomp refuses it: an older one has another verdict
	covered        // libseccomp drops it: an older one, it thinks, is wider
)

// add adds a rule to the level. The order is libseccomp's: comparisons of higher
// arguments come first, then equality before "less" before "greater", then the
// narrower ones, then the older ones. A rule that libseccomp drops comes last. It
// reports false for one that libseccomp refuses.
func (l *level) add(n *node) bool {
	r := l.insert(n)
	if r == covered {
		l.last = append(l.last, n)
	}
	return r != refused
}

func (l *level) insert(n *node) result {
	if len(l.nodes) > maxInsns {
		return added // too much already, which write finds; don't take for ever
	}
	for i, x := range l.nodes {
		if x.same(n) {
			return x.merge(n)
		}
		if n.before(x) {
			l.nodes = slices.Insert(l.nodes, i, n)
			return added
		}
	}
	l.nodes = append(l.nodes, n)
	return added
}

func (n *node) same(x *node) bool {
	return n.half == x.half && n.op == x.op && n.mask == x.mask && n.value == x.value &&
		(n.whole.op == opMaskedEQ) == (x.whole.op == opMaskedEQ)
}

// before reports whether n is tried before x although x is older.
func (n *node) before(x *node) bool {
	if n.half != x.half {
		return n.half > x.half
	}
	if r, s := n.whole.op.rank(), x.whole.op.rank(); r != s {
		return r > s
	}
	if x.whole.op == opLT || x.whole.op == opLE {
		return n.value < x.value
	}
	return n.value > x.value
}

func (o op) rank() int {
	switch o {
	case opGE, opGT:
		return 1
	case opLT, opLE:
		return 2
	}
	return 3
}

// merge gives n's branches to x, which compares the same and is older.
func (x *node) merge(n *node) result {
	leaf := x.leaf() || n.leaf()
	if n.yes.final && x.yes.final && n.yes.verdict != x.yes.verdict {
		if leaf {
			return refused
		}
		if n.half&1 != 0 && n.whole.value > x.whole.value {
			x.yes.verdict = n.yes.verdict
		}
	}
	if n.no.final && x.no.final && n.no.verdict != x.no.verdict && leaf {
		return refused
	}
	if x.yes.final && n.yes.next != nil {
		if n.no.open() {
			return added // it is no more than a part of x
		}
		return covered
	}
	if r := x.yes.merge(n.yes); r != added {
		return r
	}
	return x.no.merge(n.no)
}

// leaf reports whether nothing is compared after n.
func (n *node) leaf() bool { return n.yes.next == nil && n.no.next == nil }

// merge adds what a newer rule has on this branch. What is final stays so.
func (b *branch) merge(newer branch) result {
	switch {
	case newer.open() || b.final:
		return added
	case b.next == nil:
		*b = newer
		return added
	case newer.final:
		if !b.next.all(newer.verdict) {
			return refused
		}
		*b = newer
		return added
	}
	b.next = b.next.clone()              // other branches may lead there, too
	for _, n := range newer.next.nodes { // there is one
		if r := b.next.insert(n); r != added {
			return r
		}
	}
	return added
}

func (l *level) clone() *level {
	c := &level{nodes: make([]*node, len(l.nodes))}
	for i, n := range l.nodes {
		mine := *n
		c.nodes[i] = &mine
	}
	return c
}

// all reports whether all verdicts of the level and below are the same.
func (l *level) all(verdict uint32) bool {
	for _, n := range l.nodes {
		for _, b := range [...]branch{n.yes, n.no} {
			if b.final && b.verdict != verdict || b.next != nil && !b.next.all(verdict) {
				return false
			}
		}
	}
	return true
}

// write writes the code of the alternatives; miss is where to go if none fits.
func (l *level) write(a *assembler, miss label) label {
	if l == nil || a.full() {
		return miss
	}
	if l.written && l.miss == miss {
		return l.at
	}
	at := miss
	for _, nodes := range [...][]*node{l.last, l.nodes} {
		for _, n := range slices.Backward(nodes) {
			at = n.write(a, at)
		}
	}
	l.written, l.miss, l.at = true, miss, at
	return at
}

func (n *node) write(a *assembler, miss label) label {
	no := n.no.write(a, miss)
	yes := n.yes.write(a, miss)
	if n.mask == 0 {
		return yes // MASKED_EQ, whose value is then 0
	}
	l := a.branch(n.op, n.value, yes, no)
	if n.mask != 1<<32-1 {
		l = a.emit(insn{code: opAnd, k: n.mask})
	}
	return a.load(offArgs+4*uint32(n.half), l)
}

func (b branch) write(a *assembler, miss label) label {
	if b.final {
		return a.ret(b.verdict)
	}
	return b.next.write(a, miss)
}
