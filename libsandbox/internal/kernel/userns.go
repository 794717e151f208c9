package kernel

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// IDMap is the uid_map or the gid_map of a user namespace (user_namespaces(7)), as this
// process sees it.
type IDMap []idRange

type idRange struct{ inside, outside, count uint32 }

// ReadIDMap reads a map of the user namespace of process pid; file is "uid_map" or
// "gid_map".
func ReadIDMap(pid int, file string) (IDMap, error) {
	raw, err := ReadAll("/proc/" + strconv.Itoa(pid) + "/" + file)
	if err != nil {
		return nil, fmt.Errorf("%s of init: %w", file, err)
	}
	return parseIDMap(string(raw))
}

func parseIDMap(text string) (m IDMap, err error) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 3 {
			return nil, fmt.Errorf("id map: %q", line)
		}
		var n [3]uint64
		for i := range n {
			if n[i], err = strconv.ParseUint(f[i], 10, 32); err != nil {
				return nil, fmt.Errorf("id map: %w", err)
			}
		}
		m = append(m, idRange{uint32(n[0]), uint32(n[1]), uint32(n[2])})
	}
	return m, nil
}

// Host returns the id here that id is in the namespace.
func (m IDMap) Host(id uint32) (uint32, error) {
	for _, r := range m {
		if id >= r.inside && id-r.inside < r.count {
			return r.outside + (id - r.inside), nil
		}
	}
	return 0, fmt.Errorf("id %d: not mapped", id)
}

// Inside returns the id in the namespace that id is here. What is not mapped has the
// overflow id there, 65534.
func (m IDMap) Inside(id uint32) uint32 {
	for _, r := range m {
		if id >= r.outside && id-r.outside < r.count {
			return r.inside + (id - r.outside)
		}
	}
	return overflowID
}

// Maps says whether an id here is one of the namespace's.
func (m IDMap) Maps(id uint32) bool {
	return slices.ContainsFunc(m, func(r idRange) bool { return id >= r.outside && id-r.outside < r.count })
}

// overflowID is the default of /proc/sys/kernel/overflowuid and overflowgid.
const overflowID = 65534

// Root returns the lowest id of the namespace, which is root's if that is mapped.
func (m IDMap) Root() (id uint32) {
	for i, r := range m {
		if i == 0 || r.inside < id {
			id = r.inside
		}
	}
	return id
}

// HostID returns the id, as this process sees it, that id is in the user namespace of
// process pid. file is "uid_map" or "gid_map" (user_namespaces(7)).
func HostID(pid int, file string, id uint32) (uint32, error) {
	m, err := ReadIDMap(pid, file)
	if err != nil {
		return 0, err
	}
	return m.Host(id)
}

// WithFileIDs runs f, on one thread, such that the files it makes belong to uid and
// gid. It keeps all capabilities.
func WithFileIDs(uid, gid uint32, f func() error) (err error) {
	runtime.LockOSThread()
	restore, err := setFileIDs(int(uid), int(gid))
	if err == nil {
		err = f()
	}
	if restore() {
		runtime.UnlockOSThread()
	} // otherwise the thread ends with its goroutine
	return err
}

// setFileIDs returns the way back, which says whether it worked.
func setFileIDs(uid, gid int) (restore func() bool, err error) {
	oldGid, _ := unix.SetfsgidRetGid(gid)
	oldUid, _ := unix.SetfsuidRetUid(uid)
	restore = func() bool {
		_ = unix.Setfsuid(oldUid)
		_ = unix.Setfsgid(oldGid)
		u, _ := unix.SetfsuidRetUid(-1)
		g, _ := unix.SetfsgidRetGid(-1)
		return u == oldUid && g == oldGid
	}
	if now, _ := unix.SetfsuidRetUid(-1); now != uid {
		return restore, fmt.Errorf("setfsuid %d: %w", uid, unix.EPERM)
	}
	// Leaving file system user 0 takes the capabilities about files away
	// (capabilities(7)).
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return restore, fmt.Errorf("capget: %w", err)
	}
	data[0].Effective, data[1].Effective = data[0].Permitted, data[1].Permitted
	if err := unix.Capset(&hdr, &data[0]); err != nil {
		return restore, fmt.Errorf("capset: %w", err)
	}
	return restore, nil
}
