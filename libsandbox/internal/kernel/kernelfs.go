package kernel

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// KernelFS returns the name of the file system that an open file is on, O_PATH
// descriptors included, if its files are not files but the kernel's state: to read or
// write one does something to the host, whose root may do more than the container's.
// Otherwise it is empty.
func KernelFS(fd int) (string, error) {
	var fs unix.Statfs_t
	if err := Retry(func() error { return unix.Fstatfs(fd, &fs) }); err != nil {
		return "", fmt.Errorf("statfs: %w", err)
	}
	switch uint32(fs.Type) {
	case unix.PROC_SUPER_MAGIC:
		return "proc", nil
	case unix.SYSFS_MAGIC:
		return "sysfs", nil
	case unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC:
		return "cgroup", nil
	case unix.DEBUGFS_MAGIC:
		return "debugfs", nil
	case unix.TRACEFS_MAGIC:
		return "tracefs", nil
	case unix.SECURITYFS_MAGIC:
		return "securityfs", nil
	case unix.SELINUX_MAGIC, unix.SMACK_MAGIC, unix.AAFS_MAGIC:
		return "of a security module", nil
	case unix.BPF_FS_MAGIC:
		return "bpf", nil
	case unix.DEVPTS_SUPER_MAGIC:
		return "devpts", nil
	case unix.NSFS_MAGIC:
		return "nsfs", nil
	case unix.BINFMTFS_MAGIC:
		return "binfmt_misc", nil
	case unix.PSTOREFS_MAGIC:
		return "pstore", nil
	case unix.EFIVARFS_MAGIC:
		return "efivarfs", nil
	case unix.RDTGROUP_SUPER_MAGIC:
		return "resctrl", nil
	case unix.HUGETLBFS_MAGIC:
		return "hugetlbfs", nil
	case 0x62656570: // CONFIGFS_MAGIC of the kernel's fs/configfs
		return "configfs", nil
	case 0x65735543: // FUSE_CTL_SUPER_MAGIC of the kernel's fs/fuse
		return "fusectl", nil
	}
	return "", nil
}
