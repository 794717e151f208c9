package libsandbox

import (
	"strings"
	"testing"
	"time"
)

// TestConfigAfterReset: a sandbox is configured after each kind of reset as it was at first.
func TestConfigAfterReset(t *testing.T) {
	c := boxed(t)
	c.ID, c.Hostname, c.WorkingDir, c.Env = "kept", "myhost", "/work", append(c.Env, "A=1")
	c.ReadonlyRoot, c.Tmpfs, c.ShmSize = true, []string{"/scratch:size=1m"}, "2m"
	c.Volumes = []string{t.TempDir() + ":/ro:ro", t.TempDir() + ":/rw", t.TempDir() + ":/cow:cow"}
	c.DNS, c.Hosts = []string{"10.1.2.3"}, []string{"db:10.0.0.5"}
	c.Devices = []string{"/dev/null:/dev/mynull"}
	c.Resources = ResourceLimits{CPUs: "0.5", Memory: "64m", Pids: 100}
	l := newBox(t, c)
	const probe = `hostname; pwd; echo $A; cat /etc/hosts /etc/resolv.conf; ls /dev /scratch; busybox grep -E "Cap|NoNewPrivs|Seccomp:" /proc/self/status
busybox df -k /scratch /dev/shm | busybox awk 'NR>1{print $2, $6}'; busybox ip -o addr; ulimit -a
for dir in / /work /ro /rw /cow /scratch /proc/sys; do (echo x >$dir/file) 2>/dev/null && echo $dir && busybox rm $dir/file; done; true`
	limits := func() [2]uint64 {
		s, err := l.Stats()
		if err != nil {
			t.Fatal(err)
		}
		return [2]uint64{s.Memory.Usage.Limit, s.Pids.Limit}
	}
	first, had := l.say(probe), limits()
	for _, want := range []string{"myhost\n/work\n1\n", "10.0.0.5\tdb", "nameserver 10.1.2.3", "mynull", "1024 /scratch", "2048 /dev/shm", "\n/rw\n/cow\n/scratch"} {
		if !strings.Contains(first, want) {
			t.Errorf("at first there is no %q in\n%s", want, first)
		}
	}
	for _, mode := range []ResetMode{ResetRestart, ResetKeepInit, ResetRestart} {
		l.reset(mode)
		if now := l.say(probe); now != first {
			t.Errorf("after %s:\n%s\nat first:\n%s", mode, now, first)
		}
		if now := limits(); now != had {
			t.Errorf("after %s: limits %v, at first %v", mode, now, had)
		}
	}
	l.gone()
}

// TestNoShell: where there is no shell, a command says so, at once, and a shell that comes
// later is found.
func TestNoShell(t *testing.T) {
	c := boxed(t)
	full := c.Rootfs
	c.Rootfs, c.Volumes = t.TempDir(), []string{full + "/bin:/tools"}
	c.Env = []string{"PATH=/tools"}
	l := newBox(t, c)
	began := time.Now()
	if r, err := l.Sandbox.Run(t.Context(), "true", nil); err == nil || !strings.Contains(err.Error(), "/bin/sh") {
		t.Errorf("%+v, %v", r, err)
	}
	if d := time.Since(began); d > 5*time.Second {
		t.Errorf("it took %v", d)
	}
	p, err := l.Process()
	if err != nil {
		t.Fatal(err)
	}
	p.Args = []string{"/tools/busybox", "ln", "-s", "/tools", "/bin"}
	x, err := l.Exec(t.Context(), p, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ws, err := x.Wait(t.Context()); err != nil || ws.ExitStatus() != 0 {
		t.Fatal(ws, err)
	}
	if got := l.say("echo on"); got != "on" {
		t.Error(got)
	}
	l.gone()
}
