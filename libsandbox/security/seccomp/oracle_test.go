package seccomp

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// oracleSource is a program that does with libseccomp what runc does. It reads
//
//	resolve ARCH NAME
//	new ACTION | only ARCH | arch ARCH | rule ACTION NAME N {ARG OP A B}... | end | pfc
//
// and answers each resolve with a number, each end with the filter in hex or with
// "error LINE", the line within the filter that libseccomp refused, and each pfc
// with libseccomp's pseudo code for the same filter and an empty line.
const oracleSource = `
#define _GNU_SOURCE
#include <seccomp.h>
#include <stdio.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void print(scmp_filter_ctx ctx, int code)
{
	static unsigned char buf[1 << 22];
	int fd = memfd_create("filter", 0);
	int err = code ? seccomp_export_bpf(ctx, fd) : seccomp_export_pfc(ctx, fd);
	long n = pread(fd, buf, sizeof buf, 0);
	if (err)
		printf("error %d", err);
	else if (code)
		for (long i = 0; i < n; i++)
			printf("%02x", buf[i]);
	else
		fwrite(buf, 1, n, stdout);
	puts("");
	close(fd);
}

int main(void)
{
	char word[32], name[64];
	scmp_filter_ctx ctx = NULL;
	int line = 0, bad = -1;
	setlinebuf(stdout);
	while (scanf("%31s", word) == 1) {
		int ok = 0;
		uint32_t action;
		line++;
		if (!strcmp(word, "resolve")) {
			char arch[32];
			scanf("%31s %63s", arch, name);
			printf("%d\n", seccomp_syscall_resolve_name_arch(seccomp_arch_resolve_name(arch), name));
		} else if (!strcmp(word, "new")) {
			line = 0, bad = -1;
			alarm(3);
			scanf("%u", &action);
			if (ctx)
				seccomp_release(ctx);
			ctx = seccomp_init(action);
			ok = ctx ? 0 : -1;
		} else if (!strcmp(word, "only")) {
			scanf("%63s", name);
			seccomp_arch_remove(ctx, SCMP_ARCH_NATIVE);
			ok = seccomp_arch_add(ctx, seccomp_arch_resolve_name(name));
		} else if (!strcmp(word, "arch")) {
			scanf("%63s", name);
			ok = seccomp_arch_add(ctx, seccomp_arch_resolve_name(name));
			if (ok == -17) /* EEXIST */
				ok = 0;
		} else if (!strcmp(word, "rule")) {
			struct scmp_arg_cmp args[16];
			unsigned n;
			scanf("%u %63s %u", &action, name, &n);
			for (unsigned i = 0; i < n; i++) {
				unsigned arg, op;
				unsigned long long a, b;
				scanf("%u %u %llu %llu", &arg, &op, &a, &b);
				args[i] = (struct scmp_arg_cmp){arg, op, a, b};
			}
			int nr = seccomp_syscall_resolve_name(name);
			if (nr != __NR_SCMP_ERROR && ctx)
				ok = seccomp_rule_add_array(ctx, action, nr, n, args);
		} else if (!strcmp(word, "end")) {
			if (bad >= 0)
				printf("error %d\n", bad);
			else
				print(ctx, 1);
		} else if (!strcmp(word, "pfc")) {
			print(ctx, 0);
		}
		if (ok != 0 && bad < 0)
			bad = line;
	}
}
`

// oracle is libseccomp as runc uses it.
type oracle struct {
	t      *testing.T
	binary string
	known  map[string]int // answers to resolve
	in     *bufio.Writer
	out    *bufio.Reader
}

// startOracle builds and starts the oracle. It skips the test where that cannot be
// done.
func startOracle(t *testing.T) *oracle {
	t.Helper()
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("no gcc to build the oracle with")
	}
	dir := t.TempDir()
	source, binary := filepath.Join(dir, "oracle.c"), filepath.Join(dir, "oracle")
	if err := os.WriteFile(source, []byte(oracleSource), 0o644); err != nil {
		t.Fatal(err)
	}
	build := exec.Command(gcc, "-w", "-o", binary, source, "-lseccomp")
	if text, err := build.CombinedOutput(); err != nil {
		if strings.Contains(string(text), "seccomp.h: No such file") || strings.Contains(string(text), "cannot find -lseccomp") {
			t.Skip("libseccomp-dev is not installed (Debian: libseccomp-dev)")
		}
		t.Fatalf("gcc: %v\n%s", err, text)
	}
	o := &oracle{t: t, binary: binary, known: make(map[string]int)}
	o.start()
	return o
}

func (o *oracle) start() {
	cmd := exec.Command(o.binary)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		o.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		o.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	o.in, o.out = bufio.NewWriter(in), bufio.NewReaderSize(out, 1<<20)
}

// line returns the next line of output. There is none if libseccomp hung, and the
// oracle ended itself; then a new one is started.
func (o *oracle) line() (line string, ok bool) {
	o.t.Helper()
	err := o.in.Flush()
	if err == nil {
		line, err = o.out.ReadString('\n')
	}
	if err != nil {
		o.start()
		return "", false
	}
	return strings.TrimSuffix(line, "\n"), true
}

