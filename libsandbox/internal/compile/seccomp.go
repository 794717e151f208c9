package compile

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// Filter is a seccomp filter for seccomp(2).
type Filter struct {
	Program []byte // array of struct sock_filter
	Flags   uint32
}

// Listens says that loading the filter makes a listener, which goes to an agent.
func (f *Filter) Listens() bool {
	return f != nil && f.Flags&unix.SECCOMP_FILTER_FLAG_NEW_LISTENER != 0
}

// filter loads the seccomp filter. It comes as late as it can, so that a profile needs
// to allow no more than what the process needs, and execve(2).
func (c *compiler) filter() {
	if f := c.facts.Seccomp; f != nil && !f.Listens() {
		c.loadFilter(program.Discard, f.Flags)
	}
}

// listenedFilter loads a filter whose listener the runtime has to fetch from this
// process and to pass on. That has to happen while the container is being made, as
// long as somebody can say that there is no agent.
func (c *compiler) listenedFilter() {
	f := c.facts.Seccomp
	if !f.Listens() {
		return
	}
	record := c.Slots("listener", 2)
	c.Let(record, program.Num(uint64(0xffffffff|BarrierListener<<32)))
	c.loadFilter(record+1, f.Flags)
	c.Emit(unix.SYS_WRITE, c.File(FileSync), program.In(record, 2), program.Num(16))
	c.await()
}

func (c *compiler) loadFilter(fd program.Slot, flags uint32) {
	c.Note("linux.seccomp")
	code := c.Bytes(c.facts.Seccomp.Program)
	prog := c.Words(uint64(len(c.facts.Seccomp.Program)/unix.SizeofSockFilter), 0)
	c.Relocs = append(c.Relocs, program.Reloc{At: uint32(prog.Val) + 8, To: uint32(code.Val)})
	c.EmitTo(fd, unix.SYS_SECCOMP, program.Num(unix.SECCOMP_SET_MODE_FILTER), program.Num(flags), prog)
}

// filterCaps are the capabilities that loading the filter takes (seccomp(2)). They are
// kept beyond capset(2), and gone after execve(2), which computes the permitted set
// anew (capabilities(7)). That saves a profile from having to allow capset.
func (c *compiler) filterCaps(p *specs.Process) uint64 {
	if c.facts.Seccomp == nil || p.NoNewPrivileges {
		return 0
	}
	return 1 << unix.CAP_SYS_ADMIN & c.facts.Bounding
}

// seen says whether processes that are not the runtime's may see init while it waits for
// its start: then it must not have capabilities that the spec does not give it, for one
// with CAP_SYS_PTRACE would take them.
func (c *compiler) seen() bool {
	if c.out.Direct || !c.opts.Listen {
		return false
	}
	for _, ns := range c.spec.Linux.Namespaces {
		if ns.Type == specs.PIDNamespace {
			return ns.Path != ""
		}
	}
	return true
}
