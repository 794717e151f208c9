package bundle_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	h "adl.run/adl-runtime/tests/harness"
)

// refusal is a spec that must be refused before anything runs.
type refusal struct {
	name   string
	change h.Mutate
	field  string // what this project's one line must contain
	runc   string // what runc's message contains; "-" means runc accepts the spec
}

// checkRefusals runs each case by `run` with a JSON log, and checks the status, the
// text on stderr, the log, and that nothing stays.
func checkRefusals(t *testing.T, cases []refusal) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if c.runc == "-" {
				h.OursOnly(t, "it accepts this, or only warns")
			}
			h.NotFor(t, "crun", "its messages name no field, and it accepts some of these")
			b := h.New(t, h.Args("echo", "must not run"), c.change)
			b.WriteSpec()
			log := b.Work + "/log"
			r := b.Do("--log", log, "--log-format", "json", "run", "--bundle", b.Dir, b.NewID())
			r.Refused(t, c.field, c.runc)
			if r.Stdout != "" {
				t.Errorf("stdout: %q", r.Stdout)
			}
			checkJSONLog(t, log, c.field, c.runc)
			b.CheckNothingLeft()
		})
	}
}

// checkJSONLog expects one error record with the keys that managers parse.
func checkJSONLog(t *testing.T, path, field, runc string) {
	t.Helper()
	want := field
	if h.Reference() == "runc" {
		want = runc
	}
	for _, line := range h.Lines(h.ReadFile(t, path)) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatalf("log line %q: %v", line, err)
		}
		msg, _ := record["msg"].(string)
		if record["time"] != nil && record["level"] == "error" && strings.Contains(msg, want) {
			return
		}
	}
	t.Errorf("no error record with %q in the log: %s", want, h.ReadFile(t, path))
}

func TestBadInput_Spec(t *testing.T) {
	t.Parallel()
	res := func(change func(*specs.LinuxResources)) h.Mutate { return h.Resources(change) }
	device := func(d specs.LinuxDevice) h.Mutate {
		return func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{d} }
	}
	checkRefusals(t, []refusal{
		{"unknown ociVersion", func(s *specs.Spec) { s.Version = "9.9.9" }, "ociVersion", "-"},
		{"closID is a path", func(s *specs.Spec) { s.Linux.IntelRdt = &specs.LinuxIntelRdt{ClosID: "../x"} }, "linux.intelRdt.closID", "Intel RDT"},
		{"no ociVersion", func(s *specs.Spec) { s.Version = "" }, "ociVersion", "-"},
		{"missing rootfs", func(s *specs.Spec) { s.Root.Path = "missing" }, "root.path", "invalid rootfs"},
		{"rootfs is a file", func(s *specs.Spec) { s.Root.Path = "config.json" }, "root.path", "not a directory"},
		{"no root", func(s *specs.Spec) { s.Root = nil }, "root", "root must be specified"},
		{"no process", func(s *specs.Spec) { s.Process = nil }, "process", "process property must not be empty"},
		{"no args", h.Args(), "process.args", "args must not be empty"},
		{"relative cwd", h.Cwd("tmp"), "process.cwd", "Cwd must be an absolute path"},
		{"no cwd", h.Cwd(""), "process.cwd", "Cwd property must not be empty"},
		{"unknown rlimit", h.Rlimits(specs.POSIXRlimit{Type: "RLIMIT_NOSUCH", Soft: 1, Hard: 1}), "process.rlimits[0]", "RLIMIT_NOSUCH"},
		{"soft above hard", h.Rlimits(specs.POSIXRlimit{Type: "RLIMIT_NOFILE", Soft: 20, Hard: 10}), "process.rlimits[0]", "rlimit"},
		{"rlimit twice", h.Rlimits(specs.POSIXRlimit{Type: "RLIMIT_NOFILE", Soft: 20, Hard: 20}, specs.POSIXRlimit{Type: "RLIMIT_NOFILE", Soft: 10, Hard: 10}), "process.rlimits[1]", "-"},
		{"oomScoreAdj out of range", func(s *specs.Spec) { s.Process.OOMScoreAdj = h.Ptr(5000) }, "process.oomScoreAdj", "can't get final child's PID"},
		{"relative mount destination", h.Mount("data", "tmpfs", "tmpfs"), "mounts[7].destination", "-"},
		{"missing mount source", h.Mount("/data", "bind", "/no/such/source", "bind"), "mounts[7]", "/no/such/source"},
		{"namespace of the wrong type", h.Namespace(specs.NetworkNamespace, "/proc/self/ns/ipc"), "linux.namespaces", "can't get final child's PID"},
		{"namespace is a regular file", h.Namespace(specs.NetworkNamespace, "/etc/passwd"), "linux.namespaces", "can't get final child's PID"},
		{"missing namespace", h.Namespace(specs.NetworkNamespace, "/no/such/ns"), "linux.namespaces", "/no/such/ns"},
		{"relative namespace", h.Namespace(specs.NetworkNamespace, "ns/net"), "linux.namespaces", "ns/net"},
		{"device of an unknown type", device(specs.LinuxDevice{Path: "/dev/x", Type: "z"}), "linux.devices[0].type", "invalid device type"},
		{"device below a file", device(specs.LinuxDevice{Path: "/etc/passwd/x", Type: "c", Major: 1, Minor: 3}), "linux.devices", "not a directory"},
		{"relative device", device(specs.LinuxDevice{Path: "x", Type: "c", Major: 1, Minor: 3}), "linux.devices[0].path", "-"},
		{"device rule of an unknown type", res(func(r *specs.LinuxResources) {
			r.Devices = []specs.LinuxDeviceCgroup{{Allow: true, Type: "z", Access: "rwm"}}
		}), "linux.resources.devices[0].type", "invalid cgroup device type"},
		{"cpus that do not exist", res(func(r *specs.LinuxResources) { r.CPU = &specs.LinuxCPU{Cpus: "999"} }), "linux.resources.cpu", "cpuset.cpus"},
		{"quota below the kernel's least", res(func(r *specs.LinuxResources) { r.CPU = &specs.LinuxCPU{Quota: h.Ptr(int64(1))} }), "linux.resources.cpu", "cpu.cfs_quota_us"},
		{"swap below limit", res(func(r *specs.LinuxResources) {
			r.Memory = &specs.LinuxMemory{Limit: h.Ptr(int64(100 << 20)), Swap: h.Ptr(int64(50 << 20))}
		}), "linux.resources.memory", "memsw"},
	})
}

