package runtime

import (
	"github.com/urfave/cli/v2"

	"adl.run/adl-runtime/spec"
)

func (a *app) create() *cli.Command {
	return &cli.Command{
		Name:        "create",
		Usage:       "create a container",
		ArgsUsage:   ownID,
		Description: "The create command creates an instance of a container for a bundle, whose\nprocess then waits for the start command.\n\n" + aboutBundle,
		Flags:       createFlags(),
		Action:      a.doCreate,
	}
}

func (a *app) doCreate(c *cli.Context) error {
	if err := a.checkArgs(c, 1, 1); err != nil {
		return err
	}
	b, err := spec.Open(bundleDir(c))
	if err != nil {
		return err
	}
	o, err := a.createOptions(c, b, true)
	if err != nil {
		return err
	}
	store, err := a.openStore(c)
	if err != nil {
		return err
	}
	_, err = store.Create(c.Context, c.Args().First(), b, o)
	return err
}
