package harness

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Bundle is one bundle directory with a --root of its own. Its cleanup deletes
// the containers made from it and then fails the test if anything is left.
type Bundle struct {
	Dir    string      // the bundle
	Rootfs string      // Dir/rootfs
	Root   string      // the value of --root; the runtime makes it
	Cgroup string      // linux.cgroupsPath of the default spec: /adl-test-<random>
	Spec   *specs.Spec // written to config.json by every command that starts from the bundle
	Work   string      // for the test's own files: logs, sockets, pid files

	t       testing.TB
	ids     []string        // containers that may exist
	pids    []int           // inits reparented to this process, not yet waited for
	foreign map[string]bool // entries under Root or Dir that the test made itself
	raw     bool            // the test wrote config.json itself
}

// New makes a bundle with a busybox rootfs, or skips the test when it cannot run here.
func New(t testing.TB, mutators ...Mutate) *Bundle {
	t.Helper()
	Require(t)
	base := t.TempDir()
	b := &Bundle{
		Dir:     filepath.Join(base, "bundle"),
		Rootfs:  filepath.Join(base, "bundle", "rootfs"),
		Root:    filepath.Join(base, "root"),
		Work:    filepath.Join(base, "work"),
		Cgroup:  "/adl-test-" + Random(),
		t:       t,
		foreign: map[string]bool{},
	}
	b.Spec = Default(b.Cgroup)
	for _, m := range mutators {
		m(b.Spec)
	}
	Must(t, os.MkdirAll(b.Work, 0o755))
	b.makeRootfs()
	t.Cleanup(b.cleanup)
	return b
}

// applets are the busybox commands that the tests' scripts use.
func applets() string {
	return "sh true false sleep cat ls id env pwd echo grep mount umount stat readlink touch mkdir " +
		"mknod hostname dd head tail cut tr wc sort kill ps tty stty test ulimit dmesg ln rm cp mv chmod chown date " +
		"ip ipcs printf seq sed awk find realpath ifconfig nproc sync setsid xxd od tee sysctl df su timeout yes uname basename chroot nohup"
}

func (b *Bundle) makeRootfs() {
	for _, d := range []string{"bin", "dev", "etc", "proc", "sys", "tmp", "root", "mnt"} {
		Must(b.t, os.MkdirAll(filepath.Join(b.Rootfs, d), 0o755))
	}
	Must(b.t, os.Chmod(filepath.Join(b.Rootfs, "tmp"), 0o777|os.ModeSticky))
	// A hard link to the store's copy: a test that damages it damages no host file.
	Must(b.t, os.Link(filepath.Join(os.Getenv(envStore), "busybox"), filepath.Join(b.Rootfs, "bin/busybox")))
	for _, a := range strings.Fields(applets()) {
		Must(b.t, os.Symlink("busybox", filepath.Join(b.Rootfs, "bin", a)))
	}
	WriteFile(b.t, filepath.Join(b.Rootfs, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n", 0o644)
	WriteFile(b.t, filepath.Join(b.Rootfs, "etc/group"), "root:x:0:\nuser:x:1000:\n", 0o644)
}

// Set applies mutators to the spec.
func (b *Bundle) Set(mutators ...Mutate) {
	for _, m := range mutators {
		m(b.Spec)
	}
}

// Config replaces config.json by the given text; later commands leave it alone.
func (b *Bundle) Config(text string) {
	b.t.Helper()
	b.raw = true
	WriteFile(b.t, filepath.Join(b.Dir, "config.json"), text, 0o644)
}

// WriteSpec writes Spec to config.json, unless [Bundle.Config] did.
func (b *Bundle) WriteSpec() {
	b.t.Helper()
	if b.raw {
		return
	}
	data, err := json.Marshal(b.Spec)
	Must(b.t, err)
	WriteFile(b.t, filepath.Join(b.Dir, "config.json"), string(data), 0o644)
}

// In returns a path inside the rootfs, as the host sees it. It does not resolve
// symlinks.
func (b *Bundle) In(path string) string { return filepath.Join(b.Rootfs, path) }

// File writes a file of mode 0644 into the rootfs, making its directory.
func (b *Bundle) File(path, content string) {
	b.t.Helper()
	Must(b.t, os.MkdirAll(filepath.Dir(b.In(path)), 0o755))
	WriteFile(b.t, b.In(path), content, 0o644)
}

// Symlink replaces path in the rootfs by a symlink to target.
func (b *Bundle) Symlink(target, path string) {
	b.t.Helper()
	Must(b.t, os.RemoveAll(b.In(path)))
	Must(b.t, os.MkdirAll(filepath.Dir(b.In(path)), 0o755))
	Must(b.t, os.Symlink(target, b.In(path)))
}

// Foreign declares that the test itself put name into Root or Dir; the leak check
// ignores it.
func (b *Bundle) Foreign(names ...string) {
	for _, n := range names {
		b.foreign[n] = true
	}
}

// NewID returns a fresh container id and has the cleanup delete it.
func (b *Bundle) NewID() string {
	id := "adl-test-" + Random()
	b.Track(id)
	return id
}

// Track has the cleanup delete the container id, if it still exists.
func (b *Bundle) Track(id string) { b.ids = append(b.ids, id) }
