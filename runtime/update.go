package runtime

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"

	"adl.run/adl-runtime/spec"
)

const aboutResources = `path to the file containing the resources to update or '-' to read from the standard input

The accepted format is linux.resources of config.json; what is left out stays:

{
  "memory": {
    "limit": 0,
    "reservation": 0,
    "swap": 0,
    "checkBeforeUpdate": true
  },
  "cpu": {
    "shares": 0,
    "quota": 0,
    "burst": 0,
    "period": 0,
    "realtimeRuntime": 0,
    "realtimePeriod": 0,
    "cpus": "",
    "mems": "",
    "idle": 0
  },
  "blockIO": {
    "weight": 0
  }
}

Note: if data is to be read from a file or the standard input, all
other options are ignored.
`

func (a *app) update() *cli.Command {
	flags := []cli.Flag{flagString("resources", aboutResources, "r")}
	for _, l := range limitFlags() {
		f := stringFlag{&cli.StringFlag{Name: l.name, Usage: l.usage, Hidden: l.field == ""}, []string{l.name}}
		flags = append(flags, f)
	}
	return &cli.Command{
		Name:      "update",
		Usage:     "update container resource constraints",
		ArgsUsage: "<container-id>",
		Flags:     flags,
		Action:    a.doUpdate,
	}
}

// limitFlag is a flag for one field below linux.resources or linux.intelRdt.
type limitFlag struct {
	name  string
	field string // as errors name it; empty for what has no effect any more
	set   func(r *limits, value string) error
	usage string
}

// limits are what the flags ask for.
type limits struct {
	specs.LinuxResources
	rdt specs.LinuxIntelRdt
}

// limitFlags are runc's, in its order. An empty value is none.
func limitFlags() []limitFlag {
	none := func(*limits, string) error { return nil }
	return []limitFlag{
		{
			"blkio-weight", "blockIO.weight", func(r *limits, v string) error { return setWeight(&r.BlockIO.Weight, v) },
			"Specifies per cgroup weight, range is from 10 to 1000",
		},
		{
			"cpu-period", "cpu.period", func(r *limits, v string) error { return setUint(&r.CPU.Period, v) },
			"CPU CFS period to be used for hardcapping (in usecs). 0 to use system default",
		},
		{
			"cpu-quota", "cpu.quota", func(r *limits, v string) error { return setInt(&r.CPU.Quota, v) },
			"CPU CFS hardcap limit (in usecs). Allowed cpu time in a given period",
		},
		{
			"cpu-burst", "cpu.burst", func(r *limits, v string) error { return setUint(&r.CPU.Burst, v) },
			"CPU CFS hardcap burst limit (in usecs). Allowed accumulated cpu time additionally for burst a given period",
		},
		{
			"cpu-share", "cpu.shares", func(r *limits, v string) error { return setUint(&r.CPU.Shares, v) },
			"CPU shares (relative weight vs. other containers)",
		},
		{
			"cpu-rt-period", "cpu.realtimePeriod", func(r *limits, v string) error { return setUint(&r.CPU.RealtimePeriod, v) },
			"CPU realtime period to be used for hardcapping (in usecs). 0 to use system default",
		},
		{
			"cpu-rt-runtime", "cpu.realtimeRuntime", func(r *limits, v string) error { return setInt(&r.CPU.RealtimeRuntime, v) },
			"CPU realtime hardcap limit (in usecs). Allowed cpu time in a given period",
		},
		{"cpuset-cpus", "cpu.cpus", func(r *limits, v string) error { r.CPU.Cpus = v; return nil }, "CPU(s) to use"},
		{"cpuset-mems", "cpu.mems", func(r *limits, v string) error { r.CPU.Mems = v; return nil }, "Memory node(s) to use"},
		{"kernel-memory", "", none, "(obsoleted; do not use)"},
		{"kernel-memory-tcp", "", none, "(obsoleted; do not use)"},
		{"memory", "memory.limit", func(r *limits, v string) error { return setSize(&r.Memory.Limit, v) }, "Memory limit (in bytes)"},
		{
			"cpu-idle", "cpu.idle", func(r *limits, v string) error { return setInt(&r.CPU.Idle, v) },
			"set cgroup SCHED_IDLE or not, 0: default behavior, 1: SCHED_IDLE",
		},
		{
			"memory-reservation", "memory.reservation", func(r *limits, v string) error { return setSize(&r.Memory.Reservation, v) },
			"Memory reservation or soft_limit (in bytes)",
		},
		{
			"memory-swap", "memory.swap", func(r *limits, v string) error { return setSize(&r.Memory.Swap, v) },
			"Total memory usage (memory + swap); set '-1' to enable unlimited swap",
		},
		{
			"pids-limit", "pids.limit", func(r *limits, v string) error { return setInt(&r.Pids.Limit, v) },
			"Maximum number of pids allowed in the container",
		},
		{"l3-cache-schema", "l3CacheSchema", func(r *limits, v string) error { r.rdt.L3CacheSchema = v; return nil }, "The string of Intel RDT/CAT L3 cache schema"},
		{"mem-bw-schema", "memBwSchema", func(r *limits, v string) error { r.rdt.MemBwSchema = v; return nil }, "The string of Intel RDT/MBA memory bandwidth schema"},
	}
}

