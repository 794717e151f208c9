package runtime

import (
	"github.com/urfave/cli/v2"

	"adl.run/adl-runtime/libsandbox"
)

func (a *app) pause() *cli.Command {
	return &cli.Command{
		Name:        "pause",
		Usage:       "pause suspends all processes inside the container",
		ArgsUsage:   "<container-id>\n\nWhere \"<container-id>\" is the name for the instance of the container to be\npaused.",
		Description: "The pause command suspends all processes in the instance of the container.\n\nUse " + name + " list to identify instances of containers and their current status.",
		Action:      a.onOne((*libsandbox.Sandbox).Pause),
	}
}

func (a *app) resume() *cli.Command {
	return &cli.Command{
		Name:        "resume",
		Usage:       "resume all processes that have been previously paused",
		ArgsUsage:   "<container-id>\n\nWhere \"<container-id>\" is the name for the instance of the container to be\nresumed.",
		Description: "The resume command resumes all processes in the instance of the container.\n\nUse " + name + " list to identify instances of containers and their current status.",
		Action:      a.onOne((*libsandbox.Sandbox).Resume),
	}
}

// onOne is the action of a verb that takes a container's id and nothing else.
func (a *app) onOne(do func(*libsandbox.Sandbox) error) cli.ActionFunc {
	return func(c *cli.Context) error {
		if err := a.checkArgs(c, 1, 1); err != nil {
			return err
		}
		sandbox, err := a.load(c)
		if err != nil {
			return err
		}
		return do(sandbox)
	}
}
