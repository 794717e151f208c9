package runtime

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox"
)

// usageError is a wrong number of arguments. Its text is runc's.
type usageError struct {
	arg0, verb, kind string
	n                int
}

func (e usageError) Error() string {
	return fmt.Sprintf("%s: %q requires %s %d argument(s)", e.arg0, e.verb, e.kind, e.n)
}

func globalFlags() []cli.Flag {
	return []cli.Flag{
		flagBool("debug", "enable debug logging"),
		flagString("log", "set the log file to write "+name+" logs to (default is '/dev/stderr')"),
		flagDefault("log-format", "text", "set the log format ('text' (default), or 'json')"),
		stringFlag{&cli.StringFlag{
			Name: "root", Usage: "root directory for storage of container state (this should be located in tmpfs)",
			DefaultText: "/run/" + name + ", or $XDG_RUNTIME_DIR/" + name + " for a user",
		}, []string{"root"}},
		flagBool("systemd-cgroup", `enable systemd cgroup support, expects cgroupsPath to be of form "slice:prefix:name" for e.g. "system.slice:runc:434234"`),
		flagDefault("rootless", "auto", "ignore cgroup permission errors ('true', 'false', or 'auto')"),
		flagBool("version", "print the version", "v"),
	}
}

// before handles the global flags that do not wait for a verb.
func (a *app) before(c *cli.Context) error {
	if c.Bool("version") {
		a.stdout.WriteString(versionText())
		return errDone
	}
	if err := a.log.configure(c.String("log"), c.String("log-format"), c.Bool("debug")); err != nil {
		return err
	}
	slog.SetDefault(slog.New(a.log))
	return nil
}

// openStore opens the store that --root names.
func (a *app) openStore(c *cli.Context) (*libsandbox.Store, error) {
	root, err := stateRoot(c)
	if err != nil {
		return nil, err
	}
	store, err := libsandbox.OpenStore(root)
	if err == nil {
		store.Background(deleter)
	}
	return store, err
}

// load finds the container that the first argument names.
func (a *app) load(c *cli.Context) (*libsandbox.Sandbox, error) {
	store, err := a.openStore(c)
	if err != nil {
		return nil, err
	}
	return store.Load(c.Args().First())
}

// stateRoot is the absolute directory of all containers' state.
func stateRoot(c *cli.Context) (string, error) {
	if !c.IsSet("root") {
		if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" && honourXDG() {
			return userRoot(filepath.Join(dir, name))
		}
		return "/run/" + name, nil
	}
	root, err := filepath.Abs(c.String("root"))
	if err == nil && root == "/" {
		// An empty --root, or one that climbs to /, is a script's mistake.
		err = errors.New("option --root argument should not be set to /")
	}
	return root, err
}

// userRoot makes root with the sticky bit, without which the XDG base directory
// specification lets a cleaner remove what has not been touched for six hours.
func userRoot(root string) (string, error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return "", fmt.Errorf("the path in $XDG_RUNTIME_DIR must be writable by the user: %w", err)
	}
	if err := os.Chmod(root, 0o700|os.ModeSticky); err != nil {
		return "", fmt.Errorf("you should check permission of the path in $XDG_RUNTIME_DIR: %w", err)
	}
	return root, nil
}

// honourXDG reports whether $XDG_RUNTIME_DIR is the caller's: not for root, whose
// containers every root shell must find, unless it is root of a user namespace
// and not called root.
func honourXDG() bool {
	if unix.Geteuid() != 0 {
		return true
	}
	user, ok := os.LookupEnv("USER")
	return (!ok || user != "root") && inUserNamespace()
}

// inUserNamespace reports whether ids are mapped: outside of user namespaces
// the map is the one line "0 0 4294967295" (user_namespaces(7)).
func inUserNamespace() bool {
	m, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(m)), " ") != "0 0 4294967295"
}

// checkRootless validates --rootless. Its value has no effect yet: cgroup
// permission errors are never ignored.
func checkRootless(c *cli.Context) error {
	s := c.String("rootless")
	if s == "" || strings.EqualFold(s, "auto") {
		return nil
	}
	if _, err := strconv.ParseBool(s); err != nil {
		return fmt.Errorf("--rootless: %q is not true, false or auto", s)
	}
	return nil
}
