package runtime

import (
	"errors"
	"log/slog"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox"
	"adl.run/adl-runtime/spec"
)

func (a *app) run() *cli.Command {
	return &cli.Command{
		Name:  "run",
		Usage: "create and run a container",
		ArgsUsage: ownID + `

In place of the id there may be a bundle, as a path with a slash or "." or "..":
it runs under a generated id.`,
		Description: "The run command creates an instance of a container for a bundle, starts its\nprocess, and exits with its status.\n\n" + aboutBundle,
		Flags: append(createFlags(),
			flagBool("detach", "detach from the container's process", "d"),
			flagBool("keep", "do not delete the container after it exits"),
			flagBool("no-subreaper", "disable the use of the subreaper used to reap reparented processes"),
			flagBool("dry-run", "print the system calls that the container's init would make, and make nothing"),
		),
		Action: a.doRun,
	}
}

func (a *app) doRun(c *cli.Context) error {
	least := 1
	if c.Bool("dry-run") {
		least = 0
	}
	if err := a.checkArgs(c, least, 1); err != nil {
		return err
	}
	t := runTarget(c)
	foreground := !c.Bool("detach") && !c.Bool("dry-run")
	var relay *libsandbox.Relay
	if foreground {
		var err error
		if relay, err = libsandbox.CatchSignals(); err != nil {
			return err
		}
	}
	b, err := spec.Open(t.bundle)
	if err != nil {
		return err
	}
	o, err := a.createOptions(c, b, c.Bool("detach"))
	if err != nil {
		return err
	}
	store, err := a.openStore(c)
	if err != nil {
		return err
	}
	switch {
	case c.Bool("dry-run"):
		return a.listing(store, t.id, b, o)
	case foreground:
		a.adoptSize(b.Spec.Process)
		subreap(c)
	}
	sandbox, err := t.run(c, store, b, o)
	if err != nil || !foreground {
		return err
	}
	return a.supervise(c, sandbox, relay)
}

// target is what to run and the name to give it.
type target struct {
	id, bundle string
	generated  bool // id, by us
}

// runTarget tells the two forms of the argument apart: an id with --bundle or
// in the current directory, or a bundle and no id.
func runTarget(c *cli.Context) target {
	arg := c.Args().First()
	switch {
	case c.NArg() == 0:
		return target{randomID(), bundleDir(c), true}
	case !c.IsSet("bundle") && (strings.Contains(arg, "/") || arg == "." || arg == ".."):
		return target{randomID(), arg, true}
	}
	return target{arg, bundleDir(c), false}
}

// run creates and starts the container. With 32 random bits a generated id may
// be taken; then another is tried.
func (t target) run(c *cli.Context, store *libsandbox.Store, b *spec.Bundle, o *libsandbox.CreateOptions) (*libsandbox.Sandbox, error) {
	for {
		sandbox, err := store.Run(c.Context, t.id, b, o)
		if !t.generated || !errors.Is(err, libsandbox.ErrExist) {
			return sandbox, err
		}
		t.id = randomID()
	}
}

// randomID is "adl-" and 8 hexadecimal digits. It need not be unguessable.
func randomID() string {
	const digits = "0123456789abcdef"
	var r [4]byte
	unix.Getrandom(r[:], 0) // 4 bytes never come short (getrandom(2))
	id := []byte("adl-")
	for _, b := range r {
		id = append(id, digits[b>>4], digits[b&15])
	}
	return string(id)
}

func (a *app) listing(store *libsandbox.Store, id string, b *spec.Bundle, o *libsandbox.CreateOptions) error {
	text, err := store.Listing(id, b, o)
	if err != nil {
		return err
	}
	_, err = a.stdout.WriteString(text)
	return err
}

// supervise stays with a container in the foreground until its process ends,
// takes over that one's exit status, and deletes the container unless it is to
// be kept. A deletion that fails is logged: the status matters more.
func (a *app) supervise(c *cli.Context, sandbox *libsandbox.Sandbox, relay *libsandbox.Relay) error {
	err := a.attend(sandbox.Console(), func(tty *console) (unix.WaitStatus, error) {
		return relay.Wait(sandbox, resizer(tty), func() { tty.reopen(sandbox.Console()) })
	})
	if c.Bool("keep") {
		return err
	}
	// By force, in case that it was the wait which failed.
	derr := sandbox.Delete(c.Context, &libsandbox.DeleteOptions{Force: true})
	if derr != nil && !errors.Is(derr, libsandbox.ErrNotExist) {
		slog.Error(oneLine(derr.Error()))
	}
	return err
}

// attend joins the caller's terminal to master, if that is not nil, for as long as wait
// takes, and takes over the status that it returns.
func (a *app) attend(master *os.File, wait func(*console) (unix.WaitStatus, error)) error {
	tty := a.attachConsole(master)
	if tty != nil {
		keepOutputErrors()
		tty.resize()
	}
	status, err := wait(tty)
	tty.close()
	if err == nil {
		a.status = exitStatus(status)
	}
	return err
}

// resizer is what to do when the size of the caller's terminal changes; nil for a
// container without one.
func resizer(tty *console) func() {
	if tty == nil {
		return nil
	}
	return tty.resize
}

// exitStatus is the shell's convention: the status, or 128+n for signal n.
func exitStatus(s unix.WaitStatus) int {
	if s.Signaled() {
		return 128 + int(s.Signal())
	}
	return s.ExitStatus()
}
