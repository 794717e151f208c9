package runtime

import (
	"context"
	"errors"
	"flag"
	"io"

	"github.com/urfave/cli/v2"
)

// errSlow says that cli.App has to look at the command line.
var errSlow = errors.New("not a plain command line")

// quick runs a command line that is well formed: known global flags, a verb, known
// flags of the verb, arguments; or --version. It does with the verb table's flags and actions what
// cli.App.Run does, without setting up all the other verbs and their help, which
// costs more than many a verb's work. For everything else, help and mistakes among
// them, it returns errSlow, and has at most opened the log.
//
// A context that quick makes has no App.
func (a *app) quick(args []string) error {
	global := globalFlags()
	at := findVerb(global, args)
	top, err := parse(nil, global, args[1:at])
	switch {
	case err != nil:
		return err
	case top.Bool("version"):
		return a.before(top)
	case at == len(args):
		return errSlow
	}
	for _, v := range a.table() {
		if v.name == args[at] {
			return a.act(top, v.make(), args[at+1:])
		}
	}
	return errSlow
}

// act runs a verb.
func (a *app) act(top *cli.Context, verb *cli.Command, args []string) error {
	c, err := parse(top, verb.Flags, flagsFirst(verb, args))
	if err != nil {
		return err
	}
	c.Command = verb
	if err := a.before(top); err != nil {
		return err
	}
	return verb.Action(c)
}

// parse returns the context of a command line that has flags before its arguments.
func parse(parent *cli.Context, flags []cli.Flag, args []string) (*cli.Context, error) {
	set := flag.NewFlagSet("", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	for _, f := range flags {
		if err := f.Apply(set); err != nil {
			return nil, err
		}
	}
	if set.Parse(args) != nil {
		return nil, errSlow
	}
	c := cli.NewContext(nil, set, parent)
	c.Command = &cli.Command{Flags: flags}
	c.Context = context.Background()
	return c, nil
}
