package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const (
	envRuntime   = "ADL_RUNTIME"
	envReference = "ADL_REFERENCE"
	envStore     = "ADL_TEST_STORE"
	envOldKernel = "ADL_OLD_KERNEL"
)

// busyboxPaths are the places where distributions install a static busybox.
func busyboxPaths() []string {
	return []string{"/usr/bin/busybox", "/bin/busybox", "/bin/busybox-static", "/usr/bin/busybox-static"}
}

// Main prepares the runtime under test, runs m, and returns the exit status. The
// status is 1 when a test failed or when anything outlived the tests: a process,
// a mount, a cgroup directory, a descriptor of this process, or a file in the
// test store.
//
// When the tests cannot run here at all (see [Require]) it runs m without building
// anything; each test then skips with the reason.
func Main(m *testing.M) int {
	if missing() != "" {
		return m.Run()
	}
	store, err := os.MkdirTemp("", "adl-tests-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
		return 1
	}
	defer os.RemoveAll(store)
	// One test runs the runtime as another user, who must reach it.
	if err := os.Chmod(store, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
		return 1
	}
	if err := prepare(store); err != nil {
		fmt.Fprintln(os.Stderr, "harness:", err)
		return 1
	}
	before := takeSnapshot()
	code := m.Run()
	reapEnded()
	for _, leak := range before.leaks(takeSnapshot()) {
		fmt.Fprintln(os.Stderr, "harness: left behind by the suite:", leak)
		code = 1
	}
	return code
}

// prepare makes this process a subreaper, finds or builds the runtime, and copies
// busybox into store.
func prepare(store string) error {
	// prctl(2): PR_SET_CHILD_SUBREAPER belongs to the whole process, not the thread.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become subreaper: %w", err)
	}
	if err := copyFile(filepath.Join(store, "busybox"), findBusybox(), 0o755); err != nil {
		return err
	}
	os.Setenv(envStore, store)
	path, reference, err := findRuntime(store)
	if err != nil {
		return err
	}
	if os.Getenv(envOldKernel) != "" {
		if path, err = wrapOld(store, path); err != nil {
			return err
		}
	}
	os.Setenv(envRuntime, path)
	os.Setenv(envReference, reference)
	return nil
}

// findRuntime returns the runtime's path and its [Reference] name.
func findRuntime(store string) (path, reference string, err error) {
	path = os.Getenv(envRuntime)
	if path == "" {
		path, err = build(store)
		return path, "", err
	}
	if path, err = exec.LookPath(path); err != nil {
		return "", "", err
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", "", err
	}
	out, err := exec.Command(path, "--version").Output()
	if err != nil {
		return "", "", fmt.Errorf("%s --version: %w", path, err)
	}
	switch {
	case strings.HasPrefix(string(out), "runc "):
		return path, "runc", nil
	case strings.HasPrefix(string(out), "crun "):
		path, err = wrapCrun(store, path)
		return path, "crun", err
	}
	return path, "", nil
}

// wrapCrun writes a script that hides the cgroup v2 mount of a hybrid host from
// crun, which otherwise takes the host for a pure v2 one and fails.
func wrapCrun(store, path string) (string, error) {
	if _, err := os.Stat("/sys/fs/cgroup/unified"); err != nil {
		return path, nil
	}
	script := fmt.Sprintf("#!/bin/sh\nexec unshare -m sh -c 'umount /sys/fs/cgroup/unified; exec %s \"$@\"' crun \"$@\"\n", path)
	wrapper := filepath.Join(store, "crun")
	return wrapper, os.WriteFile(wrapper, []byte(script), 0o755)
}

// wrapOld writes a script that executes the runtime by oldkernel.
func wrapOld(store, path string) (string, error) {
	old, err := compile(store, "oldkernel", "adl.run/adl-runtime/libsandbox/internal/kernel/oldkernel")
	if err != nil {
		return "", err
	}
	wrapper := filepath.Join(store, "old")
	return wrapper, os.WriteFile(wrapper, fmt.Appendf(nil, "#!/bin/sh\nexec %s %s \"$@\"\n", old, path), 0o755)
}

// build compiles the module's main package the way a release is built.
func build(store string) (string, error) {
	return compile(store, "adl-runtime", "adl.run/adl-runtime", "-ldflags", "-E adl_entry")
}

func compile(store, name, pkg string, flags ...string) (string, error) {
	out := filepath.Join(store, name)
	cmd := exec.Command("go", append(append([]string{"build", "-trimpath", "-tags", "urfave_cli_no_docs", "-o", out}, flags...), pkg)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w\n%s", pkg, err, text)
	}
	return out, nil
}

// missing says what this machine lacks for the suite, or "".
func missing() string {
	switch {
	case os.Geteuid() != 0:
		return "not root: containers without a user namespace need uid 0"
	case findBusybox() == "":
		return "no static busybox (Debian package busybox-static)"
	}
	return ""
}

// Require skips the test when the machine lacks what every bundle test needs.
func Require(t testing.TB) {
	t.Helper()
	if why := missing(); why != "" {
		t.Skip(why)
	}
}

// Reference is "runc" or "crun" when ADL_RUNTIME is that runtime, and "" when the
// runtime under test is this project's own.
func Reference() string { return os.Getenv(envReference) }

// OursOnly skips the test under a reference runtime; why says in which way this
// project deliberately differs.
func OursOnly(t testing.TB, why string) {
	t.Helper()
	if r := Reference(); r != "" {
		t.Skipf("not expected of %s: %s", r, why)
	}
}

// NotFor skips the test under the named reference runtime.
func NotFor(t testing.TB, reference, why string) {
	t.Helper()
	if Reference() == reference {
		t.Skipf("not expected of %s: %s", reference, why)
	}
}

// Since skips the test where the runtime has less than it needs: what came with a Linux
// later than 5.10.
func Since(t testing.TB, linux, what string) {
	t.Helper()
	if os.Getenv(envOldKernel) != "" {
		t.Skipf("%s came with Linux %s", what, linux)
	}
}

// Direct skips the test where a program of the harness's own executes the runtime.
func Direct(t testing.TB) {
	t.Helper()
	if os.Getenv(envOldKernel) != "" {
		t.Skip("oldkernel is a Go program, whose start looks like the runtime's")
	}
}

// findBusybox returns a static busybox, or "".
func findBusybox() string {
	for _, p := range busyboxPaths() {
		if isStatic(p) {
			return p
		}
	}
	return ""
}

// reapEnded takes those out of the process table that have become this process's children
// when a command ended, and have ended themselves: on a host, its init does that.
func reapEnded() {
	for {
		if pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil); err != nil || pid <= 0 {
			return
		}
	}
}
