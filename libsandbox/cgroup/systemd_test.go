package cgroup

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	oracle "github.com/opencontainers/cgroups/systemd"
	"github.com/opencontainers/runtime-spec/specs-go"

	"adl.run/adl-runtime/libsandbox/internal/systemd"
)

func TestNewUnit(t *testing.T) {
	for path, want := range map[string]string{
		"":                            "adl-runtime-abc.scope in /system.slice/adl-runtime-abc.scope",
		"system.slice:docker:1234":    "docker-1234.scope in /system.slice/docker-1234.scope",
		":libpod:1":                   "libpod-1.scope in /system.slice/libpod-1.scope",
		"-.slice:a:b":                 "a-b.scope in /a-b.scope",
		"kube-pod1.slice:cri:x":       "cri-x.scope in /kube.slice/kube-pod1.slice/cri-x.scope",
		"a-b-c.slice::x":              "-x.scope in /a.slice/a-b.slice/a-b-c.slice/-x.scope",
		"system.slice:any:pods.slice": "pods.slice in /pods.slice",
		"a.slice:any:a-b.slice":       "a-b.slice in /a.slice/a-b.slice",
	} {
		u, err := newUnit(&Options{ID: "abc", Path: path})
		if err != nil {
			t.Errorf("%q: %v", path, err)
		} else if got := u.name + " in " + u.path(); got != want {
			t.Errorf("%q: %s, want %s", path, got, want)
		}
	}
	for _, path := range []string{
		"x", "/a/b", "a.slice:b", "a.slice:b:c:d", "a:b:c", "/a.slice:b:c", "a/b.slice:c:d", "a--b.slice:c:d", "-a.slice:b:c", ".slice:a:b",
		"..slice:a:../b", "a.slice:b:../../c", "a.slice:b/c:d", "a.slice:b:c d", "a.slice:b:" + strings.Repeat("c", 256), "a.slice:b:x\x00", "a.slice:b:--.slice", "a.slice:b:.slice",
	} {
		if u, err := newUnit(&Options{ID: "abc", Path: path}); err == nil {
			t.Errorf("%q: %+v", path, u)
		} else if !strings.HasPrefix(err.Error(), "linux.cgroupsPath ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", path, err)
		}
	}
}

func TestExpandSliceAgainstTheOracle(t *testing.T) {
	for _, slice := range []string{"a.slice", "a-b.slice", "a-b-c.slice", "-.slice", "user-1000.slice", ".slice", "a", "a-.slice", "-a.slice", "a--b.slice", "a/b.slice", "", "slice", "a.b.slice"} {
		want, wantErr := oracle.ExpandSlice(slice)
		got, err := expandSlice(slice)
		if got != want || (err == nil) != (wantErr == nil) {
			t.Errorf("%q: %q, %v; want %q, %v", slice, got, err, want, wantErr)
		}
	}
}

func TestListBitsAgainstTheOracle(t *testing.T) {
	for _, list := range []string{"0", "0-3", "1,3,5-7", "0-63", "64", "7,8", " 1 , 2 "} {
		want, err := oracle.RangeToBits(list)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := listBits(list); err != nil || cmp.Diff(want, got) != "" {
			t.Errorf("%q: %v, %v, want %v", list, got, err, want)
		}
	}
}

