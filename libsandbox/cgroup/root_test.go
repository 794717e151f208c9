package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fs"
	"github.com/opencontainers/cgroups/fs2"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// prefix begins the name of every cgroup of these tests.
const prefix = "adltest-"

func TestMain(m *testing.M) {
	status := m.Run()
	if left := leftovers(); len(left) > 0 && os.Geteuid() == 0 {
		fmt.Fprintln(os.Stderr, "left behind:", left)
		status = 1
	}
	os.Exit(status)
}

// leftovers are cgroups of this process's tests.
func leftovers() []string {
	host, err := Discover()
	if err != nil {
		return nil
	}
	var left []string
	for _, h := range host.Hierarchies {
		_ = filepath.WalkDir(h.Dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && strings.HasPrefix(d.Name(), prefix+fmt.Sprint(os.Getpid())) {
				left = append(left, path)
			}
			return nil // what cannot be read, or is just removed, is somebody else's
		})
	}
	return left
}

// needRoot returns the host.
func needRoot(t testing.TB) *Host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes cgroups")
	}
	h, err := Discover()
	if err != nil {
		t.Skip("needs cgroup hierarchies below /sys/fs/cgroup: ", err)
	}
	return h
}

// needV1 skips a test of what only v1 or hybrid hosts have.
func needV1(t testing.TB) {
	t.Helper()
	if needRoot(t).Mode == V2 {
		t.Skip("needs cgroup v1 hierarchies; this host has v2 only")
	}
}

func needUnified(t testing.TB) {
	t.Helper()
	if needRoot(t).Mode == V1 {
		t.Skip("needs a unified hierarchy; this host has v1 only")
	}
}

// name is a path that no other test uses.
func name(t testing.TB) string {
	return fmt.Sprintf("/%s%d-%s", prefix, os.Getpid(), strings.NewReplacer("/", "-", "#", "").Replace(t.Name()))
}

func prepare(t testing.TB, path string, r *specs.LinuxResources) *Cgroup {
	t.Helper()
	needRoot(t)
	c, err := Prepare(&Options{Path: path, Resources: r})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// create makes a cgroup that the test's end removes, with every process in it.
func create(t testing.TB, path string, r *specs.LinuxResources) *Cgroup {
	t.Helper()
	c := prepare(t, path, r)
	if err := c.Create(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cleanUp(t, c) })
	return c
}

func cleanUp(t testing.TB, c *Cgroup) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) // t.Context() is already done
	defer cancel()
	if err := errors.Join(c.Kill(), c.WaitEmpty(ctx), c.Destroy()); err != nil {
		t.Error(err)
	}
}

// start runs a shell command in the cgroup: born into the unified hierarchy, going
// into the others by itself.
func start(t testing.TB, c *Cgroup, script string, args ...string) *exec.Cmd {
	t.Helper()
	enter := ""
	for _, f := range c.TasksFiles() {
		enter += "echo 0 > " + f + "; "
	}
	cmd := exec.Command("/bin/sh", append([]string{"-ec", enter + script, "sh"}, args...)...)
	fd, err := c.OpenDir()
	if err != nil {
		t.Fatal(err)
	}
	if fd >= 0 {
		defer unix.Close(fd)
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// sleeper is a process in the cgroup that has arrived in every hierarchy.
func sleeper(t testing.TB, c *Cgroup) *exec.Cmd {
	t.Helper()
	cmd := start(t, c, "exec sleep 1000")
	deadline(t, "the process enters the cgroup", func() bool {
		exe, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid))
		return string(exe) == "sleep\n"
	})
	return cmd
}

func deadline(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within 10 s: ", what)
		}
	}
}

