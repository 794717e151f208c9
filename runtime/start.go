package runtime

import "github.com/urfave/cli/v2"

func (a *app) start() *cli.Command {
	return &cli.Command{
		Name:        "start",
		Usage:       "executes the user defined process in a created container",
		ArgsUsage:   ownID,
		Description: "The start command executes the user defined process in a created container.",
		Action:      a.doStart,
	}
}

func (a *app) doStart(c *cli.Context) error {
	if err := a.checkArgs(c, 1, 1); err != nil {
		return err
	}
	closeOnExec()
	sandbox, err := a.load(c)
	if err != nil {
		return err
	}
	return sandbox.Start(c.Context)
}
