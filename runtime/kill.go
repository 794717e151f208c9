package runtime

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox"
)

func (a *app) kill() *cli.Command {
	return &cli.Command{
		Name:  "kill",
		Usage: "kill sends the specified signal (default: SIGTERM) to the container's init process",
		ArgsUsage: `<container-id> [signal]

Where "<container-id>" is the name for the instance of the container and
"[signal]" is the signal to be sent to the init process, by name or number.

EXAMPLE:
       # ` + name + ` kill ubuntu01 KILL`,
		Flags:  []cli.Flag{flagBool("all", "send the specified signal to all processes inside the container", "a")},
		Action: a.doKill,
	}
}

func (a *app) doKill(c *cli.Context) error {
	if err := a.checkArgs(c, 1, 2); err != nil {
		return err
	}
	sandbox, err := a.load(c)
	if err != nil {
		return err
	}
	sig, err := parseSignal(c.Args().Get(1))
	if err != nil {
		return err
	}
	all := c.Bool("all")
	err = sandbox.Signal(sig, all)
	if all && errors.Is(err, libsandbox.ErrNotRunning) {
		return nil // nobody is left to signal, as managers that clean up expect
	}
	return err
}

// lastSignal is SIGRTMAX of Linux.
const lastSignal = 64

// parseSignal takes a number or a name, in any case and with or without SIG.
// An empty string is SIGTERM; 0 only asks whether the process is there.
func parseSignal(s string) (unix.Signal, error) {
	if s == "" {
		return unix.SIGTERM, nil
	}
	if n, err := strconv.Atoi(s); err == nil && n >= 0 && n <= lastSignal {
		return unix.Signal(n), nil
	}
	upper := strings.ToUpper(s)
	if !strings.HasPrefix(upper, "SIG") {
		upper = "SIG" + upper
	}
	if sig := unix.SignalNum(upper); sig != 0 {
		return sig, nil
	}
	return 0, fmt.Errorf("unknown signal %q", s)
}
