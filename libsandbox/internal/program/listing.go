package program

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Listing returns the program as text, one op a line, like the output of strace(1):
//
//	11  openat2(%root, "proc", {O_PATH|O_DIRECTORY, …}) = %t ? ENOENT->14  # mounts[0] /proc
//
// Behind a result's slot, "? ERRNO->N" is a tolerated error and where it goes on,
// "->N" where success goes on if that is not the next line.
func (p *Program) Listing() string {
	var b strings.Builder
	width := len(strconv.Itoa(len(p.Ops) - 1))
	for i := range p.Ops {
		op := &p.Ops[i]
		text := p.opText(op) + jumps(op, i)
		fmt.Fprintf(&b, "%*d  %-72s  # %s\n", width, i, text, p.Texts[op.Note])
	}
	return b.String()
}

func (p *Program) opText(op *Op) string {
	dst := ""
	if op.Dst != Discard {
		dst = " = %" + p.slotText(uint64(op.Dst))
	}
	if op.Call == Test {
		return p.testText(op) + dst
	}
	n := 6
	for n > 0 && op.Args[n-1] == (Arg{}) && !signature(op.Call).has(n-1) {
		n--
	}
	args := make([]string, n)
	for k := range args {
		args[k] = p.argText(op, k)
	}
	return op.Call.String() + "(" + strings.Join(args, ", ") + ")" + dst
}

// testText spells the three uses of Test: load, fail, compare.
func (p *Program) testText(op *Op) string {
	a := op.Args
	switch {
	case a[1] == (Arg{}) && a[2] == (Arg{}):
		return "let(" + p.argText(op, 3) + ")"
	case op.never():
		return "fail(" + errnoName(a[4].Val) + ")"
	}
	mask := ""
	if a[1].Val != ^uint64(0) {
		mask = fmt.Sprintf(" & %#x", a[1].Val)
	}
	return fmt.Sprintf("check(%s%s == %#x, %s)", p.argText(op, 0), mask, a[2].Val, errnoName(a[4].Val))
}

func errnoName(v uint64) string { return unix.ErrnoName(unix.Errno(v)) }

func jumps(op *Op, i int) string {
	var b strings.Builder
	for _, t := range op.Tolerate {
		if t.Errno != 0 {
			fmt.Fprintf(&b, " ? %s->%d", errnoName(uint64(t.Errno)), i+1+int(t.Skip))
		}
	}
	if op.Skip > 0 {
		fmt.Fprintf(&b, " ->%d", i+1+int(op.Skip))
	}
	return b.String()
}

func (p *Program) argText(op *Op, k int) string {
	a := op.Args[k]
	switch a.Kind {
	case SlotVal:
		return "%" + p.slotText(a.Val)
	case SlotAddr:
		return "&%" + p.slotText(a.Val)
	case File:
		return "$" + p.Files[a.Val]
	case Data:
		return p.dataText(op.Call, k, a)
	}
	return immText(op, k, a.Val)
}

// slotText names a slot; the second and later slots of a buffer have an index.
func (p *Program) slotText(n uint64) string {
	name, first := p.SlotNames[n], n
	for first > 0 && p.SlotNames[first-1] == name {
		first--
	}
	if first == n {
		return name
	}
	return fmt.Sprintf("%s[%d]", name, n-first)
}

// shape says how the arguments of a call are written.
type shape uint8

const (
	plain  shape = iota // a number
	text                // a string in the data block
	words               // a structure in the data block
	vector              // an array of strings in the data block
	flags               // a set of flags
	dirfd               // a descriptor, or AT_FDCWD
	octal               // a mode
)

type shapes [6]shape

func (s shapes) has(k int) bool { return s[k] == text || s[k] == flags || s[k] == dirfd }

