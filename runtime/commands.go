package runtime

import "github.com/urfave/cli/v2"

// Commands returns the global flags and the verbs, from which manuals and completion
// scripts are made. Their actions are not for use.
func Commands() ([]cli.Flag, []*cli.Command) {
	a := &app{}
	return globalFlags(), a.verbs()
}
