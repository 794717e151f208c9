package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestCgroupsPath(t *testing.T) {
	name := filepath.Join(t.TempDir(), "config.json")
	for config, want := range map[string]string{
		`{"unknown":{"a":1},"linux":{"cgroupsPath":"/x","seccomp":{}}}`: "/x",
		`{"linux":{}}`: "",
		`{`:            "",
	} {
		if err := os.WriteFile(name, []byte(config), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := cgroupsPath(name); got != want {
			t.Errorf("%s: %q, want %q", config, got, want)
		}
	}
	if got := cgroupsPath(name + "-missing"); got != "" {
		t.Errorf("without a file: %q", got)
	}
}
