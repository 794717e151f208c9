package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"

	"adl.run/adl-runtime/libsandbox"
)

func (a *app) snapshot() *cli.Command {
	return &cli.Command{
		Name:  "snapshot",
		Usage: "keep, list or give up states of a container's root filesystem",
		ArgsUsage: `create <container-id> [<snapshot>]
   ` + name + ` snapshot [command options] list <container-id>
   ` + name + ` snapshot delete <container-id> <snapshot>`,
		Description: `The snapshot command keeps the root filesystem of a container that has a layer as
it is now, exactly, under a name; without one it gets a number, which is printed.
"` + name + ` reset --to" goes back to it, "` + name + ` fork --snapshot" branches from it.
What is mounted in the container, volumes and tmpfs for instance, is no part of it.

Nothing is copied on btrfs, nor where no process would notice that the layer below
it becomes read-only; otherwise the layer is copied while the processes stand still.`,
		Flags: []cli.Flag{
			flagDefault("format", "table", "select one of: table (of create, just the name) or json", "f"),
		},
		Action: a.doSnapshot,
	}
}

func (a *app) doSnapshot(c *cli.Context) error {
	if err := a.checkArgs(c, 2, 3); err != nil {
		return err
	}
	do, id, snapshot := c.Args().Get(0), c.Args().Get(1), c.Args().Get(2)
	format := c.String("format")
	switch {
	case format != "table" && format != "json":
		return fmt.Errorf("--format %q: must be table or json", format)
	case do == "list" && c.NArg() != 2:
		return errors.New("snapshot list: takes a container id and nothing else")
	case do == "delete" && c.NArg() != 3:
		return errors.New("snapshot delete: takes a container id and the name of a snapshot")
	case do == "create" && c.NArg() == 3 && snapshot == "":
		return errors.New(`snapshot create: "" is no name of a snapshot`)
	}
	store, err := a.openStore(c)
	if err != nil {
		return err
	}
	sandbox, err := store.Load(id)
	if err != nil {
		return err
	}
	switch do {
	case "create":
		s, err := sandbox.Snapshot(c.Context, snapshot)
		if err != nil {
			return err
		}
		return writeSnapshot(a.stdout, format, s)
	case "list":
		all, err := sandbox.Snapshots()
		if err != nil {
			return err
		}
		return writeSnapshots(a.stdout, format, all)
	case "delete":
		return sandbox.DeleteSnapshot(snapshot)
	}
	return fmt.Errorf("snapshot %s: must be create, list or delete", do)
}

func writeSnapshot(w io.Writer, format string, s *libsandbox.Snapshot) error {
	if format == "json" {
		return json.NewEncoder(w).Encode(s)
	}
	_, err := fmt.Fprintln(w, s.Name)
	return err
}

func writeSnapshots(w io.Writer, format string, all []libsandbox.Snapshot) error {
	if format == "json" {
		if all == nil {
			all = []libsandbox.Snapshot{}
		}
		return json.NewEncoder(w).Encode(all)
	}
	t := tabwriter.NewWriter(w, 12, 1, 3, ' ', 0)
	fmt.Fprint(t, "NAME\tCREATED\tMETHOD\tTOOK\tSTOPPED\tFILES\tBYTES\tDEPTH\n")
	for _, s := range all {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\n", s.Name, s.Created.Format(time.RFC3339), s.Method,
			s.Took.Round(time.Microsecond), s.Stopped.Round(time.Microsecond), s.Files, s.Bytes, 1+len(s.Parents))
	}
	return t.Flush()
}

func (a *app) fork() *cli.Command {
	return &cli.Command{
		Name:  "fork",
		Usage: "branch a second container off one that has a layer",
		ArgsUsage: `<container-id> <new-container-id> [--] [<command> [args...]]

Where "<container-id>" is the container to branch from, "<new-container-id>" the
name of the new one, and a command, if given, takes the place of process.args.`,
		Description: `The fork command makes and starts a container in the background, with the spec of
another and a root filesystem that begins as that one's is now or, with --snapshot,
was then. From then on the two have nothing in common.`,
		Flags: []cli.Flag{
			flagString("snapshot", "the snapshot to branch from, instead of the present state"),
			flagList("env", "set an environment variable, name=value", "e"),
			flagString("memory", "memory limit in bytes or with a suffix k, m, g or t; -1 is none"),
			flagString("cpus", "how many CPUs' time to have at most, 0.5 for instance; -1 is no limit"),
			flagString("pids-limit", "how many processes to have at most; -1 is no limit"),
			flagString("network", "path of the network namespace to join; \"new\" makes one"),
			flagString("console-socket", aboutSocket+"the master end of the console's pseudoterminal"),
			flagString("pidfd-socket", aboutSocket+"the init process"),
			flagString("pid-file", "specify the file to write the process id to"),
		},
		Action: a.doFork,
	}
}

