// Package quota limits how much a directory tree may hold, by project quota
// (quotactl(2), linux/quota.h): ext4 made with the feature "project" and XFS, mounted
// with the option prjquota.
package quota

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	fsGetXattr = 0x801c581f // FS_IOC_FSGETXATTR
	fsSetXattr = 0x401c5820 // FS_IOC_FSSETXATTR

	projInherit = 0x200 // FS_XFLAG_PROJINHERIT

	getQuota = 0x80000702 // QCMD(Q_GETQUOTA, PRJQUOTA)
	setQuota = 0x80000802 // QCMD(Q_SETQUOTA, PRJQUOTA)
	getState = 0x580802   // QCMD(Q_XGETQSTATV, PRJQUOTA)

	enforced  = 1 << 5 // FS_QUOTA_PDQ_ENFD
	setLimits = 1 | 4  // QIF_LIMITS
	block     = 1024   // QIF_DQBLKSIZE
)

// xattrs is struct fsxattr.
type xattrs struct {
	flags, extsize, nextents, project, cowextsize uint32
	pad                                           [8]byte
}

// limits is struct if_dqblk.
type limits struct {
	hard, soft, space    uint64
	inodeHard, inodeSoft uint64
	inodes, bTime, iTime uint64
	valid                uint32
	_                    uint32
}

// state is struct fs_quota_statv.
type state struct {
	version int8
	_       uint8
	flags   uint16
	_       [156]byte
}

func ioctl(fd int, request uint, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(arg))
	if errno != 0 {
		return errno
	}
	return nil
}

// quotactl is quotactl_fd(2), Linux 5.14.
func quotactl(fd int, command uint32, id uint32, arg unsafe.Pointer) error {
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, uintptr(fd), uintptr(command), uintptr(id), uintptr(arg), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// Enforced says whether the filesystem that fd is on keeps to limits of projects.
func Enforced(fd int) bool {
	s := state{version: 1} // FS_QSTATV_VERSION1
	return quotactl(fd, getState, 0, unsafe.Pointer(&s)) == nil && s.flags&enforced != 0
}

// Taken says whether a project has a limit, or anything belongs to it.
func Taken(fd int, id uint32) (bool, error) {
	var l limits
	err := quotactl(fd, getQuota, id, unsafe.Pointer(&l))
	if err == unix.ENOENT || err == unix.ESRCH { // XFS has no record of it
		return false, nil
	}
	return l.hard != 0 || l.inodes != 0, err
}

// Limit sets how many bytes, rounded up to 1024, and how many files a project may hold;
// 0 is no limit. On ext4, but not on XFS, whoever has CAP_SYS_RESOURCE on the host may
// exceed it. overlayfs gives that capability up when it is mounted, and write(2) through
// it stays below the limit; pages of a mapped file are allocated by whoever touches them,
// with the capability (measured on 6.1).
func Limit(fd int, id uint32, size, files int64) error {
	l := limits{hard: uint64((size + block - 1) / block), inodeHard: uint64(files), valid: setLimits}
	return quotactl(fd, setQuota, id, unsafe.Pointer(&l))
}

// Join makes a directory, and what is made in it from now on, belong to a project.
func Join(dir int, id uint32) error {
	var x xattrs
	if err := ioctl(dir, fsGetXattr, unsafe.Pointer(&x)); err != nil {
		return err
	}
	x.project = id
	x.flags |= projInherit
	return ioctl(dir, fsSetXattr, unsafe.Pointer(&x))
}
