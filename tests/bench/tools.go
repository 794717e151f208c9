package main

import (
	"bytes"
	"os"
	"os/exec"
)

// tool is one measured runtime.
type tool struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Bytes   int64  `json:"bytes"`
}

func describeTools(opts *options) []tool {
	var out []tool
	for _, name := range opts.runtimes {
		t := tool{Name: name, Version: "unknown"}
		if st, err := os.Stat(opts.paths[name]); err == nil {
			t.Bytes = st.Size()
		}
		if text, err := exec.Command(opts.paths[name], "--version").Output(); err == nil {
			first, _, _ := bytes.Cut(bytes.TrimSpace(text), []byte("\n"))
			t.Version = string(first)
		}
		out = append(out, t)
	}
	return out
}
