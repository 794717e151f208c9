package spec

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// checkIntelRdt looks at what the kernel would not refuse, or would take for something
// else: a path in place of a name, more lines than one.
func checkIntelRdt(s *specs.Spec) error {
	r := s.Linux.IntelRdt
	if r == nil {
		return nil
	}
	if r.ClosID != "" {
		if err := ValidateClosID(r.ClosID); err != nil {
			return fmt.Errorf("linux.intelRdt.closID %q: %w", r.ClosID, err)
		}
	}
	return ValidateIntelRdt(r)
}

// ValidateClosID checks the name of a resctrl group: "/" is the default class.
func ValidateClosID(id string) error {
	switch {
	case id == "/":
		return nil
	case id == "" || id == "." || id == "..", strings.ContainsAny(id, "/\n\x00"):
		return errors.New("not the name of a resctrl group")
	case len(id) > 255:
		return errors.New("longer than 255 bytes")
	}
	return nil
}

// ValidateIntelRdt checks the schemata of linux.intelRdt. Errors begin with
// "linux.intelRdt.".
func ValidateIntelRdt(r *specs.LinuxIntelRdt) error {
	for i, line := range r.Schemata {
		if strings.ContainsAny(line, "\n\x00") {
			return fmt.Errorf("linux.intelRdt.schemata[%d] %q: not one line", i, line)
		}
	}
	switch mb := r.MemBwSchema; {
	case mb != "" && !strings.HasPrefix(mb, "MB:"):
		return fmt.Errorf("linux.intelRdt.memBwSchema %q: must begin with \"MB:\"", mb)
	case strings.ContainsAny(mb, "\n\x00"):
		return fmt.Errorf("linux.intelRdt.memBwSchema %q: not one line", mb)
	}
	return noNUL("linux.intelRdt.l3CacheSchema", r.L3CacheSchema)
}
