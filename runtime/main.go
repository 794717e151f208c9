package runtime

import (
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// name is the program's name in help, default paths and generated ids.
const name = "adl-runtime"

// app is one invocation: its streams, and what its verb leaves for Main.
type app struct {
	arg0                  string
	stdin, stdout, stderr *os.File
	log                   *logHandler
	status                int // exit status of a verb that succeeded; not 0 only after run
}

// Main runs one command line (args[0] is the program) and returns the exit
// status: that of the container's process for a run in the foreground, 3 for
// an unknown verb, 1 for every other error. An error is reported on stderr and
// in the log before Main returns. The caller keeps the three streams open.
func Main(args []string, stdin, stdout, stderr *os.File) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr}
	a.log = newLogHandler(stderr)
	if len(args) == 0 {
		args = []string{name}
	}
	a.arg0 = args[0]
	err := a.quick(args)
	if errors.Is(err, errSlow) {
		c := a.cli()
		err = c.Run(reorder(c, args))
	}
	if err == nil || errors.Is(err, errDone) {
		return a.status
	}
	a.log.fatal(err)
	if e, ok := errors.AsType[cli.ExitCoder](err); ok {
		return e.ExitCode()
	}
	return 1
}

// errDone ends the command line early without being a failure.
var errDone = errors.New("done")

func (a *app) cli() *cli.App {
	return &cli.App{
		Name:  name,
		Usage: "OCI runtime for containers that start fast",
		Description: `Runs applications packaged as OCI bundles: directories with a "config.json"
and a root filesystem.

    # ` + name + ` run bundle/            run a bundle under a generated id
    # ` + name + ` run [-b bundle] <id>   run it under an id of your own`,
		HideVersion:    true,            // its text costs time; before prints it when asked
		Compiled:       time.Unix(1, 0), // unused, but looked up if it is zero
		Flags:          globalFlags(),
		Commands:       a.verbs(),
		Before:         a.before,
		Writer:         a.stdout,
		ErrWriter:      a.stderr,
		ExitErrHandler: func(*cli.Context, error) {}, // Main reports, and only package main exits
	}
}

// verb is a line of the verb table.
type verb struct {
	name string
	make func() *cli.Command
}

// table lists the verbs by name.
func (a *app) table() []verb {
	return []verb{
		{"cp", a.cp},
		{"create", a.create},
		{"delete", a.delete},
		{"events", a.events},
		{"exec", a.exec},
		{"features", a.features},
		{"fork", a.fork},
		{"gc", a.gc},
		{"kill", a.kill},
		{"list", a.list},
		{"pause", a.pause},
		{"ps", a.ps},
		{"reset", a.reset},
		{"resume", a.resume},
		{"run", a.run},
		{"shell", a.shell},
		{"snapshot", a.snapshot},
		{"spec", a.spec},
		{"start", a.start},
		{"state", a.state},
		{"update", a.update},
	}
}

func (a *app) verbs() []*cli.Command {
	var all []*cli.Command
	for _, v := range a.table() {
		c := v.make()
		c.HideHelpCommand = true // a container may be called "help"
		all = append(all, c)
	}
	return all
}

// checkArgs refuses a number of arguments outside [least, most]: it prints the
// verb's help on stdout and returns the error, both in runc's words.
func (a *app) checkArgs(c *cli.Context, least, most int) error {
	kind, n := "exactly", least
	switch {
	case c.NArg() >= least && c.NArg() <= most:
		return nil
	case c.App == nil:
		return errSlow
	case least == most:
	case c.NArg() < least:
		kind = "a minimum of"
	default:
		kind, n = "a maximum of", most
	}
	a.stdout.WriteString("Incorrect Usage.\n\n")
	cli.HelpPrinter(a.stdout, cli.CommandHelpTemplate, c.Command)
	return usageError{a.arg0, c.Command.Name, kind, n}
}

// reorder moves a verb's flags before its arguments: runc accepts `delete ID
// --force`, the flag package would stop at ID. Nothing after "--" is moved, nor what
// follows the id of a verb that hands it to another program.
func reorder(c *cli.App, args []string) []string {
	at := findVerb(c.Flags, args)
	if at == len(args) || c.Command(args[at]) == nil {
		return args
	}
	return slices.Concat(args[:at+1], flagsFirst(c.Command(args[at]), args[at+1:]))
}

// flagsFirst reorders the arguments of a verb.
func flagsFirst(verb *cli.Command, tail []string) []string {
	var flags, rest []string
	for len(tail) > 0 {
		n := 1
		switch {
		case tail[0] == "--":
			n = len(tail)
			if verb.Name == "shell" && len(rest) == 0 {
				flags = append(flags, "--"+idFollows)
			}
			rest = append(rest, tail...)
		case isFlag(tail[0]):
			if tail[0] == "--help" || tail[0] == "-h" {
				return tail[:1] // the parser takes what follows for a verb
			}
			n = min(flagWidth(verb.Flags, tail[0]), len(tail))
			flags = append(flags, tail[:n]...)
		case verb.Name == "ps" || verb.Name == "exec" || verb.Name == "fork" && len(rest) == 2,
			verb.Name == "shell" && !isShellWord(firstOf(rest, tail)):
			n = len(tail)
			rest = append(rest, tail...)
		default:
			rest = append(rest, tail[0])
		}
		tail = tail[n:]
	}
	return append(flags, rest...)
}

// firstOf is the first of the arguments rest and tail.
func firstOf(rest, tail []string) string {
	if len(rest) > 0 {
		return rest[0]
	}
	return tail[0]
}

// findVerb returns the index of the verb in args, which follows the program's name
// and its flags; len(args) if there is none.
func findVerb(global []cli.Flag, args []string) int {
	i := 1
	for i < len(args) && isFlag(args[i]) {
		i += flagWidth(global, args[i])
	}
	return min(i, len(args))
}

func isFlag(arg string) bool { return len(arg) > 1 && arg[0] == '-' }

// flagWidth is how many arguments the flag arg takes up: 2 with a separate value.
// An unknown flag is 1; the parser refuses it later.
func flagWidth(flags []cli.Flag, arg string) int {
	arg = strings.TrimPrefix(arg[1:], "-")
	for _, f := range flags {
		if _, isBool := f.(boolFlag); !isBool && slices.Contains(f.Names(), arg) {
			return 2
		}
	}
	return 1
}