func TestBadInput_NoResctrl(t *testing.T) {
	t.Parallel()
	if mounts, err := os.ReadFile("/proc/self/mounts"); err != nil || strings.Contains(string(mounts), " resctrl ") {
		t.Skip("needs a host without resctrl")
	}
	checkRefusals(t, []refusal{
		{"intelRdt", func(s *specs.Spec) { s.Linux.IntelRdt = &specs.LinuxIntelRdt{} }, "linux.intelRdt: the host has no resctrl file system mounted", "Intel RDT"},
	})
}

// What this version does not know yet is refused, never ignored.
func TestBadInput_NotSupportedYet(t *testing.T) {
	t.Parallel()
	checkRefusals(t, []refusal{
		{"apparmor", func(s *specs.Spec) { s.Process.ApparmorProfile = "some-profile" }, "process.apparmorProfile", "-"},
		{"selinux", func(s *specs.Spec) { s.Process.SelinuxLabel = "a:b:c:d" }, "process.selinuxLabel", "-"},
	})
}

// Managers write a mount label whether or not the host has SELinux; without it the
// label means nothing, but saying nothing is not an answer either.
func TestBadInput_MountLabelIsNotIgnoredSilently(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "runc and crun ignore it silently")
	b := h.New(t)
	b.Spec.Linux.MountLabel = "system_u:object_r:container_file_t:s0"
	b.WriteSpec()
	log := b.Work + "/log"
	b.Do("--log", log, "--log-format", "json", "run", "--bundle", b.Dir, b.NewID())
	if got := h.ReadFile(t, log); !strings.Contains(got, "linux.mountLabel") {
		t.Errorf("the log says nothing of linux.mountLabel: %q", got)
	}
}

func TestBadInput_SystemdCgroup(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "runc and crun support systemd cgroups")
	b := h.New(t)
	b.WriteSpec()
	b.Do("--systemd-cgroup", "run", "--bundle", b.Dir, b.NewID()).Fails(t, "systemd").OneLine(t)
}

func TestBadInput_ConfigText(t *testing.T) {
	t.Parallel()
	cases := []struct{ name, text, ours, runc string }{
		{"syntax", "{\n  \"ociVersion\": \"1.0.2\",\n  \"process\": ,\n}\n", "config.json:3:14:", "invalid character ','"},
		{"truncated", "{\n  \"ociVersion\": \"1.0", "config.json:2:", "unexpected EOF"},
		{"empty", "", "config.json:1:1:", "EOF"},
		{"wrong type", "{\n  \"ociVersion\": \"1.0.2\",\n  \"process\": {\"user\": {\"uid\": \"zero\"}}\n}\n", "process.user.uid", "Go struct field"},
		{"not an object", "[]\n", "config.json:1:1:", "cannot unmarshal array"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := h.New(t)
			b.Config(c.text)
			b.Run().Refused(t, c.ours, c.runc)
			b.CheckNothingLeft()
		})
	}
}

