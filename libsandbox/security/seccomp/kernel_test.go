package seccomp

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// kernelSource is a program that loads a filter from its input and makes a call:
//
//	FLAGS MODE NR ARG...
//
// MODE is 64 for x86-64 and x32, 32 for i386. It prints what came of it: "ok", an
// errno, or the signal that ended the caller.
const kernelSource = `
#include <errno.h>
#include <linux/filter.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static long call32(long nr, long a, long b, long c)
{
	long ret;
	__asm__ volatile("int $0x80" : "=a"(ret) : "a"(nr), "b"(a), "c"(b), "d"(c) : "memory", "r8", "r9", "r10", "r11");
	return (int)ret;
}

static long call64(long nr, long a, long b, long c)
{
	long ret;
	__asm__ volatile("syscall" : "=a"(ret) : "a"(nr), "D"(a), "S"(b), "d"(c) : "memory", "rcx", "r11");
	return ret;
}

int main(int argc, char **argv)
{
	static struct sock_filter code[4096];
	struct sock_fprog prog = {fread(code, 8, 4096, stdin), code};
	long args[3] = {0}, nr = strtoul(argv[3], 0, 0);
	volatile long *result = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (int i = 4; i < argc && i < 7; i++)
		args[i - 4] = strtoul(argv[i], 0, 0);
	struct rlimit none = {0, 0};
	setrlimit(RLIMIT_CORE, &none);
	if (fork() == 0) {
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		result[1] = syscall(SYS_seccomp, 1, strtoul(argv[1], 0, 0), &prog);
		if (result[1] < 0) {
			result[1] = -errno;
			_exit(0);
		}
		result[0] = (atoi(argv[2]) == 32 ? call32 : call64)(nr, args[0], args[1], args[2]);
		_exit(0);
	}
	int status;
	wait(&status);
	if (result[1] < 0)
		printf("load: errno %ld", -result[1]);
	else if (WIFSIGNALED(status))
		printf("signal %d", WTERMSIG(status));
	else if (result[0] < 0 && result[0] > -4096)
		printf("errno %ld", -result[0]);
	else
		printf("ok");
	if (result[1] > 0)
		printf(" listener");
	return 0;
}
`

func buildLoader(t *testing.T) string {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("the loader makes the system calls of x86-64")
	}
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("no gcc to build the loader with")
	}
	source, binary := filepath.Join(t.TempDir(), "loader.c"), filepath.Join(t.TempDir(), "loader")
	if err := os.WriteFile(source, []byte(kernelSource), 0o644); err != nil {
		t.Fatal(err)
	}
	if text, err := exec.Command(gcc, "-w", "-o", binary, source).CombinedOutput(); err != nil {
		t.Skipf("gcc builds no programs here: %s", text)
	}
	return binary
}

// TestKernel loads filters and makes calls. It needs no privileges.
func TestKernel(t *testing.T) {
	loader := buildLoader(t)
	rule := func(action specs.LinuxSeccompAction, errno uint, name string, args ...specs.LinuxSeccompArg) specs.LinuxSyscall {
		r := specs.LinuxSyscall{Names: []string{name}, Action: action, Args: args}
		if action == specs.ActErrno {
			r.ErrnoRet = &errno
		}
		return r
	}
	s := &specs.LinuxSeccomp{
		DefaultAction: specs.ActErrno,
		Architectures: []specs.Arch{specs.ArchX86},
		Syscalls: []specs.LinuxSyscall{
			rule(specs.ActAllow, 0, "exit_group"),
			rule(specs.ActAllow, 0, "getpid"),
			rule(specs.ActErrno, 0, "setuid"),
			rule(specs.ActErrno, 95, "getgid"),
			rule(specs.ActKill, 0, "geteuid"),
			rule(specs.ActKillProcess, 0, "getegid"),
			rule(specs.ActTrap, 0, "getppid"),
			rule(specs.ActTrace, 0, "getpgrp"),
			rule(specs.ActLog, 0, "gettid"),
			rule(specs.ActAllow, 0, "lseek", specs.LinuxSeccompArg{Index: 1, Value: 1<<33 + 5, Op: specs.OpGreaterThan}),
			rule(specs.ActAllow, 0, "close", specs.LinuxSeccompArg{Index: 0, Value: 0xffffffff_00000000, ValueTwo: 1 << 40, Op: specs.OpMaskedEqual}),
			rule(specs.ActAllow, 0, "clone3", specs.LinuxSeccompArg{Index: 0, Value: 1, Op: specs.OpNotEqual}),
		},
	}
	f := compile(t, s)
	notify := compile(t, &specs.LinuxSeccomp{
		DefaultAction: specs.ActAllow, ListenerPath: "/x", Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagWaitKillableRecv},
		Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir"}, Action: specs.ActNotify}},
	})
	for _, c := range []struct {
		what   string
		filter *Filter
		call   string
		want   string
	}{
		{"allowed", f, "64 39", "ok"},
		{"default", f, "64 102", "errno 1"},
		{"errno 0", f, "64 105 12345", "ok"},
		{"errno 95", f, "64 104", "errno 95"},
		{"kill", f, "64 107", "signal 31"},
		{"kill process", f, "64 108", "signal 31"},
		{"trap", f, "64 110", "signal 31"},
		{"trace without a tracer", f, "64 111", "errno 38"},
		{"log", f, "64 186", "ok"},
		{"above", f, "64 8 -1 0x200000006", "errno 9"},
		{"equal", f, "64 8 -1 0x200000005", "errno 1"},
		{"above in the upper half", f, "64 8 -1 0x300000000", "errno 9"},
		{"below in the upper half", f, "64 8 -1 0x1ffffffff", "errno 1"},
		{"masked", f, "64 3 0x100ffffffff", "errno 9"},
		{"masked, other", f, "64 3 0x101ffffffff", "errno 1"},
		{"the last that the profile knows", f, "64 435 1", "errno 1"},
		{"newer than the profile", f, "64 436 1", "errno 38"},
		{"x32", f, "64 0x40000027", "signal 31"},
		{"i386", f, "32 20", "ok"},
		{"i386, default", f, "32 24", "errno 1"},
		{"i386, newer", f, "32 1000", "errno 38"},
		{"with a listener", notify, "64 39", "ok listener"},
	} {
		args := append([]string{fmt.Sprint(c.filter.Flags)}, strings.Fields(c.call)...)
		cmd := exec.Command(loader, args...)
		cmd.Stdin = bytes.NewReader(c.filter.Program)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case strings.HasPrefix(string(out), "load: errno 22") && c.filter == notify:
			t.Log("listener: not tested, the kernel is older than 5.19")
		case string(out) == "signal 11" && strings.HasPrefix(c.call, "32"):
			t.Log(c.what + ": not tested, the kernel has no i386 calls")
		case string(out) != c.want:
			t.Errorf("%s (%s): %s, want %s", c.what, c.call, out, c.want)
		}
	}
}

func compile(t *testing.T, s *specs.LinuxSeccomp) *Filter {
	t.Helper()
	f, err := Compile(s, specs.ArchX86_64)
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(f.Program); err != nil {
		t.Fatal(err)
	}
	return f
}
