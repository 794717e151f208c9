package libsandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// refused makes sandboxes with limits that cannot be applied. Each must be an error that
// says what the key says, with anything for " ... ", and leave nothing: least of all a
// sandbox without the limit.
func refused(t *testing.T, all map[string]ResourceLimits) {
	t.Helper()
	c := boxed(t)
	c.ID = fmt.Sprintf("adl-fault-%d-limited", os.Getpid()) // lookAtHost looks for such cgroups
	c.Resources.Pids = -1
	newBox(t, c).gone() // who asks for no limit gets a sandbox
	reapChildren()
	before := lookAtHost(t, c.Store.root)
	for want, limits := range all {
		c.Resources = limits
		sb, err := New(t.Context(), c)
		if err == nil {
			t.Errorf("no error, want %s", want)
			_ = sb.Delete(context.Background(), &DeleteOptions{Force: true})
			continue
		}
		begin, end, _ := strings.Cut(want, " ... ")
		if !strings.HasPrefix(err.Error(), "sandbox: "+begin) || !strings.Contains(err.Error(), end) {
			t.Errorf("got  %v\nwant sandbox: %s", err, want)
		}
		reapChildren()
	}
	if err := EmptyTrash(t.Context(), c.Layer.Root); err != nil {
		t.Error(err)
	}
	noLayers(t, c.Layer.Root)
	before.compare(t, lookAtHost(t, c.Store.root))
}

// TestLimitsOutOfRange: what the kernel does not take is not left out.
func TestLimitsOutOfRange(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk") // that there is no driver for
	if err := unix.Mknod(disk, unix.S_IFBLK|0o600, int(unix.Mkdev(4000, 77))); err != nil {
		t.Fatal(err)
	}
	const more = 1 << 30
	refused(t, map[string]ResourceLimits{
		`Resources.Pids 1073741824: linux.resources.pids.limit: 1073741824: `: {Pids: more},
		`Resources.CPUSet "1,4000": linux.resources.cpu.cpus: 1,4000: `:       {CPUSet: "1,4000"},
		`Resources.CPUSet "1-": linux.resources.cpu.cpus: `:                   {CPUSet: "1-"},
		`Resources.IO [{Device:` + disk:                                       {IO: []IOLimit{{Device: disk, ReadBytes: "1m"}}},
		`Resources.IO[0].WriteBytes "-1": size "-1"`:                          {IO: []IOLimit{{Device: disk, WriteBytes: "-1"}}},
		`Resources.Swap "8388607t": too much`:                                 {Memory: "1t", Swap: "8388607t"},
		`Resources.Memory "-1": size "-1"`:                                    {Memory: "-1"},
	})
}

// TestLimitsWithoutControllers: where the host lacks what a limit needs, a sandbox that
// asks for it is not made without.
func TestLimitsWithoutControllers(t *testing.T) {
	const inside = "ADL_TEST_NO_CONTROLLERS"
	if os.Getenv(inside) == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestLimitsWithoutControllers$")
		cmd.Env = append(os.Environ(), inside+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	noControllers(t)
	disk := filepath.Join(t.TempDir(), "disk")
	if err := unix.Mknod(disk, unix.S_IFBLK|0o600, int(unix.Mkdev(7, 0))); err != nil {
		t.Fatal(err)
	}
	refused(t, map[string]ResourceLimits{
		`Resources.CPUs "0.5": linux.resources.cpu. ... the host has no cpu cgroup controller`:              {CPUs: "0.5", Pids: -1},
		`Resources.CPUSet "0": linux.resources.cpu.cpus: 0 ... the host has no cpuset cgroup controller`:    {CPUSet: "0", Pids: -1},
		`Resources.Memory "64m": linux.resources.memory. ... the host has no memory cgroup controller`:      {Memory: "64m", Pids: -1},
		`Resources.Pids 100: linux.resources.pids.limit: 100 ... the host has no pids cgroup controller`:    {Pids: 100},
		`Resources.Pids 2048 (the default): linux.resources.pids.limit: 2048 ... the host has no pids cgro`: {},
		`Resources.IO [{Device:` + disk + ` ... cgroup controller`:                                          {IO: []IOLimit{{Device: disk, ReadBytes: "1m"}}, Pids: -1},
	})
}

// noControllers takes the controllers away that sandboxes' limits need, in the mount
// namespace of this process.
func noControllers(t *testing.T) {
	t.Helper()
	const root = "/sys/fs/cgroup"
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		t.Fatal(err)
	}
	if st.Type == unix.CGROUP2_SUPER_MAGIC { // a cgroup whose parent gives it none is the root
		parent := fmt.Sprintf("%s/adl-none-%d", root, os.Getpid())
		if err := os.MkdirAll(parent+"/none", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(parent+"/none", root, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := errors.Join(unix.Unmount(root, unix.MNT_DETACH), unix.Rmdir(parent+"/none"), unix.Rmdir(parent)); err != nil {
				t.Error(err)
			}
		})
		return
	}
	for _, name := range []string{"cpu", "cpuset", "memory", "pids", "blkio"} {
		dir, err := filepath.EvalSymlinks(root + "/" + name)
		if err == nil {
			err = unix.Unmount(dir, unix.MNT_DETACH)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) { // mounted with another, or not at all
			t.Fatal(err)
		}
	}
}

// TestLimitsStay: a change that cannot be applied is an error and changes nothing, and
// what holds is still there after a reset, and in a fork.
func TestLimitsStay(t *testing.T) {
	c := boxed(t)
	c.Resources = ResourceLimits{Memory: "64m", Pids: 100}
	l := newBox(t, c)
	check := func(when string, sb *Sandbox, pids uint64) {
		t.Helper()
		s, err := sb.Stats()
		if err != nil {
			t.Fatal(err)
		}
		if s.Memory.Usage.Limit != 64<<20 || s.Pids.Limit != pids {
			t.Errorf("%s: memory %d, pids %d", when, s.Memory.Usage.Limit, s.Pids.Limit)
		}
	}
	limit := func(pids int64, cpus string) error {
		r := &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &pids}}
		if cpus != "" {
			r.CPU = &specs.LinuxCPU{Cpus: cpus}
		}
		return l.Update(t.Context(), r)
	}
	if err := limit(77, ""); err != nil {
		t.Fatal(err)
	}
	for _, cpus := range []string{"4000", "nonsense"} {
		if err := limit(78, cpus); err == nil || !strings.Contains(err.Error(), "linux.resources.cpu.cpus") {
			t.Errorf("CPUs %q: %v", cpus, err)
		}
		check("after an update that failed", l.Sandbox, 77)
	}
	other, err := c.Store.Load(l.ID())
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []ResetMode{ResetRestart, ResetKeepInit} {
		l.reset(mode)
		check(string(mode), l.Sandbox, 77)
		// And it is what the next init would be given a new cgroup with.
		if got := *l.conf.Linux.Resources.Pids.Limit; got != 77 {
			t.Errorf("%s: pids limit %d is planned", mode, got)
		}
		for _, pids := range []int64{78, 77} { // changed by somebody else
			if err := other.Update(t.Context(), &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &pids}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	fork, err := l.Fork(t.Context(), l.ID()+"-fork", nil)
	if err != nil {
		t.Fatal(err)
	}
	check("fork", fork, 77)
	if err := fork.Delete(context.Background(), &DeleteOptions{Force: true}); err != nil {
		t.Error(err)
	}
	l.gone()
}
