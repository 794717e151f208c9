package runtime

import (
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"
)

func TestParseSize(t *testing.T) {
	for v, want := range map[string]int64{
		"-1": -1, "0": 0, "100": 100, "64m": 64 << 20, "64M": 64 << 20, "64MB": 64 << 20, "64MiB": 64 << 20, "1.5g": 3 << 29,
		"1 k": 1024, "7b": 7, "2t": 2 << 40, "1p": 1 << 50, ".5k": 512,
	} {
		if got, err := parseSize(v); got != want || err != nil {
			t.Errorf("%q: %d, %v, want %d", v, got, err, want)
		}
	}
	for _, v := range []string{"x", "m", "-2", "-1m", "1x", "1mm", "1e3", "0x10", "1.2.3", "1  k", "9999999p", "inf", "nan", "1mib2"} {
		if got, err := parseSize(v); err == nil {
			t.Errorf("%q: %d", v, got)
		}
	}
}

// parseUpdate returns the context of an update with these arguments.
func parseUpdate(t *testing.T, args ...string) *cli.Context {
	t.Helper()
	set := flag.NewFlagSet("update", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	for _, f := range (&app{}).update().Flags {
		if err := f.Apply(set); err != nil {
			t.Fatal(err)
		}
	}
	if err := set.Parse(args); err != nil {
		t.Fatal(err)
	}
	return cli.NewContext(nil, set, nil)
}

func TestResourcesOf(t *testing.T) {
	got, err := resourcesOf(parseUpdate(t, "--blkio-weight", "500", "--cpu-period", "1", "--cpu-quota", "-1", "--cpu-burst", "2", "--cpu-share", "3",
		"--cpu-rt-period", "4", "--cpu-rt-runtime", "5", "--cpuset-cpus", "0-1", "--cpuset-mems", "0", "--memory", "64m", "--cpu-idle", "1",
		"--memory-reservation", "6", "--memory-swap", "-1", "--pids-limit", "7", "--l3-cache-schema", "L3:0=f", "--mem-bw-schema", "MB:0=20"))
	want := specs.LinuxResources{
		Memory: &specs.LinuxMemory{Limit: new(int64(64 << 20)), Reservation: new(int64(6)), Swap: new(int64(-1))},
		CPU: &specs.LinuxCPU{
			Period: new(uint64(1)), Quota: new(int64(-1)), Burst: new(uint64(2)), Shares: new(uint64(3)), RealtimePeriod: new(uint64(4)),
			RealtimeRuntime: new(int64(5)), Cpus: "0-1", Mems: "0", Idle: new(int64(1)),
		},
		BlockIO: &specs.LinuxBlockIO{Weight: new(uint16(500))},
		Pids:    &specs.LinuxPids{Limit: new(int64(7))},
	}
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got.LinuxResources); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(specs.LinuxIntelRdt{L3CacheSchema: "L3:0=f", MemBwSchema: "MB:0=20"}, got.rdt); d != "" {
		t.Error(d)
	}
	for _, l := range limitFlags() {
		if l.field == "" || strings.HasPrefix(l.name, "cpuset-") || strings.HasSuffix(l.name, "-schema") {
			continue
		}
		_, err := resourcesOf(parseUpdate(t, "--"+l.name, "nonsense"))
		if err == nil || !strings.HasPrefix(err.Error(), "--"+l.name+` "nonsense": `) {
			t.Errorf("--%s nonsense: %v", l.name, err)
		}
	}
}

func TestByFlag(t *testing.T) {
	for text, want := range map[string]string{
		"linux.resources.memory.swap: 5: write x: invalid argument": "--memory-swap 5: write x: invalid argument",
		`linux.resources.cpu.cpus "x": not a list`:                  `--cpuset-cpus "x": not a list`,
		"linux.resources.cpu.quota and period: 5 6: x":              "--cpu-quota, --cpu-period 5 6: x",
		"linux.resources.cpu.cpusy: 5":                              "linux.resources.cpu.cpusy: 5",
		"linux.resources.unified.a: 5":                              "linux.resources.unified.a: 5",
		`linux.intelRdt.memBwSchema "x": must begin with "MB:"`:     `--mem-bw-schema "x": must begin with "MB:"`,
		"linux.intelRdt: there is none":                             "linux.intelRdt: there is none",
		"container not running":                                     "container not running",
	} {
		err := errors.New(text)
		if got := byFlag(err); got.Error() != want || !errors.Is(got, err) {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
	if byFlag(nil) != nil {
		t.Error("no error became one")
	}
}

func TestReadResources(t *testing.T) {
	file := filepath.Join(t.TempDir(), "r.json")
	for text, want := range map[string]string{
		`{"memory":{"limit":5}}`:       "",
		`{"memory":{"limit":"5"}}`:     "r.json:1:20: memory.limit: expected a number",
		`{"memory":`:                   "unexpected end",
		``:                             "unexpected end",
		`[]`:                           "expected an object",
		`{"pids":{"limit":1}} {"a":1}`: "expected the end",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := (&app{}).readResources(file)
		switch {
		case want == "":
			if err != nil || *r.Memory.Limit != 5 {
				t.Errorf("%+v, %v", r, err)
			}
		case err == nil || !strings.HasPrefix(err.Error(), "--resources: ") || !strings.Contains(err.Error(), want):
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := (&app{}).readResources(file + ".missing"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
