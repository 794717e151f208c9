package frame

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// CgroupRoot is where the hierarchies are.
const CgroupRoot = "/sys/fs/cgroup"

// hierarchies lists the roots of all cgroup hierarchies: the one mount of a v2
// host, otherwise each mount below the tmpfs. Symlinks (cpu -> cpu,cpuacct)
// are left out.
func hierarchies() ([]string, error) {
	if FSType(CgroupRoot) == unix.CGROUP2_SUPER_MAGIC {
		return []string{CgroupRoot}, nil
	}
	entries, err := os.ReadDir(CgroupRoot)
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, filepath.Join(CgroupRoot, e.Name()))
		}
	}
	return dirs, nil
}

// CgroupLayout names the host's layout: "v2", "hybrid" or "v1".
func CgroupLayout() string {
	switch {
	case FSType(CgroupRoot) == unix.CGROUP2_SUPER_MAGIC:
		return "v2"
	case FSType(filepath.Join(CgroupRoot, "unified")) == unix.CGROUP2_SUPER_MAGIC:
		return "hybrid"
	default:
		return "v1"
	}
}

// HideUnified takes cgroup v2 out of the caller's mount namespace, if it is
// mounted beside v1.
func HideUnified() error {
	if CgroupLayout() != "hybrid" {
		return nil
	}
	if err := unix.Unmount(filepath.Join(CgroupRoot, "unified"), 0); err != nil {
		return fmt.Errorf("umount %s/unified: %w", CgroupRoot, err)
	}
	return nil
}

// MakeCgroup makes the parent of all containers' cgroups in every hierarchy, so
// that the first container of the bench does not pay for it.
func MakeCgroup(name string) error {
	dirs, err := hierarchies()
	if err != nil {
		return err
	}
	for _, d := range dirs {
		if err := os.Mkdir(filepath.Join(d, name), 0o755); err != nil {
			return err
		}
		for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
			if err := inheritCpuset(d, name, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// inheritCpuset copies one of cgroup v1's cpuset files, which start empty and
// must be filled before any process may enter.
func inheritCpuset(root, name, file string) error {
	target := filepath.Join(root, name, file)
	have, err := os.ReadFile(target)
	if errors.Is(err, os.ErrNotExist) || len(bytes.TrimSpace(have)) > 0 {
		return nil // not this controller, or filled already
	}
	if err != nil {
		return err
	}
	val, err := os.ReadFile(filepath.Join(root, file))
	if errors.Is(err, os.ErrNotExist) {
		return nil // v2: empty means the parent's
	}
	if err != nil {
		return err
	}
	return os.WriteFile(target, val, 0)
}

// CgroupsNamed lists the directories that cgroup name has in the hierarchies
// the caller sees.
func CgroupsNamed(name string) ([]string, error) {
	dirs, err := hierarchies()
	if err != nil {
		return nil, err
	}
	var found []string
	for _, d := range dirs {
		p := filepath.Join(d, name)
		if _, err := os.Lstat(p); err == nil {
			found = append(found, p)
		}
	}
	return found, nil
}

// RemoveCgroup removes cgroup name and all below it from every hierarchy. It
// retries for up to patience: a cgroup stays busy for a moment after its last
// process was reaped.
func RemoveCgroup(name string, patience time.Duration) error {
	end := time.Now().Add(patience)
	for {
		err := removeCgroupOnce(name)
		if err == nil || time.Now().After(end) {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func removeCgroupOnce(name string) error {
	dirs, err := CgroupsNamed(name)
	for _, d := range dirs {
		// A runtime that takes the empty mount point of an unmounted hierarchy
		// for a hierarchy leaves plain files there (crun 1.8 on a hybrid host).
		if FSType(d) == unix.TMPFS_MAGIC {
			err = errors.Join(err, os.RemoveAll(d))
		} else {
			err = errors.Join(err, removeCgroupTree(d))
		}
	}
	return err
}

// removeCgroupTree removes children before parents; a cgroup's files go with
// its directory.
func removeCgroupTree(dir string) error {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			err = errors.Join(err, removeCgroupTree(filepath.Join(dir, e.Name())))
		}
	}
	if rerr := unix.Rmdir(dir); rerr != nil && rerr != unix.ENOENT {
		err = errors.Join(err, fmt.Errorf("rmdir %s: %w", dir, rerr))
	}
	return err
}

// FSType is the file system's magic number, or 0 where path cannot be asked.
func FSType(path string) int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0
	}
	return int64(st.Type)
}
