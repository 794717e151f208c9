package spec

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Limits of /proc/PID/uid_map (user_namespaces(7)).
const (
	maxMappings     = 340  // lines, since Linux 4.15
	maxMappingBytes = 4095 // one write, less than a page
)

// checkUserNamespace is about the container's user namespace and its id maps.
func checkUserNamespace(s *specs.Spec) error {
	l := s.Linux
	ns := namespace(s, specs.UserNamespace)
	if ns == nil {
		switch {
		case len(l.UIDMappings) > 0:
			return errors.New("linux.uidMappings: need a user namespace in linux.namespaces")
		case len(l.GIDMappings) > 0:
			return errors.New("linux.gidMappings: need a user namespace in linux.namespaces")
		}
		return nil
	}
	if namespace(s, specs.MountNamespace) == nil {
		return errors.New("linux.namespaces: a user namespace needs a mount namespace, too")
	}
	if ns.Path != "" { // its maps are what they are; containerd repeats them here
		return firstError(checkMappings("linux.uidMappings", l.UIDMappings), checkMappings("linux.gidMappings", l.GIDMappings))
	}
	switch {
	case len(l.UIDMappings) == 0:
		return errors.New("linux.uidMappings: missing, a new user namespace needs them")
	case len(l.GIDMappings) == 0:
		return errors.New("linux.gidMappings: missing, a new user namespace needs them")
	}
	if err := firstError(checkMappings("linux.uidMappings", l.UIDMappings), checkMappings("linux.gidMappings", l.GIDMappings)); err != nil {
		return err
	}
	return checkMapped(s)
}

// checkMapped: the process cannot have ids that its user namespace does not know.
func checkMapped(s *specs.Spec) error {
	u, l := &s.Process.User, s.Linux
	switch {
	case !mapped(l.UIDMappings, u.UID):
		return fmt.Errorf("process.user.uid %d: not in linux.uidMappings", u.UID)
	case !mapped(l.GIDMappings, u.GID):
		return fmt.Errorf("process.user.gid %d: not in linux.gidMappings", u.GID)
	}
	for i, gid := range u.AdditionalGids {
		if !mapped(l.GIDMappings, gid) {
			return fmt.Errorf("process.user.additionalGids[%d] %d: not in linux.gidMappings", i, gid)
		}
	}
	return nil
}

func mapped(maps []specs.LinuxIDMapping, id uint32) bool {
	for _, m := range maps {
		if id >= m.ContainerID && id-m.ContainerID < m.Size {
			return true
		}
	}
	return false
}

// checkMappings refuses what the kernel would refuse without saying which line it is.
func checkMappings(field string, maps []specs.LinuxIDMapping) error {
	if len(maps) > maxMappings {
		return fmt.Errorf("%s: %d mappings, at most %d are possible", field, len(maps), maxMappings)
	}
	var text strings.Builder
	for i, m := range maps {
		fmt.Fprintf(&text, "%d %d %d\n", m.ContainerID, m.HostID, m.Size)
		switch {
		case m.Size == 0:
			return fmt.Errorf("%s[%d].size: must not be 0", field, i)
		case m.ContainerID > math.MaxUint32-m.Size:
			return fmt.Errorf("%s[%d]: containerID %d and size %d go beyond the highest id", field, i, m.ContainerID, m.Size)
		case m.HostID > math.MaxUint32-m.Size:
			return fmt.Errorf("%s[%d]: hostID %d and size %d go beyond the highest id", field, i, m.HostID, m.Size)
		}
		for k, before := range maps[:i] {
			if overlap(m.ContainerID, before.ContainerID, m.Size, before.Size) {
				return fmt.Errorf("%s[%d]: containerID %d and size %d overlap %s[%d]", field, i, m.ContainerID, m.Size, field, k)
			}
			if overlap(m.HostID, before.HostID, m.Size, before.Size) {
				return fmt.Errorf("%s[%d]: hostID %d and size %d overlap %s[%d]", field, i, m.HostID, m.Size, field, k)
			}
		}
	}
	if text.Len() > maxMappingBytes {
		return fmt.Errorf("%s: %d mappings take %d bytes, at most %d are possible", field, len(maps), text.Len(), maxMappingBytes)
	}
	return nil
}

func overlap(a, b, sizeA, sizeB uint32) bool {
	return uint64(a) < uint64(b)+uint64(sizeB) && uint64(b) < uint64(a)+uint64(sizeA)
}

// checkMountMappings is about mounts with mapped ids (OCI config.md, "POSIX-platform
// Mounts").
func checkMountMappings(s *specs.Spec) error {
	for i := range s.Mounts {
		if err := checkMountMapping(s, &s.Mounts[i]); err != nil {
			return fmt.Errorf("mounts[%d].%w", i, err)
		}
	}
	return nil
}

func checkMountMapping(s *specs.Spec, m *specs.Mount) error {
	option := -1
	bind := m.Type == "bind"
	for j, o := range m.Options {
		switch {
		case o == "idmap" || o == "ridmap":
			option = j
		case o == "bind" || o == "rbind":
			bind = true
		case strings.HasPrefix(o, "idmap=") || strings.HasPrefix(o, "ridmap="):
			return fmt.Errorf("options[%d] %q: the mappings belong into uidMappings and gidMappings", j, o)
		}
	}
	own := len(m.UIDMappings)+len(m.GIDMappings) > 0
	switch {
	case option < 0 && !own:
		return nil
	case !own && namespace(s, specs.UserNamespace) == nil:
		return fmt.Errorf("options[%d] %q: needs uidMappings and gidMappings, or a user namespace", option, m.Options[option])
	case own && len(m.UIDMappings) == 0:
		return errors.New("uidMappings: missing, there are gidMappings")
	case own && len(m.GIDMappings) == 0:
		return errors.New("gidMappings: missing, there are uidMappings")
	case !bind && own:
		return errors.New("uidMappings: only bind mounts can have them")
	case !bind:
		return fmt.Errorf("options[%d] %q: only bind mounts can have it", option, m.Options[option])
	}
	return firstError(checkMappings("uidMappings", m.UIDMappings), checkMappings("gidMappings", m.GIDMappings))
}

// checkTime is about the time namespace (time_namespaces(7)).
func checkTime(s *specs.Spec) error {
	if len(s.Linux.TimeOffsets) == 0 {
		return nil
	}
	switch ns := namespace(s, specs.TimeNamespace); {
	case ns == nil:
		return errors.New("linux.timeOffsets: need a time namespace in linux.namespaces")
	case ns.Path != "":
		return fmt.Errorf("linux.timeOffsets: the time namespace %q exists already, so its offsets are set", ns.Path)
	}
	for clock, o := range s.Linux.TimeOffsets {
		switch {
		case clock != "monotonic" && clock != "boottime":
			return fmt.Errorf("linux.timeOffsets %q: must be monotonic or boottime", clock)
		case o.Nanosecs >= 1e9:
			return fmt.Errorf("linux.timeOffsets %q: nanosecs %d: must be below 1000000000", clock, o.Nanosecs)
		}
	}
	return nil
}
