package spec

import (
	"errors"
	"fmt"
)

// maxID is the longest container id, in bytes. File systems commonly stop at
// 255 bytes for one name; that limit is left to them.
const maxID = 1024

// ValidateID reports whether id can name a container: letters, digits and
// "_+-.", at least one, at most 1024 bytes, and not "." or "..". The id is
// used as a directory's name, so nothing in it may walk the tree. The text
// begins as runc's does, which managers look for.
func ValidateID(id string) error {
	switch {
	case id == "":
		return errors.New("container id cannot be empty")
	case len(id) > maxID:
		return fmt.Errorf("invalid container id format: longer than %d bytes", maxID)
	case id == "." || id == "..":
		return fmt.Errorf("invalid container id format: %q", id)
	}
	for i := range len(id) {
		if !idByte(id[i]) {
			return fmt.Errorf("invalid container id format: %q", id)
		}
	}
	return nil
}

func idByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return c == '_' || c == '+' || c == '-' || c == '.'
}