func text(t testing.TB, c *Cgroup, controller, file string) string {
	t.Helper()
	s, err := readFile(c.controller(controller).path, file)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestCreateDestroy(t *testing.T) {
	c := deep(t)
	for i := range c.dirs {
		if !isDir(c.dirs[i].path) {
			t.Errorf("%s is missing", c.dirs[i].path)
		}
	}
	if !c.Exists() {
		t.Error("does not exist")
	}
	cmd := sleeper(t, c)
	got, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", cmd.Process.Pid))
	if n := strings.Count(string(got), name(t)+"/a/b\n"); err != nil || n != len(c.dirs) {
		t.Errorf("the process is in %d of %d hierarchies: %v\n%s", n, len(c.dirs), err, got)
	}
	pids, err := c.Procs()
	if d := cmp.Diff([]int{cmd.Process.Pid}, pids); d != "" || err != nil {
		t.Error(err, d)
	}
	loaded, err := Load(c.Paths())
	if err != nil {
		t.Fatal(err)
	}
	if err := loaded.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if err := loaded.Destroy(); err != nil {
		t.Error(err)
	}
	if c.Exists() {
		t.Error("still exists")
	}
	if err := errors.Join(loaded.Destroy(), loaded.Kill(), loaded.Thaw(), loaded.WaitEmpty(t.Context())); err != nil {
		t.Error("what is gone is no error: ", err)
	}
}

// deep creates a cgroup two levels below one that the host does not have.
func deep(t testing.TB) *Cgroup {
	plan := prepare(t, name(t)+"/a/b", nil)
	t.Cleanup(func() { removeParents(t, plan, 2) })
	return create(t, name(t)+"/a/b", nil)
}

// removeParents removes the directories above a cgroup, which Destroy leaves.
func removeParents(t testing.TB, c *Cgroup, levels int) {
	for i := range c.dirs {
		path := c.dirs[i].path
		for range levels {
			path = filepath.Dir(path)
			if err := unix.Rmdir(path); err != nil && err != unix.ENOENT {
				t.Errorf("rmdir %s: %v", path, err)
			}
		}
	}
}

func TestRelativePath(t *testing.T) {
	needRoot(t)
	id := strings.TrimPrefix(name(t), "/")
	c, err := Prepare(&Options{ID: id})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Create(); err != nil {
		t.Fatal(err)
	}
	defer cleanUp(t, c)
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	cmd := sleeper(t, c)
	got, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	want := ""
	for line := range strings.Lines(string(own)) {
		line = strings.TrimSuffix(line, "\n")
		if c.mode == V2 {
			line = line[:strings.LastIndex(line, "/")]
		}
		want += strings.TrimSuffix(line, "/") + "/" + id + "\n"
	}
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Error(d)
	}
	_ = c.Kill()
	_ = cmd.Wait()
}

func TestDefaultDevicesAreThoseOfRunc(t *testing.T) {
	needV1(t)
	c := create(t, name(t), &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}})
	lines := strings.Split(text(t, c, "devices", "devices.list"), "\n")
	slices.Sort(lines)
	if d := cmp.Diff(devicesOfRunc, strings.Join(lines, "\n")); d != "" {
		t.Error(d)
	}
}

func TestDevicesOfV1(t *testing.T) {
	needV1(t)
	c := create(t, name(t), &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{rule(t, "+a rwm")}})
	if got := text(t, c, "devices", "devices.list"); got != "a *:* rwm" {
		t.Errorf("everything is allowed, but the list is %q", got)
	}
	// Below a cgroup that lacks them, default devices are left out, wanted ones are
	// an error, and only what is wanted is had.
	parent := create(t, name(t)+"-parent", nil)
	child := create(t, name(t)+"-parent/child", nil)
	if a, b := text(t, parent, "devices", "devices.list"), text(t, child, "devices", "devices.list"); a != b {
		t.Errorf("%q is not %q", b, a)
	}
	poor := prepare(t, name(t)+"-parent/poor", &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{rule(t, "-a rwm"), rule(t, "+c 10:229 rwm")}})
	err := poor.Create()
	if err == nil || !strings.HasPrefix(err.Error(), "linux.resources.devices[1]: c 10:229 mrw: ") || !errors.Is(err, unix.EPERM) {
		t.Error(err)
	}
	if poor.Exists() {
		t.Error("Create failed and left something")
	}
}

