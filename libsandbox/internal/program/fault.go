package program

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Fault is the failure of an op.
type Fault struct {
	Op    int
	Errno unix.Errno
	Note  string // the op's note
	What  string // the name of the call
	Text  string // replaces What, and Errno too unless it ends in ": "
}

// Explain returns the *Fault for op number op, also where the number is absurd: it
// comes from another process.
func (p *Program) Explain(op int, errno unix.Errno) error {
	if op < 0 || op >= len(p.Ops) {
		return &Fault{Op: op, Errno: errno, Note: "init", What: "op " + strconv.Itoa(op)}
	}
	o := &p.Ops[op]
	f := &Fault{Op: op, Errno: errno, Note: p.Texts[o.Note], Text: p.Texts[o.Fault]}
	if o.Call == Test {
		f.What = "check"
	} else {
		f.What = o.Call.String()
	}
	return f
}

// Error reads like `mounts[3] /proc: fsmount: operation not permitted`.
func (f *Fault) Error() string {
	if strings.HasSuffix(f.Text, ": ") {
		return f.Note + ": " + f.Text + f.Errno.Error()
	}
	if f.Text != "" {
		return f.Note + ": " + f.Text
	}
	return f.Note + ": " + f.What + ": " + f.Errno.Error()
}

// Unwrap returns the errno.
func (f *Fault) Unwrap() error { return f.Errno }
