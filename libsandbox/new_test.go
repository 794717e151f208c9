package libsandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// boxed is the config of a sandbox on busybox, in a store and a layer root of the test's.
func boxed(t *testing.T) *Config {
	t.Helper()
	dir := t.TempDir()
	bin := busybox(t, dir)
	for _, name := range []string{"sh", "cat", "ls", "sleep"} {
		if err := os.Symlink("busybox", filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	return &Config{
		Store: &Store{root: filepath.Join(dir, "store")}, Rootfs: filepath.Join(dir, "rootfs"),
		Layer: LayerOptions{Root: layerDir(t)}, Env: []string{"PATH=/bin"},
	}
}

// newBox makes the sandbox.
func newBox(t *testing.T, c *Config) *layered {
	t.Helper()
	sb, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sb.store.ForceDelete(context.Background(), sb.id); reapChildren() })
	return &layered{sb, t, c.Layer.Root}
}

func TestNew(t *testing.T) {
	c := boxed(t)
	before := lookAtHost(t, t.TempDir())
	host := t.TempDir()
	if err := os.WriteFile(filepath.Join(host, "file"), []byte("host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c.ID, c.Hostname, c.WorkingDir = "box", "myhost", "/work/dir"
	c.Env = append(c.Env, "A=1", "A=2")
	c.Volumes = []string{host + ":/rw", host + ":/deep/ro:ro"}
	c.Tmpfs = []string{"/scratch:size=1m,mode=1777"}
	c.ShmSize = "2m"
	c.DNS, c.DNSSearch, c.DNSOptions = []string{"10.1.2.3", "fd00::1"}, []string{"example.org"}, []string{"ndots:2"}
	c.Hosts = []string{"db:10.0.0.5"}
	c.Devices = []string{"/dev/null:/dev/mynull:rw"}
	c.Resources = ResourceLimits{CPUs: "0.5", Memory: "64m", Pids: 100}
	l := newBox(t, c)
	for _, x := range []struct{ script, want string }{
		{"hostname; cat /etc/hostname", "myhost\nmyhost"},
		{"echo $A; cd /work/dir && pwd", "2\n/work/dir"},
		{"cat /rw/file /deep/ro/file; echo x >/rw/new; (echo x >/deep/ro/new) 2>/dev/null || echo read-only", "host\nhost\nread-only"},
		{"busybox df -k /scratch /dev/shm | busybox awk 'NR>1{print $2}'", "1024\n2048"},
		{"cat /etc/resolv.conf", "nameserver 10.1.2.3\nnameserver fd00::1\nsearch example.org\noptions ndots:2"},
		{"busybox grep db /etc/hosts", "10.0.0.5\tdb"},
		{"busybox stat -c %t:%T /dev/mynull; echo x >/dev/mynull && echo written", "1:3\nwritten"},
		{"busybox ip -o addr | busybox grep -c inet", "2"}, // the loopback's
		{"busybox grep -E 'Seccomp:|NoNewPrivs|CapBnd|CapInh' /proc/self/status", "CapInh:\t0000000000000000\nCapBnd:\t00000000800405fb\nNoNewPrivs:\t1\nSeccomp:\t2"},
		{"cat /proc/keys /proc/timer_list | busybox wc -c; ls /sys/firmware; (echo x >/proc/sys/kernel/hostname) 2>/dev/null || echo read-only", "0\nread-only"},
		{"busybox unshare -m true 2>&1; busybox mount -t tmpfs x /scratch 2>&1 | busybox grep -c ermi", "unshare: unshare(0x20000): Operation not permitted\n1"},
	} {
		if got := l.sh(x.script); got != x.want {
			t.Errorf("%s:\n%s\nwant\n%s", x.script, got, x.want)
		}
	}
	s, err := l.Stats()
	if err != nil || s.Memory.Usage.Limit != 64<<20 || s.Pids.Limit != 100 {
		t.Errorf("limits %+v, %+v, %v", s.Memory.Usage, s.Pids, err)
	}
	if raw, err := os.ReadFile(filepath.Join(host, "new")); err != nil || string(raw) != "x\n" {
		t.Errorf("%q, %v", raw, err)
	}
	for _, mode := range []ResetMode{ResetRestart, ResetKeepInit} {
		l.sh("echo 1.1.1.1 x >/etc/hosts; echo >/etc/resolv.conf; echo x >/work/dir/x")
		l.reset(mode)
		if got := l.sh("busybox grep -c . /etc/hosts /etc/resolv.conf; ls /work/dir"); got != "/etc/hosts:4\n/etc/resolv.conf:4" {
			t.Errorf("%s: %s", mode, got)
		}
	}
	l.gone()
	reapChildren()
	before.compare(t, lookAtHost(t, t.TempDir()))
}

// An empty directory is a root filesystem, and everything else has a default.
func TestNewDefaults(t *testing.T) {
	c := boxed(t)
	c.Rootfs, c.Env = t.TempDir(), nil
	l := newBox(t, c)
	if !strings.HasPrefix(l.ID(), "sandbox-") || len(l.ID()) != len("sandbox-")+12 {
		t.Errorf("id %q", l.ID())
	}
	s, err := l.Stats()
	if err != nil || s.Pids.Limit != defaultPids {
		t.Errorf("%+v, %v", s, err)
	}
	for range 2 {
		if err := l.Reset(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	names, err := os.ReadDir(c.Rootfs)
	if err != nil || len(names) > 0 {
		t.Errorf("the root filesystem was written to: %v, %v", names, err)
	}
	l.gone()
}

func TestNewHostNetwork(t *testing.T) {
	c := boxed(t)
	c.Network, c.User = "host", "1000:2000"
	l := newBox(t, c)
	var own, theirs unix.Stat_t
	if err := unix.Stat("/proc/self/ns/net", &own); err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat(fmt.Sprintf("/proc/%d/ns/net", l.Pid()), &theirs); err != nil || own.Ino != theirs.Ino {
		t.Errorf("network namespace %d, the host's is %d, %v", theirs.Ino, own.Ino, err)
	}
	want, _ := os.ReadFile("/etc/resolv.conf")
	if got := l.sh("cat /etc/resolv.conf"); got != strings.TrimSpace(string(want)) {
		t.Errorf("resolv.conf %q", got)
	}
	if p, err := l.Process(); err != nil || p.User.UID != 1000 || p.User.GID != 2000 || len(p.Capabilities.Effective) > 0 {
		t.Errorf("%+v, %v", p, err)
	}
	l.gone()
}

func TestNewRestore(t *testing.T) {
	c := boxed(t)
	l := newBox(t, c)
	l.sh("echo 1 >/state")
	if _, err := l.Snapshot(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	l.sh("echo 2 >/state")
	if err := l.Restore(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	if got := l.sh("cat /state"); got != "1" {
		t.Errorf("state %s", got)
	}
	if err := l.Restore(t.Context(), "two"); !errors.Is(err, ErrNoSnapshot) {
		t.Errorf("%v", err)
	}
	if err := l.Restore(t.Context(), ""); err == nil {
		t.Error("a snapshot without a name was found")
	}
	l.gone()
}

func TestNewErrors(t *testing.T) {
	base := boxed(t)
	missing := filepath.Join(t.TempDir(), "missing")
	for _, c := range []struct {
		want string
		edit func(*Config)
	}{
		{`Rootfs "rootfs": must be an absolute path`, func(c *Config) { c.Rootfs = "rootfs" }},
		{`Rootfs "` + missing + `": stat ` + missing + `: no such file or directory`, func(c *Config) { c.Rootfs = missing }},
		{`Rootfs "/dev/null": must be a directory`, func(c *Config) { c.Rootfs = "/dev/null" }},
		{`ID "../victim": invalid container id format`, func(c *Config) { c.ID = "../victim" }},
		{`WorkingDir "work": must be an absolute path`, func(c *Config) { c.WorkingDir = "work" }},
		{`Env[0] "A": must be NAME=VALUE`, func(c *Config) { c.Env = []string{"A"} }},
		{`User "root": must be UID or UID:GID, in numbers`, func(c *Config) { c.User = "root" }},
		{`Volumes[0] "/a": must be HOST:CONTAINER`, func(c *Config) { c.Volumes = []string{"/a"} }},
		{`Volumes[0] "/:/": must be HOST:CONTAINER`, func(c *Config) { c.Volumes = []string{"/:/"} }},
		{`Volumes[0] "/tmp:/a:rx": mode "rx": must be ro, rw or cow`, func(c *Config) { c.Volumes = []string{"/tmp:/a:rx"} }},
		{`Volumes[0] "/dev/null:/a:cow": only a directory can be a cow volume`, func(c *Config) { c.Volumes = []string{"/dev/null:/a:cow"} }},
		{`Volumes[0] "` + missing + `:/a": stat ` + missing + `: no such file or directory`, func(c *Config) { c.Volumes = []string{missing + ":/a"} }},
		{`Volumes[0] "/tmp:/a/": another volume or tmpfs has this place`, func(c *Config) { c.Tmpfs, c.Volumes = []string{"/a"}, []string{"/tmp:/a/"} }},
		{`Tmpfs[0] "a": must be an absolute path`, func(c *Config) { c.Tmpfs = []string{"a"} }},
		{`ShmSize "1x": size "1x"`, func(c *Config) { c.ShmSize = "1x" }},
		{`Network "bridge": must be none or host`, func(c *Config) { c.Network = "bridge" }},
		{`DNS[0] "dns": must be an IP address`, func(c *Config) { c.DNS = []string{"dns"} }},
		{`DNSSearch[0] "a b": must be one word`, func(c *Config) { c.DNSSearch = []string{"a b"} }},
		{`Hosts[0] "a": must be NAME:ADDRESS`, func(c *Config) { c.Hosts = []string{"a"} }},
		{`DNS: a mount on /etc has /etc/resolv.conf`, func(c *Config) { c.DNS, c.Tmpfs = []string{"::1"}, []string{"/etc"} }},
		{`Hosts: without a layer /etc/hosts would be written to Rootfs`, func(c *Config) { c.Hosts, c.Layer = []string{"a:::1"}, LayerOptions{Driver: "none"} }},
		{`Devices[0] "/etc/passwd": /etc/passwd: is no device`, func(c *Config) { c.Devices = []string{"/etc/passwd"} }},
		{`Devices[0] "/dev/null:/x:q": must be HOST`, func(c *Config) { c.Devices = []string{"/dev/null:/x:q"} }},
		{`Resources.CPUs "0.001": must be a number of CPUs`, func(c *Config) { c.Resources.CPUs = "0.001" }},
		{`Resources.CPUs "-1": must be a number of CPUs`, func(c *Config) { c.Resources.CPUs = "-1" }},
		{`Resources.CPUs "1e1": must be a number of CPUs`, func(c *Config) { c.Resources.CPUs = "1e1" }},
		{`Resources.CPUSet "99999": linux.resources.cpu.cpus`, func(c *Config) { c.Resources.CPUSet = "99999" }},
		{`Resources.Memory "512": nothing runs in less than 262144 bytes`, func(c *Config) { c.Resources.Memory = "512" }},
		{`Hostname "a b": has white space`, func(c *Config) { c.Hostname = "a b" }},
		{`Resources.Memory "lots": size "lots"`, func(c *Config) { c.Resources.Memory = "lots" }},
		{`Resources.Swap "1m": needs a limit on Memory`, func(c *Config) { c.Resources.Swap = "1m" }},
		{`Resources.Pids -2: must be positive`, func(c *Config) { c.Resources.Pids = -2 }},
		{`Resources.IO[0].Device "/dev/null": is no block device`, func(c *Config) { c.Resources.IO = []IOLimit{{Device: "/dev/null"}} }},
		{`Security.CapAdd[0] "CAP_X": unknown to the kernel`, func(c *Config) { c.Security.CapAdd = []string{"CAP_X"} }},
		{`Lifetime -1ns: must not be negative`, func(c *Config) { c.Lifetime = -1 }},
		{`annotations["run.adl.reset"] "twice": must be keep-init or restart`, func(c *Config) { c.Reset = "twice" }},
		{`layer "zfs": must be overlay, btrfs or none`, func(c *Config) { c.Layer.Driver = "zfs" }},
		{`Layer.Upper "disc": layer upper "disc": must be disk`, func(c *Config) { c.Layer.Upper = "disc" }},
	} {
		conf := *base
		c.edit(&conf)
		sb, err := New(t.Context(), &conf)
		if err == nil {
			t.Errorf("no error, want %s", c.want)
			_ = sb.Delete(t.Context(), &DeleteOptions{Force: true})
			continue
		}
		if !strings.HasPrefix(err.Error(), "sandbox: "+c.want) {
			t.Errorf("got  %v\nwant sandbox: %s", err, c.want)
		}
	}
	if err := EmptyTrash(t.Context(), base.Layer.Root); err != nil {
		t.Error(err)
	}
	noLayers(t, base.Layer.Root)
}

// TestNewEachOpFails: what fails at any op is an error, and leaves nothing.
func TestNewEachOpFails(t *testing.T) {
	c := boxed(t)
	c.ID, c.WorkingDir, c.Volumes = "fault", "/made/dir", []string{t.TempDir() + ":/cow:cow"}
	c.Tmpfs, c.DNS = []string{"/tmp"}, []string{"::1"}
	covered := map[string]bool{} // by other tests, which have no such files and volumes
	c.Store.tamper = func(p *program.Program) {
		for _, note := range p.Texts {
			covered[note] = !strings.HasPrefix(note, "file ") && !strings.HasSuffix(note, " /cow") && !strings.HasPrefix(note, "process.args")
		}
	}
	newBox(t, c).gone() // and the seccomp filter is kept
	reapChildren()
	c.Store.background = func(string, []*os.File) error { return nil } // no goroutine that has the trash open
	eachOpFails(t, c.Store, covered, 50, func() (func() error, error) {
		if err := EmptyTrash(t.Context(), c.Layer.Root); err != nil {
			t.Error(err)
		}
		sb, err := New(t.Context(), c)
		return func() error {
			defer reapChildren()
			return sb.Delete(t.Context(), &DeleteOptions{Force: true})
		}, errors.Unwrap(err)
	})
	if err := EmptyTrash(t.Context(), c.Layer.Root); err != nil { // of the last one
		t.Error(err)
	}
	noLayers(t, c.Layer.Root)
}

// Whoever asks for less protection gets it.
func TestNewSecurity(t *testing.T) {
	c := boxed(t)
	c.Security = Security{NoSeccomp: true, CapAdd: []string{"CAP_SYS_ADMIN"}, CapDrop: []string{"CAP_CHOWN"}, NewPrivileges: true, Unmasked: true}
	l := newBox(t, c)
	if got := l.sh("busybox grep -E 'Seccomp:|NoNewPrivs|CapEff' /proc/self/status; busybox mount -t tmpfs x /dev/shm 2>&1; echo $?"); got != "CapEff:\t00000000802405fa\nNoNewPrivs:\t0\nSeccomp:\t0\n0" {
		t.Error(got)
	}
	l.gone()
}

func TestPressure(t *testing.T) {
	l := newBox(t, boxed(t))
	p, err := l.Pressure()
	if _, serr := os.Stat("/proc/pressure/cpu"); serr != nil {
		if err == nil || !strings.Contains(err.Error(), "pressure stall information") {
			t.Errorf("%+v, %v", p, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	l.sh("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done & i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done & i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; wait")
	if p, err = l.Pressure(); err != nil || p.CPU.Some.Total == 0 {
		t.Errorf("%+v, %v", p, err)
	}
	l.gone()
	if _, err := l.Pressure(); err == nil {
		t.Error("a deleted container has pressure")
	}
}

func TestLifetime(t *testing.T) {
	c := boxed(t)
	c.Lifetime = 150 * time.Millisecond
	l := newBox(t, c)
	if !wait1s(func() bool { _, err := c.Store.Load(l.ID()); return errors.Is(err, ErrNotExist) }) {
		t.Error("it is still there")
	}
	noLayers(t, l.root)
}

func TestIdle(t *testing.T) {
	c := boxed(t)
	c.Idle = 300 * time.Millisecond
	l := newBox(t, c)
	for range 8 { // used, it stays
		l.sh("true")
		time.Sleep(100 * time.Millisecond)
	}
	p, err := l.Process()
	if err != nil {
		t.Fatal(err)
	}
	p.Args = []string{"/bin/sleep", "0.7"}
	x, err := l.Exec(t.Context(), p, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ws, err := x.Wait(t.Context()); err != nil || ws.ExitStatus() != 0 {
		t.Errorf("a process ended with %v, %v", ws, err)
	}
	if !wait1s(func() bool { _, err := c.Store.Load(l.ID()); return errors.Is(err, ErrNotExist) }) {
		t.Error("it is still there")
	}
}

func TestCollectOwned(t *testing.T) {
	c := boxed(t)
	kept, detached, orphan, late := newBox(t, c), *c, *c, *c
	detached.Detached, detached.ID = true, "detached"
	newBox(t, &detached)
	orphan.ID = "orphan"
	o := newBox(t, &orphan)
	late.ID, late.Lifetime = "late", time.Hour
	l := newBox(t, &late)
	// The owner of one has ended: its record names this process with another start.
	rewrite := func(sb *Sandbox, edit func(*record)) {
		rec := sb.rec
		edit(&rec)
		raw, err := rec.appendJSON(nil)
		if err == nil {
			err = os.WriteFile(filepath.Join(c.Store.root, sb.id, stateFile), raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	rewrite(o.Sandbox, func(r *record) {
		owner := *r.Owner
		owner.Start++
		r.Owner = &owner
	})
	rewrite(l.Sandbox, func(r *record) { r.Created = time.Now().Add(-2 * time.Hour).UTC().Format(time.RFC3339Nano) })
	done, err := (&Store{root: c.Store.root}).CollectOwned(t.Context())
	if err != nil || !slices.Equal(done, []Collected{{"late", LifetimeOver}, {"orphan", OwnerEnded}}) {
		t.Errorf("%v, %v", done, err)
	}
	all, err := c.Store.List()
	if err != nil || len(all) != 2 || all[0].ID() != "detached" || all[1].ID() != kept.ID() {
		t.Errorf("%v, %v", all, err)
	}
}

// TestIDTaken: an ID is one sandbox's. In another store it is another's, which shares
// nothing with it, not even where both have the same layer root.
func TestIDTaken(t *testing.T) {
	c := boxed(t)
	c.ID = "one"
	l := newBox(t, c)
	if _, err := New(t.Context(), c); !errors.Is(err, ErrExist) {
		t.Errorf("%v", err)
	}
	other := *c
	other.Store = &Store{root: t.TempDir()}
	if _, err := New(t.Context(), &other); err == nil || !strings.HasPrefix(err.Error(), "sandbox: linux.cgroupsPath: ") {
		t.Errorf("two in one cgroup: %v", err)
	}
	other.Change = func(s *specs.Spec) error { s.Linux.CgroupsPath = "/one-too"; return nil }
	o := newBox(t, &other)
	l.say("echo first >/file")
	o.say("echo second >/file; echo x >/more")
	if got := l.say("cat /file; ls /more 2>/dev/null || echo none"); got != "first\nnone" {
		t.Errorf("the first has %q", got)
	}
	o.reset(ResetKeepInit)
	if err := o.Delete(t.Context(), &DeleteOptions{Force: true}); err != nil {
		t.Error(err)
	}
	if got := l.say("cat /file"); got != "first" {
		t.Errorf("without the second the first has %q", got)
	}
	l.gone()
}
