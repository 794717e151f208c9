package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
)

func (a *app) ps() *cli.Command {
	return &cli.Command{
		Name:      "ps",
		Usage:     "ps displays the processes running inside a container",
		ArgsUsage: "<container-id> [ps options]",
		Description: `The host's ps is run with the options, -ef without any, and the lines of the
container's processes are printed. The output must have a column PID.`,
		Flags:  []cli.Flag{flagDefault("format", "table", "select one of: table or json", "f")},
		Action: a.doPs,
	}
}

func (a *app) doPs(c *cli.Context) error {
	if c.NArg() == 0 {
		return a.checkArgs(c, 1, 1)
	}
	sandbox, err := a.load(c)
	if err != nil {
		return err
	}
	pids, err := sandbox.Processes()
	if err != nil {
		return err
	}
	switch c.String("format") {
	case "table":
	case "json":
		return json.NewEncoder(a.stdout).Encode(pids) // null without processes, as runc
	default:
		return errors.New("invalid format option")
	}
	args := c.Args().Tail()
	if len(args) == 0 {
		args = []string{"-ef"}
	}
	out, err := runPs(args)
	if err != nil {
		return err
	}
	return writePs(a.stdout, out, pids)
}

// runPs returns what the host's ps(1) prints. It is not os/exec's, which would cost
// two page faults in each start of each verb.
func runPs(args []string) (string, error) {
	path, err := lookPath("ps")
	if err != nil {
		return "", err
	}
	// A file in memory: a child that keeps its output open does not keep us waiting.
	fd, err := unix.MemfdCreate("ps", unix.MFD_CLOEXEC)
	if err != nil {
		return "", os.NewSyscallError("memfd_create", err)
	}
	out := os.NewFile(uintptr(fd), "ps")
	defer out.Close()
	files := []uintptr{0, out.Fd(), out.Fd()}
	pid, err := syscall.ForkExec(path, append([]string{"ps"}, args...), &syscall.ProcAttr{Env: os.Environ(), Files: files})
	if err != nil {
		return "", &os.PathError{Op: "exec", Path: path, Err: err}
	}
	var ws unix.WaitStatus
	for err = unix.EINTR; err == unix.EINTR; {
		_, err = unix.Wait4(pid, &ws, 0, nil)
	}
	if err != nil {
		return "", os.NewSyscallError("wait", err)
	}
	text, err := io.ReadAll(io.NewSectionReader(out, 0, math.MaxInt64))
	if err == nil && ws != 0 {
		err = fmt.Errorf("ps %s: exit status %d: %s", strings.Join(args, " "), exitStatus(ws), text)
	}
	return string(text), err
}

// lookPath finds an executable file in $PATH.
func lookPath(name string) (string, error) {
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: executable file not found in $PATH", name)
}

// writePs prints the heading and the lines of the given processes.
func writePs(w io.Writer, out string, pids []int) error {
	heading, rest, _ := strings.Cut(out, "\n")
	column := slices.Index(strings.Fields(heading), "PID")
	if column < 0 {
		return errors.New("couldn't find PID field in ps output")
	}
	fmt.Fprintln(w, heading)
	for line := range strings.Lines(rest) {
		f := strings.Fields(line)
		if len(f) <= column {
			continue
		}
		pid, err := strconv.Atoi(f[column])
		if err != nil {
			return fmt.Errorf("unable to parse pid: %w", err)
		}
		if slices.Contains(pids, pid) {
			fmt.Fprint(w, line)
		}
	}
	return nil
}
