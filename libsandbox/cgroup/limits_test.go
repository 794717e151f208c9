package cgroup

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// everything sets each field that both versions have.
func everything() *specs.LinuxResources {
	return &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: new(int64(64 << 20)), Swap: new(int64(96 << 20)), Reservation: new(int64(32 << 20)), Kernel: new(int64(1)), CheckBeforeUpdate: new(true)},
		CPU:    &specs.LinuxCPU{Shares: new(uint64(512)), Quota: new(int64(50000)), Period: new(uint64(100000)), Burst: new(uint64(1000)), Cpus: "0", Mems: "0", Idle: new(int64(0))},
		Pids:   &specs.LinuxPids{Limit: new(int64(7))},
		BlockIO: &specs.LinuxBlockIO{
			Weight:                  new(uint16(500)),
			WeightDevice:            []specs.LinuxWeightDevice{weightDevice(8, 0, 300, 0)},
			ThrottleReadBpsDevice:   []specs.LinuxThrottleDevice{throttleDevice(8, 0, 1000)},
			ThrottleWriteBpsDevice:  []specs.LinuxThrottleDevice{throttleDevice(8, 0, 2000)},
			ThrottleReadIOPSDevice:  []specs.LinuxThrottleDevice{throttleDevice(8, 0, 30)},
			ThrottleWriteIOPSDevice: []specs.LinuxThrottleDevice{throttleDevice(8, 0, 0)},
		},
		HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 4 << 20}},
		Rdma:           map[string]specs.LinuxRdma{"mlx5_1": {HcaHandles: new(uint32(3)), HcaObjects: new(uint32(9))}, "mlx5_0": {HcaObjects: new(uint32(5))}},
	}
}

func throttleDevice(major, minor int64, rate uint64) (d specs.LinuxThrottleDevice) {
	d.Major, d.Minor, d.Rate = major, minor, rate
	return d
}

func weightDevice(major, minor int64, weight, leaf uint16) (d specs.LinuxWeightDevice) {
	d.Major, d.Minor, d.Weight, d.LeafWeight = major, minor, &weight, &leaf
	return d
}

// listing is settings as text, one a line: what is written where.
func listing(l []setting) string {
	var b strings.Builder
	for _, s := range l {
		fmt.Fprintf(&b, "%s/%s = %s", s.controller, s.file, s.data)
		if s.other != "" {
			fmt.Fprintf(&b, " | %s = %s", s.other, s.otherData)
		}
		fmt.Fprintf(&b, "   # %s: %s\n", s.field, s.value)
	}
	return b.String()
}

const everythingV1 = `memory/memory.limit_in_bytes = 67108864   # memory.limit: 67108864
memory/memory.memsw.limit_in_bytes = 100663296   # memory.swap: 100663296
memory/memory.soft_limit_in_bytes = 33554432   # memory.reservation: 33554432
memory/memory.oom_control = 1   # memory.disableOOMKiller: true
memory/memory.use_hierarchy = 1   # memory.useHierarchy: true
memory/memory.swappiness = 60   # memory.swappiness: 60
cpu/cpu.shares = 512   # cpu.shares: 512
cpu/cpu.cfs_period_us = 100000   # cpu.period: 100000
cpu/cpu.cfs_quota_us = 50000   # cpu.quota: 50000
cpu/cpu.cfs_burst_us = 1000   # cpu.burst: 1000
cpu/cpu.rt_period_us = 1000000   # cpu.realtimePeriod: 1000000
cpu/cpu.rt_runtime_us = 950000   # cpu.realtimeRuntime: 950000
cpu/cpu.idle = 0   # cpu.idle: 0
cpuset/cpuset.cpus = 0   # cpu.cpus: 0
cpuset/cpuset.mems = 0   # cpu.mems: 0
pids/pids.max = 7   # pids.limit: 7
blkio/blkio.weight = 500 | blkio.bfq.weight = 500   # blockIO.weight: 500
blkio/blkio.leaf_weight = 20 | blkio.bfq.leaf_weight = 20   # blockIO.leafWeight: 20
blkio/blkio.weight_device = 8:0 300 | blkio.bfq.weight_device = 8:0 300   # blockIO.weightDevice[0].weight: 300
blkio/blkio.throttle.read_bps_device = 8:0 1000   # blockIO.throttleReadBpsDevice[0]: 8:0 1000
blkio/blkio.throttle.write_bps_device = 8:0 2000   # blockIO.throttleWriteBpsDevice[0]: 8:0 2000
blkio/blkio.throttle.read_iops_device = 8:0 30   # blockIO.throttleReadIOPSDevice[0]: 8:0 30
blkio/blkio.throttle.write_iops_device = 8:0 0   # blockIO.throttleWriteIOPSDevice[0]: 8:0 0
hugetlb/hugetlb.2MB.limit_in_bytes = 4194304   # hugepageLimits[0].limit: 4194304
hugetlb/hugetlb.2MB.rsvd.limit_in_bytes = 4194304   # hugepageLimits[0].limit: 4194304
net_cls/net_cls.classid = 1048577   # network.classID: 1048577
net_prio/net_prio.ifpriomap = eth0 5   # network.priorities[0]: eth0 5
rdma/rdma.max = mlx5_0 hca_object=5   # rdma.mlx5_0: mlx5_0 hca_object=5
rdma/rdma.max = mlx5_1 hca_handle=3 hca_object=9   # rdma.mlx5_1: mlx5_1 hca_handle=3 hca_object=9
`

