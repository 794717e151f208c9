// Package bpf is the little of bpf(2) that a filter of device accesses needs: the
// instructions it consists of, loading it, attaching it to a cgroup.
//
// It is not cilium/ebpf, because that costs every start of the runtime some
// package initialisers and page faults, and because what it can do more is not
// needed. There is no query on purpose: Linux 6.17 to 7.1 answers it beyond the end
// of a short structure.
package bpf

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Insn is struct bpf_insn, on machines that are little-endian.
type Insn struct {
	Code uint8
	Regs uint8 // destination in the low half, source in the high one
	Off  int16
	Imm  int32
}

// Load32 is dst = *(u32 *)(src + off).
func Load32(dst, src uint8, off int16) Insn {
	return Insn{unix.BPF_LDX | unix.BPF_MEM | unix.BPF_W, dst | src<<4, off, 0}
}

// And is dst &= imm, of the low 32 bits.
func And(dst uint8, imm int32) Insn {
	return Insn{unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, dst, 0, imm}
}

// ShiftRight is dst >>= imm, of the low 32 bits.
func ShiftRight(dst uint8, imm int32) Insn {
	return Insn{unix.BPF_ALU | unix.BPF_RSH | unix.BPF_K, dst, 0, imm}
}

// Move is dst = src, of the low 32 bits.
func Move(dst, src uint8) Insn {
	return Insn{unix.BPF_ALU | unix.BPF_MOV | unix.BPF_X, dst | src<<4, 0, 0}
}

// Set is dst = imm, of the low 32 bits.
func Set(dst uint8, imm int32) Insn {
	return Insn{unix.BPF_ALU | unix.BPF_MOV | unix.BPF_K, dst, 0, imm}
}

// SkipIf skips n instructions if the low 32 bits of dst are imm.
func SkipIf(dst uint8, imm int32, n int16) Insn {
	return Insn{unix.BPF_JMP32 | unix.BPF_JEQ | unix.BPF_K, dst, n, imm}
}

// SkipUnless skips n instructions unless the low 32 bits of dst are imm.
func SkipUnless(dst uint8, imm int32, n int16) Insn {
	return Insn{unix.BPF_JMP32 | unix.BPF_JNE | unix.BPF_K, dst, n, imm}
}

// Exit returns r0.
func Exit() Insn { return Insn{Code: unix.BPF_JMP | unix.BPF_EXIT} }

// loadAttr is the beginning of union bpf_attr as BPF_PROG_LOAD reads it; the kernel
// takes the rest for zero.
type loadAttr struct {
	kind     uint32
	count    uint32
	insns    uint64
	license  uint64
	logLevel uint32
	logSize  uint32
	log      uint64
}

// attachAttr is the same for BPF_PROG_ATTACH.
type attachAttr struct {
	target uint32
	prog   uint32
	kind   uint32
	flags  uint32
}

// LoadCgroupDevice loads a program of type BPF_PROG_TYPE_CGROUP_DEVICE and returns
// its descriptor, close-on-exec and the caller's to close. An error carries the
// verifier's reason.
func LoadCgroupDevice(prog []Insn) (int, error) {
	fd, err := load(prog, nil)
	if err == unix.EPERM {
		fd, err = loadUnlimited(prog)
	}
	if err == nil {
		return fd, nil
	}
	log := make([]byte, 64<<10)
	if fd, again := load(prog, log); again == nil {
		return fd, nil
	}
	return -1, fmt.Errorf("%w (%s)", os.NewSyscallError("bpf", err), verdict(unix.ByteSliceToString(log)))
}

// verdict is the last line of the verifier's log that is not its statistics.
func verdict(log string) string {
	last := "no reason given"
	for line := range strings.Lines(log) {
		if !strings.HasPrefix(line, "processed ") {
			last = strings.TrimSpace(line)
		}
	}
	return last
}

// loadUnlimited is for Linux before 5.11, which counts programs as locked memory.
// The limit is put back, for the container inherits it.
func loadUnlimited(prog []Insn) (int, error) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &old); err != nil {
		return -1, err
	}
	none := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	if unix.Setrlimit(unix.RLIMIT_MEMLOCK, &none) != nil {
		return -1, unix.EPERM
	}
	fd, err := load(prog, nil)
	return fd, errors.Join(err, unix.Setrlimit(unix.RLIMIT_MEMLOCK, &old))
}

func load(prog []Insn, log []byte) (int, error) {
	license := []byte("Apache-2.0\x00")
	// The addresses go in as integers: pinned, what they point to neither moves with
	// the stack nor is collected.
	var pin runtime.Pinner
	defer pin.Unpin()
	address := func(p []byte) uint64 {
		pin.Pin(unsafe.SliceData(p))
		return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(p))))
	}
	pin.Pin(unsafe.SliceData(prog))
	a := loadAttr{
		kind:    unix.BPF_PROG_TYPE_CGROUP_DEVICE,
		count:   uint32(len(prog)),
		insns:   uint64(uintptr(unsafe.Pointer(unsafe.SliceData(prog)))),
		license: address(license),
	}
	if len(log) > 0 {
		a.logLevel, a.logSize, a.log = 1, uint32(len(log)), address(log)
	}
	return bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&a), unsafe.Sizeof(a))
}

// AttachCgroupDevice attaches a program to a cgroup, beside others that the cgroup
// has and those above it. dir must not be open with O_PATH.
func AttachCgroupDevice(dir, prog int) error {
	a := attachAttr{target: uint32(dir), prog: uint32(prog), kind: unix.BPF_CGROUP_DEVICE, flags: unix.BPF_F_ALLOW_MULTI}
	_, err := bpf(unix.BPF_PROG_ATTACH, unsafe.Pointer(&a), unsafe.Sizeof(a))
	return os.NewSyscallError("bpf", err)
}

// bpf retries EINTR, and EAGAIN, which the verifier returns to a caller with a
// signal pending.
func bpf(cmd uintptr, attr unsafe.Pointer, size uintptr) (int, error) {
	for {
		n, _, errno := unix.Syscall(unix.SYS_BPF, cmd, uintptr(attr), size)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR, unix.EAGAIN:
		default:
			return -1, errno
		}
	}
}
