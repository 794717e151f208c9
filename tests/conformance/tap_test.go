package main

import (
	"reflect"
	"strings"
	"testing"
)

func TestParseTAP(t *testing.T) {
	tests := []struct {
		name, in string
		want     tapResult
	}{
		{"nothing", "", tapResult{}},
		{"noise", "<nil>\nhello\n", tapResult{}},
		{
			"points with directives",
			"TAP version 13\nok 1 - a\nnot ok 2 - b\nok 3 # SKIP c\nnot ok 4 # TODO d\n1..4\n",
			tapResult{passed: 2, skipped: 1, failed: 1, failures: []string{"b"}, plans: 1},
		},
		{
			"a plan that does not match",
			"TAP version 13\nok 1 - a\n1..2\n",
			tapResult{passed: 1, plans: 1, badPlan: true},
		},
		{
			"cut off before the plan",
			"TAP version 13\nok 1 - a\n",
			tapResult{passed: 1, badPlan: true},
		},
		{
			"two documents",
			"TAP version 13\nok 1 - a\n1..1\nTAP version 13\n1..0\n",
			tapResult{passed: 1, plans: 2},
		},
		{
			"an error of no point",
			"TAP version 13\n  ---\n  {\n    \"error\": \"too \\\"late\\\"\",\n    \"x\": \"y\"\n  }\n  ...\n1..0\n",
			tapResult{plans: 1, errors: []string{`too "late"`}},
		},
		{
			"an expected error under its point",
			"TAP version 13\nok 1 - a\n  ---\n  {\n    \"error\": \"exit status 1\"\n  }\n  ...\n1..1\n",
			tapResult{passed: 1, plans: 1},
		},
		{
			"points inside a diagnostic are text",
			"TAP version 13\n  ---\n  not ok 1 - quoted\n  ...\nok 1 - a\n1..1\n",
			tapResult{passed: 1, plans: 1},
		},
		{"bail out", "TAP version 13\nBail out! no root\n", tapResult{bailed: true, badPlan: true}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseTAP(strings.NewReader(test.in))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
}
