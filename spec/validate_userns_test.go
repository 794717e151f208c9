package spec

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// userNamespace gives s a new user namespace with the given maps for both kinds of id.
func userNamespace(s *specs.Spec, maps ...specs.LinuxIDMapping) {
	s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
	s.Linux.UIDMappings, s.Linux.GIDMappings = maps, maps
}

func ids(container, host, size uint32) specs.LinuxIDMapping {
	return specs.LinuxIDMapping{ContainerID: container, HostID: host, Size: size}
}

func TestUserNamespace(t *testing.T) {
	mapping := func(maps ...specs.LinuxIDMapping) func(*specs.Spec) {
		return func(s *specs.Spec) {
			userNamespace(s, append([]specs.LinuxIDMapping{ids(0, 100000, 1000)}, maps...)...)
		}
	}
	many := make([]specs.LinuxIDMapping, 341)
	for i := range many {
		many[i] = ids(uint32(2*i), uint32(2*i), 1)
	}
	long := make([]specs.LinuxIDMapping, 340)
	for i := range long {
		long[i] = ids(uint32(2*i), uint32(4e9+2*i), 1)
	}
	runRules(t, []rule{
		{`linux.uidMappings: need a user namespace in linux.namespaces`, func(s *specs.Spec) { s.Linux.UIDMappings = []specs.LinuxIDMapping{ids(0, 0, 1)} }},
		{`linux.gidMappings: need a user namespace in linux.namespaces`, func(s *specs.Spec) { s.Linux.GIDMappings = []specs.LinuxIDMapping{ids(0, 0, 1)} }},
		{`linux.uidMappings: missing, a new user namespace needs them`, func(s *specs.Spec) { userNamespace(s) }},
		{`linux.gidMappings: missing, a new user namespace needs them`, func(s *specs.Spec) { mapping()(s); s.Linux.GIDMappings = nil }},
		{`linux.namespaces: a user namespace needs a mount namespace, too`, func(s *specs.Spec) { mapping()(s); drop(s, specs.MountNamespace) }},
		{`linux.uidMappings[1].size: must not be 0`, mapping(ids(5000, 0, 0))},
		{`linux.uidMappings[1]: containerID 4294967295 and size 1 go beyond the highest id`, mapping(ids(math.MaxUint32, 5000, 1))},
		{`linux.uidMappings[1]: hostID 4294967290 and size 6 go beyond the highest id`, mapping(ids(5000, math.MaxUint32-5, 6))},
		{`linux.uidMappings[1]: containerID 999 and size 2 overlap linux.uidMappings[0]`, mapping(ids(999, 5000, 2))},
		{`linux.uidMappings[1]: hostID 99999 and size 2 overlap linux.uidMappings[0]`, mapping(ids(5000, 99999, 2))},
		{`linux.gidMappings[0].size: must not be 0`, func(s *specs.Spec) { mapping()(s); s.Linux.GIDMappings = []specs.LinuxIDMapping{{}} }},
		{`linux.uidMappings: 341 mappings, at most 340 are possible`, func(s *specs.Spec) { userNamespace(s, many...) }},
		{`linux.uidMappings: 340 mappings take 5725 bytes, at most 4095 are possible`, func(s *specs.Spec) { userNamespace(s, long...) }},
		{`process.user.uid 1000: not in linux.uidMappings`, func(s *specs.Spec) { mapping()(s); s.Process.User.UID = 1000 }},
		{`process.user.gid 1000: not in linux.gidMappings`, func(s *specs.Spec) { mapping()(s); s.Process.User.GID = 1000 }},
		{`process.user.additionalGids[1] 1000: not in linux.gidMappings`, func(s *specs.Spec) { mapping()(s); s.Process.User.AdditionalGids[1] = 1000 }},
	})
}

