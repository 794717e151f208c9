package layer

import "errors"

// What can be wrong with a request. The errors of this package wrap these, or the
// errno of a system call, and say more.
var (
	// ErrNotExist: there is no layer of that key.
	ErrNotExist = errors.New("layer does not exist")
	// ErrGone: the layer that another was to stand on, or that was to be held, has
	// been freed, or is not committed.
	ErrGone = errors.New("layer is gone or was never committed")
	// ErrInUse: a committed layer has users.
	ErrInUse = errors.New("layer is in use")
	// ErrCommitted: the layer is read-only, so no container can be given it.
	ErrCommitted = errors.New("layer is committed")
	// ErrInvalidName: a key or the name of a user that this package does not make
	// or accept.
	ErrInvalidName = errors.New("invalid name")
	// ErrLowerChanged: a path no longer leads to the directory that the layer was
	// made for.
	ErrLowerChanged = errors.New("lower directory is another one now")
	// ErrDepth: overlayfs takes 500 lower directories.
	ErrDepth = errors.New("more than 500 lower directories")
	// ErrUnsuitable: the filesystem or the directory cannot hold layers.
	ErrUnsuitable = errors.New("unsuitable layer root")
	// ErrNoLimit: the filesystem cannot limit a layer's size.
	ErrNoLimit = errors.New("size of layers cannot be limited")
	// ErrUnsupported: the driver cannot do that.
	ErrUnsupported = errors.New("not supported by the layer's driver")
	// ErrBusy: somebody else empties the trash.
	ErrBusy = errors.New("trash is being emptied")
)
