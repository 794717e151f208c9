package libsandbox

import "errors"

// What can be wrong with a request. The errors that methods return wrap these and
// say more; test with errors.Is.
var (
	// ErrNotExist: no container of that id is in the store.
	ErrNotExist = errors.New("container does not exist")
	// ErrExist: the id is taken.
	ErrExist = errors.New("container with given ID already exists")
	// ErrInvalidID: see spec.ValidateID.
	ErrInvalidID = errors.New("invalid container id format")
	// ErrNotRunning: the container has no process that could do it.
	ErrNotRunning = errors.New("container not running")
	// ErrNotPaused: the container's processes are not stopped by Pause.
	ErrNotPaused = errors.New("container not paused")
	// ErrPaused: the container's processes are stopped by Pause.
	ErrPaused = errors.New("container paused")
	// ErrCgroup: there is no such cgroup below the container's.
	ErrCgroup = errors.New("no such cgroup of the container")
	// ErrNotCreated: only a created container can be started.
	ErrNotCreated = errors.New("container is not in the created state")
	// ErrNoLayer: the container was made without a writable layer.
	ErrNoLayer = errors.New("container has no layer")
	// ErrRunning: the container has to be stopped first.
	ErrRunning = errors.New("container is not stopped")
)

// kindError gives an error one of the kinds above without repeating its text.
type kindError struct {
	error
	kind error
}

func (e kindError) Unwrap() []error { return []error{e.error, e.kind} }
