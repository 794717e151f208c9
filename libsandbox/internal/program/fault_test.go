package program

import (
	"errors"
	"math"
	"testing"

	"golang.org/x/sys/unix"
)

func TestExplain(t *testing.T) {
	b := NewBuilder(3)
	b.Note("mounts[3] /proc")
	b.Emit(unix.SYS_FSMOUNT)
	b.Emit(Test)
	b.Fault(b.Emit(unix.SYS_EXECVE), `exec: "x": executable file not found in $PATH`)
	b.Fault(b.Emit(unix.SYS_FSCONFIG), `option "size=1": `)
	b.Emit(Call(9999))
	cases := []struct {
		op    int
		errno unix.Errno
		want  string
	}{
		{0, unix.EPERM, "mounts[3] /proc: fsmount: operation not permitted"},
		{1, unix.EPIPE, "mounts[3] /proc: check: broken pipe"},
		{2, unix.ENOENT, `mounts[3] /proc: exec: "x": executable file not found in $PATH`},
		{3, unix.EINVAL, `mounts[3] /proc: option "size=1": invalid argument`},
		{4, unix.ENOSYS, "mounts[3] /proc: syscall_9999: function not implemented"},
		{5, unix.EPERM, "init: op 5: operation not permitted"},
		{-1, unix.EPERM, "init: op -1: operation not permitted"},
		{math.MaxUint32, unix.EPERM, "init: op 4294967295: operation not permitted"},
		{math.MinInt, unix.EPERM, "init: op -9223372036854775808: operation not permitted"},
		{0, 4095, "mounts[3] /proc: fsmount: errno 4095"},
	}
	for _, c := range cases {
		err := b.Explain(c.op, c.errno)
		if err.Error() != c.want {
			t.Errorf("op %d: %q, want %q", c.op, err, c.want)
		}
		var f *Fault
		if !errors.Is(err, c.errno) || !errors.As(err, &f) || f.Op != c.op {
			t.Errorf("op %d: %#v does not carry its op and errno", c.op, err)
		}
	}
}

// The note that was current stays so behind Fault.
func TestFaultKeepsTheNote(t *testing.T) {
	b := NewBuilder(3)
	b.Note("root.path")
	b.Fault(b.Emit(unix.SYS_CHDIR), "text")
	if i := b.Emit(unix.SYS_CHDIR); b.Texts[b.Ops[i].Note] != "root.path" || b.Ops[i].Fault != 0 {
		t.Errorf("the next op has %q and fault %d", b.Texts[b.Ops[i].Note], b.Ops[i].Fault)
	}
}
