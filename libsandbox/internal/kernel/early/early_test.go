package early

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unsafe"
)

// TestNoRuntime looks at the calls that the compiler has made of this package.
func TestNoRuntime(t *testing.T) {
	exe := buildEntry(t)
	out, err := exec.Command("go", "tool", "objdump", "-s", `kernel/early\.|^syscall\.RawSyscall6$`, exe).Output()
	if err != nil {
		t.Fatal(err)
	}
	// The write barrier is behind a flag that Go's garbage collector sets; RawSyscall6 is
	// a system call, without a word to the scheduler, on whatever stack there is.
	fine := regexp.MustCompile(`^(adl\.run/adl-runtime/libsandbox/internal/kernel/early\..*|syscall\.RawSyscall6|internal/runtime/syscall/linux\.Syscall6(\.abi0)?|runtime\.gcWriteBarrier\d)\(SB\)$`)
	later := regexp.MustCompile(`^\S+/early\.(init|TakeNetwork|\(\*Network\)\.\w+)\(SB\)`) // what Go calls
	var calls [][][]byte
	for text := range bytes.SplitSeq(out, []byte("TEXT ")) {
		if !later.Match(text) {
			calls = append(calls, regexp.MustCompile(`(?m)(?:CALL|JMP|BL) (\S+\(SB\))`).FindAllSubmatch(text, -1)...)
		}
	}
	if len(calls) < 20 {
		t.Fatalf("%d calls in\n%s", len(calls), out)
	}
	for _, c := range calls {
		if !fine.Match(c[1]) {
			t.Errorf("calls %s", c[1])
		}
	}
}

// find is what cgroups and member make of a state.json.
func find(state, id string) (dirs []string, ok bool) {
	clear(text[:])
	copy(text[:len(text)-1], state)
	zero := append([]byte(id), 0)
	at, ok := cgroups(cstring{&zero[0]})
	for ok && at.at(0) != '}' {
		end, dir, good := member(at)
		if !good {
			panic("cgroups has accepted it")
		}
		n := uintptr(unsafe.Pointer(end.p)) - 1 - dir.address()
		dirs = append(dirs, unsafe.String(dir.p, n))
		at = end
	}
	for i := range dirs {
		dirs[i] = strings.Clone(dirs[i])
	}
	return dirs, ok
}

func TestCgroups(t *testing.T) {
	const all = `{"plain":true,"id":"c1","cgroup":{"":"/sys/fs/cgroup/unified/c1","cpu":"/sys/fs/cgroup/cpu/a b/c1"},"x":1}`
	want := []string{"/sys/fs/cgroup/unified/c1", "/sys/fs/cgroup/cpu/a b/c1"}
	if got, ok := find(all, "c1"); !ok || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, ok)
	}
	if got, ok := find(`{"plain":true,"id":"c1","cgroup":{},"x":1}`, "c1"); !ok || got != nil {
		t.Errorf("without cgroups: %q, %v", got, ok)
	}
	for n := range strings.Index(all, `},"x`) {
		if got, ok := find(all[:n], "c1"); ok {
			t.Errorf("%q was accepted: %q", all[:n], got)
		}
	}
	for _, id := range []string{"", "c", "c11", "c2"} {
		if _, ok := find(all, id); ok {
			t.Errorf("the record of c1 was accepted for %q", id)
		}
	}
	for _, bad := range []string{
		`{"plain":false,"id":"c1","cgroup":{}}`,
		`{"id":"c1","cgroup":{}}`,
		`{"plain":true,"id":"c1","cgroup":null}`,
		`{"plain":true,"id":"c1","cgroup":{"unit":"a.scope"}}`,
		`{"plain":true,"id":"c1","cgroup":{"":"/sys/fs/cgroup/../../../etc/x"}}`,
		`{"plain":true,"id":"c1","cgroup":{"":"/sys/fs/cgroup/./x"}}`,
		`{"plain":true,"id":"c1","cgroup":{"":"/sys/fs/cgroups/x"}}`,
		`{"plain":true,"id":"c1","cgroup":{"":"/etc"}}`,
		`{"plain":true,"id":"c1","cgroup":{"":"/sys/fs/cgroup/a\\u002fb"}}`,
		`{"plain":true,"id":"c1","cgroup":{"":1}}`,
		`{"plain":true,"id":"c1","cgroup":{"" "/sys/fs/cgroup/x"}}`,
	} {
		if got, ok := find(bad, "c1"); ok {
			t.Errorf("%s was accepted: %q", bad, got)
		}
	}
}