func TestAnnotated(t *testing.T) {
	got, err := annotated(map[string]string{
		"org.systemd.property.TimeoutStopUSec": "uint64 5", "org.systemd.property.CollectMode": "'inactive-or-failed'", "org.systemd.property.RuntimeMaxSec": "7",
		"org.example": "x", "org.systemd.propertyX": "x",
	})
	want := []systemd.Property{
		{Name: "CollectMode", Value: systemd.String("inactive-or-failed")}, {Name: "RuntimeMaxUSec", Value: systemd.Uint64(7000000)}, {Name: "TimeoutStopUSec", Value: systemd.Uint64(5)},
	}
	if d := cmp.Diff(want, got, values()); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
	for key, text := range map[string]string{"org.systemd.property.": "5", "org.systemd.property.a.b": "5", "org.systemd.property.Name": "nonsense"} {
		if _, err := annotated(map[string]string{key: text}); err == nil || !strings.HasPrefix(err.Error(), `annotations["`+key+`"]: `) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// values lets values be compared.
func values() cmp.Option { return cmp.AllowUnexported(systemd.Value{}) }

func TestUnitLimits(t *testing.T) {
	u := func(name string, n uint64) systemd.Property {
		return systemd.Property{Name: name, Value: systemd.Uint64(n)}
	}
	b := func(name string, bits ...byte) systemd.Property {
		return systemd.Property{Name: name, Value: systemd.Bytes(bits)}
	}
	r := &specs.LinuxResources{
		Memory:  &specs.LinuxMemory{Limit: new(int64(64 << 20)), Swap: new(int64(96 << 20)), Reservation: new(int64(32 << 20))},
		CPU:     &specs.LinuxCPU{Shares: new(uint64(1024)), Quota: new(int64(50000)), Period: new(uint64(100000)), Cpus: "0-1", Mems: "0"},
		Pids:    &specs.LinuxPids{Limit: new(int64(0))},
		BlockIO: &specs.LinuxBlockIO{Weight: new(uint16(500))},
	}
	none := &specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: new(int64(-1))}, CPU: &specs.LinuxCPU{Quota: new(int64(-1))}, Pids: &specs.LinuxPids{Limit: new(int64(-1))},
	}
	files := &specs.LinuxResources{Unified: map[string]string{
		"memory.high": "max", "memory.min": "5", "memory.max": "64M", "pids.max": "0", "cpu.weight": "7", "cpuset.cpus": "1", "cpu.max": "max 50000", "io.max": "8:0 rbps=1", "memory.swap.max": "9\n",
	}}
	for _, tt := range []struct {
		mode Mode
		r    *specs.LinuxResources
		want []systemd.Property
	}{
		{V2, r, []systemd.Property{
			u("MemoryMax", 64<<20), u("MemoryLow", 32<<20), u("MemorySwapMax", 32<<20), u("TasksMax", 1), u("CPUWeight", 100),
			u("CPUQuotaPeriodUSec", 100000), u("CPUQuotaPerSecUSec", 500000), b("AllowedCPUs", 3), b("AllowedMemoryNodes", 1),
		}},
		{V1, r, []systemd.Property{
			u("MemoryLimit", 64<<20), u("TasksMax", 1), u("BlockIOWeight", 500), u("CPUShares", 1024),
			u("CPUQuotaPeriodUSec", 100000), u("CPUQuotaPerSecUSec", 500000), b("AllowedCPUs", 3), b("AllowedMemoryNodes", 1),
		}},
		{V2, none, []systemd.Property{u("MemoryMax", infinity), u("MemorySwapMax", infinity), u("TasksMax", infinity), u("CPUQuotaPerSecUSec", infinity)}},
		{Hybrid, none, []systemd.Property{u("MemoryLimit", infinity), u("TasksMax", infinity), u("CPUQuotaPerSecUSec", infinity)}},
		{V2, files, []systemd.Property{
			u("CPUQuotaPeriodUSec", 50000), u("CPUQuotaPerSecUSec", infinity), u("CPUWeight", 7), b("AllowedCPUs", 2), u("MemoryHigh", infinity),
			u("MemoryMin", 5), u("MemorySwapMax", 9), u("TasksMax", 1),
		}},
		{V2, &specs.LinuxResources{}, nil},
		{V2, nil, nil},
	} {
		got, err := (&Cgroup{mode: tt.mode}).unitLimits(tt.r)
		if d := cmp.Diff(tt.want, got, values(), cmpopts.EquateEmpty()); d != "" || err != nil {
			t.Errorf("%v: %v\n%s", tt.mode, err, d)
		}
	}
	for want, r := range map[string]*specs.LinuxResources{
		"cpu.cpus: ":        {CPU: &specs.LinuxCPU{Cpus: "3-1"}},
		"cpu.mems: ":        {CPU: &specs.LinuxCPU{Mems: "x"}},
		"memory.swap: ":     {Memory: &specs.LinuxMemory{Swap: new(int64(5))}},
		"unified.cpu.max: ": {Unified: map[string]string{"cpu.max": "some"}},
	} {
		if _, err := (&Cgroup{mode: V2}).unitLimits(r); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// A quota is a whole number of percents, and the same for systemd and the kernel.
func TestQuotaIsRounded(t *testing.T) {
	c := &Cgroup{mode: V2, unit: &unit{}}
	for _, tt := range []struct {
		quota  int64
		period uint64
		want   int64
	}{{50000, 100000, 50000}, {12345, 100000, 13000}, {1, 0, 1000}, {20001, 50000, 20500}, {-1, 100000, -1}, {3000, 3000, 3000}} {
		cpu := &specs.LinuxCPU{Quota: &tt.quota}
		if tt.period != 0 {
			cpu.Period = &tt.period
		}
		r := &specs.LinuxResources{CPU: cpu}
		got := c.rounded(r)
		if *got.CPU.Quota != tt.want {
			t.Errorf("%d in %d became %d, want %d", tt.quota, tt.period, *got.CPU.Quota, tt.want)
		}
		if *r.CPU.Quota != tt.quota {
			t.Error("the caller's was changed")
		}
		if tt.quota > 0 && perSecond(tt.quota, tt.period) != perSecond(*got.CPU.Quota, tt.period) {
			t.Errorf("%d: systemd and the kernel differ", tt.quota)
		}
	}
	if r := (&Cgroup{}).rounded(&specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: new(int64(12345))}}); *r.CPU.Quota != 12345 {
		t.Error("rounded without systemd")
	}
}

