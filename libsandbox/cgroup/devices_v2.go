package cgroup

import (
	"fmt"
	"math"
	"os"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/kernel/bpf"
)

// attachDevices attaches the policy as a filter program of the cgroup, which keeps
// it alive. It is added to the filters of the cgroups above (BPF_F_ALLOW_MULTI):
// access needs the consent of all.
//
// Filters that the cgroup may have from before are neither asked for nor replaced:
// a new cgroup has none, an older one can only deny more, and the query of Linux
// 6.17 to 7.1 writes past the end of a caller's short structure.
func attachDevices(path string, p *devicePolicy) error {
	if p.allow && len(p.exceptions) == 0 {
		return nil
	}
	dir, err := open(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("devices: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	defer unix.Close(dir)
	prog, err := bpf.LoadCgroupDevice(p.program())
	if err != nil {
		return fmt.Errorf("devices: load filter: %w", err)
	}
	defer unix.Close(prog)
	if err := bpf.AttachCgroupDevice(dir, prog); err != nil {
		return fmt.Errorf("devices: attach filter to %s: %w", path, err)
	}
	return nil
}

// program is the policy as eBPF. The kernel runs it with R1 at a struct
// bpf_cgroup_dev_ctx for each open and mknod of a device, and allows if it returns 1:
//
//	r2 = kind; r3 = access; r4 = major; r5 = minor
//	for each exception: unless it matches, go to the next; return !default
//	return default
//
// An exception that allows must cover all that is asked for; one that denies
// matches if it covers any of it. That is how v1 decides (match_exception and
// match_exception_partial in security/device_cgroup.c).
func (p *devicePolicy) program() []bpf.Insn {
	const r0, r1, r2, r3, r4, r5 = 0, 1, 2, 3, 4, 5
	prog := []bpf.Insn{
		bpf.Load32(r2, r1, 0), bpf.And(r2, 0xffff),
		bpf.Load32(r3, r1, 0), bpf.ShiftRight(r3, 16),
		bpf.Load32(r4, r1, 4),
		bpf.Load32(r5, r1, 8),
	}
	verdict := func(allow bool) []bpf.Insn {
		if allow {
			return []bpf.Insn{bpf.Set(r0, 1), bpf.Exit()}
		}
		return []bpf.Insn{bpf.Set(r0, 0), bpf.Exit()}
	}
	for _, e := range p.exceptions {
		// Each jump is to the end of its block, which is known from the back.
		block := verdict(!p.allow)
		front := func(insns ...bpf.Insn) { block = append(insns, block...) }
		skip := func() int16 { return int16(len(block)) }
		if e.minor != anyNumber {
			front(bpf.SkipUnless(r5, number32(e.minor), skip()))
		}
		if e.major != anyNumber {
			front(bpf.SkipUnless(r4, number32(e.major), skip()))
		}
		switch {
		case e.access == allAccess:
		case p.allow:
			front(bpf.Move(r1, r3), bpf.And(r1, int32(e.access)), bpf.SkipIf(r1, 0, skip()))
		default:
			front(bpf.Move(r1, r3), bpf.And(r1, int32(allAccess&^e.access)), bpf.SkipUnless(r1, 0, skip()))
		}
		front(bpf.SkipUnless(r2, kind(e.kind), skip()))
		prog = append(prog, block...)
	}
	return append(prog, verdict(p.allow)...)
}

func kind(c byte) int32 {
	if c == 'b' {
		return unix.BPF_DEVCG_DEV_BLOCK
	}
	return unix.BPF_DEVCG_DEV_CHAR
}

// number32 is a device number as a 32-bit immediate.
func number32(n int64) int32 {
	return int32(uint32(n & math.MaxUint32))
}
