package spec

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// OpenProcess reads and validates the file path, which holds what the member process
// of a config.json does, for a process that is to join a container. It may be a pipe.
func OpenProcess(path string) (*specs.Process, error) {
	raw, err := readFile(path)
	if err != nil {
		return nil, err
	}
	p := new(specs.Process)
	if err := Unmarshal(filepath.Base(path), raw, p); err != nil {
		return nil, err
	}
	return p, ValidateProcess(p)
}

// ValidateProcess is Validate for a process that is to join a container.
func ValidateProcess(p *specs.Process) error {
	s := &specs.Spec{Process: p}
	return firstError(unsupportedProcess(p), checkProcess(s), checkUser(s), checkRlimits(s))
}

// checkAffinity: the lists of CPUs are there for exec, but wrong from the beginning.
func checkAffinity(p *specs.Process) error {
	a := p.ExecCPUAffinity
	if a == nil {
		return nil
	}
	for _, f := range [...]struct{ name, list string }{{"initial", a.Initial}, {"final", a.Final}} {
		if _, err := ParseCPUs(f.list); err != nil {
			return fmt.Errorf("process.execCPUAffinity.%s %q: %w", f.name, f.list, err)
		}
	}
	return nil
}

// maxCPUs is what the kernel can be configured for (NR_CPUS).
const maxCPUs = 8192

// ParseCPUs turns a list of CPUs ("0-3,7"; cpuset(7), "List format") into one bit a
// CPU, as sched_setaffinity(2) takes them. The empty list has no words.
func ParseCPUs(list string) ([]uint64, error) {
	if list == "" {
		return nil, nil
	}
	var mask []uint64
	for item := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(item), "-")
		if !isRange {
			last = first
		}
		a, err := strconv.ParseUint(first, 10, 16)
		b, err2 := strconv.ParseUint(last, 10, 16)
		switch {
		case err != nil || err2 != nil || a > b:
			return nil, errors.New("not a list of CPUs")
		case b >= maxCPUs:
			return nil, fmt.Errorf("CPU %d: there are %d at most", b, maxCPUs)
		}
		for n := a; n <= b; n++ {
			for len(mask) <= int(n/64) {
				mask = append(mask, 0)
			}
			mask[n/64] |= 1 << (n % 64)
		}
	}
	return mask, nil
}