func TestDeviceProperties(t *testing.T) {
	v1 := func(rules ...specs.LinuxDeviceCgroup) []systemd.Property {
		p, err := newDevicePolicy(rules)
		if err != nil {
			t.Fatal(err)
		}
		return (&Cgroup{dirs: []dir{{controllers: []string{"devices"}}}, devices: p}).deviceProperties()
	}
	allow := func(kind string, major, minor int64) specs.LinuxDeviceCgroup {
		d := specs.LinuxDeviceCgroup{Allow: true, Type: kind, Access: "rw"}
		if major >= 0 {
			d.Major = &major
		}
		if minor >= 0 {
			d.Minor = &minor
		}
		return d
	}
	got := v1(allow("b", 8, 1), allow("b", 9, -1), allow("c", -1, 5))
	list := [][2]string{
		{"/dev/block/8:1", "rw"},
		{"block-9", "rw"}, // *:5 has no words
		{"char-*", "m"},
		{"block-*", "m"},
		{"/dev/char/1:3", "mrw"},
		{"/dev/char/1:5", "mrw"},
		{"/dev/char/1:7", "mrw"},
		{"/dev/char/1:8", "mrw"},
		{"/dev/char/1:9", "mrw"},
		{"/dev/char/5:0", "mrw"},
		{"/dev/char/5:2", "mrw"},
		{"char-136", "mrw"},
		{"/dev/char/10:200", "mrw"},
	}
	want := []systemd.Property{{Name: "DevicePolicy", Value: systemd.String("strict")}, {Name: "DeviceAllow", Value: systemd.Pairs(list)}}
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b systemd.Value) bool { return fmt.Sprint(a) == fmt.Sprint(b) })); d != "" {
		t.Error(d)
	}
	all := specs.LinuxDeviceCgroup{Allow: true, Access: "rwm"}
	if got := v1(all); len(got) != 1 || fmt.Sprint(got[0].Value) != fmt.Sprint(systemd.String("auto")) {
		t.Errorf("everything is allowed: %v", got)
	}
	deny := allow("b", 8, 1)
	deny.Allow = false
	if got := v1(all, deny); len(got) != 2 || fmt.Sprint(got[1].Value) != fmt.Sprint(systemd.Pairs(nil)) {
		t.Errorf("what systemd cannot say is denied: %v", got)
	}
	if got := (&Cgroup{mode: V2, dirs: []dir{{}}}).deviceProperties(); got != nil {
		t.Errorf("on v2: %v", got)
	}
}

// The unit's name is kept with the paths, and has to fit them.
func TestUnitInPaths(t *testing.T) {
	c := &Cgroup{mode: V2, unit: &unit{name: "a-b.scope"}, dirs: []dir{{root: root, path: root + "/system.slice/a-b.scope"}}}
	paths := c.Paths()
	if d := cmp.Diff(map[string]string{"": root + "/system.slice/a-b.scope", "unit": "a-b.scope"}, paths); d != "" {
		t.Error(d)
	}
	back, err := load(paths, 0x63677270)
	if err != nil || back.unit == nil || back.unit.name != "a-b.scope" || !back.unit.started {
		t.Errorf("%+v, %v", back, err)
	}
	paths["unit"] = "sshd.service"
	if _, err := load(paths, 0x63677270); err == nil {
		t.Error("another unit's name was taken")
	}
}
