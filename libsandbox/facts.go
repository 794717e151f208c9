package libsandbox

import (
	"bytes"
	"fmt"
	"log/slog"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/cgroup"
	"adl.run/adl-runtime/libsandbox/internal/compile"
	"adl.run/adl-runtime/libsandbox/internal/kernel"
	"adl.run/adl-runtime/spec"
)

// gather finds out what the compiler has to know.
func gather(b *spec.Bundle, cg *cgroup.Cgroup) (*compile.Facts, error) {
	f, err := kernelFacts()
	if err != nil {
		return nil, err
	}
	f.Ignored, f.TimerSlack = kernel.IgnoredSignals(), kernel.TimerSlack()
	f.Root, f.Tasks, f.CgroupEntered = b.Rootfs(), cg.TasksFiles(), cg.Enters()
	if err := checkLabels(b.Spec.Process); err != nil {
		return nil, err
	}
	if b.Spec.Linux.MountLabel != "" {
		// Managers write it without looking.
		if f.SELinux = selinux(); !f.SELinux {
			slog.Warn("linux.mountLabel: the host has no SELinux, ignored")
		}
	}
	if m := b.Spec.Linux.MemoryPolicy; m != nil {
		if f.MemoryNodes, err = spec.ParseCPUs(m.Nodes); err != nil {
			return nil, fmt.Errorf("linux.memoryPolicy.nodes: %w", err)
		}
	}
	f.Bounding, f.LastCap = kernel.Bounding()
	f.CgroupUnified, f.Hierarchies = hierarchies(cg)
	if f.Sources, err = sources(b); err != nil {
		return nil, err
	}
	if strings.HasSuffix(b.Spec.Linux.RootfsPropagation, "shared") {
		if f.PrivateParent, err = kernel.MountPoint(f.Root); err != nil {
			return nil, fmt.Errorf("linux.rootfsPropagation: %w", err)
		}
	}
	f.Home = home(b.Rootfs(), b.Spec.Process)
	return f, nil
}

// kernelFacts are those that follow from the kernel's version, or from what it answers.
func kernelFacts() (*compile.Facts, error) {
	major, minor, err := kernel.Version()
	if err != nil {
		return nil, err
	}
	release := major<<16 | minor
	if release < 5<<16|10 {
		return nil, fmt.Errorf("kernel %d.%d is too old: adl-runtime needs 5.10", major, minor)
	}
	return &compile.Facts{
		MountSetattr:   kernel.HasMountSetattr(),
		LowerdirAppend: release >= 6<<16|8,
		CloneDetached:  release >= 6<<16|15,
		ProcOfOthers:   release >= 6<<16|17,
	}, nil
}

// sources looks at the sources of the bind mounts. They are paths of the host that
// the spec's author chose, so symlinks are followed.
func sources(b *spec.Bundle) (map[int]compile.Source, error) {
	var found map[int]compile.Source
	for i := range b.Spec.Mounts {
		m := &b.Spec.Mounts[i]
		if !compile.IsBind(m) {
			continue
		}
		src := m.Source
		if !filepath.IsAbs(src) {
			src = filepath.Join(b.Dir, src)
		}
		var st unix.Stat_t
		if err := unix.Stat(src, &st); err != nil {
			return nil, fmt.Errorf("mounts[%d] %s: source %q: %w", i, m.Destination, m.Source, err)
		}
		s := compile.Source{Path: src, Dir: st.Mode&unix.S_IFMT == unix.S_IFDIR}
		var fs unix.Statfs_t
		if path.Clean(m.Destination) == "/proc" && unix.Statfs(src, &fs) == nil {
			s.Procfs = fs.Type == unix.PROC_SUPER_MAGIC
		}
		if found == nil {
			found = make(map[int]compile.Source)
		}
		found[i] = s
	}
	return found, nil
}

// home returns the home directory of the process's user as /etc/passwd below root, the
// root directory of a container, has it, and "/" where it has none, or an empty string
// where the spec says what HOME is.
func home(root string, p *specs.Process) string {
	for _, kv := range p.Env {
		if strings.HasPrefix(kv, "HOME=") {
			return ""
		}
	}
	path, err := kernel.OpenInRoot(root, "etc/passwd", unix.O_PATH)
	if err != nil {
		return "/"
	}
	defer unix.Close(path)
	fd, st, err := kernel.Reopen(path)
	if err != nil {
		return "/"
	}
	defer unix.Close(fd)
	buf := make([]byte, min(st.Size, 1<<20))
	n, _ := kernel.Read(fd, buf)
	return homeOf(buf[:max(n, 0)], p.User.UID)
}

// homeOf finds the home directory of uid in a passwd(5) file.
func homeOf(passwd []byte, uid uint32) string {
	want := strconv.FormatUint(uint64(uid), 10)
	for line := range bytes.Lines(passwd) {
		f := strings.Split(strings.TrimSpace(string(line)), ":")
		if len(f) >= 7 && f[2] == want && f[5] != "" {
			return f[5]
		}
	}
	return "/"
}

// hierarchies describes the cgroup for a mount of type cgroup.
func hierarchies(cg *cgroup.Cgroup) (unified bool, list []compile.Hierarchy) {
	for _, m := range cg.Mounts() {
		list = append(list, compile.Hierarchy{Name: m.Name, Dir: m.Dir, Aliases: m.Aliases})
	}
	return len(list) == 0, list
}
