package runtime

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"adl.run/adl-runtime/libsandbox"
)

func (a *app) delete() *cli.Command {
	return &cli.Command{
		Name:  "delete",
		Usage: "delete any resources held by the container often used with detached container",
		ArgsUsage: `<container-id>

Where "<container-id>" is the name for the instance of the container.

EXAMPLE:
If "` + name + ` list" shows the status of "ubuntu01" as "stopped", the following
deletes the resources held for it and removes it from the list:

       # ` + name + ` delete ubuntu01`,
		Flags:  []cli.Flag{flagBool("force", "Forcibly deletes the container if it is still running (uses SIGKILL)", "f")},
		Action: a.doDelete,
	}
}

func (a *app) doDelete(c *cli.Context) error {
	if err := a.checkArgs(c, 1, 1); err != nil {
		return err
	}
	closeOnExec()
	store, err := a.openStore(c)
	if err != nil {
		return err
	}
	id := c.Args().First()
	if c.Bool("force") {
		return store.ForceDelete(c.Context, id)
	}
	sandbox, err := store.Load(id)
	if err != nil {
		return err
	}
	err = sandbox.Delete(c.Context, nil)
	if !errors.Is(err, libsandbox.ErrRunning) {
		return err
	}
	if s, serr := sandbox.State(); serr == nil {
		return fmt.Errorf("cannot delete container %s that is not stopped: %s", id, s.Status)
	}
	return err
}