const everythingV2 = `memory/memory.swap.max = 33554432   # memory.swap: 100663296
memory/memory.max = 67108864   # memory.limit: 67108864
memory/memory.low = 33554432   # memory.reservation: 33554432
cpu/cpu.idle = 0   # cpu.idle: 0
cpu/cpu.weight = 59   # cpu.shares: 512
cpu/cpu.max = 50000 100000   # cpu.quota and period: 50000 100000
cpu/cpu.max.burst = 1000   # cpu.burst: 1000
cpuset/cpuset.cpus = 0   # cpu.cpus: 0
cpuset/cpuset.mems = 0   # cpu.mems: 0
pids/pids.max = 7   # pids.limit: 7
io/io.bfq.weight = 500 | io.weight = 4950   # blockIO.weight: 500
io/io.bfq.weight = 8:0 300 | io.weight = 8:0 2930   # blockIO.weightDevice[0].weight: 300
io/io.max = 8:0 rbps=1000   # blockIO.throttleReadBpsDevice[0]: 8:0 1000
io/io.max = 8:0 wbps=2000   # blockIO.throttleWriteBpsDevice[0]: 8:0 2000
io/io.max = 8:0 riops=30   # blockIO.throttleReadIOPSDevice[0]: 8:0 30
io/io.max = 8:0 wiops=max   # blockIO.throttleWriteIOPSDevice[0]: 8:0 0
hugetlb/hugetlb.2MB.max = 4194304   # hugepageLimits[0].limit: 4194304
hugetlb/hugetlb.2MB.rsvd.max = 4194304   # hugepageLimits[0].limit: 4194304
rdma/rdma.max = mlx5_0 hca_object=5   # rdma.mlx5_0: mlx5_0 hca_object=5
rdma/rdma.max = mlx5_1 hca_handle=3 hca_object=9   # rdma.mlx5_1: mlx5_1 hca_handle=3 hca_object=9
io/io.latency = 8:0 target=100   # unified.io.latency: 8:0 target=100
io/io.latency = 8:16 target=200   # unified.io.latency: 8:16 target=200
memory/memory.high = 5000000   # unified.memory.high: 5000000
`

func TestSettings(t *testing.T) {
	r := everything()
	r.Memory.Swappiness, r.Memory.DisableOOMKiller, r.Memory.UseHierarchy = new(uint64(60)), new(true), new(true)
	r.CPU.RealtimePeriod, r.CPU.RealtimeRuntime = new(uint64(1000000)), new(int64(950000))
	r.BlockIO.LeafWeight = new(uint16(20))
	r.Network = &specs.LinuxNetwork{ClassID: new(uint32(0x100001)), Priorities: []specs.LinuxInterfacePriority{{Name: "eth0", Priority: 5}}}
	l, err := settings(Hybrid, r)
	if d := cmp.Diff(everythingV1, listing(l)); d != "" || err != nil {
		t.Errorf("v1: %v\n%s", err, d)
	}
	r = everything()
	r.Unified = map[string]string{"memory.high": "5000000", "io.latency": "8:0 target=100\n8:16 target=200"}
	l, err = settings(V2, r)
	if d := cmp.Diff(everythingV2, listing(l)); d != "" || err != nil {
		t.Errorf("v2: %v\n%s", err, d)
	}
}

// Zero, null and Docker's -1 mean that a limit is not set; -1 elsewhere, no limit.
func TestSettingsUnset(t *testing.T) {
	zero := &specs.LinuxResources{
		Memory:  &specs.LinuxMemory{Limit: new(int64(0)), Swap: new(int64(0)), Reservation: new(int64(0)), Swappiness: new(uint64(math.MaxUint64)), DisableOOMKiller: new(false), UseHierarchy: new(false)},
		CPU:     &specs.LinuxCPU{Shares: new(uint64(0)), Quota: new(int64(0)), Period: new(uint64(0)), RealtimePeriod: new(uint64(0)), RealtimeRuntime: new(int64(0))},
		Pids:    &specs.LinuxPids{},
		BlockIO: &specs.LinuxBlockIO{Weight: new(uint16(0)), LeafWeight: new(uint16(0)), WeightDevice: []specs.LinuxWeightDevice{weightDevice(8, 0, 0, 0)}},
		Network: &specs.LinuxNetwork{ClassID: new(uint32(0))},
	}
	none := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: new(int64(-1)), Reservation: new(int64(-1))},
		CPU:    &specs.LinuxCPU{Quota: new(int64(-1))},
		Pids:   &specs.LinuxPids{Limit: new(int64(-1))},
	}
	for _, test := range []struct {
		mode Mode
		r    *specs.LinuxResources
		want string
	}{
		{V1, zero, ""},
		{V2, zero, ""},
		{V1, none, "memory/memory.limit_in_bytes = -1   # memory.limit: -1\nmemory/memory.memsw.limit_in_bytes = -1   # memory.limit: -1\nmemory/memory.soft_limit_in_bytes = -1   # memory.reservation: -1\ncpu/cpu.cfs_quota_us = -1   # cpu.quota: -1\npids/pids.max = max   # pids.limit: -1\n"},
		{V2, none, "memory/memory.swap.max = max   # memory.swap: 0\nmemory/memory.max = max   # memory.limit: -1\nmemory/memory.low = max   # memory.reservation: -1\ncpu/cpu.max = max   # cpu.quota: -1\npids/pids.max = max   # pids.limit: -1\n"},
		{V2, &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: new(int64(0))}}, "pids/pids.max = 1   # pids.limit: 0\n"},
	} {
		l, err := settings(test.mode, test.r)
		if d := cmp.Diff(test.want, listing(l)); d != "" || err != nil {
			t.Errorf("%v: %v\n%s", test.mode, err, d)
		}
	}
}

