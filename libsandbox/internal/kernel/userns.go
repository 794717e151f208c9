package kernel

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// HostID returns the id, as this process sees it, that id is in the user namespace of
// process pid. file is "uid_map" or "gid_map" (user_namespaces(7)).
func HostID(pid int, file string, id uint32) (uint32, error) {
	raw, err := ReadAll("/proc/" + strconv.Itoa(pid) + "/" + file)
	if err != nil {
		return 0, fmt.Errorf("%s of init: %w", file, err)
	}
	return hostID(string(raw), id)
}

func hostID(text string, id uint32) (uint32, error) {
	for line := range strings.Lines(text) {
		var inside, outside, count uint32
		if _, err := fmt.Sscan(line, &inside, &outside, &count); err != nil {
			return 0, fmt.Errorf("id map: %w", err)
		}
		if id >= inside && id-inside < count {
			return outside + (id - inside), nil
		}
	}
	return 0, fmt.Errorf("id %d: not mapped", id)
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