// FuzzCgroups compares what is found in JSON with what encoding/json finds.
func FuzzCgroups(f *testing.F) {
	f.Add(`"":"/sys/fs/cgroup/unified/c1","cpu":"/sys/fs/cgroup/cpu/c1"`, `"a":1`)
	f.Add(``, `"":"/"`)
	f.Add(`"":"/sys/fs/cgroup/a"}`, ``)
	f.Fuzz(func(t *testing.T, members, rest string) {
		if len(members)+len(rest) > len(text)/2 || strings.Contains(members, "\x00") {
			t.Skip("longer than the buffer, or a file that ends there")
		}
		state := Plain + "c1" + IDEnd + members + "}," + rest + "}"
		got, ok := find(state, "c1")
		for _, dir := range got {
			if !strings.HasPrefix(dir, cgroupRoot) || strings.Contains(dir, "/.") {
				t.Errorf("%q from %q", dir, state)
			}
		}
		var want struct{ Cgroup map[string]string }
		if !ok || json.Unmarshal([]byte(state), &want) != nil || strings.Contains(strings.ToLower(rest), `cgroup`) || strings.Contains(rest, `\u`) {
			return
		}
		// A key may be there twice: the decoder has the last one.
		for _, dir := range slices.Sorted(maps.Values(want.Cgroup)) {
			if !slices.Contains(got, strings.ToValidUTF8(dir, "\ufffd")) && !strings.Contains(dir, "\ufffd") {
				t.Errorf("%q has %q, which was not found: %q", state, dir, got)
			}
		}
	})
}

// commandLine makes the stack that execve(2) makes.
func commandLine(args, env []string) {
	words := make([]unsafe.Pointer, 1)
	*(*uintptr)(unsafe.Pointer(&words[0])) = uintptr(len(args))
	for _, list := range [][]string{args, env} {
		for _, s := range list {
			words = append(words, unsafe.Pointer(&append([]byte(s), 0)[0]))
		}
		words = append(words, nil)
	}
	stack = unsafe.Pointer(&words[0])
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args string
		env  []string
		path string // "" is for Go
	}{
		{"--root /run/x delete c1", nil, "/run/x/c1"},
		{"--root=/run/x delete c1", nil, "/run/x/c1"},
		{"--root /run/x delete --force c1", nil, "/run/x/c1"},
		{"--root /run/x delete c1 -f", nil, "/run/x/c1"},
		{"--root /run/x --log-format json delete c1", nil, "/run/x/c1"},
		{"--log-format=text --root /run/x delete c1", nil, "/run/x/c1"},
		{"delete a_b+c-d.e", nil, "/run/adl-runtime/a_b+c-d.e"},
		{"delete c1", []string{"XDG_RUNTIME_DIR=/run/user/0", "USER=root"}, "/run/adl-runtime/c1"},
		{"delete c1", []string{"USER=root", "XDG_RUNTIME_DIR=/run/user/0"}, "/run/adl-runtime/c1"},
		{"delete c1", []string{"USER=rooted", "XDG_RUNTIME_DIR=/run/user/0"}, ""},
		{"delete c1", []string{"XDG_RUNTIME_DIR="}, ""},
		{"delete c1", []string{"XDG_RUNTIME_DIRS=/x", "USER=a"}, "/run/adl-runtime/c1"},
		{"", nil, ""},
		{"delete", nil, ""},
		{"delete -f", nil, ""},
		{"delete c1 c2", nil, ""},
		{"delete ..", nil, ""},
		{"delete .", nil, ""},
		{"delete a/b", nil, ""},
		{"delete -- c1", nil, ""},
		{"delete --help c1", nil, ""},
		{"delete --forced c1", nil, ""},
		{"deletes c1", nil, ""},
		{"state c1", nil, ""},
		{"--debug delete c1", nil, ""},
		{"--log-format xml delete c1", nil, ""},
		{"--log-format delete c1", nil, ""},
		{"--root /run/x --root /run/y delete c1", nil, ""},
		{"--root / delete c1", nil, ""},
		{"--root= delete c1", nil, ""},
		{"--root // delete c1", nil, ""},
		{"--root /. delete c1", nil, ""},
		{"--root /run/.. delete c1", nil, ""},
		{"--root run delete c1", nil, ""},
		{"--roots /run/x delete c1", nil, ""},
		{"--root", nil, ""},
		{"delete " + strings.Repeat("a", len(path)), nil, ""},
	} {
		if os.Geteuid() != 0 && !strings.Contains(c.args, "--root") {
			c.path = "" // a user's store is elsewhere
		}
		commandLine(append([]string{"adl-runtime"}, strings.Fields(c.args)...), c.env)
		clear(path[:])
		var l line
		got := ""
		if l.parse() && l.setPath() {
			got, _, _ = strings.Cut(string(path[:]), "\x00")
		}
		if got != c.path {
			t.Errorf("%s %q: %q, want %q", c.args, c.env, got, c.path)
		}
	}
}
