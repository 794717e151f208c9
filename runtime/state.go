package runtime

import (
	"encoding/json"
	"io"
	"os/user"
	"strconv"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"

	"adl.run/adl-runtime/libsandbox"
)

func (a *app) state() *cli.Command {
	return &cli.Command{
		Name:        "state",
		Usage:       "output the state of a container",
		ArgsUsage:   "<container-id>\n\nWhere \"<container-id>\" is your name for the instance of the container.",
		Description: "The state command outputs current state information for the\ninstance of a container.",
		Action:      a.doState,
	}
}

func (a *app) doState(c *cli.Context) error {
	if err := a.checkArgs(c, 1, 1); err != nil {
		return err
	}
	sandbox, err := a.load(c)
	if err != nil {
		return err
	}
	s, err := sandbox.State()
	if err != nil {
		return err
	}
	return writeState(a.stdout, newStateJSON(s))
}

// writeState ends without a line end, as runc does.
func writeState(w io.Writer, s stateJSON) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return err
}

// stateJSON is a container as state and list print it: the spec's state with
// what runc adds to it, in runc's order. Pid is 0 for a stopped container, and
// Created is in UTC. Owner is empty in state, and a name in list.
type stateJSON struct {
	Version     string               `json:"ociVersion"`
	ID          string               `json:"id"`
	Pid         int                  `json:"pid"`
	Status      specs.ContainerState `json:"status"`
	Bundle      string               `json:"bundle"`
	Rootfs      string               `json:"rootfs"`
	Created     time.Time            `json:"created"`
	Annotations map[string]string    `json:"annotations,omitempty"`
	Owner       string               `json:"owner"`
}

func newStateJSON(s *libsandbox.State) stateJSON {
	j := stateJSON{
		Version: s.Version, ID: s.ID, Pid: s.Pid, Status: s.Status, Bundle: s.Bundle,
		Rootfs: s.Rootfs, Created: s.Created.UTC(), Annotations: s.Annotations,
	}
	if s.Status == specs.StateStopped {
		j.Pid = 0
	}
	return j
}

// userName is the name of a user, or # and the id where it has none.
func userName(uid int) string {
	id := strconv.Itoa(uid)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "#" + id
}
