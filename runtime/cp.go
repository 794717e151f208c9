package runtime

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/urfave/cli/v2"

	"adl.run/adl-runtime/libsandbox"
)

func (a *app) cp() *cli.Command {
	return &cli.Command{
		Name:  "cp",
		Usage: "copy files into a container or out of one",
		ArgsUsage: `<container-id>:<path> <path>|-
   ` + name + ` cp [command options] <path>|- <container-id>:<path>`,
		Description: `The cp command copies a file, a symlink or a directory with all that is below it
between the host and a container that is running, paused or created. Paths in the
container are as its first process sees them, volumes included.

What is copied to a directory goes into it under its own name, or, where the source
ends in "/.", without. What is copied to a name that is free gets that name. What is
copied to a file takes its place.

With "-" as the source, a tar stream from standard input is unpacked in a directory of
the container; with "-" as the destination, one goes to standard output.

A name of the host with a colon in it has to begin with "/" or ".". FIFOs, sockets and
devices are not copied; a warning tells of those below a directory.`,
		Flags: []cli.Flag{
			flagBool("archive", "keep owners, as the container sees them, setuid and setgid bits, and file capabilities", "a"),
			flagBool("follow-link", "follow a source that is a symlink", "L"),
		},
		Action: a.doCp,
	}
}

func (a *app) doCp(c *cli.Context) error {
	if err := a.checkArgs(c, 2, 2); err != nil {
		return err
	}
	from, src := containerPath(c.Args().Get(0))
	to, dst := containerPath(c.Args().Get(1))
	switch {
	case from != "" && to != "":
		return errors.New("cp: both are in a container: copy by way of the host")
	case from == "" && to == "":
		return errors.New("cp: neither is in a container: name one as <container-id>:<path>")
	case src == "" || dst == "":
		return errors.New("cp: a path is empty")
	}
	store, err := a.openStore(c)
	if err != nil {
		return err
	}
	sandbox, err := store.Load(from + to)
	if err != nil {
		return err
	}
	o := &libsandbox.CopyOptions{
		Archive: c.Bool("archive"), FollowLink: c.Bool("follow-link"),
		Skipped: func(path, what string) { slog.Warn("cp: " + path + " is " + what + ", and is left out") },
	}
	switch {
	case src == "-" && from == "":
		err = sandbox.CopyTarTo(c.Context, a.stdin, dst, o)
	case dst == "-" && to == "" && isTerminal(a.stdout):
		err = errors.New("a tar stream is nothing for a terminal: redirect standard output")
	case dst == "-" && to == "":
		err = sandbox.CopyTarFrom(c.Context, src, a.stdout, o)
	case to != "":
		err = sandbox.CopyTo(c.Context, src, dst, o)
	default:
		err = sandbox.CopyFrom(c.Context, src, dst, o)
	}
	if err != nil {
		return fmt.Errorf("cp: %w", err)
	}
	return nil
}

// containerPath takes <container-id>:<path> apart. There is no id where it is a path of
// the host.
func containerPath(arg string) (id, path string) {
	id, path, ok := strings.Cut(arg, ":")
	if !ok || id == "" || strings.HasPrefix(arg, "/") || strings.HasPrefix(arg, ".") {
		return "", arg
	}
	return id, path
}
