package libsandbox

import (
	"context"
	"fmt"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"adl.run/adl-runtime/libsandbox/cgroup"
)

// Stats is what the kernel has counted for a container. As JSON it is the data of runc's
// stats events.
type Stats struct {
	cgroup.Stats
	// IntelRdt is empty without linux.intelRdt.
	IntelRdt RdtStats `json:"intel_rdt"`
}

// Event is a thing that happened to a container: Stats were taken, or without them
// it ran out of memory.
type Event struct {
	Stats *Stats
}

// Stats reads the container's counters. ErrNotRunning: it is stopped.
func (sb *Sandbox) Stats() (*Stats, error) {
	sb, cg, err := sb.live()
	if err != nil {
		return nil, err
	}
	return sb.count(cg)
}

// count reads the counters of the container, whose cgroup is cg.
func (sb *Sandbox) count(cg *cgroup.Cgroup) (*Stats, error) {
	c, err := cg.Stats()
	if err != nil {
		return nil, err
	}
	s := &Stats{Stats: *c}
	g, err := sb.store.resctrlGroup(sb.id, sb.rec.Rdt)
	if g == nil || err != nil {
		return s, err
	}
	rdt, err := g.Stats()
	if err != nil {
		return nil, rdtError(err)
	}
	s.IntelRdt = *rdt
	return s, nil
}

// Events calls f each time the container runs out of memory, and with new Stats each
// interval. It returns nil when the container's last process has ended, otherwise
// the error of f or ctx. ErrNotRunning: the container is stopped.
func (sb *Sandbox) Events(ctx context.Context, interval time.Duration, f func(Event) error) error {
	sb, cg, err := sb.live()
	if err != nil {
		return err
	}
	w, err := cg.Watch()
	if err != nil {
		return err
	}
	defer w.Close()
	for next := time.Now().Add(interval); ; {
		event, err := w.Next(ctx, time.Until(next))
		if err != nil || event == cgroup.EventEmpty {
			return err
		}
		var e Event
		if event == cgroup.EventNone {
			if e.Stats, err = sb.count(cg); err != nil {
				if !cg.Exists() { // removed just now
					return nil
				}
				return err
			}
			next = time.Now().Add(interval)
		}
		if err := f(e); err != nil {
			return err
		}
	}
}

// live is a view of a container that is not stopped, and its cgroup.
func (sb *Sandbox) live() (*Sandbox, *cgroup.Cgroup, error) {
	if err := sb.reload(); err != nil {
		return nil, nil, err
	}
	sb = sb.view()
	if sb.currentStatus() == specs.StateStopped {
		return nil, nil, kindError{fmt.Errorf("container with id %s is not running", sb.id), ErrNotRunning}
	}
	cg, err := cgroup.Load(sb.rec.Cgroup)
	return sb, cg, err
}