func TestSettingsRefused(t *testing.T) {
	for _, test := range []struct {
		mode Mode
		r    specs.LinuxResources
		want string
	}{
		{V1, specs.LinuxResources{Memory: &specs.LinuxMemory{Swappiness: new(uint64(101))}}, "memory.swappiness: 101: must be from 0 to 100"},
		{V2, specs.LinuxResources{Memory: &specs.LinuxMemory{Swappiness: new(uint64(101))}}, "memory.swappiness: 101: must be from 0 to 100"},
		{V2, specs.LinuxResources{Memory: &specs.LinuxMemory{Swappiness: new(uint64(10))}}, "memory.swappiness: 10: cgroup v2 has no such limit"},
		{V2, specs.LinuxResources{Memory: &specs.LinuxMemory{DisableOOMKiller: new(true)}}, "memory.disableOOMKiller: true: cgroup v2 has no such limit"},
		{V2, specs.LinuxResources{Memory: &specs.LinuxMemory{Swap: new(int64(5))}}, "memory.swap: 5: includes memory and so needs memory.limit"},
		{V2, specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(6)), Swap: new(int64(5))}}, "memory.swap: 5: less than memory.limit 6, which it includes"},
		{V2, specs.LinuxResources{CPU: &specs.LinuxCPU{RealtimeRuntime: new(int64(5))}}, "cpu.realtimeRuntime: 5: cgroup v2 has no such limit"},
		{V2, specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{WeightDevice: []specs.LinuxWeightDevice{weightDevice(8, 0, 0, 10)}}}, "blockIO.leafWeight: cgroup v2 has no such limit"},
		{V2, specs.LinuxResources{Network: &specs.LinuxNetwork{ClassID: new(uint32(5))}}, "network.classID: 5: cgroup v2 has no such limit"},
		{V2, specs.LinuxResources{Unified: map[string]string{"memory/../x.y": "1"}}, "unified.memory/../x.y: not a file of a cgroup, such as memory.high"},
		{V2, specs.LinuxResources{Unified: map[string]string{"cgroup.procs": "1"}}, "unified.cgroup.procs: not a limit"},
		{V2, specs.LinuxResources{Unified: map[string]string{"memory.high": ""}}, "unified.memory.high: empty"},
		{V1, specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "../2MB"}}}, `hugepageLimits[0].pageSize: "../2MB": not a page size`},
	} {
		if _, err := settings(test.mode, &test.r); err == nil || err.Error() != test.want {
			t.Errorf("%v: %v, want %s", test.mode, err, test.want)
		}
	}
}

// The conversions are the library's.
func TestConversions(t *testing.T) {
	for shares := uint64(1); shares <= 262146; shares++ {
		if got, want := weightOfShares(shares), cgroups.ConvertCPUSharesToCgroupV2Value(shares); got != want {
			t.Fatalf("weight of %d shares is %d, want %d", shares, got, want)
		}
	}
	for w := uint16(10); w <= 1000; w++ {
		if got, want := ioWeight(w), cgroups.ConvertBlkIOToIOWeightValue(w); got != want {
			t.Fatalf("io.weight of %d is %d, want %d", w, got, want)
		}
	}
	for _, v := range [][2]int64{{0, 0}, {-1, 0}, {-1, 5}, {5, -1}, {0, -1}, {5, 5}, {5, 8}, {0, 5}, {6, 5}, {5, 0}} {
		m := &specs.LinuxMemory{Limit: &v[0], Swap: &v[1]}
		got, err := v2Swap(m)
		want, wantErr := cgroups.ConvertMemorySwapToCgroupV2Value(v[1], v[0])
		text := fmt.Sprint(want)
		if want == -1 {
			text = "max"
		}
		if want == 0 && v[0] != v[1] || v[1] == 0 && want == 0 {
			text = ""
		}
		if (err != nil) != (wantErr != nil) || err == nil && got != text {
			t.Errorf("limit %d, swap %d: %q, %v; want %q, %v", v[0], v[1], got, err, text, wantErr)
		}
	}
}
