package main

import (
	"bytes"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// machine says where the numbers come from.
type machine struct {
	Kernel  string `json:"kernel"`
	Arch    string `json:"arch"`
	CPU     string `json:"cpu"`
	CPUs    int    `json:"cpus"`
	Cgroups string `json:"cgroups"`
	// Load is the 1, 5 and 15 minute load average before the first command. Other
	// work on the machine makes the numbers noise.
	Load string `json:"load_before"`
}

// tool is one measured runtime.
type tool struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Bytes   int64  `json:"bytes"`
}

func describeMachine() machine {
	m := machine{Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), Cgroups: cgroupLayout(), CPU: "unknown"}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	load, _ := os.ReadFile("/proc/loadavg")
	if f := strings.Fields(string(load)); len(f) > 2 {
		m.Load = strings.Join(f[:3], " ")
	}
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	return m
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