func (a *app) doFork(c *cli.Context) error {
	if err := a.checkArgs(c, 2, 1<<20); err != nil {
		return err
	}
	change, err := forkChange(c)
	if err != nil {
		return err
	}
	o := &libsandbox.ForkOptions{Snapshot: c.String("snapshot"), Change: change}
	if c.IsSet("snapshot") && o.Snapshot == "" {
		return errors.New(`--snapshot "": must be the name of a snapshot`)
	}
	o.Stdin, o.Stdout, o.Stderr = a.stdin, a.stdout, a.stderr
	o.SystemdCgroup = c.Bool("systemd-cgroup")
	if err := paths(c, &o.ConsoleSocket, &o.PidFile, &o.PidfdSocket); err != nil {
		return err
	}
	sandbox, err := a.load(c)
	if err != nil {
		return err
	}
	closeOnExec()
	_, err = sandbox.Fork(c.Context, c.Args().Get(1), o)
	return err
}

// forkChange returns what the flags change of the spec.
func forkChange(c *cli.Context) (func(*specs.Spec) error, error) {
	args := c.Args().Slice()[2:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	env := list(c, "env")
	for _, kv := range env {
		if i := strings.IndexByte(kv, '='); i <= 0 {
			return nil, fmt.Errorf("--env %q: must be name=value", kv)
		}
	}
	r, err := forkLimits(c)
	if err != nil {
		return nil, err
	}
	return func(s *specs.Spec) error {
		if len(args) > 0 {
			s.Process.Args = args
		}
		for _, kv := range env {
			key, _, _ := strings.Cut(kv, "=")
			s.Process.Env = slices.DeleteFunc(s.Process.Env, func(old string) bool { return strings.HasPrefix(old, key+"=") })
			s.Process.Env = append(s.Process.Env, kv)
		}
		if path := c.String("network"); path != "" {
			setNetwork(s, path)
		}
		r.apply(s)
		return nil
	}, nil
}

// forkResources are limits in place of the spec's; nil leaves that one alone.
type forkResources struct {
	memory, pids, quota *int64
}

func forkLimits(c *cli.Context) (r forkResources, err error) {
	unlimited := int64(-1)
	if v := c.String("memory"); v == "-1" {
		r.memory = &unlimited
	} else if v != "" {
		n, err := libsandbox.ParseSize(v)
		if err != nil {
			return r, fmt.Errorf("--memory: %w", err)
		}
		r.memory = &n
	}
	if v := c.String("pids-limit"); v != "" {
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n == 0 || n < -1 {
			return r, fmt.Errorf("--pids-limit %q: must be a positive number, or -1", v)
		}
		r.pids = &n
	}
	if v := c.String("cpus"); v == "-1" {
		r.quota = &unlimited
	} else if v != "" {
		n, err := strconv.ParseFloat(v, 64)
		if err != nil || !(n >= 0.01 && n <= 1<<20) {
			return r, fmt.Errorf("--cpus %q: must be a number from 0.01 on, or -1", v)
		}
		quota := int64(n * cpuPeriod)
		r.quota = &quota
	}
	return r, nil
}

// cpuPeriod is the kernel's default in microseconds (cgroup-v2.rst, cpu.max).
const cpuPeriod = 100_000

func (r *forkResources) apply(s *specs.Spec) {
	if *r == (forkResources{}) {
		return
	}
	if s.Linux.Resources == nil {
		s.Linux.Resources = &specs.LinuxResources{}
	}
	to := s.Linux.Resources
	if r.memory != nil {
		to.Memory = &specs.LinuxMemory{Limit: r.memory}
	}
	if r.pids != nil {
		to.Pids = &specs.LinuxPids{Limit: r.pids}
	}
	if r.quota != nil {
		period := uint64(cpuPeriod)
		if to.CPU == nil {
			to.CPU = &specs.LinuxCPU{}
		}
		to.CPU.Quota, to.CPU.Period = r.quota, &period
	}
}

// setNetwork puts the container into a network namespace, or into a new one.
func setNetwork(s *specs.Spec, path string) {
	if path == "new" {
		path = ""
	}
	l := s.Linux
	for i := range l.Namespaces {
		if l.Namespaces[i].Type == specs.NetworkNamespace {
			l.Namespaces[i].Path = path
			return
		}
	}
	l.Namespaces = append(l.Namespaces, specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: path})
}
