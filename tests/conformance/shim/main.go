// Command shim stands between a validation program and a runtime. The programs
// can only be given the name of one executable, and start it with the verb as
// the first argument. The shim
//
//   - gives the runtime a state directory of this program run, if one is set,
//     so that nothing that stays behind there gets in anybody's way
//   - writes the id and linux.cgroupsPath of each container that is created to
//     a file, for the search for what stays behind
//
// and then becomes the runtime. It treats every runtime alike.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// prefix starts the names of the variables that configure the shim. The
// runtime does not see them.
const prefix = "ADL_SHIM_"

func main() {
	if err := become(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "shim:", err)
		os.Exit(1)
	}
}

// become replaces this process with the runtime; it returns only on failure.
func become(args []string) error {
	path := os.Getenv(prefix + "RUNTIME")
	if len(args) > 0 && args[0] == "create" {
		if err := onCreate(args[1:]); err != nil {
			return err
		}
	}
	argv := []string{path}
	if state := os.Getenv(prefix + "STATE"); state != "" {
		argv = append(argv, "--root", state)
	}
	return unix.Exec(path, append(argv, args...), runtimeEnviron())
}

func runtimeEnviron() []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, prefix) {
			env = append(env, v)
		}
	}
	return env
}

// onCreate takes the arguments after the verb: flags with a value each, and
// the id, which the suite leaves out on purpose in places.
func onCreate(args []string) error {
	bundle, id := ".", ""
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--bundle" && i+1 < len(args):
			i++
			bundle = args[i]
		case args[i] == "--pid-file":
			i++
		default:
			id = args[i]
		}
	}
	if id == "" {
		return nil
	}
	return note(id, cgroupsPath(filepath.Join(bundle, "config.json")))
}

// cgroupsPath reads linux.cgroupsPath. A file that is missing or is not a
// configuration is the runtime's to complain about.
func cgroupsPath(name string) string {
	var config struct{ Linux struct{ CgroupsPath string } }
	data, err := os.ReadFile(name)
	if err != nil || json.Unmarshal(data, &config) != nil {
		return ""
	}
	return config.Linux.CgroupsPath
}

// note adds a line to the list of containers: id, tab, cgroups path.
func note(id, cgroupsPath string) error {
	f, err := os.OpenFile(os.Getenv(prefix+"CONTAINERS"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintf(f, "%s\t%s\n", id, cgroupsPath)
	return err
}
