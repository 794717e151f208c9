package quota

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestNoQuota: what has no quotas says so. With quotas, package layer tests this one.
func TestNoQuota(t *testing.T) {
	fd, err := unix.Open("/proc", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if Enforced(fd) {
		t.Error("/proc has project quotas")
	}
	if taken, err := Taken(fd, 7); taken || err == nil {
		t.Errorf("project 7 of /proc: %v, %v", taken, err)
	}
	if err := Limit(fd, 7, 1024, 1); err == nil {
		t.Error("/proc has a limit")
	}
	if err := Join(fd, 7); err == nil {
		t.Error("/proc belongs to a project")
	}
}

// The kernel's sizes, from linux/fs.h, linux/quota.h and linux/dqblk_xfs.h.
func TestSizes(t *testing.T) {
	for name, s := range map[string][2]uintptr{
		"fsxattr":        {unsafe.Sizeof(xattrs{}), 28},
		"if_dqblk":       {unsafe.Sizeof(limits{}), 72},
		"fs_quota_statv": {unsafe.Sizeof(state{}), 160},
	} {
		if s[0] != s[1] {
			t.Errorf("%s has %d bytes, want %d", name, s[0], s[1])
		}
	}
}
