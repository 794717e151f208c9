package seccomp

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// pseudo is libseccomp's pseudo code for a filter, by architecture. It says what
// the rules come to, where the BPF of libseccomp 2.5 does not always: its code for
// one comparison may run with what another one has loaded.
type pseudo map[string][]string

// pfc returns the pseudo code of the last filter.
func (o *oracle) pfc() pseudo {
	fmt.Fprintln(o.in, "pfc")
	p, section := pseudo{}, ""
	for {
		line, _ := o.line()
		rest, starts := strings.CutPrefix(line, "# filter for arch ")
		switch {
		case line == "":
			return p
		case starts:
			section, _, _ = strings.Cut(rest, " ")
		case strings.HasPrefix(line, "# invalid"):
			section = ""
		case section != "" && !strings.HasPrefix(strings.TrimSpace(line), "#"):
			p[section] = append(p[section], line)
		}
	}
}

// run returns the verdict; ok is false for architectures that have no section.
func (p pseudo) run(t *testing.T, d *data) (verdict uint32, ok bool) {
	for a := range arches {
		if a.audit() != d.arch || (a == x86_64 || a == x32) && (d.nr&x32Bit != 0) != (a == x32) {
			continue
		}
		if lines := p[scmpName(a)]; lines != nil {
			return eval(t, lines, d)
		}
	}
	return 0, false
}

// eval runs lines of one depth: "if" with its block, perhaps "else" with another,
// or an action that ends it all.
func eval(t *testing.T, lines []string, d *data) (verdict uint32, done bool) {
	for len(lines) > 0 {
		head := strings.TrimSpace(lines[0])
		if action, ok := strings.CutPrefix(head, "action "); ok {
			return pseudoAction(t, strings.TrimSuffix(action, ";")), true
		}
		yes, rest := block(lines)
		var no []string
		if len(rest) > 0 && strings.TrimSpace(rest[0]) == "else" {
			no, rest = block(rest)
		}
		if !pseudoHolds(t, head, d) {
			yes = no
		}
		if verdict, done = eval(t, yes, d); done {
			return verdict, true
		}
		lines = rest
	}
	return 0, false
}

// block returns the lines that are deeper than the first, and what follows them.
func block(lines []string) (inner, rest []string) {
	depth := func(s string) int { return len(s) - len(strings.TrimLeft(s, " ")) }
	n := 1
	for n < len(lines) && depth(lines[n]) > depth(lines[0]) {
		n++
	}
	return lines[1:n], lines[n:]
}

// pseudoHolds evaluates "if ($a0.hi32 & 0x00000001 == 0)".
func pseudoHolds(t *testing.T, head string, d *data) bool {
	f := strings.Fields(strings.Trim(strings.TrimPrefix(head, "if "), "()"))
	var v uint32
	switch name := f[0]; {
	case name == "$arch":
		v = d.arch
	case name == "$syscall":
		v = d.nr
	case strings.HasSuffix(name, ".hi32"):
		v = uint32(d.args[name[2]-'0'] >> 32)
	default:
		v = uint32(d.args[name[2]-'0'])
	}
	number := func(s string) uint32 {
		n, err := strconv.ParseUint(s, 0, 32)
		if err != nil {
			t.Fatalf("%s: %v", head, err)
		}
		return uint32(n)
	}
	f = f[1:]
	if f[0] == "&" {
		v &= number(f[1])
		f = f[2:]
	}
	switch f[0] {
	case "==":
		return v == number(f[1])
	case ">":
		return v > number(f[1])
	case ">=":
		return v >= number(f[1])
	}
	t.Fatalf("unknown operator: %s", head)
	return false
}

func pseudoAction(t *testing.T, s string) uint32 {
	name, arg, _ := strings.Cut(strings.TrimSuffix(s, ")"), "(")
	n, _ := strconv.Atoi(arg)
	switch name {
	case "KILL":
		return retKillThread
	case "KILL_PROCESS":
		return retKillProcess
	case "TRAP":
		return retTrap
	case "ERRNO":
		return retErrno | uint32(n)
	case "TRACE":
		return retTrace | uint32(n)
	case "LOG":
		return retLog
	case "ALLOW":
		return retAllow
	case "0x7fc00000": // it has no name for NOTIFY
		return retNotify
	}
	t.Fatalf("unknown action %q", s)
	return 0
}
