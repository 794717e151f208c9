package layer

import (
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// OpenMemory returns the layer root in memory that belongs to the layer root dir: a
// tmpfs on dir/memory, mounted with the first layer, and unmounted by Empty after the
// last. It is mounted in the mount namespace of the process that makes the layer, and
// is not there for processes in others. All layers together can hold half of the
// machine's memory.
func OpenMemory(dir string) (*Root, error) {
	r, err := Open(dir)
	if err != nil {
		return nil, err
	}
	r.dir += "/" + memoryDir
	r.memory = true
	return r, nil
}

// mounted makes sure that fd is the root of a tmpfs. ENOENT: nothing is mounted.
func (r *Root) mounted(fd int) error {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, 0, &st); err != nil {
		return fmt.Errorf("layer root %s: %w", r.dir, err)
	}
	if st.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		return fmt.Errorf("layer root %s: no tmpfs is mounted: %w", r.dir, unix.ENOENT)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return fmt.Errorf("layer root %s: %w", r.dir, err)
	}
	if fs.Type != unix.TMPFS_MAGIC {
		return fmt.Errorf("layer root %s: %w: something else than a tmpfs is mounted there", r.dir, ErrUnsuitable)
	}
	return nil
}

// mount mounts the tmpfs, unless it is.
func (r *Root) mount() error {
	lock, err := r.lock(unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer unix.Close(lock)
	if fd, err := r.open(); !errors.Is(err, unix.ENOENT) {
		if err == nil { // somebody else was faster
			unix.Close(fd)
		}
		return err
	}
	if err := unix.Mkdirat(lock, memoryDir, 0o700); err != nil && err != unix.EEXIST {
		return fmt.Errorf("mkdir %s: %w", r.dir, err)
	}
	r.did("mkdir memory")
	return r.tmpfs(lock, memoryDir, 0)
}

// tmpfs mounts one on the directory name in dir, private: what is mounted below it, a
// layer with a limit, is not to show up in every mount namespace that follows this
// one. A size of 0 is half of the memory.
func (r *Root) tmpfs(dir int, name string, size int64) error {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("tmpfs: fsopen: %w", err)
	}
	defer unix.Close(fs)
	options := [][2]string{{"source", "adl-runtime"}, {"mode", "0700"}}
	if size > 0 {
		options = append(options, [2]string{"size", strconv.FormatInt(size, 10)},
			[2]string{"nr_inodes", strconv.FormatInt(maxFiles(size), 10)})
	}
	for _, o := range options {
		if err := unix.FsconfigSetString(fs, o[0], o[1]); err != nil {
			return fmt.Errorf("tmpfs: %s=%s: %w", o[0], o[1], err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return fmt.Errorf("tmpfs: %w", err)
	}
	m, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return fmt.Errorf("tmpfs: fsmount: %w", err)
	}
	defer unix.Close(m)
	if err := unix.MoveMount(m, "", dir, name, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("tmpfs: move_mount: %w", err)
	}
	r.did("mount tmpfs on " + name)
	if err := unix.Mount("", "/proc/self/fd/"+strconv.Itoa(m), "", unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("tmpfs: make private: %w", err)
	}
	r.did("make tmpfs private")
	return nil
}

// maxFiles is how many files a layer of a limited size may have: an empty file needs
// no block, but an inode, of about a kilobyte in memory.
func maxFiles(size int64) int64 { return size/1024 + 1024 }

// unmount takes the tmpfs away if there is nothing in it and nobody uses it.
func (r *Root) unmount() error {
	lock, err := r.lock(unix.LOCK_EX | unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(lock)
	root, err := r.open()
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	layers, err := namesIn(root, layersDir)
	if err == nil {
		var trash []string
		trash, err = trashed(root)
		layers = append(layers, trash...)
	}
	unix.Close(root) // the mount would be busy
	if err != nil || len(layers) > 0 {
		return err
	}
	err = unix.Unmount(r.dir, unix.UMOUNT_NOFOLLOW)
	if err != nil && err != unix.EBUSY {
		return fmt.Errorf("unmount %s: %w", r.dir, err)
	}
	r.did("unmount tmpfs")
	return nil
}
