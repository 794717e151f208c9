package libsandbox

import (
	"errors"
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"adl.run/adl-runtime/libsandbox/cgroup"
)

// Pause stops every process of a running or created container where it stands, and
// returns when all do. ErrNotRunning: there is none, or the container is paused
// already. One that cannot be stopped within ten seconds, as in an uninterruptible
// sleep, is an error, and then all run again.
func (sb *Sandbox) Pause() error {
	return sb.freeze((*cgroup.Cgroup).Freeze, func(s specs.ContainerState) error {
		switch s {
		case specs.StateRunning, specs.StateCreated:
			return nil
		}
		return fmt.Errorf("%w", ErrNotRunning)
	})
}

// Resume lets the processes of a paused container run again. ErrNotPaused: it is not
// paused.
func (sb *Sandbox) Resume() error {
	return sb.freeze((*cgroup.Cgroup).Thaw, func(s specs.ContainerState) error {
		if s != StatePaused {
			return fmt.Errorf("%w", ErrNotPaused)
		}
		return nil
	})
}

// freeze changes the state of the freezer where the container's status allows it.
func (sb *Sandbox) freeze(change func(*cgroup.Cgroup) error, allowed func(specs.ContainerState) error) error {
	e, err := sb.refresh()
	if err != nil {
		return err
	}
	defer e.close()
	if err := allowed(sb.currentStatus()); err != nil {
		return err
	}
	if len(e.nextLayers()) > 0 {
		return errInterrupted()
	}
	cg, err := cgroup.Load(sb.rec.Cgroup)
	if err != nil {
		return err
	}
	if err := change(cg); err != nil {
		return err
	}
	// The last process may have ended after the first look; then nothing is frozen.
	if !sb.rec.Init.Alive() {
		return kindError{errors.New("container process already exited"), ErrNotRunning}
	}
	return nil
}