func (a *app) doUpdate(c *cli.Context) error {
	if err := a.checkArgs(c, 1, 1); err != nil {
		return err
	}
	sandbox, err := a.load(c)
	if err != nil {
		return err
	}
	if c.String("resources") != "" {
		r, err := a.readResources(c.String("resources"))
		if err != nil {
			return err
		}
		return sandbox.Update(c.Context, r)
	}
	r, err := resourcesOf(c)
	if err != nil {
		return err
	}
	return byFlag(sandbox.UpdateRdt(c.Context, &r.LinuxResources, &r.rdt))
}

// readResources reads linux.resources from a file, or standard input for "-".
func (a *app) readResources(name string) (*specs.LinuxResources, error) {
	f := a.stdin
	if name != "-" {
		var err error
		if f, err = os.Open(name); err != nil {
			return nil, fmt.Errorf("--resources: %w", err)
		}
		defer f.Close()
	}
	raw, err := io.ReadAll(io.LimitReader(f, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("--resources: %w", err)
	}
	r := new(specs.LinuxResources)
	if err := spec.Unmarshal(name, raw, r); err != nil {
		return nil, fmt.Errorf("--resources: %w", err)
	}
	return r, nil
}

// resourcesOf is what the flags ask for.
func resourcesOf(c *cli.Context) (*limits, error) {
	r := &limits{LinuxResources: specs.LinuxResources{
		Memory: &specs.LinuxMemory{}, CPU: &specs.LinuxCPU{}, BlockIO: &specs.LinuxBlockIO{}, Pids: &specs.LinuxPids{},
	}}
	for _, l := range limitFlags() {
		v := c.String(l.name)
		if v == "" {
			continue
		}
		if l.field == "" {
			slog.Warn("--" + l.name + " has no effect: Linux has no such limit any more")
		}
		if err := l.set(r, v); err != nil {
			return nil, fmt.Errorf("--%s %q: %w", l.name, v, err)
		}
	}
	return r, nil
}

// flagError is an error about a field that the caller knows as a flag.
type flagError struct {
	text string
	error
}

func (e flagError) Error() string { return e.text }

func (e flagError) Unwrap() error { return e.error }

// byFlag puts the flag in place of the field that an error begins with.
func byFlag(err error) error {
	if err == nil {
		return nil
	}
	rest, ok := strings.CutPrefix(err.Error(), "linux.resources.")
	if !ok {
		rest, ok = strings.CutPrefix(rest, "linux.intelRdt.")
	}
	if tail, both := strings.CutPrefix(rest, "cpu.quota and period:"); both { // one file on v2
		return flagError{"--cpu-quota, --cpu-period" + tail, err}
	}
	for _, l := range limitFlags() {
		if !ok || l.field == "" {
			continue
		}
		if tail, is := strings.CutPrefix(rest, l.field); is && (tail[0] == ':' || tail[0] == ' ') {
			return flagError{"--" + l.name + " " + strings.TrimLeft(tail, ": "), err}
		}
	}
	return err
}

func setInt(to **int64, v string) error {
	n, err := strconv.ParseInt(v, 10, 64)
	*to = &n
	return numberError(err)
}

func setUint(to **uint64, v string) error {
	n, err := strconv.ParseUint(v, 10, 64)
	*to = &n
	return numberError(err)
}

func setWeight(to **uint16, v string) error {
	n, err := strconv.ParseUint(v, 10, 16)
	w := uint16(n)
	*to = &w
	return numberError(err)
}

// numberError leaves out what strconv repeats of its input.
func numberError(err error) error {
	if e, ok := errors.AsType[*strconv.NumError](err); ok {
		return e.Err
	}
	return err
}

// setSize takes bytes, with a binary unit if there is one (64m, 1.5GiB); -1 is no
// limit. That is what runc takes.
func setSize(to **int64, v string) error {
	n, err := parseSize(v)
	*to = &n
	return err
}

func parseSize(v string) (int64, error) {
	if v == "-1" {
		return -1, nil
	}
	at := strings.LastIndexAny(v, "0123456789. ") + 1
	n, err := strconv.ParseFloat(strings.TrimSuffix(v[:at], " "), 64)
	unit := strings.ToLower(v[at:])
	if err != nil || strings.Trim(v[:at], "0123456789. ") != "" {
		return 0, errors.New("not a size such as 64m")
	}
	shift := 0
	if unit != "" && unit != "b" {
		shift = 10 * (1 + strings.Index("kmgtp", unit[:1]))
		if rest := unit[1:]; shift == 0 || rest != "" && rest != "b" && rest != "ib" {
			return 0, fmt.Errorf("unknown unit %q", v[at:])
		}
	}
	n *= float64(int64(1) << shift)
	if n >= math.MaxInt64 {
		return 0, strconv.ErrRange
	}
	return int64(n), nil
}