func TestBadInput_TextAfterTheConfig(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "runc reads one JSON value and ignores the rest")
	b := h.New(t)
	b.WriteSpec()
	b.Config(h.ReadFile(t, b.Dir+"/config.json") + "\n x\n")
	b.Run().Fails(t, "config.json:2:2:").OneLine(t)
}

func TestBadInput_NoConfig(t *testing.T) {
	t.Parallel()
	b := h.New(t)
	for _, verb := range []string{"run", "create"} {
		r := b.Do(verb, "--bundle", b.Dir, b.NewID())
		r.Refused(t, "config.json", "config.json")
	}
	r := b.Do("run", "--bundle", b.Work+"/missing", b.NewID())
	r.Refused(t, "no such file or directory", "no such file or directory")
	b.CheckNothingLeft()
}

// podman's classification (libpod/oci_util.go) looks for "executable file not
// found in" or "no such file or directory" (then its own status is 127), and for
// "permission denied" or "operation not permitted" (126); Docker's looks for the
// same phrases. The runtime's own status is 1.
func TestBadInput_Executable(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun has texts of its own, which the managers know too")
	cases := map[string]string{
		"foo":               `exec: "foo": executable file not found in $PATH`,
		"/nope":             `exec: "/nope": stat /nope: no such file or directory`,
		"./nope":            `exec: "./nope": stat ./nope: no such file or directory`,
		"/etc/passwd":       `exec: "/etc/passwd": permission denied`,
		"/etc":              `exec: "/etc": `,
		"/etc/passwd/below": `exec: "/etc/passwd/below": stat /etc/passwd/below: not a directory`,
	}
	for arg, want := range cases {
		for _, verb := range []string{"run", "create"} {
			b := h.New(t, h.Args(arg))
			b.WriteSpec()
			r := b.Do(verb, "--bundle", b.Dir, b.NewID()).OneLine(t)
			if r.Code != 1 {
				t.Errorf("%s %s: status %d, want 1", verb, arg, r.Code)
			}
			// In logfmt the quotes are escaped.
			if got := strings.ReplaceAll(r.Stderr, `\"`, `"`); !strings.Contains(got, want) {
				t.Errorf("%s %s: stderr %q, want %q", verb, arg, got, want)
			}
			b.CheckNothingLeft()
		}
	}
}

// A file that is executable but no program fails only at execve, in `start`.
func TestBadInput_ExecFormat(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("/opt/garbage"))
	b.File("/opt/garbage", "\x7fnot a program")
	h.Must(t, os.Chmod(b.In("/opt/garbage"), 0o755))
	r := b.Run()
	if r.Code != 1 || !strings.Contains(strings.ToLower(r.Stderr), "exec format error") {
		t.Errorf("%+v", r)
	}
}

func TestBadInput_InterpreterIsMissing(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("/opt/script"))
	b.File("/opt/script", "#!/no/such/interpreter\n")
	h.Must(t, os.Chmod(b.In("/opt/script"), 0o755))
	r := b.Run()
	if r.Code != 1 || !strings.Contains(strings.ToLower(r.Stderr), "no such file or directory") {
		t.Errorf("%+v", r)
	}
}

func TestBadInput_ExecutableForTheUserOnly(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("/opt/tool"), h.User(1000, 1000))
	b.File("/opt/tool", "#!/bin/sh\n")
	h.Must(t, os.Chmod(b.In("/opt/tool"), 0o700))
	r := b.Run()
	if r.Code != 1 || !strings.Contains(strings.ToLower(r.Stderr), "permission denied") {
		t.Errorf("%+v", r)
	}
}

func TestBadInput_ID(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun 1.8.1 deletes the folder that an id such as .. names")
	b := h.New(t)
	v := b.NewVictim()
	ids := []string{"", ".", "..", "a/b", "../victim", "a b", "a\nb", "a:b", "ü", "a\x01", strings.Repeat("a", 1025), v.Dir}
	for _, id := range ids {
		b.WriteSpec()
		for _, args := range [][]string{{"run", "--bundle", b.Dir, id}, {"create", "--bundle", b.Dir, id}, {"state", id}, {"kill", id, "KILL"}, {"start", id}, {"delete", id}} {
			if id == ".." && args[0] != "run" && args[0] != "create" && h.Reference() == "runc" {
				continue // runc looks for state.json in the parent of --root then
			}
			r := b.Do(args...)
			if r.Code != 1 || r.Stderr == "" || r.Stdout != "" {
				t.Errorf("%s %.20q: %+v", args[0], id, r)
			}
			if h.Reference() == "" {
				r.Fails(t, "container id").OneLine(t)
			}
		}
	}
	b.CheckNothingLeft()
}

