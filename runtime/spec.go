package runtime

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"adl.run/adl-runtime/spec"
)

func (a *app) spec() *cli.Command {
	return &cli.Command{
		Name:      "spec",
		Usage:     "create a new specification file",
		ArgsUsage: " ",
		Description: `The spec command creates the new specification file named "config.json" for
the bundle.

The spec generated is just a starter file: its args parameter runs "sh" on a
terminal, in the directory "rootfs" of the bundle. Edit it to run another
program. With --rootless it suits a user without privileges.`,
		Flags: []cli.Flag{
			flagString("bundle", "path to the root of the bundle directory", "b"),
			flagBool("rootless", "generate a configuration for a rootless container"),
		},
		Action: a.doSpec,
	}
}

func (a *app) doSpec(c *cli.Context) error {
	if err := a.checkArgs(c, 0, 0); err != nil {
		return err
	}
	data, err := json.MarshalIndent(spec.Default(c.Bool("rootless")), "", "\t")
	if err != nil {
		return err
	}
	return writeNew(filepath.Join(bundleDir(c), "config.json"), data)
}

// writeNew writes a file that must not be there yet. Where the data does not
// fit, nothing stays.
func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if errors.Is(err, os.ErrExist) {
		return errors.New("file " + filepath.Base(path) + " exists. Remove it first")
	}
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(path)
	}
	return err
}
