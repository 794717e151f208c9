package frame

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine says where the numbers come from.
type Machine struct {
	Kernel  string `json:"kernel"`
	Arch    string `json:"arch"`
	CPU     string `json:"cpu"`
	CPUs    int    `json:"cpus"`
	Cgroups string `json:"cgroups"`
	// Load is the 1, 5 and 15 minute load average before the first command. Other
	// work on the machine makes the numbers noise.
	Load string `json:"load_before"`
}

// ThisMachine looks at it.
func ThisMachine() Machine {
	m := Machine{Arch: runtime.GOARCH, CPUs: runtime.NumCPU(), Cgroups: CgroupLayout(), CPU: "unknown"}
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

func (m Machine) String() string {
	return fmt.Sprintf("Linux %s, %s, %d x %s, cgroup %s, load before %s", m.Kernel, m.Arch, m.CPUs, m.CPU, m.Cgroups, m.Load)
}