// The filter program decides about real opens. On a hybrid host it is tried on the
// unified hierarchy alone.
func TestDeviceFilter(t *testing.T) {
	needUnified(t)
	p, err := policy(t, "-a rwm", "+c 1:11 r")
	if err != nil {
		t.Fatal(err)
	}
	all := create(t, name(t), &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{rule(t, "+a rwm")}})
	c := &Cgroup{mode: V2, dirs: []dir{*all.unified()}, devices: p}
	if err := c.applyDevices(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, d := range []struct {
		name string
		dev  uint64
	}{{"null", unix.Mkdev(1, 3)}, {"kmsg", unix.Mkdev(1, 11)}, {"port", unix.Mkdev(1, 4)}} {
		if err := unix.Mknod(dir+"/"+d.name, unix.S_IFCHR|0o600, int(d.dev)); err != nil {
			t.Fatal(err)
		}
	}
	for script, want := range map[string]bool{
		": < $1/null; : > $1/null": true,
		": < $1/port":              false,
		"exec 3<$1/kmsg":           needHostKmsg(dir),
		"exec 3>$1/kmsg":           false,
		"mknod $1/m c 1 4":         true,
	} {
		if err := start(t, c, "cd /; "+script+" 2>/dev/null", dir).Wait(); (err == nil) != want {
			t.Errorf("%s: %v, want success: %v", script, err, want)
		}
	}
}

// needHostKmsg: what the test itself cannot open, nor can its children.
func needHostKmsg(dir string) bool {
	f, err := os.Open(dir + "/kmsg")
	if err == nil {
		f.Close()
	}
	return err == nil
}

// TestLimitsLikeTheLibrary compares every file of a cgroup whose limits we set with
// those of one whose limits opencontainers/cgroups set.
func TestLimitsLikeTheLibrary(t *testing.T) {
	host := needRoot(t)
	r := hostLimits(t, host)
	ours := create(t, name(t)+"-ours", r)
	theirs := create(t, name(t)+"-theirs", nil)
	if host.Mode == V2 {
		m, err := fs2.NewManager(&cgroups.Cgroup{Resources: &cgroups.Resources{}}, theirs.unified().path)
		if err == nil {
			err = m.Set(libraryResources(r))
		}
		if err != nil {
			t.Fatal(err)
		}
	} else {
		paths := theirs.Paths()
		m, err := fs.NewManager(&cgroups.Cgroup{Resources: &cgroups.Resources{}}, paths)
		if err == nil {
			err = m.Set(libraryResources(r))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range ours.dirs {
		if d := cmp.Diff(limitFiles(t, theirs.dirs[i].path), limitFiles(t, ours.dirs[i].path)); d != "" {
			t.Errorf("%s: %s", ours.dirs[i].path, d)
		}
	}
}

// hostLimits are the limits that this host has the controllers for.
func hostLimits(t *testing.T, host *Host) *specs.LinuxResources {
	r := everything()
	r.Memory.Kernel, r.Memory.CheckBeforeUpdate, r.Rdma, r.BlockIO, r.HugepageLimits = nil, nil, nil, nil, nil
	if host.Mode == V2 {
		r.Unified = map[string]string{"memory.high": "50331648"}
		r.HugepageLimits = everything().HugepageLimits
		return r
	}
	r.Memory.Swappiness, r.Memory.DisableOOMKiller = new(uint64(30)), new(true)
	return r
}

// libraryResources are the same in the library's words.
func libraryResources(r *specs.LinuxResources) *cgroups.Resources {
	l := &cgroups.Resources{
		Memory: *r.Memory.Limit, MemorySwap: *r.Memory.Swap, MemoryReservation: *r.Memory.Reservation,
		MemorySwappiness: r.Memory.Swappiness, OomKillDisable: set(r.Memory.DisableOOMKiller),
		CpuShares: *r.CPU.Shares, CpuWeight: cgroups.ConvertCPUSharesToCgroupV2Value(*r.CPU.Shares),
		CpuQuota: *r.CPU.Quota, CpuPeriod: *r.CPU.Period, CpuBurst: r.CPU.Burst, CPUIdle: r.CPU.Idle,
		CpusetCpus: r.CPU.Cpus, CpusetMems: r.CPU.Mems, PidsLimit: r.Pids.Limit, Unified: r.Unified,
	}
	for _, h := range r.HugepageLimits {
		l.HugetlbLimit = append(l.HugetlbLimit, &cgroups.HugepageLimit{Pagesize: h.Pagesize, Limit: h.Limit})
	}
	return l
}

// limitFiles reads the files of a cgroup that limits are written to.
func limitFiles(t *testing.T, path string) map[string]string {
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		if i, err := e.Info(); err != nil || i.Mode()&0o200 == 0 || strings.HasSuffix(e.Name(), ".pressure") {
			continue
		}
		if s, err := readFile(path, e.Name()); err == nil {
			files[e.Name()] = s
		}
	}
	if len(files) == 0 {
		t.Errorf("%s has no files to compare", path)
	}
	return files
}

// A limit that the kernel refuses is named, with its value, and nothing is left.
func TestRefusedLimits(t *testing.T) {
	host := needRoot(t)
	v1 := map[string]*specs.LinuxResources{
		"linux.resources.cpu.shares: 1: out of range, the kernel makes it 2":                    {CPU: &specs.LinuxCPU{Shares: new(uint64(1))}},
		"linux.resources.network.classID: 7: the host has no net_cls cgroup controller":         {Network: &specs.LinuxNetwork{ClassID: new(uint32(7))}},
		"linux.resources.rdma.mlx5_0: mlx5_0 hca_object=5: the host has no rdma cgroup control": {Rdma: map[string]specs.LinuxRdma{"mlx5_0": {HcaObjects: new(uint32(5))}}},
	}
	both := map[string]*specs.LinuxResources{
		"linux.resources.cpu.quota: 1: write ":           {CPU: &specs.LinuxCPU{Quota: new(int64(1))}},
		"linux.resources.cpu.cpus: 4000: write ":         {CPU: &specs.LinuxCPU{Cpus: "4000"}},
		"linux.resources.cpu.mems: 900: write ":          {CPU: &specs.LinuxCPU{Mems: "900"}},
		"linux.resources.hugepageLimits[0].limit: 1: th": {HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "3MB", Limit: 1}}}, // this kernel cannot, or the host has no controller
	}
	if host.Mode != V2 {
		for want, r := range v1 {
			both[want] = r
		}
	}
	for want, r := range both {
		path := name(t) + "/deep"
		c := prepare(t, path, r)
		err := c.Create()
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want %s...", err, want)
		}
		if left := leftovers(); len(left) > 0 {
			t.Errorf("%s: Create failed and left %v", want, left)
		}
	}
}

