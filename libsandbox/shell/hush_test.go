package shell

import "testing"

// TestHush: what an interactive shell says to somebody who types is not in a command's
// stderr.
func TestHush(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		for _, text := range []string{
			"sleep 0.001 &", "true & true & wait", "{ true; } &", "true | true & wait", "(true &)", "exit 3", "exit", "sleep 0.1 & exit 5",
			"f() { exit 4; }", "f", "g() { true & }; g", "alias h='exit 4'", "h", "eval 'exit 3'", "eval 'true &'", "command exit 3",
			"sleep 10 & kill -9 $!", "set -e; false",
		} {
			if r := s.run(t, text); len(r.Stderr) != 0 || len(r.Stdout) != 0 {
				t.Errorf("%q: %q, %q", text, r.Stdout, r.Stderr)
			}
		}
	})
}

// TestHushBash: nor is bash's trouble with a terminal that is none.
func TestHushBash(t *testing.T) {
	s := sessionOf(t, "bash", &Options{})
	for _, tt := range []struct {
		text, stderr string
		status       int
	}{
		{"sh -c 'kill -SEGV $$'", "", 139},
		{"sh -c 'kill -9 $$' | cat", "", 0},
		{"true\n\ntrue; fi", "bash: eval: line 3: syntax error near unexpected token `fi'\nbash: eval: line 3: `true; fi'\n", 2},
		{"echo $LINENO >&2\necho $LINENO >&2", "1\n2\n", 0},
		{"-x\necho no", "bash: -x: command not found\n", 0},
		{"set -x\n: a", "++ : a\n", 0},
		{"test a = b; set +x", "++ test a = b\n++ set +x\n", 0},
		{"trap 'echo err >&2' ERR\nfalse", "err\n", 1},
		{"(exit 3)", "err\n", 3},
		{"false", "err\n", 1},
		{"trap - ERR; true &", "", 0},
	} {
		if r := s.run(t, tt.text); string(r.Stderr) != tt.stderr || r.ExitStatus != tt.status {
			t.Errorf("%q: %q, status %d; want %q, %d", tt.text, r.Stderr, r.ExitStatus, tt.stderr, tt.status)
		}
	}
}

// TestOpen: an unterminated $( does no harm that shows later.
func TestOpen(t *testing.T) {
	eachShell(t, func(t *testing.T, s *Session) {
		s.want(t, "keep=1", "", 0)
		for _, text := range []string{"$(", "echo \"$(echo", "$(echo a; (b)", "x=$(", "cat <(", "$(cat <<EOF\n", "f() { $("} {
			if r := s.run(t, text); r.ExitStatus == 0 || r.Restarted {
				t.Errorf("%q: %+v", text, *r)
			}
			s.want(t, "x=$(echo sub); for i in 1 2; do eval 'y=$(echo $keep$i)'; done; echo $x$y", "sub12\n", 0)
		}
	})
}

// TestQuoting: a command comes to the shell as it is, however it is written.
func TestQuoting(t *testing.T) {
	const odd = "a\\n\\\\b\\'\\\n\n\t$x `y` \"z\" \\ é\xff\xc3\x01\x7f\x1b!!\r%s $'c\\n' \\\n\\"
	eachShell(t, func(t *testing.T, s *Session) {
		s.want(t, string(text(nil).str("printf %s ").quote(odd)), odd, 0)
		s.want(t, "cat <<'E'\n"+odd+"\nE\necho 'it'\"'\"'s' \\\n on", odd+"\nit's on\n", 0)
		s.want(t, "echo a \\\\ \\' 'b\\'\n# it's a comment\n\n  echo c # \\", "a \\ ' b\\\nc\n", 0)
		s.want(t, "x='1\n2'\necho \"$x\"; set -- a b\necho $2", "1\n2\nb\n", 0)
	})
}
