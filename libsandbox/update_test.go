package libsandbox

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

func throttle(major int64, rate uint64) specs.LinuxThrottleDevice {
	d := specs.LinuxThrottleDevice{Rate: rate}
	d.Major = major
	return d
}

func TestMergeResources(t *testing.T) {
	old := &specs.LinuxResources{
		Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}},
		Memory:  &specs.LinuxMemory{Limit: new(int64(100)), Swap: new(int64(200)), Reservation: new(int64(50))},
		CPU:     &specs.LinuxCPU{Quota: new(int64(5)), Cpus: "0", Idle: new(int64(1)), Burst: new(uint64(3))},
		BlockIO: &specs.LinuxBlockIO{ThrottleReadBpsDevice: []specs.LinuxThrottleDevice{throttle(8, 1), throttle(9, 2)}},
		Pids:    &specs.LinuxPids{Limit: new(int64(7))},
		Unified: map[string]string{"a.b": "1", "c.d": "2"},
	}
	change := &specs.LinuxResources{
		Devices: []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}, // stays what it was
		Memory:  &specs.LinuxMemory{Limit: new(int64(150)), Swap: new(int64(0))},
		CPU:     &specs.LinuxCPU{Period: new(uint64(9)), Idle: new(int64(0)), Burst: new(uint64(0))},
		BlockIO: &specs.LinuxBlockIO{Weight: new(uint16(10)), ThrottleReadBpsDevice: []specs.LinuxThrottleDevice{throttle(9, 3)}},
		Pids:    &specs.LinuxPids{},
		Unified: map[string]string{"c.d": "3"},
	}
	before := *old
	want := &specs.LinuxResources{
		Devices: old.Devices,
		Memory:  &specs.LinuxMemory{Limit: new(int64(150)), Swap: new(int64(200)), Reservation: new(int64(50))},
		CPU:     &specs.LinuxCPU{Quota: new(int64(5)), Period: new(uint64(9)), Cpus: "0", Idle: new(int64(0)), Burst: new(uint64(0))},
		BlockIO: &specs.LinuxBlockIO{Weight: new(uint16(10)), ThrottleReadBpsDevice: []specs.LinuxThrottleDevice{throttle(8, 1), throttle(9, 3)}},
		Pids:    old.Pids,
		Unified: map[string]string{"a.b": "1", "c.d": "3"},
		Rdma:    map[string]specs.LinuxRdma{},
	}
	if d := cmp.Diff(want, merge(old, change)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(&before, old); d != "" {
		t.Errorf("the old configuration was changed:\n%s", d)
	}
	if n := merge(nil, &specs.LinuxResources{Memory: want.Memory}); n.Memory != want.Memory {
		t.Errorf("%+v", n)
	}
}

func TestCompleteChange(t *testing.T) {
	type memory = specs.LinuxMemory
	for name, tt := range map[string]struct{ old, change, want memory }{
		"limit":         {memory{Limit: new(int64(1)), Swap: new(int64(2))}, memory{Limit: new(int64(3))}, memory{Limit: new(int64(3)), Swap: new(int64(2))}},
		"swap":          {memory{Limit: new(int64(1)), Swap: new(int64(2))}, memory{Swap: new(int64(3))}, memory{Limit: new(int64(1)), Swap: new(int64(3))}},
		"both":          {memory{Limit: new(int64(1))}, memory{Limit: new(int64(3)), Swap: new(int64(4))}, memory{Limit: new(int64(3)), Swap: new(int64(4))}},
		"lifted":        {memory{Limit: new(int64(1)), Swap: new(int64(2))}, memory{Limit: new(int64(-1))}, memory{Limit: new(int64(-1))}},
		"something":     {memory{Limit: new(int64(1)), Swap: new(int64(2))}, memory{Reservation: new(int64(3))}, memory{Reservation: new(int64(3))}},
		"zero is unset": {memory{Limit: new(int64(1)), Swap: new(int64(2))}, memory{Limit: new(int64(0)), Swap: new(int64(3))}, memory{Limit: new(int64(1)), Swap: new(int64(3))}},
		"nothing known": {memory{}, memory{Swap: new(int64(3))}, memory{Swap: new(int64(3))}},
	} {
		got := complete(&specs.LinuxResources{Memory: &tt.old}, &specs.LinuxResources{Memory: &tt.change})
		if d := cmp.Diff(&tt.want, got.Memory); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	got := complete(&specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: new(int64(5)), Shares: new(uint64(1))}}, &specs.LinuxResources{CPU: &specs.LinuxCPU{Period: new(uint64(6))}})
	if d := cmp.Diff(&specs.LinuxCPU{Quota: new(int64(5)), Period: new(uint64(6))}, got.CPU); d != "" {
		t.Error(d)
	}
	if got := complete(nil, &specs.LinuxResources{Memory: &memory{Swap: new(int64(1))}}); *got.Memory.Swap != 1 {
		t.Errorf("%+v", got)
	}
}

// The stored configuration says what holds, after a success and after a failure.
func TestUpdateIsStored(t *testing.T) {
	store, err := OpenStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	sb, err := store.Create(t.Context(), "updated", scripted(t, t.TempDir(), "sleep 1000", nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sb.Delete(context.Background(), &DeleteOptions{Force: true}); err != nil {
			t.Error(err)
		}
	})
	limit := func() int64 {
		e, err := store.lock("updated")
		if err != nil {
			t.Fatal(err)
		}
		defer e.close()
		s, err := e.config()
		if err != nil {
			t.Fatal(err)
		}
		if unix.Access(e.join(configFile+".new"), unix.F_OK) == nil {
			t.Error("a half-made file is left")
		}
		return *s.Linux.Resources.Pids.Limit
	}
	if err := sb.Update(t.Context(), &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: new(int64(77))}}); err != nil {
		t.Fatal(err)
	}
	if got := limit(); got != 77 {
		t.Errorf("stored pids limit %d, want 77", got)
	}
	bad := &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: new(int64(78))}, CPU: &specs.LinuxCPU{Cpus: "4000"}}
	if err := sb.Update(t.Context(), bad); !errors.Is(err, unix.ERANGE) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EACCES) {
		t.Errorf("impossible CPUs: %v", err)
	}
	if got := limit(); got != 77 {
		t.Errorf("stored pids limit %d after a failure, want 77", got)
	}
	if err := sb.Update(t.Context(), &specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: new(int64(-7))}}); err == nil {
		t.Error("a quota of -7 was taken")
	}
}
