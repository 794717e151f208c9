package libsandbox

import (
	"errors"
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"adl.run/adl-runtime/libsandbox/internal/resctrl"
	"adl.run/adl-runtime/spec"
)

// RdtStats is what resctrl says of a container's group.
type RdtStats = resctrl.Stats

// rdtRecord says which resctrl group the container is in. No path: that is where resctrl
// is mounted, and a mount of later has none of the groups of before.
type rdtRecord struct {
	// ClosID is linux.intelRdt.closID; empty is a group of the container's own, which
	// goes away with it.
	ClosID string `json:"closID"`
	// Monitor says that the container has counters of its own.
	Monitor bool `json:"monitor"`
}

// findResctrl is where the host has resctrl. The store may be nil.
func (s *Store) findResctrl() (*resctrl.FS, error) {
	if s != nil && s.resctrl != nil {
		return s.resctrl, nil
	}
	return resctrl.Find()
}

// resctrlGroup is the group that the record names, which must be of container id; nil
// without linux.intelRdt. ErrNone: resctrl is not mounted, and so the group not there.
func (s *Store) resctrlGroup(id string, r *rdtRecord) (*resctrl.Group, error) {
	if r == nil {
		return nil, nil
	}
	if r.ClosID != "" {
		if err := spec.ValidateClosID(r.ClosID); err != nil {
			return nil, fmt.Errorf("%s: closID %q: %w", stateFile, r.ClosID, err)
		}
	}
	fs, err := s.findResctrl()
	if err != nil {
		return nil, rdtError(err)
	}
	return fs.Group(id, r.ClosID, r.Monitor), nil
}

// rdtRecordOf is what is written down of linux.intelRdt.
func rdtRecordOf(r *specs.LinuxIntelRdt) *rdtRecord {
	if r == nil {
		return nil
	}
	return &rdtRecord{ClosID: r.ClosID, Monitor: r.EnableMonitoring}
}

func rdtError(err error) error { return fmt.Errorf("linux.intelRdt: %w", err) }

// planRdt finds the container's resctrl group, and refuses one that cannot be made. It
// returns the files by which init enters it.
func (c *creation) planRdt(s *Store) (tasks []string, err error) {
	if c.reset != nil {
		return s.resctrlTasks(&c.sb.rec)
	}
	rdt := c.bundle.Spec.Linux.IntelRdt
	if c.rdt, err = s.resctrlGroup(c.id, rdtRecordOf(rdt)); c.rdt == nil || err != nil {
		return nil, err
	}
	if err := c.rdt.Check(rdt); err != nil {
		return nil, rdtError(err)
	}
	return c.rdt.Tasks(), nil
}

// makeRdt makes the container's resctrl group, which init then enters by itself.
func (c *creation) makeRdt() error {
	if c.rdt == nil {
		return nil
	}
	if err := c.rdt.Create(c.bundle.Spec.Linux.IntelRdt); err != nil {
		return rdtError(err)
	}
	c.step("resctrl")
	return nil
}

// resctrlTasks are the files by which another process enters the container's resctrl
// group; none where there is no such group, or none any more.
func (s *Store) resctrlTasks(r *record) ([]string, error) {
	g, err := s.resctrlGroup(r.ID, r.Rdt)
	switch {
	case errors.Is(err, resctrl.ErrNone), err == nil && (g == nil || !g.Exists()):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return g.Tasks(), nil
}

// removeRdt removes what resctrl has of the container alone.
func (sb *Sandbox) removeRdt() error {
	g, err := sb.store.resctrlGroup(sb.id, sb.rec.Rdt)
	switch {
	case errors.Is(err, resctrl.ErrNone), err == nil && g == nil:
		return nil
	case err != nil:
		return err
	}
	if err := g.Remove(); err != nil {
		return rdtError(err)
	}
	return nil
}

// updateRdt writes schemata, and into the configuration l. back puts back the old ones.
func (sb *Sandbox) updateRdt(l *specs.Linux, r *specs.LinuxIntelRdt) (back func(), err error) {
	if r == nil || r.L3CacheSchema == "" && r.MemBwSchema == "" && len(r.Schemata) == 0 {
		return func() {}, nil
	}
	g, err := sb.store.resctrlGroup(sb.id, sb.rec.Rdt)
	if err != nil {
		return nil, err
	}
	if g == nil || l.IntelRdt == nil {
		return nil, rdtError(errors.New("the container was made without it"))
	}
	if back, err = g.Update(r); err != nil {
		return nil, rdtError(err)
	}
	if r.L3CacheSchema != "" {
		l.IntelRdt.L3CacheSchema = r.L3CacheSchema
	}
	if r.MemBwSchema != "" {
		l.IntelRdt.MemBwSchema = r.MemBwSchema
	}
	if len(r.Schemata) > 0 {
		l.IntelRdt.Schemata = r.Schemata
	}
	return back, nil
}
