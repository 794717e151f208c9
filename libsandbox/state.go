package libsandbox

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/cgroup"
	"adl.run/adl-runtime/libsandbox/internal/engine"
	"adl.run/adl-runtime/libsandbox/internal/kernel"
	"adl.run/adl-runtime/libsandbox/internal/kernel/early"
	"adl.run/adl-runtime/libsandbox/layer"
	"adl.run/adl-runtime/libsandbox/shell"
	"adl.run/adl-runtime/spec"
)

// Names within a container's directory.
const (
	stateFile  = early.StateFile
	initFile   = early.InitFile
	nextFile   = "layers" // keys of layers that a reset has made; see entry.nextLayers
	spareFile  = "spare"  // key of the layer for the next reset; see Sandbox.prepareNext
	aboveFile  = "above"  // key of the layer that a snapshot, this or the next, goes on with
	resetFile  = "reset"  // there while a container has no init because of a reset
	snapDir    = "snapshots"
	configFile = early.ConfigFile
	startFile  = early.StartFile
)

// record is what is written down of a container: what cannot be asked of the
// kernel. It is state.json, which is written once, before anything is made, and
// init.json.
type record struct {
	// Plain says that package early can delete the container once init has ended: nothing
	// is left then but its cgroups and its directory.
	Plain       bool              `json:"plain"`
	Version     string            `json:"ociVersion"`
	ID          string            `json:"id"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Created     string            `json:"created"` // RFC 3339
	Annotations map[string]string `json:"annotations"`
	Cgroup      map[string]string `json:"cgroup"`
	// Rdt is nil without linux.intelRdt.
	Rdt *rdtRecord `json:"rdt"`
	// RootMount is not 0 where the mounts are in the host's mount namespace: it is
	// the id of the mount that Rootfs was on before they were made.
	RootMount uint64 `json:"rootMount"`
	// OwnPid: the container has a pid namespace of its own, so the end of init is
	// the end of all.
	OwnPid bool   `json:"ownPid"`
	Arg0   string `json:"arg0"`
	// ExecOp is the op of init's program that executes the process.
	ExecOp int `json:"execOp"`
	// NoNewKeyring is as in CreateOptions: an exec does as init has done.
	NoNewKeyring bool `json:"noNewKeyring"`
	// Owner is the process that the container ends with; nil for none. Lifetime and Idle
	// are as in CreateOptions.
	Owner    *ownerRecord  `json:"owner"`
	Lifetime time.Duration `json:"lifetime"`
	Idle     time.Duration `json:"idle"`
	// Layer is nil for a container that writes to its root filesystem.
	Layer *layerRecord `json:"layer"`
	// Hooks are those that later commands run.
	Hooks *specs.Hooks `json:"hooks"`
	// Init is the first process. It is zero while the container is being made.
	Init initRecord `json:"-"`
}

// initRecord is init.json.
type initRecord struct {
	kernel.ProcessID
	// Image is what init executes until its start.
	Image engine.Image `json:"image"`
	// Layer is the key of the layer that the container is on; empty is the first one's.
	Layer string `json:"layer"`
	// Volumes are the keys of the layers that the cow volumes are on; nil for none.
	Volumes []string `json:"volumes"`
	// Files are the descriptors that init was given, for the next init; nil without a
	// layer.
	Files []fileID `json:"files"`
	// Resets counts those that this init has lived through.
	Resets int `json:"resets"`
	// Namespaces are the inodes of those that init was given, in the order of
	// recordedNamespaces; nil without a layer.
	Namespaces []uint64 `json:"namespaces"`
}

// recordedNamespaces are the types that a reset depends on.
func recordedNamespaces() []specs.LinuxNamespaceType {
	return []specs.LinuxNamespaceType{specs.MountNamespace, specs.NetworkNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.UserNamespace, specs.PIDNamespace}
}

// namespacesOf are the inodes of the namespaces of the process that pidfd refers to, whose
// number is pid; 0 for one that there is none of.
func namespacesOf(pidfd, pid int) []uint64 {
	types := recordedNamespaces()
	list := make([]uint64, len(types))
	for i, t := range types {
		list[i] = kernel.NamespaceInode(pidfd, pid, namespaceFile(t))
	}
	return list
}

// fileID tells one open file from another.
type fileID struct {
	Dev uint64 `json:"dev"`
	Ino uint64 `json:"ino"`
}

// State is what is known of a container: the OCI state and what runc adds to it.
type State struct {
	specs.State
	// Rootfs is the root filesystem's directory on the host.
	Rootfs string
	// Created is when the container was made.
	Created time.Time
	// Owner is the user id whose store the container is in.
	Owner int
}

// Sandbox is one container: its identity in a store and what is written there.
type Sandbox struct {
	store *Store
	id    string
	read  stamp // of the state.json that rec is
	rec   record
	child *child

	// mu is for what is below, and for read and rec where they change. Who holds it waits
	// for nobody, above all not for the container's lock, whose holder may wait for it.
	mu    sync.Mutex
	conf  *specs.Spec           // the stored config.json; nil until it is wanted
	execs map[*Process]struct{} // what Exec has made and is not reaped
	ids   idMaps                // of an init, for enter
	on    *layer.Layer          // the one that the last reset has made; nil for none
	ahead ahead                 // the one for the next reset
	over  ahead                 // the one above on, for the next snapshot
	// wanted is what of these is to be made.
	wanted wanted
	// noFill says that mounts cannot be made ahead, for a reason that compile.CanFill does
	// not know.
	noFill bool
	// compiled is for the next reset; nil where there was none.
	compiled *compiled
	// renewing is open while a reset starts init again; nil otherwise.
	renewing chan struct{}
	// killed says that all of the container's processes have been killed.
	killed bool
	// sessions are those that Shell has made, shell the one that Run uses, and running how
	// many calls of Run there are.
	sessions map[*shell.Session]struct{}
	shell    *shell.Session
	running  int
	// ended is open while watchTime runs; nil otherwise.
	ended chan struct{}

	used atomic.Int64 // when it was last used, in nanoseconds since 1970
}

// view is a copy of what is known of the container, which a reset does not change under
// the one who reads it.
func (sb *Sandbox) view() *Sandbox {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	return &Sandbox{store: sb.store, id: sb.id, read: sb.read, rec: sb.rec}
}

// ID returns the container's id.
func (sb *Sandbox) ID() string { return sb.id }

// stamp tells a container's files from others of the same names. A reset replaces
// init.json and an update config.json, and the one after that may get the inode of the one
// before.
type stamp struct{ state, init, config fileStamp }

type fileStamp struct {
	ino   uint64
	ctime unix.Timespec
}

// sameContainer says whether both are of the same container with the same configuration,
// resets aside, and not of another that was given its id.
func (s *stamp) sameContainer(o *stamp) bool { return s.state == o.state && s.config == o.config }

func stampOf(dir string) (s stamp) {
	var st unix.Stat_t
	for _, f := range [...]struct {
		name string
		to   *fileStamp
	}{{stateFile, &s.state}, {initFile, &s.init}, {configFile, &s.config}} {
		if unix.Lstat(filepath.Join(dir, f.name), &st) != nil {
			return stamp{}
		}
		*f.to = fileStamp{st.Ino, st.Ctim}
	}
	return s
}

// load fills in what is stored below dir.
func (sb *Sandbox) load(dir string) error {
	sb.conf, sb.read = nil, stamp{}
	read := stampOf(dir) // before, or what comes in between would not be noticed
	if err := readJSON(filepath.Join(dir, stateFile), &sb.rec); err != nil {
		return err
	}
	if sb.rec.ID != sb.id {
		return fmt.Errorf("%s: is of container %q", stateFile, sb.rec.ID)
	}
	if err := readJSON(filepath.Join(dir, initFile), &sb.rec.Init); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	sb.read = read
	return nil
}

func readJSON(path string, v any) error {
	raw, err := kernel.ReadAll(path)
	if err == nil && len(raw) == 0 {
		err = unix.ENOENT // not written yet
	}
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return spec.Unmarshal(filepath.Base(path), raw, v)
}

// write writes state.json, once. A reader who comes too early finds it empty, as
// nothing is made yet.
func (sb *Sandbox) write(e *entry) error {
	raw, err := sb.rec.appendJSON(make([]byte, 0, 2048))
	if err != nil {
		return fmt.Errorf("%s: %w", stateFile, err)
	}
	return writeFile(e.join(stateFile), raw)
}

// writeInit completes the record of a container that is made. It is one write(2), so
// a reader finds all of it or an empty file.
func (c *creation) writeInit() error {
	id, err := kernel.Identify(c.child.Pid)
	if err != nil {
		return fmt.Errorf("identify init: %w", err)
	}
	r := initRecord{ProcessID: id, Image: c.child.Image}
	if c.layer != nil {
		r.Layer, r.Files = c.layer.Key(), c.files
		if pidfd, err := unix.PidfdOpen(c.child.Pid, 0); err == nil {
			r.Namespaces = namespacesOf(pidfd, c.child.Pid)
			unix.Close(pidfd)
		}
		r.Volumes = volumeKeys(c.volumes)
	}
	c.sb.rec.Init = r
	if c.reset != nil {
		err = replaceFile(c.entry.join(initFile), r.appendJSON(nil))
	} else {
		err = writeFile(c.entry.join(initFile), r.appendJSON(nil))
	}
	c.sb.read = stampOf(c.entry.path)
	return err
}

// replaceFile writes a file that readers find as it was or as it is to be.
func replaceFile(path string, raw []byte) error {
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new") // no name of a snapshot
	if err := writeFile(tmp, raw); err != nil {
		_ = unix.Unlink(tmp)
		return err
	}
	if err := moveOnto(tmp, path); err != nil {
		_ = unix.Unlink(tmp)
		return fmt.Errorf("replace %s: %w", path, err)
	}
	return nil
}

// moveOnto gives a file the name of another one, which is removed if it is there. After
// rename(2) ext4 would write the file to the disk before it goes on (auto_da_alloc in
// ext4(5)), which takes a quarter of a millisecond; this need not survive the machine.
func moveOnto(file, name string) error {
	exchange := func() error {
		return unix.Renameat2(unix.AT_FDCWD, file, unix.AT_FDCWD, name, unix.RENAME_EXCHANGE)
	}
	if exchange() != nil { // nothing is there; a file system that cannot
		return unix.Rename(file, name)
	}
	err := unix.Unlink(file)
	if err != nil { // a directory, which rename(2) would have refused
		_ = exchange()
	}
	return err
}

// writeFile writes a new file. Not os.WriteFile, which brings the poller along.
func writeFile(path string, raw []byte) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	err = kernel.WriteAll(fd, raw)
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// currentStatus asks the kernel what the container is doing. A created container is one
// whose init still executes the program that was compiled for it. Whoever does not
// hold the lock may find a container stopped that is still being made; see creating.
func (sb *Sandbox) currentStatus() specs.ContainerState {
	if !sb.rec.Init.Alive() {
		return specs.StateStopped
	}
	return sb.aliveStatus(sb.frozen())
}

// aliveStatus is the status of a container that has an init.
func (sb *Sandbox) aliveStatus(frozen bool) specs.ContainerState {
	switch {
	case frozen:
		return StatePaused
	case sb.waiting():
		return specs.StateCreated
	}
	return specs.StateRunning
}

// StatePaused is the status of a container whose cgroup is frozen.
const StatePaused specs.ContainerState = "paused"

func (sb *Sandbox) frozen() bool {
	cg, err := cgroup.Load(sb.rec.Cgroup)
	if err != nil {
		return false
	}
	frozen, err := cg.Frozen()
	return err == nil && frozen
}

func (sb *Sandbox) waiting() bool {
	var st unix.Stat_t
	err := unix.Stat(fmt.Sprintf("/proc/%d/exe", sb.rec.Init.Pid), &st)
	return err == nil && uint64(st.Dev) == sb.rec.Init.Image.Dev && st.Ino == sb.rec.Init.Image.Ino
}

// creating says whether somebody is about to complete the record: to make a container
// is to hold its lock from the directory's birth until there is an init.
func (sb *Sandbox) creating() bool {
	if sb.Pid() != 0 {
		return false
	}
	e, err := sb.store.lockWithin(sb.id, 0)
	if err == nil {
		sb.mu.Lock()
		_ = sb.load(e.path) // it may have been completed just now
		sb.mu.Unlock()
		e.close()
	}
	return errors.Is(err, errBusy)
}

// State returns the container's state as it is now.
func (sb *Sandbox) State() (*State, error) {
	creating := sb.creating()
	sb = sb.view()
	r := &sb.rec
	s := &State{
		State: specs.State{
			Version:     r.Version,
			ID:          sb.id,
			Status:      sb.currentStatus(),
			Pid:         r.Init.Pid,
			Bundle:      r.Bundle,
			Annotations: r.Annotations,
		},
		Rootfs: r.Rootfs,
	}
	if creating {
		s.Status = specs.StateCreating
	}
	s.Created, _ = time.Parse(time.RFC3339Nano, r.Created)
	if s.Status == specs.StateStopped {
		s.Pid = 0
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(sb.store.root, sb.id), &st); err == nil {
		s.Owner = int(st.Uid)
	}
	return s, nil
}

// reload reads what is stored of the container again. While that is being made it
// waits for the lock, and otherwise not: to signal a container whose start hangs is
// the way to end it. A pid is never taken for another's; see kernel.ProcessID. The caller
// does not hold sb.mu, which who has the lock may wait for.
func (sb *Sandbox) reload() error {
	if sb.reread() {
		return nil
	}
	e, err := sb.refresh()
	if err == nil {
		e.close()
	}
	return err
}

// reread is reload that does not wait. It says whether there is a complete record.
func (sb *Sandbox) reread() bool {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	if sb.upToDate(filepath.Join(sb.store.root, sb.id)) {
		return true
	}
	now, err := sb.store.Load(sb.id)
	if err != nil || now.rec.Init.Pid == 0 {
		return false
	}
	sb.read, sb.rec, sb.conf = now.read, now.rec, nil
	return true
}

// upToDate says whether the record is a complete one, and still what is stored below dir.
func (sb *Sandbox) upToDate(dir string) bool {
	return sb.rec.Init.Pid != 0 && sb.read != (stamp{}) && sb.read == stampOf(dir)
}

// refresh locks the container and reads what is stored of it again, where it can
// have changed: state.json is the same for as long as its directory is.
func (sb *Sandbox) refresh() (*entry, error) {
	e, err := sb.store.lock(sb.id)
	if err != nil {
		return nil, err
	}
	if err := sb.refreshIn(e); err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

// refreshIn is refresh for who has the lock.
func (sb *Sandbox) refreshIn(e *entry) error {
	sb.mu.Lock()
	defer sb.mu.Unlock()
	if sb.upToDate(e.path) {
		return nil
	}
	rec := sb.rec
	sb.rec = record{}
	if err := sb.load(e.path); err != nil {
		sb.rec = rec
		return fmt.Errorf("container %q: %w", sb.id, err)
	}
	return nil
}

// config returns the spec that the container was made from, which nobody may change.
// The record must be a complete one.
func (sb *Sandbox) config() (*specs.Spec, error) {
	if sb.conf != nil {
		return sb.conf, nil
	}
	s, err := readConfig(filepath.Join(sb.store.root, sb.id, configFile))
	if err != nil {
		return nil, fmt.Errorf("container %q: %w", sb.id, err)
	}
	sb.conf = s
	return s, nil
}

// config is the same for whoever holds the lock.
func (e *entry) config() (*specs.Spec, error) { return readConfig(e.join(configFile)) }

func readConfig(path string) (*specs.Spec, error) {
	raw, err := kernel.ReadAll(path)
	if err != nil {
		return nil, fmt.Errorf("stored config: %w", err)
	}
	return spec.Load(raw)
}
