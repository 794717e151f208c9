package shell

import (
	"strconv"
	"strings"
)

// Words of scripts are quoted (\command) against aliases, and called through command
// against functions of their names. command has a second effect that is wanted: in dash
// and ash an error in a special builtin, such as a syntax error within eval, does not then
// abort the whole script.

// text is a script. It is written with append, without fmt, as each command needs one.
type text []byte

func (t text) str(parts ...string) text {
	for _, p := range parts {
		t = append(t, p...)
	}
	return t
}

func (t text) num(n uint64) text { return strconv.AppendUint(t, n, 10) }

// quote appends s as one word in single quotes.
func (t text) quote(s string) text {
	t = append(t, '\'')
	for {
		i := strings.IndexByte(s, '\'')
		if i < 0 {
			break
		}
		t = t.str(s[:i], `'\''`)
		s = s[i+1:]
	}
	return t.str(s, "'")
}

// record appends the command that reports $? as the end of command seq. The shell's own
// stdout is the FIFO of records; it is not opened each time as that is a fifth of what a
// builtin costs. It begins a line, whatever a trap or a prompt has written there.
func (t text) record(seq uint64, more string) text {
	return t.str("\\command \\echo \"\n").num(seq).str(` $?`, more, "\"\n")
}

// dump appends the command that writes all exported variables, and then seq.
func (t text) dump(seq uint64) text {
	return t.str(`{ \command \export -p; \command \echo "`, dumpMark).num(seq).str(`"; } >`, within, exportsName, "\n")
}

// status appends what sets $? to n, which costs no fork: a file of its own returns it.
func (t text) status(n int) text {
	if n == 0 {
		return t
	}
	return t.str(`\. `, within, statusName, strconv.Itoa(n), "\n")
}

// eval appends the command of the user.
func (t text) eval(c *Command) text {
	if c.Isolated {
		t = t.str("( ")
	}
	t = t.evalWord(c.Text).quote(c.Text)
	if c.Isolated {
		t = t.str("\n)")
	}
	return t
}

// evalWord appends an eval whose argument begins with the text, which is to follow.
func (t text) evalWord(command string) text {
	t = t.str(`\command \eval `)
	if strings.HasPrefix(command, "-") {
		// To bash this is an option of eval. Not every dash takes the -- that would end them.
		t = t.str(`\ `)
	}
	return t
}

// redirect appends the redirections of a command. No stdin: it does not look at it.
func (t text) redirect(c *Command, stdin, stdout, stderr string) text {
	if stdin != "" {
		t = t.str(" <", stdin)
	}
	t = t.str(" >", stdout)
	if c.Merge || stderr == "" {
		return t.str(" 2>&1")
	}
	return t.str(" 2>", stderr)
}

// The names of files in the directory.
const (
	recordName  = "s"
	exportsName = "x"
	outName     = "o"
	errName     = "e"
	inputName   = "in"
	initName    = "init"
	envName     = "env"
	nullName    = "null"
	statusName  = "r" // followed by the status
	stdinName   = "i" // followed by the number of the command
	jobName     = "j" // followed by the number of the job and o, e or s
	dumpMark    = "#end of exports "
)