// delete --force of an id that can name no container must not leave --root either.
func TestBadInput_IDOfDeleteForce(t *testing.T) {
	t.Parallel()
	h.NotFor(t, "crun", "crun deletes what the path names")
	b := h.New(t)
	b.NewVictim()
	for _, id := range []string{"../victim", "..", ".", "a/../../victim"} {
		b.Do("delete", "--force", id)
	}
}

func TestBadInput_Usage(t *testing.T) {
	t.Parallel()
	b := h.New(t)
	for _, args := range [][]string{{"create"}, {"create", "a", "b"}, {"start"}, {"state"}, {"kill"}, {"delete"}, {"run", "--no-such-flag", "a"}, {"list", "--format", "xml"}} {
		if r := b.Do(args...); r.Code == 0 || r.Stderr == "" {
			t.Errorf("%q: %+v", args, r)
		}
	}
	b.CheckNothingLeft()
}

func TestBadInput_DeviceThatCannotBeMade(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "runc leaves an existing file alone, whatever it is, and crun names no field")
	b := h.New(t)
	b.File("/opt/here/file", "")
	b.Spec.Linux.Devices = []specs.LinuxDevice{{Path: "/opt/here", Type: "c", Major: 1, Minor: 3}}
	b.Run().Fails(t, "linux.devices").OneLine(t)
}

func TestBadInput_DiskFull(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("echo", "must not run"))
	h.HostMount(t, "tmpfs", b.Root, "tmpfs", 0, "size=16k,mode=700")
	h.Must(t, fill(filepath.Join(b.Root, "filler")))
	b.Foreign("filler")
	r := b.Run()
	if r.Code == 0 || r.Stdout != "" {
		t.Errorf("%+v", r)
	}
	if h.Reference() == "" { // runc's and crun's texts do not say so, and crun leaves a directory
		r.Fails(t, "no space left on device").OneLine(t)
		if entries, err := os.ReadDir(b.Root); err != nil || len(entries) != 1 {
			t.Errorf("entries of --root: %v, %v; want only the filler", entries, err)
		}
	}
}

// fill writes a file until the file system is full.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			return nil
		}
	}
}

func TestBadInput_ReadonlyRoot(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("echo", "must not run"))
	h.HostMount(t, "tmpfs", b.Root, "tmpfs", unix.MS_RDONLY, "mode=700")
	r := b.Run()
	if r.Code == 0 || h.Reference() != "crun" && !strings.Contains(r.Stderr, "read-only file system") {
		t.Errorf("%+v", r)
	}
}

func TestBadInput_TooLittleMemory(t *testing.T) {
	t.Parallel()
	h.OursOnly(t, "runc and crun have other words for it")
	b := h.New(t, h.Sh("true"))
	b.Spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: h.Ptr(int64(4096))}
	_, r := b.TryCreate(nil)
	r.Fails(t, "linux.resources.memory.limit 4096 may be too low")
}

// Managers look for these words.
func TestBadInput_FileOnADirectory(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Sh("true"))
	b.File("/etc/hosts", "")
	b.Spec.Mounts = append(b.Spec.Mounts, specs.Mount{Destination: "/etc", Type: "bind", Source: b.In("/etc/hosts"), Options: []string{"bind"}})
	b.Run().Fails(t, "ot a directory")
	b.Spec.Mounts[len(b.Spec.Mounts)-1] = specs.Mount{Destination: "/etc/hosts", Type: "bind", Source: b.In("/etc"), Options: []string{"bind"}}
	b.Run().Fails(t, "ot a directory")
}

func TestBadInput_NoPermission(t *testing.T) {
	t.Parallel()
	b := h.New(t, h.Args("echo", "must not run"))
	for dir := b.Dir; dir != os.TempDir(); dir = filepath.Dir(dir) {
		h.Must(t, os.Chmod(dir, 0o755)) // so that only the runtime's own work is refused
	}
	asUser := func(c *command) {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	r := b.Run(asUser)
	if r.Code != 1 || r.Stderr == "" || strings.Contains(r.Stdout, "must not run") {
		t.Errorf("%+v", r)
	}
	if h.Reference() == "" {
		r.OneLine(t)
	}
	b.CheckNothingLeft()
}
