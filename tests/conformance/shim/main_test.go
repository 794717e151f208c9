package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestRewriteConfig(t *testing.T) {
	const config = `{"unknown":{"a":1},"linux":{"cgroupsPath":"/x","seccomp":{"defaultAction":"SCMP_ACT_ALLOW"}}}`
	tests := []struct {
		name, in  string
		strip     bool
		out, path string
	}{
		{"strip", config, true, `{"linux":{"cgroupsPath":"/x"},"unknown":{"a":1}}`, "/x"},
		{"keep", config, false, config, "/x"},
		{"nothing to strip", `{"linux": {}}`, true, `{"linux": {}}`, ""},
		{"not a configuration", `{`, true, `{`, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "config.json")
			if err := os.WriteFile(name, []byte(test.in), 0o644); err != nil {
				t.Fatal(err)
			}
			path, err := rewriteConfig(name, test.strip)
			if err != nil {
				t.Fatal(err)
			}
			out, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if string(out) != test.out || path != test.path {
				t.Errorf("got %s and path %q, want %s and %q", out, path, test.out, test.path)
			}
		})
	}
}
