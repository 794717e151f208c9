package kernel

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWithFileCaps(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: gives capabilities up")
	}
	effective := func() uint64 {
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capget(&hdr, &data[0]); err != nil {
			t.Fatal(err)
		}
		return uint64(data[1].Effective)<<32 | uint64(data[0].Effective)
	}
	before, failed := effective(), errors.New("failed")
	err := WithFileCaps(func() error {
		if got := effective(); got != before&fileCaps || got&(1<<unix.CAP_DAC_OVERRIDE) == 0 || got&(1<<unix.CAP_SYS_RESOURCE) != 0 {
			t.Errorf("capabilities %#x", got)
		}
		return failed
	})
	if err != failed {
		t.Error(err)
	}
	if got := effective(); got != before {
		t.Errorf("capabilities %#x afterwards, %#x before", got, before)
	}
}

func TestKernelFS(t *testing.T) {
	for path, want := range map[string]string{"/proc/self/status": "proc", "/sys/kernel": "sysfs", "/proc/self/ns/net": "nsfs", t.TempDir(): ""} {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := KernelFS(fd); got != want || err != nil {
			t.Errorf("%s: %q, %v", path, got, err)
		}
		unix.Close(fd)
	}
}