// Create reports what is in the way of its directories, and removes the others.
func TestCreateFailsCleanly(t *testing.T) {
	c := prepare(t, name(t), nil)
	last := &c.dirs[len(c.dirs)-1]
	last.path = filepath.Join(last.root, "cgroup.procs", "x")
	err := c.Create()
	if !errors.Is(err, unix.ENOTDIR) || !strings.HasPrefix(err.Error(), "linux.cgroupsPath: ") {
		t.Error(err)
	}
	if left := leftovers(); len(left) > 0 {
		t.Error("left behind: ", left)
	}
}

// A directory from before is used, and not removed when Create fails, but not with
// processes in it, nor frozen.
func TestCreateInExisting(t *testing.T) {
	c := create(t, name(t), nil)
	if err := prepare(t, name(t), nil).Create(); err != nil {
		t.Error("empty: ", err)
	}
	if err := c.Freeze(); err != nil {
		t.Fatal(err)
	}
	if err := prepare(t, name(t), nil).Create(); err == nil || !strings.HasSuffix(err.Error(), " is frozen") {
		t.Error("frozen: ", err)
	}
	if err := c.Thaw(); err != nil {
		t.Fatal(err)
	}
	cmd := sleeper(t, c)
	if err := prepare(t, name(t), nil).Create(); err == nil || !strings.HasSuffix(err.Error(), " is not empty: 1 process(es) found") {
		t.Error("not empty: ", err)
	}
	_ = c.Kill()
	_ = cmd.Wait()
	if !c.Exists() {
		t.Error("the failed Create removed what it had not made")
	}
}

