package cgroup

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The texts are Linux's, v1 and v2.
func TestPrevious(t *testing.T) {
	for _, tt := range []struct{ file, text, data, want string }{
		{"memory.limit_in_bytes", "9223372036854771712", "4096", "9223372036854771712"},
		{"memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3", "1", "0"},
		{"memory.oom_control", "oom_kill_disable 1\nunder_oom 0", "1", "1"},
		{"cpuset.cpus", "", "0-1", "\n"},
		{"cpu.max", "max 100000", "5000 10000", "max 100000"},
		{"pids.max", "max", "5", "max"},
		{"io.weight", "default 100\n254:0 200", "50", "default 100"},
		{"io.weight", "default 100\n254:0 200", "254:0 50", "254:0 200"},
		{"io.weight", "default 100", "254:0 50", "254:0 default"},
		{"io.max", "254:0 rbps=5 wbps=max riops=max wiops=max", "254:0 wbps=7", "254:0 rbps=5 wbps=max riops=max wiops=max"},
		{"io.max", "254:0 rbps=5 wbps=max riops=max wiops=max", "8:0 wbps=7", "8:0 rbps=max wbps=max riops=max wiops=max"},
		{"io.latency", "", "8:0 target=7", "8:0 target=0"},
		{"blkio.throttle.read_bps_device", "", "8:0 100", "8:0 0"},
		{"blkio.throttle.read_bps_device", "254:0 7\n8:0 9", "8:0 100", "8:0 9"},
		{"blkio.bfq.weight_device", "", "8:0 100", "8:0 default"},
		{"rdma.max", "", "mlx5_0 hca_handle=2", "mlx5_0 hca_handle=max hca_object=max"},
		{"net_prio.ifpriomap", "lo 0\neth0 5", "eth0 7", "eth0 5"},
		{"misc.max", "res_a 1\nres_b max", "res_b 3", "res_b max"},
	} {
		if got := previous(tt.file, tt.text, tt.data); got != tt.want {
			t.Errorf("%s %q: %q, want %q", tt.file, tt.text, got, tt.want)
		}
	}
}

// An update that the kernel refuses in the middle changes nothing.
func TestUpdateIsAllOrNothing(t *testing.T) {
	host := needRoot(t)
	c := create(t, name(t), &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: new(int64(64 << 20)), Swap: new(int64(96 << 20))},
		CPU:    &specs.LinuxCPU{Quota: new(int64(50000)), Period: new(uint64(100000)), Shares: new(uint64(512))},
		Pids:   &specs.LinuxPids{Limit: new(int64(50))},
	})
	files := []string{"memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares", "pids.max", "cpuset.cpus"}
	if host.Mode == V2 {
		files = []string{"memory.max", "memory.swap.max", "memory.low", "cpu.max", "cpu.weight", "pids.max", "cpuset.cpus"}
	}
	limits := func() map[string]string {
		m := map[string]string{}
		for _, d := range c.dirs {
			for _, f := range files {
				if text, err := readFile(d.path, f); err == nil {
					m[f] = text
				}
			}
		}
		return m
	}
	before := limits()
	if len(before) < 6 {
		t.Fatalf("only %v", before)
	}
	for what, r := range map[string]*specs.LinuxResources{
		"last":   {CPU: &specs.LinuxCPU{Quota: new(int64(20000)), Period: new(uint64(50000)), Shares: new(uint64(100)), Cpus: "0", Mems: "900"}},
		"middle": {CPU: &specs.LinuxCPU{Quota: new(int64(20000)), Cpus: "4000"}, Pids: &specs.LinuxPids{Limit: new(int64(60))}, Memory: &specs.LinuxMemory{Limit: new(int64(80 << 20)), Swap: new(int64(200 << 20))}},
		"lower":  {CPU: &specs.LinuxCPU{Cpus: "4000"}, Memory: &specs.LinuxMemory{Limit: new(int64(8 << 20)), Swap: new(int64(16 << 20)), Reservation: new(int64(1 << 20))}},
		"raise":  {CPU: &specs.LinuxCPU{Cpus: "4000"}, Memory: &specs.LinuxMemory{Limit: new(int64(-1))}},
	} {
		err := c.Update(r)
		var errno unix.Errno
		if !errors.As(err, &errno) {
			t.Errorf("%s: %v", what, err)
		}
		if d := cmp.Diff(before, limits()); d != "" {
			t.Errorf("%s: %v: changed\n%s", what, err, d)
		}
	}
}
