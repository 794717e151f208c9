package spec

import (
	"io"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// configName is the file that a bundle must contain (OCI bundle.md).
const configName = "config.json"

// Bundle is a bundle directory and the configuration found in it.
type Bundle struct {
	// Dir is the bundle's directory, absolute and clean. Symbolic links in it
	// are not resolved.
	Dir string
	// Spec is the configuration as written: relative paths stay relative.
	Spec *specs.Spec
	// Raw is config.json byte for byte, for whoever keeps a copy.
	Raw []byte
}

// Open reads config.json of the bundle directory dir, decodes it and validates
// it. dir may be relative to the working directory. The file is read once;
// no descriptor stays open. A bundle is trusted: it is written by whoever may
// start containers, so links in its path are followed.
func Open(dir string) (*Bundle, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	raw, err := readFile(filepath.Join(dir, configName))
	if err != nil {
		return nil, err
	}
	s, err := Load(raw)
	if err != nil {
		return nil, err
	}
	b := &Bundle{Dir: dir, Spec: s, Raw: raw}
	if err := Validate(b); err != nil {
		return nil, err
	}
	return b, nil
}

// readFile is os.ReadFile without the network poller, whose start costs three system
// calls.
func readFile(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	return io.ReadAll(f)
}

// Rootfs is root.path as an absolute, clean path: a relative one is taken from
// the bundle's directory (OCI config.md, "Root"). It is empty when the spec
// has no root.
func (b *Bundle) Rootfs() string {
	switch {
	case b.Spec.Root == nil || b.Spec.Root.Path == "":
		return ""
	case filepath.IsAbs(b.Spec.Root.Path):
		return filepath.Clean(b.Spec.Root.Path)
	}
	return filepath.Join(b.Dir, b.Spec.Root.Path)
}
