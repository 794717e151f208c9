package shell

import "strings"

// An interactive bash has things to say to somebody who types: "[1] 4242" after &, "exit",
// "tcsetattr: Inappropriate ioctl for device" when a program has died of a signal. All of
// it is held back while it reads a file by the dot command (SEVAL_NONINT in its
// evalfile.c), and so a file is what it is given, with no more than the command in it.

// talks says whether a command is to be given to the shell that way, which takes 20 us: a
// subshell is silent anyway, and so are builtins.
func (r *run) talks() bool {
	return r.s.shell.bash && !r.c.Isolated && !r.builtin && !unclosed(r.c.Text)
}

// lone says whether the command is one builtin of bash's that does not look at its stdin.
func (r *run) lone() bool {
	return r.s.shell.bash && !r.s.exports.always && loneBuiltin(r.c.Text)
}

// note remembers what a command may change for those that follow.
func (p *process) note(text string) {
	trap := strings.Contains(text, "trap")
	p.traps = p.traps || trap
	p.traced = p.traced || trap || strings.Contains(text, "set -")
	if trap && !p.bash {
		text = unquoted(text) // not that of a program, in sh -c '...'
		p.trapsInt = p.trapsInt || strings.Contains(text, "trap") && (strings.Contains(text, "INT") || strings.Contains(text, " 2"))
	}
}

// unquoted is text without what is in quotes.
func unquoted(text string) string {
	var rest []byte
	quote := byte(0)
	for i := range len(text) {
		switch c := text[i]; {
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case quote == 0:
			rest = append(rest, c)
		case c == quote:
			quote = 0
		}
	}
	return string(rest)
}

// unclosed says whether text may have a $( without its end. Out of a file, that has bash 5.2
// write past the end of its memory, and abort at some later command.
func unclosed(text string) bool {
	return strings.Count(text, "(") > strings.Count(text, ")")
}

// loneBuiltin says whether text is one builtin and its arguments, in a shell that has
// neither functions nor aliases.
func loneBuiltin(text string) bool {
	if strings.ContainsAny(text, "&|;()<>`\n") {
		return false
	}
	name, _, _ := strings.Cut(text, " ")
	switch name {
	case ":", "cd", "echo", "export", "false", "printf", "pwd", "true": // not test, which can look at stdin
		return true
	}
	return false
}

// hushed appends the command of the user for a file. It is an argument of eval, or the
// messages of syntax errors would have the file's name; with newlines as \n, or their line
// numbers would not be the command's. traced: but eval would be traced and trapped itself.
func (t text) hushed(command string, traced bool) text {
	if traced {
		return t.str(command, "\n")
	}
	t = t.evalWord(command)
	if !strings.Contains(command, "\n") {
		return t.quote(command).str("\n")
	}
	t = t.str("$'")
	for i := range len(command) {
		switch c := command[i]; c {
		case '\n':
			t = t.str(`\n`)
		case '\\', '\'':
			t = append(t, '\\', c)
		default:
			t = append(t, c)
		}
	}
	return t.str("'\n")
}
