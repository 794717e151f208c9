package libsandbox

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/layer"
	"adl.run/adl-runtime/spec"
)

// DefaultStoreRoot is the directory of the store that `adl-runtime` uses without --root:
// for root below /run, otherwise in the user's runtime directory (XDG_RUNTIME_DIR).
func DefaultStoreRoot() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" && os.Geteuid() != 0 {
		return filepath.Join(dir, "adl-runtime")
	}
	return "/run/adl-runtime"
}

// New makes a sandbox and returns when processes can be executed in it. It stays until
// Delete, until its Lifetime or Idle time is over or, unless it is Detached, until somebody
// finds that this process has ended. Process 1 is the runtime's own (AnnotationInit), so
// that nothing but what is asked for runs in it.
//
// It takes root, or its privileges. ErrExist: the ID is taken.
func New(ctx context.Context, c *Config) (*Sandbox, error) {
	store, id, err := c.place()
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	b, err := c.bundle(id)
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	l := c.Layer
	if l.Driver == "" {
		l.Driver = string(layer.Overlay)
	}
	sb, err := store.Run(ctx, id, b, &CreateOptions{Layer: &l, Owned: !c.Detached, Lifetime: c.Lifetime, Idle: c.Idle})
	if err != nil {
		return nil, fmt.Errorf("sandbox: %w", c.explain(err))
	}
	sb.mu.Lock()
	sb.conf = b.Spec // is what is stored
	sb.mu.Unlock()
	return sb, nil
}

// place is the store and the id.
func (c *Config) place() (store *Store, id string, err error) {
	switch {
	case c.Lifetime < 0:
		return nil, "", fieldError("Lifetime", c.Lifetime, errors.New("must not be negative"))
	case c.Idle < 0:
		return nil, "", fieldError("Idle", c.Idle, errors.New("must not be negative"))
	}
	store, id = c.Store, c.ID
	if store == nil {
		if store, err = OpenStore(DefaultStoreRoot()); err != nil {
			return nil, "", err
		}
	}
	if id == "" {
		if id, err = freshID(); err != nil {
			return nil, "", err
		}
	}
	if err := validateID(id); err != nil {
		return nil, "", fieldError("ID", id, err)
	}
	return store, id, nil
}

// freshID is a name that nobody has.
func freshID() (string, error) {
	var raw [6]byte
	if _, err := unix.Getrandom(raw[:], 0); err != nil {
		return "", fmt.Errorf("getrandom: %w", err)
	}
	return "sandbox-" + hex.EncodeToString(raw[:]), nil
}

// bundle is what the sandbox is made from. There is no bundle's directory: Rootfs stands
// for it.
func (c *Config) bundle(id string) (*spec.Bundle, error) {
	if !filepath.IsAbs(c.Rootfs) {
		return nil, fieldError("Rootfs", c.Rootfs, errNotAbsolute)
	}
	if st, err := os.Stat(c.Rootfs); err != nil {
		return nil, fieldError("Rootfs", c.Rootfs, err)
	} else if !st.IsDir() {
		return nil, fieldError("Rootfs", c.Rootfs, errors.New("must be a directory"))
	}
	s, err := c.spec(id)
	if err != nil {
		return nil, err
	}
	b := &spec.Bundle{Dir: filepath.Clean(c.Rootfs), Spec: s}
	if err := spec.Validate(b); err != nil {
		return nil, c.explain(err)
	}
	if b.Raw, err = json.Marshal(s); err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	}
	return b, nil
}

// Restore is Reset to a snapshot.
func (sb *Sandbox) Restore(ctx context.Context, snapshot string) error {
	if err := validSnapshot(snapshot); err != nil {
		return fmt.Errorf("restore: %w", err)
	}
	return sb.Reset(ctx, &ResetOptions{To: snapshot})
}
