package shell

import (
	"bytes"
	"slices"
	"strings"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// maxExports is how many bytes of exported variables are carried over to a new shell.
const maxExports = 8 << 20

// exports collects what the shell writes of its exported variables after each command:
// nobody waits for it. A dump counts once its mark has come.
type exports struct {
	fd   int
	buf  []byte // since the last mark
	last []byte
	runs int // commands since the last drain
	// always: words may mean anything in this shell, because it has functions or aliases.
	always bool
}

// reset is for a new shell.
func (e *exports) reset(env []string) {
	e.always = slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "BASH_FUNC_") })
}

// mayExport says whether a command may have changed exported variables, PWD among them.
// Telling them costs bash a dozen system calls, and most commands are just programs to
// run. What it does not see through, such as a name that is built from pieces, is told
// with the next command that it does.
func (s *Session) mayExport(text string) bool {
	e := &s.exports
	if strings.Contains(text, "()") || strings.Contains(text, "( )") {
		e.always = true
	}
	may := strings.Contains(text, "=") || strings.Contains(text, "((")
	word := 0
	for i := 0; i <= len(text); i++ {
		if i < len(text) && (text[i] >= 'a' && text[i] <= 'z' || text[i] == '_' || text[i] == '-' || text[i] == '.') {
			continue
		}
		switch text[word:i] {
		case ".":
			before := strings.TrimRight(text[:word], " \t")
			e.always = e.always || before == "" || strings.IndexByte(";&|\n{(", before[len(before)-1]) >= 0
		case "alias", "function", "source", "eval", "trap":
			e.always = true
		case "export", "declare", "typeset", "readonly", "local", "unset", "read", "mapfile", "readarray", "cd", "pushd", "popd",
			"set", "let", "getopts", "for", "select", "printf", "coproc", "wait":
			may = true
		}
		word = i + 1
	}
	return may || e.always
}

// drain reads what there is.
func (e *exports) drain() {
	e.runs = 0
	for {
		want := pending(e.fd)
		if want == 0 {
			return
		}
		at := len(e.buf)
		e.buf = append(e.buf, make([]byte, want)...)
		n, _ := kernel.Read(e.fd, e.buf[at:])
		e.buf = e.buf[:at+max(n, 0)]
		e.split()
		if n <= 0 {
			return
		}
	}
}

// split takes the newest whole dump out of buf.
func (e *exports) split() {
	mark := []byte("\n" + dumpMark)
	i := bytes.LastIndex(e.buf, mark)
	if i < 0 {
		if len(e.buf) > maxExports {
			e.buf = nil
		}
		return
	}
	end := bytes.IndexByte(e.buf[i+1:], '\n')
	if end < 0 {
		return
	}
	whole := e.buf[:i+1]
	if j := bytes.LastIndex(whole[:i], mark); j >= 0 {
		whole = whole[j+1:]
		whole = whole[bytes.IndexByte(whole, '\n')+1:]
	}
	e.last = append(e.last[:0], whole...)
	e.buf = append(e.buf[:0], e.buf[i+1+end+1:]...)
}