func TestUserNamespaceAccepts(t *testing.T) {
	dir := newBundle(t, nil)
	for name, change := range map[string]func(*specs.Spec){
		"a range":         func(s *specs.Spec) { userNamespace(s, ids(0, 100000, 65536)) },
		"everything":      func(s *specs.Spec) { userNamespace(s, ids(0, 0, math.MaxUint32)) },
		"side by side":    func(s *specs.Spec) { userNamespace(s, ids(0, 1, 1), ids(1, 0, 1), ids(2, 2, 10)) },
		"joined":          func(s *specs.Spec) { userNamespace(s); join(s, specs.UserNamespace, "/proc/1/ns/user") },
		"joined, repeats": func(s *specs.Spec) { userNamespace(s, ids(7, 7, 1)); join(s, specs.UserNamespace, "/proc/1/ns/user") },
	} {
		s := ordinary()
		change(s)
		if err := Validate(&Bundle{Dir: dir, Spec: s}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMountMappings(t *testing.T) {
	own := func(change func(*specs.Mount)) func(*specs.Spec) {
		return func(s *specs.Spec) {
			m := &s.Mounts[7]
			m.UIDMappings = []specs.LinuxIDMapping{ids(0, 1, 1)}
			m.GIDMappings = m.UIDMappings
			change(m)
		}
	}
	needs := "needs uidMappings and gidMappings, or a user namespace"
	runRules(t, []rule{
		{`mounts[7].uidMappings: missing, there are gidMappings`, own(func(m *specs.Mount) { m.UIDMappings = nil })},
		{`mounts[7].gidMappings: missing, there are uidMappings`, own(func(m *specs.Mount) { m.GIDMappings = nil })},
		{`mounts[7].gidMappings[0].size: must not be 0`, own(func(m *specs.Mount) { m.GIDMappings = []specs.LinuxIDMapping{{}} })},
		{`mounts[7].uidMappings: only bind mounts can have them`, own(func(m *specs.Mount) { m.Options = nil })},
		{`mounts[7].options[1] "idmap": ` + needs, func(s *specs.Spec) { s.Mounts[7].Options[1] = "idmap" }},
		{`mounts[7].options[2] "ridmap": ` + needs, func(s *specs.Spec) { s.Mounts[7].Options[2] = "ridmap" }},
		{`mounts[8].options[0] "idmap": only bind mounts can have it`, func(s *specs.Spec) {
			userNamespace(s, ids(0, 0, 10))
			s.Mounts[8].Options[0] = "idmap"
		}},
		{`mounts[7].options[1] "idmap=uids=0-1-2": the mappings belong into uidMappings and gidMappings`, func(s *specs.Spec) {
			s.Mounts[7].Options[1] = "idmap=uids=0-1-2"
		}},
	})
}

func TestTime(t *testing.T) {
	offsets := func(path, clock string, o specs.LinuxTimeOffset) func(*specs.Spec) {
		return func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace, Path: path})
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{clock: o}
		}
	}
	runRules(t, []rule{
		{`linux.timeOffsets: need a time namespace in linux.namespaces`, func(s *specs.Spec) {
			s.Linux.TimeOffsets = map[string]specs.LinuxTimeOffset{"monotonic": {}}
		}},
		{`linux.timeOffsets: the time namespace "/proc/1/ns/time" exists already, so its offsets are set`, offsets("/proc/1/ns/time", "boottime", specs.LinuxTimeOffset{})},
		{`linux.timeOffsets "realtime": must be monotonic or boottime`, offsets("", "realtime", specs.LinuxTimeOffset{Secs: 1})},
		{`linux.timeOffsets "boottime": nanosecs 1000000000: must be below 1000000000`, offsets("", "boottime", specs.LinuxTimeOffset{Nanosecs: 1e9})},
	})
	s := ordinary()
	offsets("", "boottime", specs.LinuxTimeOffset{Secs: -1, Nanosecs: 999999999})(s)
	if err := checkTime(s); err != nil {
		t.Error(err)
	}
}

func TestMappingText(t *testing.T) {
	// The kernel counts bytes, so the limit is on the text that is written.
	var text strings.Builder
	maps := make([]specs.LinuxIDMapping, 340)
	for i := range maps {
		maps[i] = ids(uint32(i), uint32(i), 1)
		fmt.Fprintf(&text, "%d %d 1\n", i, i)
	}
	if text.Len() >= 4096 {
		t.Fatal("the test's maps are too long")
	}
	if err := checkMappings("m", maps); err != nil {
		t.Error(err)
	}
}
