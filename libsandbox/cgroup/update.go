package cgroup

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Update changes limits; what r does not mention stays, and so do all device rules,
// as in runc. An error names the field and its value below linux.resources, and then
// nothing is changed: what was before is written back.
func (c *Cgroup) Update(r *specs.LinuxResources) error {
	r = c.rounded(r)
	s, err := settings(c.mode, r)
	if err != nil {
		return fmt.Errorf("linux.resources.%w", err)
	}
	return c.replace(s, func() error { return c.tell(r) })
}

// replace is apply that changes all or nothing, and also nothing if then fails.
func (c *Cgroup) replace(s []setting, then func() error) error {
	old := make([]setting, 0, len(s))
	for i := range s {
		if o, ok := c.recall(&s[i]); ok {
			old = append(old, o)
		}
	}
	err := c.apply(s)
	if err != nil {
		err = fmt.Errorf("linux.resources.%w", err)
	} else if err = then(); err == nil {
		return nil
	}
	if back := c.apply(old); back != nil {
		err = fmt.Errorf("%w; setting back %w", err, back)
	}
	return err
}

// recall returns the setting that undoes s. There is none for a file that does not
// exist, which will say so by itself.
func (c *Cgroup) recall(s *setting) (setting, bool) {
	d := c.controller(s.controller)
	if d == nil {
		return setting{}, false
	}
	file := s.file
	text, err := readFile(d.path, file)
	if s.other != "" && errors.Is(err, unix.ENOENT) {
		file = s.other
		text, err = readFile(d.path, file)
	}
	if err != nil {
		return setting{}, false
	}
	data := previous(file, text, s.data)
	return setting{field: s.field, value: strings.TrimSpace(data), controller: s.controller, file: file, data: data}, true
}

// previous is the line that brings a file whose text this is back to what it was
// before data was written to it. Most files have one value; some have lines that
// begin with a device, of which only those appear that are not at their default.
func previous(file, text, data string) string {
	key, _, _ := strings.Cut(data, " ")
	for line := range strings.Lines(text) {
		if first, _, found := strings.Cut(line, " "); found && first == key {
			return strings.TrimSuffix(line, "\n")
		}
	}
	switch {
	case file == "memory.oom_control": // oom_kill_disable 0, then what is no setting
		return strings.Fields(text + " 0 0")[1]
	case file == "rdma.max":
		return key + " hca_handle=max hca_object=max"
	case !strings.Contains(key, ":"):
	case file == "io.max":
		return key + " rbps=max wbps=max riops=max wiops=max"
	case file == "io.latency":
		return key + " target=0"
	case strings.HasPrefix(file, "blkio.throttle."):
		return key + " 0"
	default:
		return key + " default"
	}
	first, _, _ := strings.Cut(text, "\n")
	if first == "" {
		return "\n" // of nothing the kernel would not notice the write
	}
	return first
}
