package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"adl.run/adl-runtime/libsandbox"
)

func (a *app) list() *cli.Command {
	return &cli.Command{
		Name:  "list",
		Usage: "lists containers started by " + name + " with the given root",
		ArgsUsage: `

Where the given root is specified via the global option "--root".

EXAMPLE:
       # ` + name + ` --root value list`,
		Flags: []cli.Flag{
			flagDefault("format", "table", "select one of: table or json", "f"),
			flagBool("quiet", "display only container IDs", "q"),
		},
		Action: a.doList,
	}
}

func (a *app) doList(c *cli.Context) error {
	if err := a.checkArgs(c, 0, 0); err != nil {
		return err
	}
	store, err := a.openStore(c)
	if err != nil {
		return err
	}
	all, err := states(store)
	if err != nil {
		return err
	}
	format := c.String("format")
	if c.Bool("quiet") {
		format = "quiet"
	}
	return writeList(a.stdout, format, all)
}

// states asks for every container's state. One that goes away meanwhile is left
// out; one whose state cannot be told is left out with a warning, so that it
// does not hide the others.
func states(store *libsandbox.Store) ([]stateJSON, error) {
	sandboxes, err := store.List()
	if err != nil {
		return nil, err
	}
	var all []stateJSON // nil, printed as null, if there are none: runc's habit
	for _, sandbox := range sandboxes {
		s, err := sandbox.State()
		switch {
		case err == nil:
			j := newStateJSON(s)
			j.Owner = userName(s.Owner)
			all = append(all, j)
		case !errors.Is(err, libsandbox.ErrNotExist):
			slog.Warn(fmt.Sprintf("state for %s: %v", sandbox.ID(), err))
		}
	}
	return all, nil
}

func writeList(w io.Writer, format string, all []stateJSON) error {
	switch format {
	case "quiet":
		for _, s := range all {
			fmt.Fprintln(w, s.ID)
		}
		return nil
	case "json":
		return json.NewEncoder(w).Encode(all)
	case "table":
		t := tabwriter.NewWriter(w, 12, 1, 3, ' ', 0)
		fmt.Fprint(t, "ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER\n")
		for _, s := range all {
			fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\n",
				s.ID, s.Pid, s.Status, s.Bundle, s.Created.Format(time.RFC3339Nano), s.Owner)
		}
		return t.Flush()
	}
	return errors.New("invalid format option")
}