// A creation that fails because the cgroup is another container's leaves that one,
// and its children, alone.
func TestAbandonLeavesTheOther(t *testing.T) {
	theirs := create(t, name(t), nil)
	for i := range theirs.dirs {
		if err := os.Mkdir(theirs.dirs[i].path+"/child", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := sleeper(t, theirs)
	ours := prepare(t, name(t), nil)
	if ours.CreateUnified() == nil && ours.Create() == nil {
		t.Error("the cgroup has a process and was taken")
	}
	if err := ours.Claimed().Kill(); err != nil {
		t.Error(err)
	}
	if err := ours.Abandon(); err != nil {
		t.Error(err)
	}
	for i := range theirs.dirs {
		if !isDir(theirs.dirs[i].path + "/child") {
			t.Errorf("%s/child is gone", theirs.dirs[i].path)
		}
	}
	if pids, err := theirs.Procs(); err != nil || len(pids) != 1 {
		t.Errorf("processes %v, %v", pids, err)
	}
	_ = theirs.Kill()
	_ = cmd.Wait()
}

// The same where only a v1 hierarchy has their process, which is frozen.
func TestAbandonLeavesTheOtherFrozen(t *testing.T) {
	needV1(t)
	theirs := prepare(t, name(t), nil)
	theirs.dirs = slices.DeleteFunc(theirs.dirs, func(d dir) bool { return !slices.Contains(d.controllers, "freezer") })
	if len(theirs.dirs) == 0 {
		t.Skip("needs the v1 freezer")
	}
	if err := unix.Mkdir(theirs.dirs[0].path, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cleanUp(t, theirs) })
	cmd := sleeper(t, theirs)
	if err := theirs.Freeze(); err != nil {
		t.Fatal(err)
	}
	ours := prepare(t, name(t), nil)
	if ours.CreateUnified() == nil && ours.Create() == nil {
		t.Error("the cgroup has a process and was taken")
	}
	if err := errors.Join(ours.Claimed().Kill(), ours.Abandon()); err != nil {
		t.Error(err)
	}
	if frozen, err := theirs.Frozen(); err != nil || !frozen {
		t.Errorf("frozen: %v, %v", frozen, err)
	}
	_ = theirs.Kill()
	_ = cmd.Wait()
}

// Growing and shrinking limits that depend on each other, in both orders.
func TestUpdate(t *testing.T) {
	host := needRoot(t)
	c := create(t, name(t), nil)
	for _, mb := range []int64{20, 200, 10, 100} {
		r := &specs.LinuxResources{
			Memory: &specs.LinuxMemory{Limit: new(mb << 20), Swap: new(mb << 21)},
			CPU:    &specs.LinuxCPU{Quota: new(mb * 1000), Period: new(uint64(mb * 2000)), Burst: new(uint64(mb * 500))},
		}
		if err := c.Update(r); err != nil {
			t.Fatalf("%d MB: %v", mb, err)
		}
		files := [][3]string{
			{"memory", "memory.limit_in_bytes", fmt.Sprint(mb << 20)},
			{"memory", "memory.memsw.limit_in_bytes", fmt.Sprint(mb << 21)},
			{"cpu", "cpu.cfs_quota_us", fmt.Sprint(mb * 1000)},
			{"cpu", "cpu.cfs_burst_us", fmt.Sprint(mb * 500)},
		}
		if host.Mode == V2 {
			files = [][3]string{
				{"memory", "memory.max", fmt.Sprint(mb << 20)},
				{"memory", "memory.swap.max", fmt.Sprint(mb << 20)},
				{"cpu", "cpu.max", fmt.Sprintf("%d %d", mb*1000, mb*2000)},
				{"cpu", "cpu.max.burst", fmt.Sprint(mb * 500)},
			}
		}
		for _, f := range files {
			if got := text(t, c, f[0], f[1]); got != f[2] {
				t.Errorf("%s is %s, want %s", f[1], got, f[2])
			}
		}
	}
	if err := c.Update(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(-1))}}); err != nil {
		t.Error("lifting the limits: ", err)
	}
	if host.Mode == V2 {
		if err := c.Update(&specs.LinuxResources{CPU: &specs.LinuxCPU{Period: new(uint64(150000))}}); err != nil {
			t.Error(err)
		}
		if got := text(t, c, "cpu", "cpu.max"); got != "100000 150000" {
			t.Errorf("a new period alone makes cpu.max %q", got)
		}
	}
}

