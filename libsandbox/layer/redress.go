package layer

import (
	"fmt"
	"os"
	"slices"
	"strconv"
)

// StandsOn says whether Above has made the layer for l, and its lower directories still are
// the ones they were.
func (l *Layer) StandsOn(below *Layer) bool {
	return l.pending && slices.Equal(l.meta.Parents, below.meta.chain()) &&
		l.CheckLowers() == nil
}

// Redress gives the root directory of a layer that Above has made what that of the layer
// below has by now: owner, mode, extended attributes and times. mount is the layer's overlay,
// which nobody has written to. ErrUnsuitable: an extended attribute has been removed since.
func (l *Layer) Redress(mount *os.File) error {
	root := "/proc/self/fd/" + strconv.Itoa(int(mount.Fd())) + "/."
	err := eachXattr(root, func(name string, _ []byte) error {
		if ofOverlay(name) {
			return nil
		}
		if _, err := getXattr(l.below()+"/.", name); err != nil {
			return fmt.Errorf("%w: %w", ErrUnsuitable, err)
		}
		return nil
	})
	if err == nil {
		err = dressRoot(l.below(), int(mount.Fd()), ".")
	}
	if err != nil {
		return fmt.Errorf("attributes of %s: %w", l.below(), err)
	}
	return nil
}
