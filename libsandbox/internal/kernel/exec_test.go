package kernel

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// echo is an executable that prints a word.
func echo(t *testing.T) []byte {
	t.Helper()
	path, err := exec.LookPath("echo")
	if err != nil {
		t.Skip("needs echo: " + err.Error())
	}
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// checkExecutable runs the file behind fd, which it closes.
func checkExecutable(t *testing.T, fd, min int) {
	t.Helper()
	defer unix.Close(fd)
	if fd < min {
		t.Errorf("descriptor %d, want %d or higher", fd, min)
	}
	if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags != unix.FD_CLOEXEC {
		t.Errorf("descriptor flags %d, %v", flags, err)
	}
	out, err := exec.Command("/proc/self/fd/"+strconv.Itoa(fd), "hello").CombinedOutput()
	if err != nil || string(out) != "hello\n" {
		t.Errorf("it wrote %q and ended with %v", out, err)
	}
}

func TestExecutable(t *testing.T) {
	image := echo(t)
	_ = exec.Command("/bin/true").Run()
	noLeak(t)
	for _, min := range []int{0, 3, 50} {
		fd, err := Executable("test", image, min)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Pwrite(fd, []byte("x"), 0); !errors.Is(err, unix.EPERM) {
			t.Errorf("writing to the sealed file: %v", err)
		}
		if err := unix.Ftruncate(fd, 0); !errors.Is(err, unix.EPERM) {
			t.Errorf("truncating the sealed file: %v", err)
		}
		checkExecutable(t, fd, min)
	}
}

func TestUnnamedExecutable(t *testing.T) {
	image := echo(t)
	_ = exec.Command("/bin/true").Run()
	noLeak(t)
	dir := t.TempDir()
	for _, min := range []int{0, 50} {
		fd, err := unnamedExecutable(dir, image, min)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Pwrite(fd, []byte("x"), 0); !errors.Is(err, unix.EBADF) {
			t.Errorf("writing to it: %v", err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Nlink != 0 || st.Mode&0o777 != 0o500 {
			t.Errorf("%d links, mode %o, %v", st.Nlink, st.Mode, err)
		}
		checkExecutable(t, fd, min)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left in the directory: %v, %v", left, err)
	}
}

func TestUnnamedExecutableFails(t *testing.T) {
	noLeak(t)
	_, err := unnamedExecutable(filepath.Join(t.TempDir(), "missing"), nil, 0)
	if !errors.Is(err, unix.ENOENT) || !strings.HasPrefix(err.Error(), "vm.memfd_noexec forbids executable memfds, and an unnamed file in ") {
		t.Errorf("missing directory: %v", err)
	}
	if _, err := unnamedExecutable("/proc", nil, 0); err == nil {
		t.Error("procfs made an unnamed file")
	}
	if fd, err := Executable("test", nil, 1<<30); err == nil {
		t.Errorf("descriptor %d beyond the limit", fd)
	}
	if _, err := Executable(strings.Repeat("x", 300), nil, 0); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a name that is too long: %v", err)
	}
}

func TestWriteAllFails(t *testing.T) {
	full, err := unix.Open("/dev/full", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("needs /dev/full: " + err.Error())
	}
	defer unix.Close(full)
	if err := WriteAll(full, []byte("x")); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a full device: %v", err)
	}
	if err := WriteAll(-1, nil); err != nil {
		t.Errorf("nothing to write: %v", err)
	}
}
