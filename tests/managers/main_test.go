package managers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/tests/harness"
)

const envInside = "MANAGERS_INSIDE"

// suite is what all scenarios share.
type suite struct {
	dir     string // temporary, short: a socket's path holds 108 bytes
	runtime string // absolute path of the runtime under test
	name    string // its base name
	image   string // archive of the test image, for `load` and `import`
	cgroup  string // parent of all cgroups, without the leading slash
}

// env is set once by TestMain.
var env suite

func TestMain(m *testing.M) {
	os.Exit(mainStatus(m))
}

func mainStatus(m *testing.M) (code int) {
	switch {
	case os.Geteuid() != 0: // each test skips
		return m.Run()
	case os.Getenv(envInside) == "":
		return enter()
	}
	dir, err := os.MkdirTemp("", "mgr")
	if err != nil {
		return fail(err)
	}
	defer func() {
		detachBelow(dir)
		if err := os.RemoveAll(dir); err != nil {
			code = fail(err)
		}
	}()
	if err := os.Chmod(dir, 0o755); err != nil { // for the root of a user namespace
		return fail(err)
	}
	if err := prepare(dir); err != nil {
		return fail(err)
	}
	code = m.Run()
	for _, what := range removeCgroups(env.cgroup) {
		fmt.Fprintln(os.Stderr, "left behind by the suite:", what)
		code = 1
	}
	return code
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "managers:", err)
	return 1
}

// enter runs this program again in namespaces of its own.
func enter() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), envInside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET}
	err := cmd.Run()
	if cmd.ProcessState == nil {
		return fail(err)
	}
	return cmd.ProcessState.ExitCode()
}

// prepare makes the private places, the runtime and the image.
func prepare(dir string) error {
	// Monitors and shims leave their parents; as a subreaper the suite sees them all.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return err
	}
	if err := isolate(dir); err != nil {
		return err
	}
	path, err := findRuntime(dir)
	if err != nil {
		return err
	}
	env = suite{
		dir: dir, runtime: path, name: filepath.Base(path),
		image:  filepath.Join(dir, "image.tar"),
		cgroup: "adlmgr" + harness.Random(),
	}
	return writeImage(env.image)
}

// detachBelow detaches what is mounted below dir in this mount namespace: isolate's tmpfs,
// and Docker's network namespace for the host, which may outlive its daemon.
func detachBelow(dir string) {
	for _, p := range mountPoints() {
		if strings.HasPrefix(p, dir+"/") {
			_ = unix.Unmount(p, unix.MNT_DETACH) // EINVAL: it was on one that is gone
		}
	}
}

// isolate gives this process's mount namespace private copies of the places where
// managers keep what no flag moves, and its network namespace a loopback device.
func isolate(dir string) error {
	layers := filepath.Join(dir, "private")
	if err := os.Mkdir(layers, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("private", layers, "tmpfs", 0, "mode=0755"); err != nil {
		return err
	}
	for i, target := range []string{"/etc", "/var/lib"} {
		upper, work := fmt.Sprintf("%s/%du", layers, i), fmt.Sprintf("%s/%dw", layers, i)
		for _, d := range []string{upper, work} {
			if err := os.Mkdir(d, 0o755); err != nil {
				return err
			}
		}
		options := "lowerdir=" + target + ",upperdir=" + upper + ",workdir=" + work
		if err := unix.Mount("overlay", target, "overlay", 0, options); err != nil {
			return fmt.Errorf("overlay over %s: %w", target, err)
		}
	}
	// Layers cannot be on one of the overlays.
	if err := os.MkdirAll(layerRoot, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("layers", layerRoot, "tmpfs", 0, "mode=0700"); err != nil {
		return err
	}
	if systemd() {
		return exec.Command("ip", "link", "set", "lo", "up").Run() // /run has systemd's sockets
	}
	if err := unix.Mount("run", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755"); err != nil {
		return fmt.Errorf("tmpfs over /run: %w", err)
	}
	if err := os.Mkdir("/run/lock", 0o1777); err != nil {
		return err
	}
	return exec.Command("ip", "link", "set", "lo", "up").Run()
}

// findRuntime returns the absolute path of the runtime under test.
func findRuntime(dir string) (string, error) {
	if given := os.Getenv("MANAGERS_RUNTIME"); given != "" {
		path, err := exec.LookPath(given)
		if err != nil {
			return "", err
		}
		return filepath.Abs(path)
	}
	out := filepath.Join(dir, "adl-runtime")
	cmd := exec.Command("go", "build", "-buildvcs=false", "-trimpath", "-tags", "urfave_cli_no_docs", "-o", out, ".")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, text)
	}
	return out, nil
}

func systemd() bool { return os.Getenv("MANAGERS_CGROUPS") == "systemd" }

// limit scales a time limit to the machine.
func limit(d time.Duration) time.Duration {
	if n, err := strconv.Atoi(os.Getenv("MANAGERS_SLOW")); err == nil {
		return d * time.Duration(n)
	}
	return d
}

// need skips the test where root or a program is missing.
func need(t *testing.T, programs ...string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
}

// v2 is whether containers' cgroups are in the one hierarchy of cgroup v2.
func v2() bool {
	var st unix.Statfs_t
	return unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

// allCapabilities is whether root has every capability that the kernel knows.
func allCapabilities() bool {
	last, _ := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	n, err := strconv.Atoi(strings.TrimSpace(string(last)))
	if err != nil {
		return false
	}
	for i := range n + 1 {
		if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(i), 0, 0, 0); err != nil || has == 0 {
			return false
		}
	}
	return true
}

// words splits a command line at blanks. A middle dot is a blank in a word.
func words(line string) []string {
	list := strings.Fields(line)
	for i, w := range list {
		list[i] = strings.ReplaceAll(w, "·", " ")
	}
	return list
}
