package layer

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel"
	"adl.run/adl-runtime/spec"
)

// metaVersion is the version of layer.json that this package writes and reads.
const metaVersion = 1

// Driver is how a layer keeps what a container writes.
type Driver string

// The drivers.
const (
	Overlay Driver = "overlay" // directories for overlayfs
	Btrfs   Driver = "btrfs"   // subvolumes
)

// Owner says who made a layer. It means nothing to this package.
type Owner struct {
	Store string `json:"store"` // the directory of a store
	ID    string `json:"id"`    // a container in it
}

// Lower is a directory below the layers, and which one it was when the layer was made.
type Lower struct {
	Path string `json:"path"`
	Dev  uint64 `json:"dev"`
	Ino  uint64 `json:"ino"`
}

// Meta describes a layer. All but what is said of Committed and Users is fixed when
// the layer is made.
type Meta struct {
	Key     string `json:"-"`
	Version int    `json:"version"`
	Driver  Driver `json:"driver"`
	Owner   Owner  `json:"owner"`
	// Parents are the keys of the committed layers that it stands on, top first.
	Parents []string `json:"parents"`
	// Lowers are the directories below those, top first.
	Lowers []Lower `json:"lowers"`
	// Size is the limit in bytes, 0 for none.
	Size int64 `json:"size"`
	// UserXattr: overlayfs keeps its own in user.overlay.* extended attributes.
	UserXattr bool `json:"userXattr"`
	// Created is when the layer was made, in RFC 3339.
	Created string `json:"created"`
	// Committed: the layer is read-only; it was so when it was loaded.
	Committed bool `json:"-"`
	// Users are those of a committed layer. Only Layers fills them in.
	Users []string `json:"-"`
}

// chain is what a layer that stands on this one stands on.
func (m *Meta) chain() []string { return append([]string{m.Key}, m.Parents...) }

// appendJSON appends what layer.json contains. It is written by hand for the time
// that encoding/json takes at its first use.
func (m *Meta) appendJSON(b []byte) []byte {
	b = append(b, `{"version":`...)
	b = strconv.AppendInt(b, int64(m.Version), 10)
	b = spec.AppendString(append(b, `,"driver":`...), string(m.Driver))
	b = spec.AppendString(append(b, `,"owner":{"store":`...), m.Owner.Store)
	b = spec.AppendString(append(b, `,"id":`...), m.Owner.ID)
	b = append(b, `},"parents":[`...)
	for i, p := range m.Parents {
		if i > 0 {
			b = append(b, ',')
		}
		b = spec.AppendString(b, p)
	}
	b = append(b, `],"lowers":[`...)
	for i, l := range m.Lowers {
		if i > 0 {
			b = append(b, ',')
		}
		b = spec.AppendString(append(b, `{"path":`...), l.Path)
		b = strconv.AppendUint(append(b, `,"dev":`...), l.Dev, 10)
		b = strconv.AppendUint(append(b, `,"ino":`...), l.Ino, 10)
		b = append(b, '}')
	}
	b = strconv.AppendInt(append(b, `],"size":`...), m.Size, 10)
	b = strconv.AppendBool(append(b, `,"userXattr":`...), m.UserXattr)
	b = spec.AppendString(append(b, `,"created":`...), m.Created)
	return append(b, '}')
}

// write writes layer.json into the directory dir of a new layer.
func (m *Meta) write(dir int, did func(string)) error {
	fd, err := unix.Openat(dir, metaFile, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("create %s: %w", metaFile, err)
	}
	defer unix.Close(fd)
	did("create " + metaFile)
	if err := kernel.WriteAll(fd, m.appendJSON(make([]byte, 0, 1024))); err != nil {
		return fmt.Errorf("write %s: %w", metaFile, err)
	}
	did("write " + metaFile)
	return nil
}

// errRemains: a directory has no layer.json or an empty one, so it is being made or
// is what a killed process left.
var errRemains = errors.New("layer.json is missing or empty")

// readMeta reads what the directory path, below the root, says of itself.
func readMeta(root int, path, key string) (*Meta, error) {
	raw, err := kernel.ReadAll("/proc/self/fd/" + strconv.Itoa(root) + "/" + path + "/" + metaFile)
	if errors.Is(err, unix.ENOENT) || err == nil && len(raw) == 0 {
		return nil, errRemains
	}
	if err != nil {
		return nil, fmt.Errorf("%s/%s: %w", path, metaFile, err)
	}
	m := &Meta{Key: key}
	if err := spec.Unmarshal(path+"/"+metaFile, raw, m); err != nil {
		return nil, err
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%s/%s: %w", path, metaFile, err)
	}
	return m, nil
}

// check refuses what this package has not written: its keys become paths.
func (m *Meta) check() error {
	switch {
	case m.Version != metaVersion:
		return fmt.Errorf("version %d is unknown", m.Version)
	case m.Driver != Overlay && m.Driver != Btrfs:
		return fmt.Errorf("driver %q is unknown", m.Driver)
	case len(m.Lowers) == 0:
		return errors.New("lowers is empty")
	}
	for _, p := range m.Parents {
		if err := checkKey(p); err != nil {
			return fmt.Errorf("parents: %w", err)
		}
	}
	return nil
}
