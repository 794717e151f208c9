package libsandbox

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/cgroup"
	"adl.run/adl-runtime/libsandbox/internal/engine"
	"adl.run/adl-runtime/libsandbox/internal/kernel"
)

// Names within a container's directory.
const (
	stateFile  = "state.json"
	configFile = "config.json"
	startFile  = "start.sock"
)

// record is state.json. It holds what cannot be asked of the kernel.
type record struct {
	Version     string            `json:"ociVersion"`
	ID          string            `json:"id"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"`
	Created     time.Time         `json:"created"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// Creator is the process that makes the container, Init its first process;
	// while Init is zero, the container is being made.
	Creator kernel.ProcessID `json:"creator"`
	Init    kernel.ProcessID `json:"init"`
	// Image is what init executes until its start.
	Image  engine.Image      `json:"image"`
	Cgroup map[string]string `json:"cgroup"`
	// Umount: the mounts are in the host's mount namespace, at Rootfs.
	Umount bool `json:"umount,omitempty"`
	// OwnPid: the container has a pid namespace of its own, so the end of init is
	// the end of all.
	OwnPid bool   `json:"ownPid"`
	Arg0   string `json:"arg0"`
	// Hooks are those that later commands run.
	Hooks *specs.Hooks `json:"hooks,omitempty"`
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
	rec   record
	child *child
}

// ID returns the container's id.
func (sb *Sandbox) ID() string { return sb.id }

// read fills in what is stored below dir.
func (sb *Sandbox) read(dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &sb.rec); err != nil {
		return fmt.Errorf("%s: %w", stateFile, err)
	}
	if sb.rec.ID != sb.id {
		return fmt.Errorf("%s: is of container %q", stateFile, sb.rec.ID)
	}
	return nil
}

// write replaces state.json: a reader sees the old one or the new one, whole.
func (sb *Sandbox) write(e *entry) error {
	raw, err := json.Marshal(&sb.rec)
	if err != nil {
		return fmt.Errorf("%s: %w", stateFile, err)
	}
	tmp := e.join(stateFile + ".tmp")
	if err := writeFile(tmp, raw); err != nil {
		return err
	}
	if err := unix.Rename(tmp, e.join(stateFile)); err != nil {
		return fmt.Errorf("rename %s: %w", tmp, err)
	}
	return nil
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
// whose init still executes the program that was compiled for it.
func (sb *Sandbox) currentStatus() specs.ContainerState {
	r := &sb.rec
	switch {
	case r.Init.Pid == 0 && r.Creator.Alive():
		return specs.StateCreating
	case !r.Init.Alive():
		return specs.StateStopped
	case sb.frozen():
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
	return err == nil && uint64(st.Dev) == sb.rec.Image.Dev && st.Ino == sb.rec.Image.Ino
}

// State returns the container's state as it is now.
func (sb *Sandbox) State() (*State, error) {
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
		Rootfs:  r.Rootfs,
		Created: r.Created,
	}
	if s.Status == specs.StateStopped {
		s.Pid = 0
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(sb.store.root, sb.id), &st); err == nil {
		s.Owner = int(st.Uid)
	}
	return s, nil
}

// refresh reads the state again under the lock.
func (sb *Sandbox) refresh() (*entry, error) {
	e, err := sb.store.lock(sb.id)
	if err != nil {
		return nil, err
	}
	rec := sb.rec
	sb.rec = record{}
	if err := sb.read(e.path); err != nil {
		sb.rec = rec
		e.close()
		return nil, fmt.Errorf("container %q: %w", sb.id, err)
	}
	return e, nil
}
