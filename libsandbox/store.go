package libsandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/cgroup"
	"adl.run/adl-runtime/libsandbox/internal/compile"
	"adl.run/adl-runtime/libsandbox/internal/kernel"
	"adl.run/adl-runtime/libsandbox/internal/program"
	"adl.run/adl-runtime/libsandbox/internal/resctrl"
	"adl.run/adl-runtime/spec"
)

// Store is a directory with the state of containers. The zero value is not usable;
// OpenStore makes one.
type Store struct {
	root string

	// Fault injection of the tests: facts changes what is known of the host, tamper a
	// program before it runs, and step is told how far a creation has come.
	facts  func(*compile.Facts)
	tamper func(*program.Program)
	// tamperFill is the same for the program that makes the mounts of the next reset, in
	// the background.
	tamperFill func(*program.Program)
	step       func(string)
	// resctrl plays the host's; nil is the host's.
	resctrl *resctrl.FS

	background func(root string, held []*os.File) error // see Background

	busy atomic.Int32 // calls that somebody waits for; see work
}

// OpenStore opens the store in directory root. The directory is made, with mode
// 0700, when the first container is.
func OpenStore(root string) (*Store, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("store %q: %w", root, err)
	}
	return &Store{root: abs}, nil
}

// Background has a process of this program delete what layers leave, instead of a
// goroutine: for a process that ends soon, which that one waits for. args are its
// arguments, from argv[0] on, for a layer root's directory; it is to call EmptyTrash.
func (s *Store) Background(args func(root string) []string) {
	const latest = 100 * time.Millisecond // where it lives on
	s.background = func(root string, held []*os.File) error { return execLater(args(root), held, latest) }
}

// work announces a call that somebody waits for, until done is called.
func (s *Store) work() (done func()) {
	s.busy.Add(1)
	return func() { s.busy.Add(-1) }
}

// entry is an open, locked directory of a container.
type entry struct {
	path string
	fd   int
}

func (e *entry) close() { unix.Close(e.fd) }

// join returns a path below the entry that does not depend on the length of its
// name, which sockets need.
func (e *entry) join(name string) string { return filepath.Join(e.path, name) }

// lockTimeout bounds the wait for another command that works on the container: it
// may run a hook that never ends.
const lockTimeout = 10 * time.Second

// errBusy is a lock that somebody else holds.
var errBusy = errors.New("another command is working on it")

// lock opens and locks the container's directory. ErrNotExist: there is none.
func (s *Store) lock(id string) (*entry, error) { return s.lockWithin(id, lockTimeout) }

// lockWithin is lock that fails with errBusy after a time of its own.
func (s *Store) lockWithin(id string, limit time.Duration) (*entry, error) {
	if err := validateID(id); err != nil {
		return nil, err
	}
	path := filepath.Join(s.root, id)
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err == unix.ENOENT || err == unix.ENAMETOOLONG {
			return nil, fmt.Errorf("container %q: %w", id, ErrNotExist)
		}
		if err != nil {
			return nil, fmt.Errorf("container %q: open %s: %w", id, path, err)
		}
		if err := kernel.Lock(fd, limit); err != nil {
			unix.Close(fd)
			if err == unix.EWOULDBLOCK {
				err = errBusy
			}
			return nil, fmt.Errorf("container %q: lock: %w", id, err)
		}
		if sameDirectory(fd, path) {
			return &entry{path, fd}, nil
		}
		unix.Close(fd) // removed, or removed and made again, while we waited
	}
}

// share locks the container's directory together with others that share it, against
// those who use lock. It does not wait: nil means that somebody has the lock, or that
// there is no such directory.
func (s *Store) share(id string) *entry {
	path := filepath.Join(s.root, id)
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	if unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB) != nil {
		unix.Close(fd)
		return nil
	}
	return &entry{path, fd}
}

// sameDirectory says whether path still names the open directory, and not by a
// symlink.
func sameDirectory(fd int, path string) bool {
	var a, b unix.Stat_t
	return unix.Fstat(fd, &a) == nil && unix.Lstat(path, &b) == nil && a.Dev == b.Dev && a.Ino == b.Ino
}

