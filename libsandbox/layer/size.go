package layer

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel/quota"
)

// limit makes the data directory of a new layer, in dir, which can hold no more than
// Size. Without a limit there is none.
func (l *Layer) limit(dir int) error {
	if l.meta.Size == 0 {
		return nil
	}
	if err := l.mkdirIn(dir, dataDir); err != nil {
		return err
	}
	if l.root.memory {
		return l.root.tmpfs(dir, dataDir, l.meta.Size)
	}
	data, err := openDir(dir, dataDir)
	if err != nil {
		return err
	}
	defer unix.Close(data)
	id := project(l.meta.Key)
	if err := quota.Join(data, id); err != nil {
		return fmt.Errorf("project quota: %w", err)
	}
	l.root.did("join project")
	if err := quota.Limit(data, id, l.meta.Size, maxFiles(l.meta.Size)); err != nil {
		return fmt.Errorf("project quota: %w", err)
	}
	l.root.did("limit project")
	return nil
}

// limits refuses a size where it would not be one.
func (r *Root) limits(root int, d Driver) error {
	switch {
	case d == Btrfs:
		return fmt.Errorf("%w: btrfs has only qgroups, which slow it down", ErrNoLimit)
	case r.memory || quota.Enforced(root):
		return nil
	}
	return fmt.Errorf("%w: %s needs project quotas: ext4 made with -O quota,project or XFS, mounted with prjquota", ErrNoLimit, r.dir)
}

// project is the number of the project that a layer with a limit on disk is, 0 for a
// key that is none: 0 is what belongs to no project.
func project(key string) uint32 {
	id, _ := strconv.ParseUint(key[8:], 16, 32)
	return uint32(id) &^ (1 << 31)
}

// taken says that a key will not do because its project is another's already.
func (l *Layer) taken(root int) (bool, error) {
	if l.meta.Size == 0 || l.root.memory {
		return false, nil
	}
	id := project(l.meta.Key)
	if id == 0 {
		return true, nil
	}
	taken, err := quota.Taken(root, id)
	if err != nil {
		err = fmt.Errorf("project quota: %w", err)
	}
	return taken, err
}

// unlimit forgets the limit of a layer that is deleted.
func (r *Root) unlimit(root int, m *Meta) error {
	if r.memory || m.Size == 0 {
		return nil
	}
	if err := quota.Limit(root, project(m.Key), 0, 0); err != nil {
		return fmt.Errorf("project quota: %w", err)
	}
	r.did("unlimit project")
	return nil
}