func TestCheckBeforeUpdate(t *testing.T) {
	host := needRoot(t)
	c := create(t, name(t), nil)
	cmd := start(t, c, `exec head -c 8m /dev/zero | tail -c 8m | { sleep 1000; }`)
	controller, usage := "memory", "memory.usage_in_bytes"
	if host.Mode == V2 {
		usage = "memory.current"
	}
	deadline(t, "the processes use 4 MB", func() bool { return len(text(t, c, controller, usage)) >= 7 })
	err := c.Update(&specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(4096)), CheckBeforeUpdate: new(true)}})
	if err == nil || !strings.HasPrefix(err.Error(), "linux.resources.memory.limit: 4096: ") {
		t.Errorf("a limit below the usage: %v", err)
	}
	_ = c.Kill()
	_ = cmd.Wait()
}

// variants are the cgroup with all that the host has, and as it would be on a host
// without unified hierarchy or without cgroup.kill.
func variants(t *testing.T, test func(t *testing.T, c *Cgroup, kill func() error)) {
	host := needRoot(t)
	t.Run("native", func(t *testing.T) {
		c := create(t, name(t), nil)
		test(t, c, c.Kill)
	})
	t.Run("each", func(t *testing.T) {
		c := create(t, name(t), nil)
		test(t, c, c.killEach)
	})
	if host.Mode != Hybrid {
		return
	}
	t.Run("v1", func(t *testing.T) {
		c := create(t, name(t), nil)
		paths := c.Paths()
		delete(paths, "")
		v1, err := Load(paths)
		if err != nil {
			t.Fatal(err)
		}
		if v1.mode != V1 {
			t.Fatal("mode is ", v1.mode)
		}
		test(t, v1, v1.Kill)
	})
}

