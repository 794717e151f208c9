package bpf

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestLoad(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it loads a program into the kernel")
	}
	fd, err := LoadCgroupDevice([]Insn{Set(0, 1), Exit()})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	if err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags of the descriptor: %#x, %v", flags, err)
	}
	if err := AttachCgroupDevice(fd, fd); err == nil {
		t.Error("a program is no cgroup, but it is attached to")
	}
}

// What the verifier refuses is said with its reason.
func TestLoadRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: without it nothing is verified")
	}
	for _, test := range []struct {
		prog []Insn
		want string
	}{
		{[]Insn{Exit()}, "R0 !read_ok"},
		{[]Insn{Set(0, 1), Load32(2, 1, 400), Exit()}, "invalid bpf_context access"},
		{[]Insn{Set(0, 1), SkipIf(0, 1, 7), Exit()}, "jump out of range"},
	} {
		fd, err := LoadCgroupDevice(test.prog)
		if err == nil {
			unix.Close(fd)
		}
		if !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EINVAL) {
			t.Errorf("%v: %v", test.prog, err)
		} else if !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v, want %s", err, test.want)
		}
	}
}
