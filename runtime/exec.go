package runtime

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox"
	"adl.run/adl-runtime/libsandbox/security"
	"adl.run/adl-runtime/spec"
)

func (a *app) exec() *cli.Command {
	return &cli.Command{
		Name:  "exec",
		Usage: "execute new process inside the container",
		ArgsUsage: `<container-id> <command> [command options]  || -p process.json <container-id>

Where "<container-id>" is the name for the instance of the container and
"<command>" is the command to be executed in the container.
"<command>" can't be empty unless a "-p" flag provided.

EXAMPLE:
For example, if the container is configured to run the linux ps command the
following will output a list of processes running in the container:

       # ` + name + ` exec <container-id> ps`,
		Description: "The exec command starts a process in a running container, with the user,\ncapabilities and limits of the container's own unless told otherwise, and exits\nwith its status, or with 255 if there is no process.",
		Flags: []cli.Flag{
			flagString("console-socket", aboutSocket+"the master end of the console's pseudoterminal"),
			flagString("pidfd-socket", aboutSocket+"the exec process"),
			flagString("cwd", "current working directory in the container"),
			flagList("env", "set environment variables", "e"),
			flagBool("tty", "allocate a pseudo-TTY", "t"),
			flagString("user", "UID (format: <uid>[:<gid>])", "u"),
			flagList("additional-gids", "additional gids", "g"),
			flagString("process", "path to the process.json, which all other flags that describe the process give way to", "p"),
			flagBool("detach", "detach from the container's process", "d"),
			flagString("pid-file", "specify the file to write the process id to"),
			flagString("process-label", "set the asm process label for the process commonly used with selinux"),
			flagString("apparmor", "set the apparmor profile for the process"),
			flagBool("no-new-privs", "set the no new privileges value for the process"),
			flagList("cap", "add a capability to the bounding set for the process", "c"),
			flagInt("preserve-fds", "Pass N additional file descriptors to the container (stdio + N in total)"),
			flagList("cgroup", "run the process in an (existing) sub-cgroup(s). Format is [<controller>:]<cgroup>."),
			flagBool("ignore-paused", "allow exec in a paused container"),
		},
		Action: a.doExec,
	}
}

// execError is that of an exec which did not get as far as a process. Managers tell it
// from the process's own status by the number, which is runc's, and then look at the
// text.
type execError struct{ err error }

func (e execError) Error() string { return "exec failed: " + e.err.Error() }
func (e execError) Unwrap() error { return e.err }
func (e execError) ExitCode() int { return 255 }

func (a *app) doExec(c *cli.Context) error {
	if err := a.checkArgs(c, 1, math.MaxInt); err != nil {
		return err
	}
	if err := a.execProcess(c); err != nil {
		return execError{err}
	}
	return nil
}

func (a *app) execProcess(c *cli.Context) error {
	detach := c.Bool("detach")
	var relay *libsandbox.Relay
	if !detach {
		var err error
		if relay, err = libsandbox.CatchSignals(); err != nil {
			return err
		}
	}
	sandbox, err := a.load(c)
	if err != nil {
		return err
	}
	p, err := newProcess(c, sandbox)
	if err != nil {
		return err
	}
	o, err := a.execOptions(c, p)
	if err != nil {
		return err
	}
	if !detach {
		a.adoptSize(p)
	}
	process, err := sandbox.Exec(c.Context, p, o)
	if errors.Is(err, libsandbox.ErrCgroup) {
		err = fmt.Errorf("--cgroup: %w", err)
	}
	if err != nil || detach {
		return err
	}
	return a.attend(process.Console(), func(tty *console) (unix.WaitStatus, error) {
		return relay.WaitProcess(process, resizer(tty))
	})
}

// newProcess is the process that the flags describe.
func newProcess(c *cli.Context, sandbox *libsandbox.Sandbox) (*specs.Process, error) {
	if path := c.String("process"); path != "" {
		return spec.OpenProcess(path)
	}
	args := c.Args().Tail()
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return nil, errors.New("exec args cannot be empty")
	}
	p, err := sandbox.Process()
	if err != nil {
		return nil, err
	}
	p.Args = args
	p.Terminal = c.Bool("tty")
	if cwd := c.String("cwd"); cwd != "" {
		p.Cwd = cwd
	}
	if profile := c.String("apparmor"); profile != "" {
		p.ApparmorProfile = profile
	}
	if label := c.String("process-label"); label != "" {
		p.SelinuxLabel = label
	}
	if c.IsSet("no-new-privs") {
		p.NoNewPrivileges = c.Bool("no-new-privs")
	}
	p.Env = append(p.Env, list(c, "env")...)
	if err := setUser(c, &p.User); err != nil {
		return nil, err
	}
	return p, addCapabilities(p, list(c, "cap"))
}

