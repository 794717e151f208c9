package program

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestListingSpells goes through every way of writing an argument.
func TestListingSpells(t *testing.T) {
	b := NewBuilder(3)
	v := b.Slot("v")
	buf := b.Slots("buf", 3)
	cases := []struct {
		op   int
		want string
	}{
		{b.Let(FaultFD, b.File("sync")), "let($sync) = %fault"},
		{b.Let(v, b.String("text")), `let("text") = %v`},
		{b.Let(Discard, Arg{}), "let(0)"},
		{b.EmitTo(v, unix.SYS_OPENAT, Num(unix.AT_FDCWD), b.String("/p"), Num(unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC)), `openat(AT_FDCWD, "/p", O_PATH|O_DIRECTORY) = %v`},
		{b.Emit(unix.SYS_OPENAT, Num(unix.AT_FDCWD), b.String("/p"), Num(unix.O_RDWR|unix.O_NOCTTY|unix.O_APPEND)), `openat(AT_FDCWD, "/p", O_RDWR|O_NOCTTY|0x400)`},
		{b.Emit(unix.SYS_OPENAT2, Val(v), b.String("p"), b.Words(unix.O_PATH|unix.O_CLOEXEC, 0, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS), Num(24)), `openat2(%v, "p", {O_PATH, IN_ROOT|NO_MAGICLINKS}, 24)`},
		{b.Emit(unix.SYS_MOVE_MOUNT, Val(v), b.String(""), Val(v), b.String(""), Num(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)), `move_mount(%v, "", %v, "", F_EMPTY_PATH|T_EMPTY_PATH)`},
		{b.Emit(unix.SYS_MOUNT, Num(0), b.String("/"), Num(0), Num(unix.MS_REC|unix.MS_SLAVE)), `mount(NULL, "/", NULL, MS_REC|MS_SLAVE)`},
		{b.Emit(unix.SYS_MOUNT_SETATTR, Val(v), b.String(""), Num(unix.AT_EMPTY_PATH), b.Words(1, 0, 0, 0), Num(32)), `mount_setattr(%v, "", AT_EMPTY_PATH, {0x1, 0x0, 0x0, 0x0}, 32)`},
		{b.Emit(unix.SYS_FSMOUNT, Val(v), Num(unix.FSMOUNT_CLOEXEC), Num(unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID)), "fsmount(%v, CLOEXEC, RDONLY|NOSUID)"},
		{b.Emit(unix.SYS_FSCONFIG, Val(v), Num(unix.FSCONFIG_SET_FLAG), b.String("ro"), Num(0), Num(0)), `fsconfig(%v, SET_FLAG, "ro", NULL)`},
		{b.Emit(unix.SYS_MKDIRAT, Val(v), b.String("d"), Num(0o755)), `mkdirat(%v, "d", 0755)`},
		{b.Emit(unix.SYS_EXECVE, b.String("/p"), b.Strings([]string{"a", "b c"}), b.Strings(nil)), `execve("/p", ["a", "b c"], [])`},
		{b.Emit(unix.SYS_READ, b.File("sync"), Out(buf, 3), Num(1)), "read($sync, &%buf, 1)"},
		{b.Emit(unix.SYS_WRITE, Val(buf+2), In(buf+1, 1), Num(8)), "write(%buf[2], &%buf[1], 8)"},
		{b.Emit(unix.SYS_DUP3, Val(v), Num(7), Num(unix.O_CLOEXEC)), "dup3(%v, 7, CLOEXEC)"},
		{b.Emit(unix.SYS_CLOSE_RANGE, Num(3), Num(^uint32(0)), Num(0)), "close_range(3, ~0)"},
		{b.Emit(unix.SYS_FCNTL, Num(3), Num(unix.F_SETFD), Num(unix.FD_CLOEXEC)), "fcntl(3, F_SETFD, FD_CLOEXEC)"},
		{b.Emit(unix.SYS_CLOSE, Num(-1)), "close(-1)"},
		{b.Emit(unix.SYS_IOCTL, Val(v), Num(unix.SIOCSIFFLAGS), b.Bytes([]byte("lo\x00"))), `ioctl(%v, SIOCSIFFLAGS, "lo\x00")`},
		{b.Emit(unix.SYS_PRCTL, Num(unix.PR_SET_DUMPABLE), Num(0)), "prctl(PR_SET_DUMPABLE)"},
		{b.Emit(unix.SYS_UNSHARE, Num(unix.CLONE_NEWCGROUP|unix.CLONE_NEWNS)), "unshare(CLONE_NEWNS|CLONE_NEWCGROUP)"},
		{b.Emit(unix.SYS_SETSID), "setsid()"},
		{b.Emit(Call(4000), Num(1)), "syscall_4000(1)"},
		{b.Check(buf, 0xff, 0x12, unix.EPIPE), "check(%buf & 0xff == 0x12, EPIPE)"},
		{b.Check(v, ^uint64(0), 1, unix.EPIPE), "check(%v == 0x1, EPIPE)"},
		{b.Emit(Test, Num(0), Num(0), Num(1), Num(0), Num(int(unix.EPERM))), "fail(EPERM)"},
	}
	lines := strings.Split(b.Listing(), "\n")
	if len(lines) != len(b.Ops)+1 || lines[len(b.Ops)] != "" {
		t.Fatalf("%d lines for %d ops", len(lines)-1, len(b.Ops))
	}
	for _, c := range cases {
		_, text, _ := strings.Cut(strings.TrimSpace(lines[c.op]), "  ")
		text, _, _ = strings.Cut(text, "  #")
		if got := strings.TrimSpace(text); got != c.want {
			t.Errorf("op %d is\n%s\nwant\n%s", c.op, got, c.want)
		}
	}
}

func TestListingJumpsAndNotes(t *testing.T) {
	b := whole()
	b.Tolerate(opClose, unix.EBADF)
	var l Label
	b.OnSuccess(b.Emit(unix.SYS_SETSID), &l)
	b.Emit(unix.SYS_SETSID)
	b.Bind(&l)
	got := strings.Split(b.Listing(), "\n")
	for i, want := range map[int]string{
		opOpen:  `1 openat(AT_FDCWD, "/x", 0x0) = %v ? ENOENT->3 # start`,
		opClose: `2 close(%v) ? EBADF->3 # start`,
		6:       `6 setsid() ->8 # process.args`,
	} {
		if strings.Join(strings.Fields(got[i]), " ") != want {
			t.Errorf("line %d is\n%s\nwant\n%s", i, got[i], want)
		}
	}
}

// Every call that a program may use has its name; the numbers differ between
// architectures.
func TestCallNames(t *testing.T) {
	for c, want := range map[Call]string{
		unix.SYS_OPENAT2: "openat2", unix.SYS_MOUNT_SETATTR: "mount_setattr", unix.SYS_EXECVE: "execve",
		sysFstatat: "newfstatat", unix.SYS_CHROOT: "chroot", 0x7777: "syscall_30583",
	} {
		if c.String() != want {
			t.Errorf("call %d is %q, want %q", uint16(c), c, want)
		}
	}
}
