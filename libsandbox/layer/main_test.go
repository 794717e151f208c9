package layer

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// inNamespace is set for the process that runs the tests: it has a mount namespace of
// its own, so whatever is left mounted goes with it.
const inNamespace = "LAYER_TEST_NAMESPACE"

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(victimRoot) != "":
		victim(os.Getenv(victimRoot), os.Getenv(victimLower))
	case os.Geteuid() == 0 && os.Getenv(inNamespace) == "":
		os.Exit(again())
	case os.Geteuid() == 0:
		if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
			fmt.Fprintln(os.Stderr, "mount propagation:", err)
			os.Exit(1)
		}
	}
	code := m.Run()
	images.close()
	os.Exit(code)
}

// again runs this program in a mount namespace.
func again() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "a mount namespace:", err)
		return 1
	}
	return 0
}

func needRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() != 0 {
		tb.Skip("needs root, to mount")
	}
}

// images are filesystems that tests share, made when first wanted.
var images imageSet

type imageSet struct {
	mu   sync.Mutex
	made map[string]*image
	dirs []string
}

type image struct {
	dir  string
	skip string
}

// close removes what is not in the mount namespace.
func (s *imageSet) close() {
	for _, dir := range s.dirs {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		_ = os.RemoveAll(filepath.Dir(dir))
	}
}

// filesystem returns an empty directory on a filesystem of the type fs; "disk" is
// whatever temporary files are on.
func filesystem(tb testing.TB, fs string) string {
	tb.Helper()
	needRoot(tb)
	if fs == "disk" {
		return tb.TempDir()
	}
	images.mu.Lock()
	defer images.mu.Unlock()
	i := images.made[fs]
	if i == nil {
		if images.made == nil {
			images.made = make(map[string]*image)
		}
		i = new(image)
		images.made[fs] = i
		dir, err := os.MkdirTemp("", "layers-"+fs+"-")
		if err != nil {
			tb.Fatal(err)
		}
		i.dir = filepath.Join(dir, "mnt")
		images.dirs = append(images.dirs, i.dir)
		i.skip = mkfs(i.dir, fs, 400<<20)
	}
	if i.skip != "" {
		tb.Skip(i.skip)
	}
	dir, err := os.MkdirTemp(i.dir, strings.NewReplacer("/", "-", " ", "-").Replace(tb.Name())+"-")
	if err != nil {
		tb.Fatal(err)
	}
	return dir
}

// ownFilesystem is one that no other test uses.
func ownFilesystem(tb testing.TB, fs string, size int64) string {
	tb.Helper()
	needRoot(tb)
	dir := filepath.Join(tb.TempDir(), "mnt")
	tb.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	if skip := mkfs(dir, fs, size); skip != "" {
		tb.Skip(skip)
	}
	return dir
}

// mkfs makes a filesystem of size bytes and mounts it on dir. It returns what is
// missing for that.
func mkfs(dir, fs string, size int64) string {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err.Error()
	}
	if fs == "tmpfs" {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("mode=0755,size=%d", size)); err != nil {
			return "tmpfs: " + err.Error()
		}
		return ""
	}
	file := dir + ".img"
	err := os.WriteFile(file, nil, 0o600)
	if err == nil {
		err = os.Truncate(file, size)
	}
	if err != nil {
		return err.Error()
	}
	typ, opts := fs, "loop"
	args := []string{"-q", file}
	switch fs {
	case "ext4-prjquota":
		typ, opts = "ext4", "loop,prjquota"
		args = []string{"-q", "-O", "quota,project", "-E", "quotatype=prjquota", file}
	case "xfs-prjquota":
		typ, opts = "xfs", "loop,prjquota"
	case "vfat":
		args = []string{file}
	}
	if out, err := exec.Command("mkfs."+typ, args...).CombinedOutput(); err != nil {
		return fmt.Sprintf("needs mkfs.%s: %v %s", typ, err, out)
	}
	if out, err := exec.Command("mount", "-t", typ, "-o", opts, file, dir).CombinedOutput(); err != nil {
		return fmt.Sprintf("needs a kernel that mounts %s: %v %s", fs, err, strings.TrimSpace(string(out)))
	}
	return ""
}
