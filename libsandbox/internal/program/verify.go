package program

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Verify reports the first way in which p could go wrong by itself, whatever the
// kernel answers: a jump that leaves the program, a slot that is read before it
// is written on some path, a reference outside the data, descriptors that would
// stay open across execve, a path that runs off the end. A program that fails
// here is a bug in the compiler, never in a spec.
func (p *Program) Verify() error {
	switch {
	case len(p.Ops) == 0:
		return errors.New("program: empty")
	case len(p.Ops) > MaxOps:
		return fmt.Errorf("program: %d ops, at most %d fit", len(p.Ops), MaxOps)
	case len(p.Texts) >= 1<<16:
		return fmt.Errorf("program: %d texts, at most %d fit", len(p.Texts), 1<<16-1)
	case len(p.SlotNames) > MaxSlots:
		return fmt.Errorf("program: %d slots, at most %d fit", len(p.SlotNames), MaxSlots)
	}
	if first := &p.Ops[0]; first.Call != Test || first.Dst != FaultFD {
		return errors.New("program: op 0 does not set the fault descriptor")
	}
	for _, r := range p.Relocs {
		if int(r.At)+8 > len(p.Data) || int(r.To) >= len(p.Data) {
			return fmt.Errorf("program: relocation %d -> %d lies outside the data", r.At, r.To)
		}
	}
	for i := range p.Ops {
		if op := &p.Ops[i]; int(op.Note) >= len(p.Texts) || int(op.Fault) >= len(p.Texts) {
			return fmt.Errorf("program: op %d has texts %d and %d of %d", i, op.Note, op.Fault, len(p.Texts))
		}
	}
	return p.flow()
}

// facts is what is known on every path that reaches an op.
type facts struct {
	reached bool
	sealed  bool   // no descriptor from FirstFile on is left open by execve
	marked  uint64 // so many Files are close-on-exec, the first ones
	written [MaxSlots / 64]uint64
}

func (f *facts) set(s Slot)      { f.written[s/64] |= 1 << (s % 64) }
func (f *facts) has(s Slot) bool { return f.written[s/64]&(1<<(s%64)) != 0 }

// meet keeps what is known on both paths.
func (f *facts) meet(g *facts) {
	if !f.reached || !g.reached {
		if g.reached {
			*f = *g
		}
		return
	}
	f.sealed, f.marked = f.sealed && g.sealed, min(f.marked, g.marked)
	for i := range f.written {
		f.written[i] &= g.written[i]
	}
}

// flow walks the ops once: jumps only go forward, so every predecessor of an op
// has been seen when the op is.
func (p *Program) flow() error {
	ahead := make(map[int]facts, 64) // of ops that are jumped to
	now := facts{reached: true}
	now.set(Discard)
	for i := range p.Ops {
		op := &p.Ops[i]
		if f, ok := ahead[i]; ok {
			now.meet(&f)
		}
		if !now.reached {
			return fmt.Errorf("program: op %d (%s) is never reached", i, p.Texts[op.Note])
		}
		if err := p.verifyArgs(op, &now); err != nil {
			return fmt.Errorf("program: op %d (%s): %w", i, p.Texts[op.Note], err)
		}
		var next facts // of the op behind this one
		if !op.never() {
			done := now
			p.succeed(op, &done)
			if err := p.join(ahead, i, op.Skip, &done); err != nil {
				return err
			}
			if op.Skip == 0 {
				next.meet(&done)
			}
		}
		for _, t := range op.Tolerate {
			if t.Errno == 0 {
				continue
			}
			failed := now
			failed.written[op.Dst/64] &^= 1 << (op.Dst % 64)
			failed.set(Discard)
			if err := p.join(ahead, i, t.Skip, &failed); err != nil {
				return err
			}
			if t.Skip == 0 {
				next.meet(&failed)
			}
		}
		now = next
	}
	return nil
}

