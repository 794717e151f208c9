package kernel

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// PrivateTmpfs makes a tmpfs of at most size bytes that is mounted nowhere, and returns
// descriptors of its root directory: one by which it can be written to, and one of a
// read-only mount. Programs, devices and set-user-id files do nothing on either. The
// caller owns both.
func PrivateTmpfs(size int64) (rw, ro *os.File, err error) {
	fd, err := newTmpfs(size)
	if err != nil {
		return nil, nil, err
	}
	clone, err := cloneReadonly(fd)
	if err != nil { // before Linux 6.15, of what is not attached; see also HasMountSetattr
		mounts := [2]int{}
		mounts, err = cloneAttached(fd)
		unix.Close(fd)
		fd, clone = mounts[0], mounts[1]
	}
	if err != nil {
		Close(fd)
		return nil, nil, fmt.Errorf("private tmpfs: %w", err)
	}
	both, err := openRoots(fd, clone)
	if err != nil {
		return nil, nil, fmt.Errorf("private tmpfs: %w", err)
	}
	return both[0], both[1], nil
}

// openRoots opens the directories that the descriptors of mounts, which it closes, refer
// to: those are O_PATH, and cannot be read.
func openRoots(mounts ...int) ([]*os.File, error) {
	var all []*os.File
	var errs []error
	for _, m := range mounts {
		fd, err := unix.Openat(m, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		unix.Close(m)
		if err != nil {
			errs = append(errs, os.NewSyscallError("open", err))
			continue
		}
		all = append(all, os.NewFile(uintptr(fd), "tmpfs"))
	}
	if len(errs) > 0 {
		for _, f := range all {
			f.Close()
		}
		return nil, errors.Join(errs...)
	}
	return all, nil
}

// newTmpfs mounts a tmpfs, unattached.
func newTmpfs(size int64) (int, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("fsopen tmpfs", err)
	}
	defer unix.Close(fs)
	err = unix.FsconfigSetString(fs, "size", fmt.Sprint(size))
	if err == nil {
		err = unix.FsconfigSetString(fs, "mode", "755")
	}
	if err == nil {
		err = unix.FsconfigCreate(fs)
	}
	if err != nil {
		return -1, os.NewSyscallError("fsconfig tmpfs", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	return fd, os.NewSyscallError("fsmount tmpfs", err)
}

func cloneMount(fd int) (int, error) {
	return unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
}

// cloneReadonly makes a read-only mount of what fd, the descriptor of a mount, shows.
func cloneReadonly(fd int) (int, error) {
	clone, err := cloneMount(fd)
	if err != nil {
		return -1, err
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(clone, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		unix.Close(clone)
		return -1, err
	}
	return clone, nil
}

// cloneAttached clones the mount twice while it is attached in a mount namespace that
// nobody else sees and that ends with its thread: as it is, and read-only.
func cloneAttached(fd int) (both [2]int, err error) {
	done := make(chan struct{})
	both = [2]int{-1, -1}
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocks
		if err = unix.Unshare(unix.CLONE_NEWNS); err != nil {
			err = os.NewSyscallError("unshare", err)
			return
		}
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		if err == nil {
			err = unix.MoveMount(fd, "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH)
		}
		if err == nil {
			both[0], err = cloneMount(fd)
		}
		if err == nil {
			err = unix.Fchdir(fd)
		}
		if err == nil {
			err = unix.Mount("", ".", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")
		}
		if err == nil {
			both[1], err = cloneMount(fd)
		}
	}()
	<-done
	if err != nil {
		Close(both[:]...)
		both = [2]int{-1, -1}
	}
	return both, err
}
