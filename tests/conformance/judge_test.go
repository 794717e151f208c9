package main

import (
	"strings"
	"testing"
)

// outcomeOf makes a result; text is "" for a pass, or the failure.
func outcomeOf(target, text string, left ...string) *result {
	return &result{program: "p", target: target, failure: text, left: left}
}

func TestJudge(t *testing.T) {
	always := reason{"p", whenAlways, "because"}
	maybe := reason{"p", whenMaybe, "because"}
	tests := []struct {
		name             string
		ours, runc, crun *result
		reason           *reason
		want             string // part of the first violation; "" for none
	}{
		{"all pass", outcomeOf(ours, ""), outcomeOf(runc, ""), outcomeOf(crun, ""), nil, ""},
		{"ours alone passes", outcomeOf(ours, ""), outcomeOf(runc, "x"), outcomeOf(crun, "x"), nil, ""},
		{"nobody passes, explained", outcomeOf(ours, "x"), outcomeOf(runc, "x"), outcomeOf(crun, "x"), &always, ""},
		{"nobody passes, unexplained", outcomeOf(ours, "x"), outcomeOf(runc, "x"), outcomeOf(crun, "x"), nil, "does not say why"},
		{"crun passes", outcomeOf(ours, "x"), outcomeOf(runc, "x"), outcomeOf(crun, ""), &always, "but crun does"},
		{"stale reason", outcomeOf(ours, ""), outcomeOf(runc, ""), outcomeOf(crun, ""), &always, "says why it does not"},
		{"maybe, passed", outcomeOf(ours, ""), outcomeOf(runc, "x"), outcomeOf(crun, "x"), &maybe, ""},
		{"maybe, failed", outcomeOf(ours, "x"), outcomeOf(runc, "x"), outcomeOf(crun, "x"), &maybe, ""},
		{"maybe, crun passed", outcomeOf(ours, "x"), outcomeOf(runc, "x"), outcomeOf(crun, ""), &maybe, ""},
		{"ours leaves more", outcomeOf(ours, "", "mount a"), outcomeOf(runc, ""), outcomeOf(crun, "x"), nil, "leaves something"},
		{"all leave", outcomeOf(ours, "", "mount a"), outcomeOf(runc, "", "mount a"), outcomeOf(crun, "x"), nil, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			reasons := make(map[string]reason)
			if test.reason != nil {
				reasons["p"] = *test.reason
			}
			got := judge([]*result{test.ours, test.runc, test.crun}, reasons, false).violations
			switch {
			case test.want == "" && len(got) > 0:
				t.Errorf("got violations %q", got)
			case test.want != "" && (len(got) == 0 || !strings.Contains(got[0], test.want)):
				t.Errorf("got violations %q, want %q", got, test.want)
			}
		})
	}
}

func TestJudgeFindsReasonsForUnknownPrograms(t *testing.T) {
	results := []*result{outcomeOf(ours, ""), outcomeOf(runc, ""), outcomeOf(crun, "")}
	reasons := map[string]reason{"gone": {"gone", whenAlways, "because"}}
	if got := judge(results, reasons, false).violations; len(got) != 1 {
		t.Errorf("whole run: got violations %q, want one", got)
	}
	if got := judge(results, reasons, true).violations; len(got) != 0 {
		t.Errorf("partial run: got violations %q", got)
	}
}

func TestReasonsFile(t *testing.T) {
	if _, err := readReasons("reasons.txt"); err != nil {
		t.Error(err)
	}
}

func TestVerdict(t *testing.T) {
	passing := tapResult{passed: 1, plans: 1}
	tests := []struct {
		name   string
		result result
		pass   bool
	}{
		{"points", result{program: "kill", tap: passing}, true},
		{"exit status", result{program: "kill", tap: passing, outcome: outcome{Exit: 1}}, false},
		{"time limit", result{program: "kill", tap: passing, outcome: outcome{TimedOut: true}}, false},
		{"no points", result{program: "kill", tap: tapResult{plans: 1}}, false},
		{"hooks print no points", result{program: "poststop", tap: tapResult{plans: 1}}, true},
		{"hooks that print nothing", result{program: "poststop"}, false},
		{"a hook that never ran", result{program: "poststop", tap: tapResult{plans: 1}, stderr: "WARNING: The poststop hook invoke fails\n"}, false},
		{"silence is success", result{program: "process_rlimits_fail"}, true},
		{"an error of no point", result{program: "poststop", tap: tapResult{plans: 1, errors: []string{"x"}}}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := verdict(&test.result); (got == "") != test.pass {
				t.Errorf("got %q, want pass = %v", got, test.pass)
			}
		})
	}
}
