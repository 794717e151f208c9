package shell

import (
	"strings"
	"testing"
)

func TestState(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		s.want(t, "echo hello; echo oops >&2", "hello\n", 0)
		s.want(t, "x=1; f() { echo f$x; }; cd /usr; umask 027; export Y='a b'", "", 0)
		s.want(t, "f; pwd; umask; sh -c 'echo $Y'", "f1\n/usr\n0027\na b\n", 0)
		if r := s.run(t, "true"); r.Dir != "/usr" || r.Restarted || r.Job != 0 {
			t.Errorf("%+v", r)
		}
		s.want(t, "false", "", 1)
		s.want(t, "echo $?", "1\n", 0)
		s.want(t, "(exit 7)", "", 7)
		s.want(t, "", "", 0)
		s.want(t, "sh -c 'exit 9'", "", 9)
		s.want(t, "echo $?; echo $?", "9\n0\n", 0)
		s.want(t, "return 5", "", 5)
		s.want(t, "echo $?", "5\n", 0)
	})
}

func TestErrors(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		s.want(t, "keep=1", "", 0)
		for _, text := range []string{
			"echo 'unbalanced", `echo "unbalanced`, "echo `unbalanced", "for", "if true", "}", ")", "fi", "case x in", "((", "$(",
			"${x:?bad}", "set -u; echo $nope", "set +u; echo ${", "cat <<EOF\nno end", "nosuchcommand", "readonly r=1; r=2", ". /no/such/file",
			"cd /no/such/dir", "exec /no/such/program", "shift 99", "break", "continue", "a=", "\\", "\\\n", "# comment", "true &", "wait",
			"eval 'echo \"'", "exec 3</no/such", "kill -INT $$", "trap 'echo x' DEBUG; trap - DEBUG", "set -o nosuchoption", "unset -f nosuch", "local x=1", "exec 1>&-", "exec 2>&- 0<&-", "exec </dev/null >/dev/null",
		} {
			s.run(t, text)
			if r := s.run(t, "echo $keep ok"); !strings.HasSuffix(string(r.Stdout), "ok\n") || r.ExitStatus != 0 {
				t.Errorf("after %q: %+v %q %q", text, r, r.Stdout, r.Stderr)
			}
		}
	})
}

// TestStdinOfApplets: busybox runs some programs without execve(2), with what its own
// stdio has read ahead.
func TestStdinOfApplets(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		for range 2 {
			s.want(t, "true | od -c | head -n 2; cat; printf 'b\\na\\n' | sort", "0000000\na\nb\n", 0)
			s.run(t, "echo 'unbalanced")
		}
	})
}

func TestMayExport(t *testing.T) {
	s := &Session{}
	for _, text := range []string{":", "/bin/true", "ls -la .", "grep -r x . | head", "echo $(pwd) `id`", "pytest tests/unset_test.py", "cat export.txt"} {
		if s.mayExport(text) {
			t.Errorf("%q may export", text)
		}
	}
	for _, text := range []string{"A=1", "export A", "ls; cd /", "read x", "((a++))", "echo ${x:=2}"} {
		if !s.mayExport(text) || s.exports.always {
			t.Errorf("%q: not seen, or for ever", text)
		}
	}
	for _, text := range []string{"f() { export A; }", ". ./activate", "x && . lib", "alias l='ls'", "eval \"$x\"", "function f { :; }", "trap x INT"} {
		s.exports.always = false
		if s.mayExport(text); !s.mayExport(":") {
			t.Errorf("after %q anything may export", text)
		}
	}
}
