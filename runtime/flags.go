package runtime

import (
	"flag"
	"strings"

	"github.com/urfave/cli/v2"
)

// The flags are urfave/cli's, with two methods of our own: its Names runs a regular
// expression over every name, and is called some hundred times for one command line.
type (
	boolFlag struct {
		*cli.BoolFlag
		all []string // name and aliases
	}
	stringFlag struct {
		*cli.StringFlag
		all []string // name and aliases
	}
	listFlag struct {
		*cli.StringSliceFlag
		all []string // name and aliases
	}
	intFlag struct {
		*cli.IntFlag
		all []string // name and aliases
	}
)

func flagBool(name, usage string, aliases ...string) cli.Flag {
	return boolFlag{&cli.BoolFlag{Name: name, Aliases: aliases, Usage: usage, DisableDefaultText: true}, namesOf(name, aliases)}
}

// flagHidden is a flag that only the program itself uses.
func flagHidden(name, usage string) cli.Flag {
	return boolFlag{&cli.BoolFlag{Name: name, Usage: usage, Hidden: true}, namesOf(name, nil)}
}

func flagString(name, usage string, aliases ...string) cli.Flag {
	return flagDefault(name, "", usage, aliases...)
}

func flagDefault(name, value, usage string, aliases ...string) cli.Flag {
	return stringFlag{&cli.StringFlag{Name: name, Aliases: aliases, Value: value, Usage: usage}, namesOf(name, aliases)}
}

func flagInt(name, usage string) cli.Flag {
	return intFlag{&cli.IntFlag{Name: name, Usage: usage}, namesOf(name, nil)}
}

func flagList(name, usage string, aliases ...string) cli.Flag {
	return listFlag{&cli.StringSliceFlag{Name: name, Aliases: aliases, Usage: usage}, namesOf(name, aliases)}
}

func namesOf(name string, aliases []string) []string { return append([]string{name}, aliases...) }

// Names returns the name and the aliases.
func (f boolFlag) Names() []string { return f.all }

// Names returns the name and the aliases.
func (f stringFlag) Names() []string { return f.all }

// Names returns the name and the aliases.
func (f listFlag) Names() []string { return f.all }

// Names returns the name and the aliases.
func (f intFlag) Names() []string { return f.all }

// Apply defines the flag; cli looks the values up by name.
func (f boolFlag) Apply(set *flag.FlagSet) error {
	v := new(bool)
	for _, name := range f.all {
		set.BoolVar(v, name, false, f.Usage)
	}
	return nil
}

// Apply defines the flag.
func (f stringFlag) Apply(set *flag.FlagSet) error {
	v := new(string)
	for _, name := range f.all {
		set.StringVar(v, name, f.Value, f.Usage)
	}
	return nil
}

// Apply defines the flag.
func (f listFlag) Apply(set *flag.FlagSet) error {
	v := new(listValue)
	for _, name := range f.all {
		set.Var(v, name, f.Usage)
	}
	return nil
}

// listValue is every value that a flag is given, whole: that of cli is cut up at its
// commas.
type listValue []string

func (v *listValue) String() string { return strings.Join(*v, " ") }

// Get returns the values.
func (v *listValue) Get() any { return []string(*v) }

// Set adds a value.
func (v *listValue) Set(s string) error {
	*v = append(*v, s)
	return nil
}

// list returns the values of a flag that flagList has made.
func list(c *cli.Context, name string) []string {
	all, _ := c.Value(name).([]string)
	return all
}

// Apply defines the flag.
func (f intFlag) Apply(set *flag.FlagSet) error {
	for _, name := range f.all {
		set.Int(name, f.Value, f.Usage)
	}
	return nil
}
