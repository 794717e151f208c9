package runtime

import (
	"encoding/json"
	"errors"
	"flag"
	"time"

	"github.com/urfave/cli/v2"

	"adl.run/adl-runtime/libsandbox"
)

func (a *app) events() *cli.Command {
	return &cli.Command{
		Name:        "events",
		Usage:       "display container events such as OOM notifications, cpu, memory, and IO usage statistics",
		ArgsUsage:   "<container-id>\n\nWhere \"<container-id>\" is the name for the instance of the container.",
		Description: "The events command displays information about the container. By default the\ninformation is displayed once every 5 seconds.",
		Flags: []cli.Flag{
			durationFlag{&cli.DurationFlag{Name: "interval", Value: 5 * time.Second, Usage: "set the stats collection interval"}},
			flagBool("stats", "display the container's stats then exit"),
		},
		Action: a.doEvents,
	}
}

// durationFlag is the one flag of its kind; see flags.go.
type durationFlag struct{ *cli.DurationFlag }

// Names returns the name.
func (f durationFlag) Names() []string { return []string{f.Name} }

// Apply defines the flag.
func (f durationFlag) Apply(set *flag.FlagSet) error {
	set.Duration(f.Name, f.Value, f.Usage)
	return nil
}

// event is a line of the output, as runc prints it.
type event struct {
	Type string            `json:"type"`
	ID   string            `json:"id"`
	Data *libsandbox.Stats `json:"data,omitempty"`
}

func (a *app) doEvents(c *cli.Context) error {
	if err := a.checkArgs(c, 1, 1); err != nil {
		return err
	}
	sandbox, err := a.load(c)
	if err != nil {
		return err
	}
	interval := c.Duration("interval")
	if interval <= 0 {
		return errors.New("duration interval must be greater than 0")
	}
	enc := json.NewEncoder(a.stdout)
	if c.Bool("stats") {
		s, err := sandbox.Stats()
		if err != nil {
			return err
		}
		return enc.Encode(event{"stats", sandbox.ID(), s})
	}
	return sandbox.Events(c.Context, interval, func(e libsandbox.Event) error {
		if e.Stats == nil {
			return enc.Encode(event{Type: "oom", ID: sandbox.ID()})
		}
		return enc.Encode(event{"stats", sandbox.ID(), e.Stats})
	})
}