// add makes the directory of a new container and locks it. ErrExist: the id is
// taken.
func (s *Store) add(id string) (*entry, error) {
	if err := validateID(id); err != nil {
		return nil, err
	}
	path := filepath.Join(s.root, id)
	err := unix.Mkdir(path, 0o711)
	if err == unix.ENOENT {
		if err := os.MkdirAll(s.root, 0o700); err != nil {
			return nil, fmt.Errorf("store: %w", err)
		}
		err = unix.Mkdir(path, 0o711)
	}
	if err != nil {
		if err == unix.EEXIST {
			return nil, fmt.Errorf("container %q: %w", id, ErrExist)
		}
		return nil, fmt.Errorf("container %q: mkdir %s: %w", id, path, err)
	}
	return s.lock(id)
}

func validateID(id string) error {
	if err := spec.ValidateID(id); err != nil {
		return kindError{err, ErrInvalidID}
	}
	return nil
}

// Load returns the container called id. ErrNotExist: there is none, or only the
// remains of one, which ForceDelete removes.
func (s *Store) Load(id string) (*Sandbox, error) {
	if err := validateID(id); err != nil {
		return nil, err
	}
	sb := &Sandbox{store: s, id: id}
	err := sb.loadEntry(filepath.Join(s.root, id))
	switch {
	case err == nil:
		return sb, nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENAMETOOLONG):
		err = ErrNotExist
	}
	return nil, fmt.Errorf("container %q: %w", id, err)
}

// loadEntry is load of what must not be a symlink.
func (sb *Sandbox) loadEntry(path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return unix.ENOTDIR
	}
	return sb.load(path)
}

// List returns the containers of the store, by id. Whatever else is in the
// directory, and entries that are only half there, do not show.
func (s *Store) List() ([]*Sandbox, error) {
	names, err := os.ReadDir(s.root)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("store: %w", err)
	}
	var list []*Sandbox
	for _, n := range names {
		if sb, err := s.Load(n.Name()); err == nil {
			list = append(list, sb)
		}
	}
	return list, nil
}

// ForceDelete removes the container called id, whatever state it is in, and also
// what is left of one whose creation was interrupted. Nothing of that name is no
// error.
func (s *Store) ForceDelete(ctx context.Context, id string) error {
	e, err := s.lockWithin(id, 0)
	if errors.Is(err, errBusy) {
		// Whoever has the lock may be waiting for the container.
		if sb, err := s.Load(id); err == nil && sb.rec.Init.Pid != 0 {
			if err := sb.killAll(); err != nil {
				return err
			}
			// And whoever was being born in its cgroup, and has the lock for that long.
			if cg, err := cgroup.Load(sb.rec.Cgroup); err == nil {
				_ = cg.Kill()
			}
		}
		e, err = s.lock(id)
	}
	if errors.Is(err, ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer e.close()
	sb := &Sandbox{store: s, id: id}
	if err := sb.load(e.path); err != nil && sb.rec.ID == id {
		sb.rec.Init = initRecord{} // is damaged; the cgroup is known
	} else if err != nil {
		// Nothing was made yet, as state.json comes first; or that is damaged. Then at
		// least the process goes, whose pid is in the other file.
		sb.rec = record{OwnPid: true}
		_ = readJSON(e.join(initFile), &sb.rec.Init)
		if sb.rec.Init.Pid != 0 {
			slog.Warn("container " + id + ": its record is damaged: its cgroups, and mounts on the host, are left")
		}
		if l := sb.rec.Init.Layer; l != "" {
			slog.Warn("container " + id + ": its record is damaged; gc will find its layer")
		}
		if err := sb.killAll(); err != nil {
			return err
		}
		return e.remove()
	}
	return sb.destroy(ctx, e)
}

// remove removes the directory. The lock is held until the last moment.
func (e *entry) remove() error {
	for _, name := range [...]string{stateFile, initFile, configFile, startFile, nextFile, spareFile, aboveFile, resetFile, controlFile, shellFile, usedFile} {
		_ = unix.Unlinkat(e.fd, name, 0)
	}
	if unix.Rmdir(e.path) == nil {
		return nil
	}
	if err := os.RemoveAll(e.path); err != nil {
		return fmt.Errorf("remove state: %w", err)
	}
	return nil
}
