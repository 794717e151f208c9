package runtime

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/urfave/cli/v2"

	"adl.run/adl-runtime/libsandbox"
)

// layerFlags are those of create and run that are about the writable layer.
func layerFlags() []cli.Flag {
	return []cli.Flag{
		flagString("layer", "give the container a writable layer above its root filesystem, which reset throws away: overlay, btrfs or none"),
		flagLayerRoot(),
		flagString("layer-upper", "where the layer is: disk, tmpfs or tmpfs:size=N"),
		flagString("layer-size", "limit what the layer can hold, in bytes or with a suffix k, m, g or t"),
	}
}

func flagLayerRoot() cli.Flag {
	return flagString("layer-root", "directory to keep layers in (default: "+libsandbox.DefaultLayerRoot()+")")
}

// layerOptions are what the flags say.
func layerOptions(c *cli.Context) (*libsandbox.LayerOptions, error) {
	o := &libsandbox.LayerOptions{Driver: c.String("layer"), Upper: c.String("layer-upper")}
	var err error
	if o.Root, err = layerRoot(c); err != nil {
		return nil, err
	}
	if size := c.String("layer-size"); size != "" {
		if o.Size, err = libsandbox.ParseSize(size); err != nil {
			return nil, fmt.Errorf("--layer-size: %w", err)
		}
	}
	return o, nil
}

func layerRoot(c *cli.Context) (string, error) {
	dir, err := absolute(c.String("layer-root"))
	if err != nil {
		return "", fmt.Errorf("--layer-root: %w", err)
	}
	return dir, nil
}

// deleter are the arguments of the process that deletes what layers in root leave.
func deleter(root string) []string { return []string{name, "gc", "--trash", "--layer-root", root} }

func (a *app) gc() *cli.Command {
	return &cli.Command{
		Name:      "gc",
		Usage:     "delete what commands that were killed have left in a layer root",
		ArgsUsage: " ",
		Description: `The gc command deletes containers that belong to a program that has ended, and those
whose lifetime or idle time is over. It gives up layers and snapshots of containers
that do not exist any more, and deletes the files of all that was given up.`,
		Flags: []cli.Flag{
			flagLayerRoot(),
			flagBool("trash", "only delete the files of what was given up, without haste"),
		},
		Action: a.doGC,
	}
}

func (a *app) doGC(c *cli.Context) error {
	if err := a.checkArgs(c, 0, 0); err != nil {
		return err
	}
	dir, err := layerRoot(c)
	if err != nil {
		return err
	}
	if dir == "" {
		dir = libsandbox.DefaultLayerRoot()
	}
	if c.Bool("trash") {
		return libsandbox.EmptyTrash(c.Context, dir)
	}
	store, err := a.openStore(c)
	if err != nil {
		return err
	}
	done, err := store.CollectOwned(c.Context)
	for _, d := range done {
		slog.Info("container " + d.ID + " deleted: " + string(d.Why))
	}
	return errors.Join(err, libsandbox.GC(c.Context, dir))
}

func (a *app) reset() *cli.Command {
	return &cli.Command{
		Name:      "reset",
		Usage:     "put a running container back to its first state, or to a snapshot",
		ArgsUsage: "<container-id>\n\nWhere \"<container-id>\" is the name for the instance of the container to be reset.",
		Description: `The reset command kills every process of a container that has a layer, gives it a
fresh one, makes its mounts anew, and starts its process again or, with
--keep-init, lets that one live on. Without either flag it does what the
annotation ` + libsandbox.AnnotationReset + ` says: keep-init or restart; without that, a container that
was made by run is restarted, and one that was made by create keeps its process.`,
		Flags: []cli.Flag{
			flagBool("keep-init", "let the container's first process live on, with its memory and open files"),
			flagBool("restart", "start the container's process again"),
			flagString("to", "the snapshot to go to, instead of the first state"),
		},
		Action: a.doReset,
	}
}

func (a *app) doReset(c *cli.Context) error {
	if err := a.checkArgs(c, 1, 1); err != nil {
		return err
	}
	o := &libsandbox.ResetOptions{To: c.String("to")}
	switch keep, restart := c.Bool("keep-init"), c.Bool("restart"); {
	case keep && restart:
		return errors.New("--keep-init, --restart: one of them")
	case keep:
		o.Mode = libsandbox.ResetKeepInit
	case restart:
		o.Mode = libsandbox.ResetRestart
	}
	if c.IsSet("to") && o.To == "" {
		return errors.New(`--to "": must be the name of a snapshot`)
	}
	sandbox, err := a.load(c)
	if err != nil {
		return err
	}
	return sandbox.RequestReset(c.Context, o)
}