// setUser applies --user and --additional-gids. Only what is a number from its first
// to its last character and fits an id is one: anything else could make the process
// another user's (CVE-2026-30892).
func setUser(c *cli.Context, u *specs.User) (err error) {
	if c.IsSet("user") {
		uid, gid, hasGID := strings.Cut(c.String("user"), ":")
		if u.UID, err = parseID(uid); err != nil {
			return fmt.Errorf("--user %q: bad uid: %w", c.String("user"), err)
		}
		if hasGID {
			if u.GID, err = parseID(gid); err != nil {
				return fmt.Errorf("--user %q: bad gid: %w", c.String("user"), err)
			}
		}
	}
	for _, s := range list(c, "additional-gids") {
		gid, err := parseID(s)
		if err != nil {
			return fmt.Errorf("--additional-gids %q: %w", s, err)
		}
		u.AdditionalGids = append(u.AdditionalGids, gid)
	}
	return nil
}

// parseID reads a user or group id. The greatest number of 32 bits is none: it tells
// setresuid(2) to change nothing.
func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == math.MaxUint32 {
		return 0, fmt.Errorf("must be a number from 0 to %d", uint32(math.MaxUint32-1))
	}
	return uint32(n), nil
}

// addCapabilities adds capabilities to all sets but the inheritable one, and so to the
// ambient one, which needs that, only where there is one: as runc does.
func addCapabilities(p *specs.Process, names []string) error {
	if len(names) == 0 {
		return nil
	}
	if p.Capabilities == nil {
		p.Capabilities = new(specs.LinuxCapabilities)
	}
	s := p.Capabilities
	for _, name := range names {
		if _, unknown := security.CapabilityMask([]string{name}, 63); len(unknown) > 0 {
			return fmt.Errorf("--cap %q: unknown capability", name)
		}
		s.Bounding = append(s.Bounding, name)
		s.Effective = append(s.Effective, name)
		s.Permitted = append(s.Permitted, name)
		if s.Inheritable != nil {
			s.Ambient = append(s.Ambient, name)
		}
	}
	return nil
}

// execOptions turns the flags that do not describe the process into options.
func (a *app) execOptions(c *cli.Context, p *specs.Process) (*libsandbox.ExecOptions, error) {
	o := &libsandbox.ExecOptions{
		Stdin: a.stdin, Stdout: a.stdout, Stderr: a.stderr,
		IgnorePaused: c.Bool("ignore-paused"),
	}
	if err := paths(c, &o.ConsoleSocket, &o.PidFile, &o.PidfdSocket); err != nil {
		return nil, err
	}
	var err error
	if err := checkTerminal(p, o.ConsoleSocket, c.Bool("detach")); err != nil {
		return nil, err
	}
	if o.Cgroup, err = subCgroups(list(c, "cgroup")); err != nil {
		return nil, err
	}
	o.ExtraFiles, err = inherited(c.Int("preserve-fds"))
	return o, err
}

// subCgroups reads [CONTROLLER[,CONTROLLER...]:]PATH; without controllers there can be
// one only.
func subCgroups(flags []string) (map[string]string, error) {
	paths := make(map[string]string, len(flags))
	for _, f := range flags {
		names, path, ok := strings.Cut(f, ":")
		if !ok {
			names, path = "", f
		}
		for controller := range strings.SplitSeq(names, ",") {
			_, twice := paths[controller]
			switch {
			case ok && controller == "":
				return nil, fmt.Errorf("--cgroup %q: empty controller", f)
			case !ok && len(flags) > 1:
				return nil, fmt.Errorf("--cgroup %q: missing controller, as there is more than one", f)
			case twice:
				return nil, fmt.Errorf("--cgroup %q: controller %s is given twice", f, controller)
			}
			paths[controller] = path
		}
	}
	return paths, nil
}
