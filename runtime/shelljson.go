package runtime

import (
	"errors"

	"github.com/urfave/cli/v2"
)

func (a *app) shellJSON(c *cli.Context) error { return errors.New("not yet") }