// succeed adds what is known after the success of an op.
func (p *Program) succeed(op *Op, f *facts) {
	f.set(op.Dst)
	for _, a := range op.Args {
		if a.Kind != SlotAddr || !a.Out {
			continue
		}
		for s := range a.Len {
			f.set(Slot(a.Val) + Slot(s))
		}
	}
	p.closes(op, f)
}

// join notes what is known where op i goes on, unless that is the next one.
func (p *Program) join(ahead map[int]facts, i int, skip uint16, f *facts) error {
	to := i + 1 + int(skip)
	if to >= len(p.Ops) {
		return fmt.Errorf("program: op %d goes on at %d, behind the last op", i, to)
	}
	if skip > 0 {
		g := ahead[to]
		g.meet(f)
		ahead[to] = g
	}
	return nil
}

// never reports that nothing follows the op's success.
func (op *Op) never() bool {
	switch op.Call {
	case unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_EXIT_GROUP:
		return true
	case Test: // a test that no value passes only carries an error message
		return op.Args[1] == (Arg{}) && op.Args[2].Kind == Imm && op.Args[2].Val != 0
	}
	return false
}

// closes notes what op does to the descriptors that execve would leave open: from FirstFile
// on, where the inherited ones and those that the program opens are, each is either marked
// or closed.
func (p *Program) closes(op *Op, f *facts) {
	fd := op.Args[0]
	switch {
	case op.Call == unix.SYS_FCNTL && fd == (Arg{Kind: File, Val: f.marked}) && op.Args[1] == Num(unix.F_SETFD) && op.Args[2] == Num(unix.FD_CLOEXEC):
		f.marked++
	case op.Call == unix.SYS_CLOSE_RANGE && fd.Kind == Imm && fd.Val <= uint64(p.FirstFile)+f.marked && op.Args[1] == Num(^uint32(0)) && op.Args[2] == Num(0):
		f.sealed = true
	default:
		f.marked = 0 // it could have undone that
	}
}

func (p *Program) verifyArgs(op *Op, f *facts) error {
	if int(op.Dst) >= len(p.SlotNames) {
		return fmt.Errorf("result slot %d does not exist", op.Dst)
	}
	if result := op.Args[3]; op.Call == Test && result.Kind == Imm && result.Val > ^uint64(0)-4095 {
		return fmt.Errorf("the result %d would be an error", int64(result.Val))
	}
	if (op.Call == unix.SYS_EXECVE || op.Call == unix.SYS_EXECVEAT) && !f.sealed {
		return errors.New("execve with descriptors that are left open")
	}
	for n := range op.Args {
		if err := p.verifyArg(&op.Args[n], f); err != nil {
			return fmt.Errorf("argument %d: %w", n, err)
		}
	}
	return nil
}

func (p *Program) verifyArg(a *Arg, f *facts) error {
	switch a.Kind {
	case Imm:
	case Data:
		if size := uint64(len(p.Data)); a.Val > size || uint64(a.Len) > size-a.Val {
			return fmt.Errorf("data %d+%d lies outside %d bytes", a.Val, a.Len, len(p.Data))
		}
	case File:
		if a.Val >= uint64(len(p.Files)) {
			return fmt.Errorf("inherited descriptor %d does not exist", a.Val)
		}
	case SlotVal:
		if a.Val >= uint64(len(p.SlotNames)) || !f.has(Slot(a.Val)) {
			return fmt.Errorf("slot %d is read before it is written", a.Val)
		}
	case SlotAddr:
		if n := uint64(len(p.SlotNames)); a.Val > n || uint64(a.Len) > n-a.Val {
			return fmt.Errorf("slots %d+%d do not exist", a.Val, a.Len)
		}
		for s := range a.Len {
			if !a.Out && !f.has(Slot(a.Val)+Slot(s)) {
				return fmt.Errorf("slot %d is read before it is written", a.Val+uint64(s))
			}
		}
	default:
		return fmt.Errorf("unknown kind %d", a.Kind)
	}
	return nil
}
