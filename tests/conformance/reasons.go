package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// A reason says why our runtime does not pass a program, and when that holds.
type reason struct {
	program, when, text string
}

// The conditions of reasons.txt. A reason whose condition does not hold on
// this machine is no reason.
const (
	whenAlways   = "always"
	whenMaybe    = "maybe" // passes or not, by timing; both are fine
	whenNoCaps   = "no-full-caps"
	whenNoHuge   = "no-hugetlb"
	whenNoNet    = "no-net_cls"
	whenNoWeight = "no-blkio-leaf-weight"
)

// holds evaluates the condition; it is an error in the file if it is unknown.
func (r reason) holds() (bool, error) {
	switch r.when {
	case whenAlways, whenMaybe:
		return true, nil
	case whenNoCaps:
		return !allCapsInBoundingSet(), nil
	case whenNoHuge:
		return !controllerMounted("hugetlb"), nil
	case whenNoNet:
		return !controllerMounted("net_cls"), nil
	case whenNoWeight:
		_, err := os.Stat("/sys/fs/cgroup/blkio/blkio.leaf_weight")
		return os.IsNotExist(err), nil
	}
	return false, fmt.Errorf("unknown condition %q", r.when)
}

func controllerMounted(name string) bool {
	_, err := os.Stat("/sys/fs/cgroup/" + name + "/cgroup.procs")
	return err == nil
}

// allCapsInBoundingSet asks the kernel for each capability that it knows:
// containers and virtual machines for builds often lack some.
func allCapsInBoundingSet() bool {
	for c := 0; ; c++ {
		set, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0)
		if err != nil {
			return true // past the last one
		}
		if set == 0 {
			return false
		}
	}
}

// readReasons returns the reasons of the file that hold on this machine, by
// program. Each line is a program, a condition and a text; # starts a comment.
func readReasons(name string) (map[string]reason, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	reasons := make(map[string]reason)
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) < 3 {
			return nil, fmt.Errorf("%s:%d: want program, condition and reason", name, n)
		}
		r := reason{fields[0], fields[1], strings.Join(fields[2:], " ")}
		if _, twice := reasons[r.program]; twice {
			return nil, fmt.Errorf("%s:%d: a second reason for %s", name, n, r.program)
		}
		holds, err := r.holds()
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		if holds {
			reasons[r.program] = r
		}
	}
	return reasons, lines.Err()
}
