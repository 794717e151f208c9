package runtime

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox"
	"adl.run/adl-runtime/spec"
)

const (
	ownID = `<container-id>

Where "<container-id>" is your name for the instance of the container that you
are starting. The name you provide for the container instance must be unique on
your host.`

	aboutBundle = `The bundle is a directory with a specification file named "config.json" and a
root filesystem. To change what is run, edit the args parameter of the file;
see "` + name + ` spec --help".`

	aboutKeyring = "do not create a new session keyring for the container.  This will cause the container to inherit the calling processes session key"
	aboutPivot   = "do not use pivot root to jail process inside rootfs.  This should be used whenever the rootfs is on top of a ramdisk"
	aboutSocket  = "path to an AF_UNIX socket which will receive a file descriptor referencing "
)

// createFlags are the flags that create and run share.
func createFlags() []cli.Flag {
	return append(layerFlags(), []cli.Flag{
		flagString("bundle", "path to the root of the bundle directory, defaults to the current directory", "b"),
		flagString("console-socket", aboutSocket+"the master end of the console's pseudoterminal"),
		flagString("pidfd-socket", aboutSocket+"the init process"),
		flagString("pid-file", "specify the file to write the process id to"),
		flagBool("no-pivot", aboutPivot),
		flagBool("no-new-keyring", aboutKeyring),
		flagInt("preserve-fds", "Pass N additional file descriptors to the container (stdio + $LISTEN_FDS + N in total)"),
	}...)
}

func bundleDir(c *cli.Context) string {
	if dir := c.String("bundle"); dir != "" {
		return dir
	}
	return "."
}

// createOptions turns the shared flags into options. With detach the container
// outlives this command. It may append LISTEN_FDS to the environment in b.
func (a *app) createOptions(c *cli.Context, b *spec.Bundle, detach bool) (*libsandbox.CreateOptions, error) {
	if err := checkRootless(c); err != nil {
		return nil, err
	}
	o := &libsandbox.CreateOptions{
		Stdin: a.stdin, Stdout: a.stdout, Stderr: a.stderr,
		KeepConsole:   !detach,
		NoPivot:       c.Bool("no-pivot"),
		NoNewKeyring:  c.Bool("no-new-keyring"),
		SystemdCgroup: c.Bool("systemd-cgroup"),
	}
	if err := paths(c, &o.ConsoleSocket, &o.PidFile, &o.PidfdSocket); err != nil {
		return nil, err
	}
	if err := checkTerminal(b.Spec.Process, o.ConsoleSocket, detach); err != nil {
		return nil, err
	}
	var err error
	if o.Layer, err = layerOptions(c); err != nil {
		return nil, err
	}
	o.ExtraFiles, err = extraFiles(b, c.Int("preserve-fds"))
	closeOnExec()
	return o, err
}

// closeOnExec keeps from hooks what this process's caller has left open. What a
// container is to have is handed to it by number.
func closeOnExec() {
	if unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) == nil { // since Linux 5.11
		return
	}
	all, _ := os.ReadDir("/proc/self/fd")
	for _, e := range all {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
}

// paths makes the paths that create, run and exec are given absolute.
func paths(c *cli.Context, consoleSocket, pidFile, pidfdSocket *string) error {
	for _, p := range []struct {
		flag string
		to   *string
	}{{"console-socket", consoleSocket}, {"pid-file", pidFile}, {"pidfd-socket", pidfdSocket}} {
		var err error
		if *p.to, err = absolute(c.String(p.flag)); err != nil {
			return fmt.Errorf("--%s: %w", p.flag, err)
		}
	}
	return nil
}

func absolute(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	return filepath.Abs(path)
}

// checkTerminal refuses a pseudoterminal that nobody would hold, and a socket
// that would wait for one in vain. The texts are runc's.
func checkTerminal(p *specs.Process, socket string, detach bool) error {
	terminal := p != nil && p.Terminal
	switch {
	case detach && terminal && socket == "":
		return errors.New("cannot allocate tty if " + name + " will detach without setting console socket")
	case (!detach || !terminal) && socket != "":
		return errors.New("cannot use console socket if " + name + " will not detach or allocate tty")
	}
	return nil
}

// extraFiles are the descriptors that the container gets beside stdio: those of
// socket activation (sd_listen_fds(3)), which it is told of in its environment,
// then the next preserve ones. They belong to the process and are not closed.
func extraFiles(b *spec.Bundle, preserve int) ([]*os.File, error) {
	listen := listenFDs()
	if listen > 0 && b.Spec.Process != nil {
		b.Spec.Process.Env = append(b.Spec.Process.Env, "LISTEN_FDS="+strconv.Itoa(listen), "LISTEN_PID=1")
	}
	return inherited(listen + preserve)
}

// inherited are n descriptors of this process from 3 on.
func inherited(n int) ([]*os.File, error) {
	const most = 1 << 20 // the kernel's own bound is not above it (fs.nr_open)
	if n < 0 || n > most {
		return nil, fmt.Errorf("--preserve-fds %d: not a number of descriptors", n)
	}
	var files []*os.File
	for fd := 3; fd < 3+n; fd++ {
		// A descriptor of our own (a log, the poller) is close-on-exec; an inherited
		// one cannot be, or it would not have been inherited. So a hole in the
		// caller's descriptors never hands one of ours to the container.
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err == nil && flags&unix.FD_CLOEXEC != 0 {
			err = unix.EBADF
		}
		if err != nil {
			return nil, fmt.Errorf("--preserve-fds: descriptor %d of %d to %d: %w", fd, 3, 2+n, err)
		}
		files = append(files, os.NewFile(uintptr(fd), "fd"+strconv.Itoa(fd)))
	}
	return files, nil
}

// listenFDs is how many activation sockets were passed to this very process.
func listenFDs() int {
	if pid, err := strconv.Atoi(os.Getenv("LISTEN_PID")); err != nil || pid != os.Getpid() {
		return 0
	}
	n, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	return max(n, 0)
}