func TestFreezeAndKill(t *testing.T) {
	variants(t, func(t *testing.T, c *Cgroup, kill func() error) {
		cmd := sleeper(t, c)
		if frozen, err := c.Frozen(); frozen || err != nil {
			t.Error("frozen before Freeze: ", frozen, err)
		}
		if err := c.Freeze(); err != nil {
			t.Fatal(err)
		}
		if frozen, err := c.Frozen(); !frozen || err != nil {
			t.Error("not frozen after Freeze: ", frozen, err)
		}
		if err := c.Thaw(); err != nil {
			t.Fatal(err)
		}
		if frozen, err := c.Frozen(); frozen || err != nil {
			t.Error("frozen after Thaw: ", frozen, err)
		}
		// Frozen processes die, too.
		if err := c.Freeze(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		if err := c.WaitEmpty(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error("WaitEmpty of a cgroup with a process: ", err)
		}
		if err := kill(); err != nil {
			t.Fatal(err)
		}
		if err := c.WaitEmpty(t.Context()); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != unix.SIGKILL {
			t.Error("the process ended otherwise: ", err)
		}
	})
}

// A process that forks all the time, and one in a cgroup of the container's own.
func TestKillTree(t *testing.T) {
	variants(t, func(t *testing.T, c *Cgroup, kill func() error) {
		below := make([]dir, len(c.dirs))
		for i, d := range c.dirs {
			d.path += "/nested/deeper"
			below[i] = d
		}
		nested := &Cgroup{mode: c.mode, dirs: below}
		for i := range below {
			if err := os.MkdirAll(below[i].path, 0o755); err != nil {
				t.Fatal(err)
			}
			if slices.Contains(below[i].controllers, "cpuset") {
				if err := nested.fillCpuset(&below[i], true); err != nil {
					t.Fatal(err)
				}
			}
		}
		forks := start(t, c, "while :; do sleep 0.01 & done")
		sleeps := sleeper(t, nested)
		if pids, err := c.Procs(); !slices.Contains(pids, sleeps.Process.Pid) || err != nil {
			t.Errorf("Procs %v lacks the nested %d: %v", pids, sleeps.Process.Pid, err)
		}
		if err := kill(); err != nil {
			t.Fatal(err)
		}
		_, _ = forks.Process.Wait()
		_, _ = sleeps.Process.Wait()
		if err := c.Destroy(); err != nil {
			t.Error(err)
		}
		if c.Exists() {
			t.Error("still exists")
		}
	})
}

// WaitEmpty is told by the kernel, not by the next poll.
func TestWaitEmptyWakes(t *testing.T) {
	needUnified(t)
	c := create(t, name(t), nil)
	cmd := start(t, c, "exec sleep 0.2")
	if err := c.WaitEmpty(t.Context()); err != nil {
		t.Error(err)
	}
	if pids, err := c.Procs(); len(pids) > 0 || err != nil {
		t.Error("not empty: ", pids, err)
	}
	_ = cmd.Wait()
}

func TestDestroyOfLiving(t *testing.T) {
	c := create(t, name(t), nil)
	cmd := sleeper(t, c)
	if err := c.Destroy(); !errors.Is(err, errBusy) || !errors.Is(err, unix.EBUSY) {
		t.Error("Destroy of a cgroup with a process: ", err)
	}
	_ = c.Kill()
	_ = cmd.Wait()
}

// A cgroup that another process froze in the v1 hierarchy still dies.
func TestKillFrozenElsewhere(t *testing.T) {
	needV1(t)
	c := create(t, name(t), nil)
	cmd := sleeper(t, c)
	if err := writeFile(c.controller("freezer").path, "freezer.state", "FROZEN"); err != nil {
		t.Fatal(err)
	}
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}

// Only what is missing is written to cgroup.subtree_control, and every level gets it.
// A container with a writable cgroup file system can freeze its processes in a v1
// cgroup of its own.
func TestKillFrozenBelow(t *testing.T) {
	needV1(t)
	c := create(t, name(t), nil)
	d := c.controller("freezer")
	if d == nil || d.unified() {
		t.Skip("needs the v1 freezer")
	}
	cmd := sleeper(t, c)
	below := d.path + "/below"
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(writeFile(below, "tasks", fmt.Sprint(cmd.Process.Pid)), writeFile(below, "freezer.state", "FROZEN")); err != nil {
		t.Fatal(err)
	}
	if err := c.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}

func TestControllersOfV2(t *testing.T) {
	if needRoot(t).Mode != V2 {
		t.Skip("needs a host with cgroup v2 only")
	}
	c := deep(t)
	want, err := readFile(root, "cgroup.controllers")
	if err != nil {
		t.Fatal(err)
	}
	if got := text(t, c, "", "cgroup.controllers"); got != want {
		t.Errorf("controllers %q, want %q", got, want)
	}
	if got := text(t, c, "", "cgroup.subtree_control"); got != "" {
		t.Errorf("the container's cgroup gives %q to children", got)
	}
}

func BenchmarkCreateDestroy(b *testing.B) {
	for _, gap := range []time.Duration{0, 40 * time.Millisecond} {
		b.Run("gap="+gap.String(), func(b *testing.B) {
			needRoot(b)
			var create, destroy []time.Duration
			for b.Loop() {
				time.Sleep(gap)
				t0 := time.Now()
				c, err := Prepare(&Options{Path: name(b)})
				if err == nil {
					err = c.Create()
				}
				t1 := time.Now()
				time.Sleep(gap)
				t2 := time.Now()
				if err == nil {
					err = c.Destroy()
				}
				if err != nil {
					b.Fatal(err)
				}
				create, destroy = append(create, t1.Sub(t0)), append(destroy, time.Since(t2))
			}
			for name, d := range map[string][]time.Duration{"create": create, "destroy": destroy} {
				slices.Sort(d)
				b.ReportMetric(float64(d[0].Microseconds()), name+"-min-µs")
				b.ReportMetric(float64(d[len(d)/2].Microseconds()), name+"-med-µs")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}