// signature tells the arguments apart that are more than numbers.
func signature(c Call) shapes {
	switch c {
	case unix.SYS_OPENAT:
		return shapes{dirfd, text, flags}
	case unix.SYS_OPENAT2:
		return shapes{dirfd, text, words}
	case unix.SYS_OPEN_TREE:
		return shapes{dirfd, text, flags}
	case unix.SYS_MOVE_MOUNT:
		return shapes{dirfd, text, dirfd, text, flags}
	case unix.SYS_MOUNT_SETATTR:
		return shapes{dirfd, text, flags, words}
	case unix.SYS_MOUNT:
		return shapes{text, text, text, flags}
	case unix.SYS_FSOPEN, unix.SYS_UMOUNT2:
		return shapes{text, flags}
	case unix.SYS_FSMOUNT:
		return shapes{plain, flags, flags}
	case unix.SYS_FSCONFIG:
		return shapes{plain, flags, text, text}
	case unix.SYS_MKDIRAT, unix.SYS_MKNODAT, unix.SYS_FCHMODAT:
		return shapes{dirfd, text, octal}
	case unix.SYS_FCHOWNAT:
		return shapes{dirfd, text}
	case unix.SYS_UNLINKAT, unix.SYS_FACCESSAT2, sysFstatat:
		return shapes{dirfd, text}
	case unix.SYS_SYMLINKAT:
		return shapes{text, dirfd, text}
	case unix.SYS_PIVOT_ROOT:
		return shapes{text, text}
	case unix.SYS_CHDIR, unix.SYS_CHROOT, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME:
		return shapes{text}
	case unix.SYS_WRITE:
		return shapes{plain, text}
	case unix.SYS_KEYCTL:
		return shapes{flags, text}
	case unix.SYS_PRCTL:
		return shapes{flags}
	case unix.SYS_PRLIMIT64:
		return shapes{plain, plain, words}
	case unix.SYS_SCHED_SETAFFINITY:
		return shapes{plain, plain, words}
	case unix.SYS_CAPSET:
		return shapes{words, words}
	case unix.SYS_EXECVE:
		return shapes{text, vector, vector}
	case unix.SYS_EXECVEAT:
		return shapes{dirfd, text, vector, vector, flags}
	case unix.SYS_SETNS, unix.SYS_DUP3, unix.SYS_FCNTL:
		return shapes{plain, flags, flags}
	case unix.SYS_UNSHARE, unix.SYS_CLONE:
		return shapes{flags}
	case unix.SYS_IOCTL:
		return shapes{plain, flags, words}
	case unix.SYS_SECCOMP:
		return shapes{flags, flags, words}
	case unix.SYS_UMASK:
		return shapes{octal}
	}
	return shapes{}
}

func (p *Program) dataText(c Call, k int, a Arg) string {
	switch signature(c)[k] {
	case words:
		if c == unix.SYS_OPENAT2 {
			return p.howText(a.Val)
		}
		return p.wordsText(a)
	case vector:
		return p.vectorText(a.Val)
	case text:
		return strconv.Quote(p.cString(a.Val))
	}
	if c == Test {
		return strconv.Quote(p.cString(a.Val))
	}
	return p.wordsText(a)
}

func (p *Program) cString(off uint64) string {
	s, _, _ := strings.Cut(string(p.Data[off:]), "\x00")
	return s
}

func (p *Program) word(off uint64) uint64 { return binary.NativeEndian.Uint64(p.Data[off:]) }

func (p *Program) wordsText(a Arg) string {
	if a.Len%8 != 0 {
		return strconv.Quote(string(p.Data[a.Val : a.Val+uint64(a.Len)]))
	}
	var w []string
	for off := a.Val; off < a.Val+uint64(a.Len); off += 8 {
		w = append(w, fmt.Sprintf("%#x", p.word(off)))
	}
	return "{" + strings.Join(w, ", ") + "}"
}

func (p *Program) howText(off uint64) string {
	return "{" + flagText(openFlags(), p.word(off)) + ", " + flagText(resolveFlags(), p.word(off+16)) + "}"
}

// vectorText follows the relocations of an argv or envp.
func (p *Program) vectorText(off uint64) string {
	var list []string
	for _, r := range p.Relocs {
		if uint64(r.At) == off {
			list = append(list, strconv.Quote(p.cString(uint64(r.To))))
			off += 8
		}
	}
	return "[" + strings.Join(list, ", ") + "]"
}

func immText(op *Op, k int, v uint64) string {
	switch signature(op.Call)[k] {
	case text, words, vector:
		return "NULL"
	case octal:
		return fmt.Sprintf("%#o", v)
	case dirfd:
		if int64(v) == unix.AT_FDCWD {
			return "AT_FDCWD"
		}
	case flags:
		return flagText(flagsOf(op, k), v)
	}
	if v == 0xffffffff {
		return "~0"
	}
	return strconv.FormatInt(int64(v), 10)
}
