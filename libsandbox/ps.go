package libsandbox

import "adl.run/adl-runtime/libsandbox/cgroup"

// Processes returns the ids of the container's processes, in their order, as this
// process sees them: init, what it has started, and what was executed in the
// container since. A stopped container has none.
func (sb *Sandbox) Processes() ([]int, error) {
	if err := sb.reload(); err != nil {
		return nil, err
	}
	cg, err := cgroup.Load(sb.view().rec.Cgroup)
	if err != nil {
		return nil, err
	}
	return cg.Procs()
}
