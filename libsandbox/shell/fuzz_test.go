package shell

import (
	"strings"
	"testing"
	"time"
)

// FuzzText: whatever the text of a command is, the next one is answered. Texts that are
// meant to break the shell's own tools, or to fill the machine, are left out.
func FuzzText(f *testing.F) {
	for _, text := range []string{
		"echo 'x", "echo \"", "cat <<E\nx", "for i in 1 2; do", "f() {", "(((", "$((1/0))", "${a:?}", "case x in (", "`", "\\", "#", "\n\n", "a=(1 2", "[[ x", "\x80\x81\x82\x88\xff", "\x01\x7f", "set -e; false", "exit 3", "echo a & wait",
		"return 300", "break 5", "echo $(", "! !", "| |", "if then", "{", "}", "local", "\u00a0echo", "echo \r\n", "<", "> >", "<<<", "&>", "trap : INT; kill -INT $$",
	} {
		f.Add([]byte(text))
	}
	s := map[string]*Session{}
	for name, args := range shells() {
		s[name] = session(f, &Options{Args: args})
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, no := range []string{"kill", "rm", "command", "exec", "alias", "echo", "\x00", ">", "enable", "/"} {
			if strings.Contains(string(text), no) {
				t.Skip("not allowed: " + no)
			}
		}
		for name, s := range s {
			s.runCommand(t, &Command{Text: "PATH=/nonexistent; " + string(text), Timeout: 500 * time.Millisecond})
			r := s.run(t, "PATH=/usr/bin:/bin; echo ok")
			if string(r.Stdout) != "ok\n" || r.ExitStatus != 0 {
				t.Errorf("%s: after %q: %+v", name, text, *r)
			}
		}
	})
}
