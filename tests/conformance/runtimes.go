package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The columns of the table.
const (
	ours = "ours"
	runc = "runc"
	crun = "crun"
)

// A target is one of the runtimes that are compared.
type target struct {
	name        string
	path        string
	hideUnified bool // start it where the v2 hierarchy of a hybrid host is not mounted

	// state is the directory of the runtime's state; "" means one of each
	// program run. crun 1.8 does not find its containers in every place if it
	// is given another than this.
	state string
}

// findRuntimes returns ours, runc and crun, in this order.
func findRuntimes(repo string) ([]target, error) {
	path := os.Getenv("ADL_RUNTIME")
	if path == "" {
		path = filepath.Join("build", "adl-runtime")
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(repo, path)
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("the runtime under test: %w", err)
	}
	targets := []target{{name: ours, path: path}}
	for _, peer := range []string{runc, crun} {
		path, err := exec.LookPath(peer)
		if err != nil {
			return nil, fmt.Errorf("%w (it is the package %s)", err, peer)
		}
		// crun before 1.15 takes the unified directory of a hybrid host for
		// the only hierarchy and then fails to create any container.
		t := target{name: peer, path: path}
		if peer == crun {
			t.hideUnified, t.state = hybridHost(), "/run/crun"
		}
		targets = append(targets, t)
	}
	return targets, nil
}

// unifiedMount is where systemd puts the v2 hierarchy of a hybrid host.
const unifiedMount = "/sys/fs/cgroup/unified"

// hybridHost says whether cgroup v1 controllers are mounted beside a v2
// hierarchy.
func hybridHost() bool {
	var root, unified unix.Statfs_t
	if unix.Statfs("/sys/fs/cgroup", &root) != nil || unix.Statfs(unifiedMount, &unified) != nil {
		return false
	}
	return root.Type != unix.CGROUP2_SUPER_MAGIC && unified.Type == unix.CGROUP2_SUPER_MAGIC
}