// resolve returns the number of a call as libseccomp has it: below 0 for a call
// that the architecture does not have by itself, -1 for a name nobody knows.
func (o *oracle) resolve(a arch, name string) int {
	question := scmpName(a) + " " + name
	if n, ok := o.known[question]; ok {
		return n
	}
	fmt.Fprintf(o.in, "resolve %s\n", question)
	text, _ := o.line()
	n, err := strconv.Atoi(text)
	if err != nil {
		o.t.Fatal(err)
	}
	o.known[question] = n
	return n
}

func scmpName(a arch) string {
	return [...]string{x86_64: "x86_64", x86: "x86", x32: "x32", aarch64: "aarch64", arm: "arm"}[a]
}

func scmpArch(name specs.Arch) arch {
	return map[specs.Arch]arch{
		specs.ArchX86_64: x86_64, specs.ArchX86: x86, specs.ArchX32: x32,
		specs.ArchAARCH64: aarch64, specs.ArchARM: arm,
	}[name]
}

// compile returns libseccomp's filter, without runc's addition to it; answer is how
// it did.
func (o *oracle) compile(s *specs.LinuxSeccomp, native specs.Arch) (code []insn, a answer) {
	o.t.Helper()
	fallback, err := verdict(s.DefaultAction, s.DefaultErrnoRet)
	if err != nil {
		o.t.Fatal(err)
	}
	fmt.Fprintf(o.in, "new %d\n", fallback)
	if native != specs.ArchX86_64 {
		fmt.Fprintf(o.in, "only %s\n", scmpName(scmpArch(native)))
	}
	for _, a := range s.Architectures {
		fmt.Fprintf(o.in, "arch %s\n", scmpName(scmpArch(a)))
	}
	for _, sys := range s.Syscalls {
		action, err := verdict(sys.Action, sys.ErrnoRet)
		if err != nil {
			o.t.Fatal(err)
		}
		if action == fallback {
			continue
		}
		for _, name := range sys.Names {
			o.rule(action, name, sys.Args)
		}
	}
	fmt.Fprintln(o.in, "end")
	text, ok := o.line()
	switch {
	case !ok:
		return nil, hung
	case strings.HasPrefix(text, "error"):
		return nil, rejected
	}
	raw, err := hex.DecodeString(text)
	if err != nil {
		o.t.Fatal(err)
	}
	return parse(raw), accepted
}

type answer string

const (
	accepted answer = "accepted"
	rejected answer = "refused"
	hung     answer = "in an endless loop" // libseccomp 2.5 with some rules of several actions
)

// rule adds the conditions one by one if an argument has several, as runc does.
func (o *oracle) rule(action uint32, name string, args []specs.LinuxSeccompArg) {
	if alternatives(args) {
		for _, a := range args {
			o.rule(action, name, []specs.LinuxSeccompArg{a})
		}
		return
	}
	fmt.Fprintf(o.in, "rule %d %s %d", action, name, len(args))
	for _, a := range args {
		number, err := operator(a.Op) // enum scmp_compare has our order
		if err != nil {
			o.t.Fatal(err)
		}
		fmt.Fprintf(o.in, " %d %d %d %d", a.Index, number, a.Value, a.ValueTwo)
	}
	fmt.Fprintln(o.in)
}

// stub is what runc puts before libseccomp's filter: calls above the largest that
// the profile names get ENOSYS. last is that number, by architecture; 0 is none.
type stub struct {
	active bool
	last   [arches]uint32
}

// findStub takes the numbers from resolve, which gives negative ones for calls that
// an architecture does not have by itself.
func findStub(s *specs.LinuxSeccomp, native specs.Arch, resolve func(arch, string) int) (st stub) {
	switch s.DefaultAction {
	case specs.ActAllow, specs.ActLog, specs.ActTrace:
		return st
	}
	st.active = true
	for _, name := range append([]specs.Arch{native}, s.Architectures...) {
		a := scmpArch(name)
		for _, sys := range s.Syscalls {
			for _, call := range sys.Names {
				if n := resolve(a, call); n > 0 {
					st.last[a] = max(st.last[a], uint32(n))
				}
			}
		}
	}
	return st
}

func (st *stub) refuses(d *data) bool {
	if !st.active {
		return false
	}
	for a := range arches {
		if a.audit() != d.arch || (a == x86_64 || a == x32) && (d.nr&x32Bit != 0) != (a == x32) {
			continue
		}
		return st.last[a] != 0 && d.nr > st.last[a]
	}
	return false
}

// dropUnknown drops what the oracle's libseccomp is too old to know.
func (o *oracle) dropUnknown(s *specs.LinuxSeccomp) {
	for i := range s.Syscalls {
		s.Syscalls[i].Names = slices.DeleteFunc(slices.Clone(s.Syscalls[i].Names), func(name string) bool {
			return o.resolve(x86_64, name) == -1
		})
	}
}
