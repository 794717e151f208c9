package cgroup

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/cgroups/fs"
	"github.com/opencontainers/cgroups/fs2"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// files makes a directory with files, as a cgroup's.
func files(t *testing.T, content map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range content {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The texts are those of Linux 6.18, v1.
func v1Files() map[string]string {
	return map[string]string{
		"cpuacct.stat":                    "user 12\nsystem 3\n",
		"cpuacct.usage":                   "151532172\n",
		"cpuacct.usage_percpu":            "2600436 148931736 \n",
		"cpuacct.usage_all":               "cpu user system\n0 1000000 1600436\n1 120000000 28931736\n",
		"cpu.stat":                        "nr_periods 5\nnr_throttled 2\nthrottled_time 70123\nnr_bursts 0\nburst_time 0\n",
		"cpuset.cpus":                     "0-1,3\n",
		"cpuset.mems":                     "0\n",
		"cpuset.sched_load_balance":       "1\n",
		"cpuset.sched_relax_domain_level": "-1\n",
		"memory.stat":                     "cache 8192\nrss 49152\ntotal_cache 8192\n",
		"memory.limit_in_bytes":           "67108864\n",
		"memory.usage_in_bytes":           "745472\n",
		"memory.max_usage_in_bytes":       "2519040\n",
		"memory.failcnt":                  "7\n",
		"memory.kmem.usage_in_bytes":      "466944\n",
		"pids.current":                    "1\n",
		"pids.max":                        "max\n",
		// bfq has counted nothing, so the block layer's own counters hold.
		"blkio.bfq.io_service_bytes_recursive":      "Total 0\n",
		"blkio.throttle.io_service_bytes_recursive": "254:0 Read 4096\n254:0 Write 0\n254:0 Total 4096\nTotal 4096\n",
		"blkio.time_recursive":                      "8:16 55\n",
		"hugetlb.2MB.usage_in_bytes":                "0\n",
		"hugetlb.2MB.max_usage_in_bytes":            "0\n",
		"hugetlb.2MB.failcnt":                       "0\n",
		"hugetlb.2MB.rsvd.usage_in_bytes":           "2097152\n",
		"hugetlb.2MB.rsvd.max_usage_in_bytes":       "4194304\n",
		"hugetlb.2MB.rsvd.failcnt":                  "1\n",
	}
}

func TestStatsV1(t *testing.T) {
	path := files(t, v1Files())
	names := []string{"cpu", "cpuacct", "cpuset", "memory", "pids", "blkio", "hugetlb"}
	c := &Cgroup{mode: V1, dirs: []dir{{controllers: names, path: path}}}
	got, err := c.Stats()
	if err != nil {
		t.Fatal(err)
	}
	want := &Stats{
		CPUSet: CPUSetStats{CPUs: []uint16{0, 1, 3}, Mems: []uint16{0}, SchedLoadBalance: 1, SchedRelaxDomainLevel: -1},
		Memory: MemoryStats{
			Cache: 8192, Usage: MemoryUsage{67108864, 745472, 2519040, 7}, Kernel: MemoryUsage{Usage: 466944},
			Raw: map[string]uint64{"cache": 8192, "rss": 49152, "total_cache": 8192},
		},
		Pids: PidsStats{Current: 1},
		BlockIO: BlockIOStats{
			ServiceBytes: []BlockIO{{254, 0, "Read", 4096}, {254, 0, "Write", 0}, {254, 0, "Total", 4096}},
			Time:         []BlockIO{{8, 16, "", 55}},
		},
		Hugetlb: map[string]HugetlbStats{"2MB": {2097152, 4194304, 1}},
	}
	u := &want.CPU.Usage
	u.Total, u.User, u.Kernel = 151532172, 120000000, 30000000
	u.PerCPU, u.PerCPUUser, u.PerCPUKernel = []uint64{2600436, 148931736}, []uint64{1000000, 120000000}, []uint64{1600436, 28931736}
	th := &want.CPU.Throttling
	th.Periods, th.ThrottledPeriods, th.ThrottledTime = 5, 2, 70123
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// The texts are those of Linux 6.1, v2.
func TestStatsV2(t *testing.T) {
	path := files(t, map[string]string{
		"cpu.stat":              "usage_usec 151\nuser_usec 120\nsystem_usec 31\nnr_periods 5\nnr_throttled 2\nthrottled_usec 70\n",
		"cpu.pressure":          "some avg10=1.25 avg60=0.50 avg300=0.00 total=1234\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n",
		"memory.stat":           "anon 4096\nfile 8192\n",
		"memory.max":            "67108864\n",
		"memory.current":        "745472\n",
		"memory.swap.max":       "33554432\n",
		"memory.swap.current":   "4096\n",
		"cgroup.procs":          "12\n34\n",
		"io.stat":               "254:0 rbytes=4096 wbytes=1 rios=2 wios=3 dbytes=0 dios=0\n8:0 \n",
		"hugetlb.2MB.max":       "max\n",
		"hugetlb.2MB.current":   "2097152\n",
		"hugetlb.2MB.events":    "max 3\n",
		"hugetlb.2MB.numa_stat": "total=0 N0=0\n",
	})
	got, err := (&Cgroup{mode: V2, dirs: []dir{{path: path}}}).Stats()
	if err != nil {
		t.Fatal(err)
	}
	want := &Stats{
		Memory: MemoryStats{
			Cache: 8192, Usage: MemoryUsage{Limit: 67108864, Usage: 745472}, Swap: MemoryUsage{Limit: 67108864 + 33554432, Usage: 745472 + 4096},
			Raw: map[string]uint64{"anon": 4096, "file": 8192},
		},
		Pids: PidsStats{Current: 2},
		BlockIO: BlockIOStats{
			ServiceBytes: []BlockIO{{254, 0, "Read", 4096}, {254, 0, "Write", 1}},
			Serviced:     []BlockIO{{254, 0, "Read", 2}, {254, 0, "Write", 3}},
		},
		Hugetlb: map[string]HugetlbStats{"2MB": {Usage: 2097152, Failcnt: 3}},
	}
	want.CPU.Usage.Total, want.CPU.Usage.User, want.CPU.Usage.Kernel = 151000, 120000, 31000
	want.CPU.Throttling.Periods, want.CPU.Throttling.ThrottledPeriods, want.CPU.Throttling.ThrottledTime = 5, 2, 70000
	want.CPU.Pressure = &Pressure{Some: PressureData{1.25, 0.5, 0, 1234}, Full: PressureData{Total: 7}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestStatsOfNonsense(t *testing.T) {
	for name, text := range map[string]string{
		"memory.limit_in_bytes": "a lot\n", "cpuset.cpus": "3-1\n", "pids.max": "-1\n", "cpuacct.usage_percpu": "1 x\n",
		"blkio.time_recursive": "8:x 1\n", "hugetlb.2MB.usage_in_bytes": "\x00\n",
	} {
		content := v1Files()
		content[name] = text
		if name == "hugetlb.2MB.usage_in_bytes" {
			delete(content, "hugetlb.2MB.rsvd.usage_in_bytes")
		}
		c := &Cgroup{mode: V1, dirs: []dir{{controllers: []string{"cpuacct", "cpuset", "memory", "pids", "blkio", "hugetlb"}, path: files(t, content)}}}
		if _, err := c.Stats(); err == nil {
			t.Errorf("%s %q was taken", name, text)
		}
	}
	if _, err := (&Cgroup{mode: V2, dirs: []dir{{path: "/nowhere"}}}).Stats(); !gone(err) {
		t.Errorf("stats of a missing cgroup: %v", err)
	}
}

// The keys are runc's (types/events.go), for what is always there.
func TestStatsJSON(t *testing.T) {
	raw, err := json.Marshal(&Stats{Hugetlb: map[string]HugetlbStats{}})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"cpu":{"usage":{"kernel":0,"user":0},"throttling":{}},"cpuset":{"cpu_exclusive":0,"mem_hardwall":0,"mem_exclusive":0,"memory_migrate":0,"memory_spread_page":0,"memory_spread_slab":0,"memory_pressure":0,"sched_load_balance":0,"sched_relax_domain_level":0},` +
		`"memory":{"usage":{"limit":0,"failcnt":0},"swap":{"limit":0,"failcnt":0},"kernel":{"limit":0,"failcnt":0},"kernelTCP":{"limit":0,"failcnt":0}},"pids":{},"blkio":{},"hugetlb":{},"network_interfaces":null}`
	if d := cmp.Diff(want, string(raw)); d != "" {
		t.Error(d)
	}
}

// What opencontainers/cgroups reads of the same cgroup, frozen so that nothing moves
// but what the reading itself does.
func TestStatsAgainstTheOracle(t *testing.T) {
	host := needRoot(t)
	c := create(t, name(t), &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: new(int64(64 << 20))}, Pids: &specs.LinuxPids{Limit: new(int64(20))}})
	cmd := start(t, c, "echo | sort >/dev/null; exec sleep 1000")
	deadline(t, "it sleeps", func() bool {
		comm, _ := readFile(fmt.Sprintf("/proc/%d", cmd.Process.Pid), "comm")
		return comm == "sleep"
	})
	if err := c.Freeze(); err != nil {
		t.Fatal(err)
	}
	got, err := c.Stats()
	if err != nil {
		t.Fatal(err)
	}
	var oracle cgroups.Manager
	if host.Mode == V2 {
		oracle, err = fs2.NewManager(&cgroups.Cgroup{Resources: &cgroups.Resources{}}, c.unified().path)
	} else {
		paths := c.Paths()
		delete(paths, "")
		oracle, err = fs.NewManager(&cgroups.Cgroup{Resources: &cgroups.Resources{}}, paths)
	}
	if err != nil {
		t.Fatal(err)
	}
	want, err := oracle.GetStats()
	if err != nil {
		t.Fatal(err)
	}
	sums := func(pids, pidsLimit, limit, max, swapLimit, total, user, kernel, rss uint64, percpu int) []uint64 {
		return []uint64{pids, pidsLimit, limit, max, swapLimit, total, user, kernel, rss, uint64(percpu)}
	}
	w, m := want.CpuStats.CpuUsage, want.MemoryStats
	g := got.CPU.Usage
	raw := "anon"
	if host.Mode != V2 {
		raw = "rss"
	}
	if d := cmp.Diff(
		sums(want.PidsStats.Current, want.PidsStats.Limit, m.Usage.Limit, m.Usage.MaxUsage, m.SwapUsage.Limit, w.TotalUsage, w.UsageInUsermode, w.UsageInKernelmode, m.Stats[raw], len(w.PercpuUsageInUsermode)),
		sums(got.Pids.Current, got.Pids.Limit, got.Memory.Usage.Limit, got.Memory.Usage.Max, got.Memory.Swap.Limit, g.Total, g.User, g.Kernel, got.Memory.Raw[raw], len(g.PerCPUUser)),
	); d != "" {
		t.Error(d)
	}
	// The kernel's own memory still becomes less after the last fork.
	if diff := int64(got.Memory.Usage.Usage - m.Usage.Usage); diff < -1<<20 || diff > 1<<20 || got.Memory.Usage.Usage == 0 {
		t.Errorf("memory usage %d, want %d", got.Memory.Usage.Usage, m.Usage.Usage)
	}
	if got.Memory.Usage.Limit != 64<<20 || got.Pids.Current == 0 || got.CPU.Usage.Total == 0 {
		t.Errorf("%+v", got)
	}
	_ = c.Kill()
	_ = cmd.Wait()
}

func TestListBits(t *testing.T) {
	for text, want := range map[string][]byte{"": nil, "0": {1}, "0-3,7": {0x8f}, " 8 , 10-11": {0, 0x0d}, "1,": {2}} {
		if got, err := listBits(text); err != nil || cmp.Diff(want, got) != "" {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"x", "1-", "-1", "3-1", "70000", "1-2-3"} {
		if got, err := listBits(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}
