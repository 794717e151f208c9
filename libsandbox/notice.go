package libsandbox

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// errNoticed says why processes would notice that the root filesystem is another mount
// of the same content.
type errNoticed struct{ why string }

func (e errNoticed) Error() string { return "in use: " + e.why }

// mountTree is what a container has mounted.
type mountTree struct {
	root kernel.Mount
	info *unix.Statx_t   // of the root directory
	all  map[uint64]bool // ids of the mounts
	same map[uint64]bool // those that show the root's file system
	// alone says that nobody has another mount of the root's file system, by all that the
	// processes could reach one through: then it is enough to look for writers on this one.
	alone bool
	below []string // mount points of the mounts on the root
}

// readTree reads the mounts of a container that stands still, and refuses with
// errNoticed what cannot be shown on another root: mounts that others see come and go,
// and those that cover others.
func readTree(pid int, root *os.File) (*mountTree, error) {
	t := &mountTree{all: make(map[uint64]bool), same: make(map[uint64]bool), alone: true}
	var err error
	if t.info, err = kernel.Statx(int(root.Fd()), ""); err != nil {
		return nil, fmt.Errorf("root directory: %w", err)
	}
	mounts, err := kernel.Mounts(pid)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(mounts, func(m kernel.Mount) bool { return m.ID == t.info.Mnt_id })
	if i < 0 {
		return nil, errNoticed{"the root directory is no mount of the container's"}
	}
	t.root = mounts[i]
	if t.info.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		return nil, errNoticed{"init has changed its root directory"}
	}
	if t.root.Shared {
		return nil, errNoticed{"mounts on the root propagate to others"}
	}
	for _, m := range mounts {
		t.all[m.ID] = true
		if m.Dev == t.root.Dev {
			t.same[m.ID] = true
		}
		if m.Type() == "nsfs" {
			t.alone = false
		}
		switch {
		case m.Parent != t.root.ID || m.ID == t.root.ID:
		case m.Point == "/":
			return nil, errNoticed{"something is mounted over the root"}
		case slices.Contains(t.below, m.Point):
			return nil, errNoticed{m.Point + " has two mounts"}
		default:
			t.below = append(t.below, m.Point)
		}
		// One that covers a mount at the same place is its child.
		if m.Parent != t.root.ID && slices.ContainsFunc(mounts, func(p kernel.Mount) bool { return p.ID == m.Parent && p.Parent == t.root.ID && p.Point == m.Point }) {
			return nil, errNoticed{m.Point + " has two mounts"}
		}
	}
	t.alone = t.alone && len(t.same) == 1
	return t, nil
}

// unnoticed returns errNoticed where one of the processes, which stand still, would
// notice another mount in place of the root.
func (t *mountTree) unnoticed(pids []int) error {
	var first unix.Stat_t
	for i, pid := range pids {
		proc := "/proc/" + strconv.Itoa(pid)
		var ns unix.Stat_t
		if err := unix.Stat(proc+"/ns/mnt", &ns); err != nil {
			return fmt.Errorf("process %d: mount namespace: %w", pid, err)
		}
		if i == 0 {
			first = ns
		}
		t.alone = t.alone && ns.Ino == first.Ino
		for _, link := range []string{"root", "cwd"} {
			if err := t.atRoot(proc+"/"+link, link); err != nil {
				return fmt.Errorf("process %d: %w", pid, err)
			}
		}
		if err := t.noFiles(proc); err != nil {
			return fmt.Errorf("process %d: %w", pid, err)
		}
		if err := t.noMappings(proc); err != nil {
			return fmt.Errorf("process %d: %w", pid, err)
		}
	}
	return nil
}

// atRoot refuses a directory other than the root, which pivot_root(2) would leave behind.
func (t *mountTree) atRoot(link, name string) error {
	st, err := kernel.Statx(unix.AT_FDCWD, link)
	if err != nil {
		return err
	}
	if st.Mnt_id != t.info.Mnt_id || st.Ino != t.info.Ino {
		return errNoticed{"its " + name + " is not the container's root directory"}
	}
	return nil
}

// noFiles refuses open files of the root's file system: what others write to them later
// would not show. An inotify instance would miss what happens.
func (t *mountTree) noFiles(proc string) error {
	names, err := os.ReadDir(proc + "/fdinfo")
	if err != nil {
		return err
	}
	for _, n := range names {
		info, err := kernel.ReadAll(proc + "/fdinfo/" + n.Name())
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(info)) {
			key, value, _ := strings.Cut(line, ":")
			id, _ := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
			switch {
			case key == "mnt_id" && t.same[id]:
				return errNoticed{"descriptor " + n.Name() + " is open on the layer"}
			case key == "mnt_id" && !t.all[id] && leadsToMounts(proc+"/fd/"+n.Name()):
				t.alone = false
			case strings.HasPrefix(key, "inotify") || strings.HasPrefix(key, "fanotify"):
				return errNoticed{"descriptor " + n.Name() + " watches files"}
			}
		}
	}
	return nil
}

// leadsToMounts says whether an open file on none of the container's mounts may be on
// another mount of the layer, or be a mount namespace that has one.
func leadsToMounts(fd string) bool {
	var fs unix.Statfs_t
	err := unix.Statfs(fd, &fs)
	return err != nil || fs.Type == unix.OVERLAYFS_SUPER_MAGIC || fs.Type == unix.NSFS_MAGIC
}

// noMappings refuses shared mappings of files, which may be of the layer.
func (t *mountTree) noMappings(proc string) error {
	maps, err := kernel.ReadAll(proc + "/maps")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(maps)) {
		f := strings.Fields(line) // address perms offset dev inode path
		if len(f) < 6 || len(f[1]) < 4 || f[1][3] != 's' || f[4] == "0" {
			continue
		}
		if strings.HasPrefix(f[5], "/memfd:") || strings.HasPrefix(f[5], "/SYSV") || strings.HasPrefix(f[5], "/dev/") || strings.HasPrefix(f[5], "anon_inode:") {
			continue
		}
		return errNoticed{"it shares a mapping of " + f[5]}
	}
	return nil
}

// noSockets refuses sockets that are bound to names on the layer: they could not be
// connected to by the same name on another mount (unix(7)).
func (t *mountTree) noSockets(pid int, root *os.File) error {
	raw, err := kernel.ReadAll("/proc/" + strconv.Itoa(pid) + "/net/unix")
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(raw)) {
		name := socketName(line)
		if name == "" || name[0] == '@' {
			continue
		}
		if name[0] != '/' {
			return errNoticed{"a socket is bound to " + name + ", relative to some directory"}
		}
		name = path.Clean(name)
		fd, err := kernel.OpenAtRoot(int(root.Fd()), strings.TrimPrefix(name, "/"), unix.O_PATH|unix.O_NOFOLLOW)
		if err != nil {
			continue // of another root
		}
		st, err := kernel.Statx(fd, "")
		unix.Close(fd)
		if err == nil && t.same[st.Mnt_id] && st.Mode&unix.S_IFMT == unix.S_IFSOCK {
			return errNoticed{"a socket is bound to " + name}
		}
	}
	return nil
}

// socketName is the name in a line of /proc/net/unix, which seven fields precede, and a
// line with their titles all others; empty for none.
func socketName(line string) string {
	line = strings.TrimSuffix(line, "\n")
	for range 7 {
		_, rest, ok := strings.Cut(strings.TrimLeft(line, " "), " ")
		if !ok {
			return ""
		}
		line = rest
	}
	if line == "Path" {
		return ""
	}
	return line
}
