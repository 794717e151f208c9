package libsandbox

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/compile"
	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// hasNamespace says whether the spec has a namespace of that type, new or joined.
func (c *creation) hasNamespace(t specs.LinuxNamespaceType) bool {
	return slices.ContainsFunc(c.bundle.Spec.Linux.Namespaces, func(ns specs.LinuxNamespace) bool { return ns.Type == t })
}

// asRoot runs f, which makes files in the container, so that they belong to the root of
// the container: in a file system of its user namespace nobody else can have any.
func (c *creation) asRoot(f func() error) error {
	if !c.hasNamespace(specs.UserNamespace) {
		return f()
	}
	l := c.bundle.Spec.Linux
	uid, err := kernel.HostID(c.child.Pid, "uid_map", compile.RootID(l.UIDMappings))
	if err != nil {
		return err
	}
	gid, err := kernel.HostID(c.child.Pid, "gid_map", compile.RootID(l.GIDMappings))
	if err != nil {
		return err
	}
	return kernel.WithFileIDs(uid, gid, f)
}

// limits sets the resource limits that init may not set itself.
func (c *creation) limits() error {
	for _, l := range c.init.Limits {
		if err := unix.Prlimit(c.child.Pid, l.Resource, &unix.Rlimit{Cur: l.Soft, Max: l.Hard}, nil); err != nil {
			return fmt.Errorf("%s: prlimit: %w", l.Note, err)
		}
	}
	return nil
}

// delegate gives a container with a user namespace its cgroup, if the spec has it
// writable in there (config-linux.md, "Cgroup ownership").
func (c *creation) delegate() error {
	if !c.delegates() {
		return nil
	}
	uid, err := kernel.HostID(c.child.Pid, "uid_map", c.bundle.Spec.Process.User.UID)
	if err != nil {
		return err
	}
	dir, err := c.cgroup.OpenDir()
	if err != nil || dir < 0 {
		return err
	}
	defer unix.Close(dir)
	list, err := kernel.ReadAll("/sys/kernel/cgroup/delegate")
	if err != nil {
		list = []byte("cgroup.procs\ncgroup.subtree_control\ncgroup.threads")
	}
	for _, name := range append(strings.Fields(string(bytes.TrimSpace(list))), ".") {
		if err := unix.Fchownat(dir, name, int(uid), -1, unix.AT_SYMLINK_NOFOLLOW); err != nil && err != unix.ENOENT {
			return fmt.Errorf("linux.cgroupsPath: chown %s: %w", name, err)
		}
	}
	return nil
}

// delegates says whether the container is to own its cgroup. That is safe with cgroup
// v2 only.
func (c *creation) delegates() bool {
	if !c.hasNamespace(specs.UserNamespace) || !slices.Contains(c.bundle.Spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace}) {
		return false
	}
	if len(c.cgroup.TasksFiles()) > 0 {
		return false
	}
	return slices.ContainsFunc(c.bundle.Spec.Mounts, func(m specs.Mount) bool {
		return strings.HasPrefix(m.Type, "cgroup") && filepath.Clean(m.Destination) == "/sys/fs/cgroup" && !slices.Contains(m.Options, "ro")
	})
}
