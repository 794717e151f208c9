package frame

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Exit ends the program called name as err says, which it prints; nil is success.
func Exit(name string, err error) {
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Context ends when somebody wants the program to: it lets the command in flight end, and
// cleans up.
func Context() (ctx context.Context, stop context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
}

// List splits a comma-separated flag, dropping empty parts.
func List(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// FullPath finds name as a shell would and makes it absolute, so that no PATH search is
// part of a measurement.
func FullPath(name string) (string, error) {
	p, err := exec.LookPath(name)
	if err != nil {
		return "", err
	}
	return filepath.Abs(p)
}

// ownMounts is the name of a process that OwnMounts has executed.
const ownMounts = "bench-with-own-mounts"

// OwnMounts gives this process a mount namespace that nothing gets out of, by executing it
// again with the same arguments: the other threads stay in the old one. It returns nil
// where that has been done. more, unless nil, changes the new one first.
func OwnMounts(more func() error) error {
	if os.Args[0] == ownMounts {
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("must be root: containers, mounts and cgroups are made")
	}
	runtime.LockOSThread()
	err := PrivateMounts()
	if err == nil && more != nil {
		err = more()
	}
	if err != nil {
		return err
	}
	args := append([]string{ownMounts}, os.Args[1:]...)
	return os.NewSyscallError("execve", syscall.Exec("/proc/self/exe", args, os.Environ()))
}

// PrivateMounts gives the calling thread a mount namespace that nothing gets out of.
func PrivateMounts() error {
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	return os.NewSyscallError("mount", unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
}

// WriteReport writes the text to FOLDER/NAME.md and the data to FOLDER/NAME.json.
func WriteReport(folder, name, text string, data any) error {
	js, err := json.MarshalIndent(data, "", "  ")
	path := filepath.Join(folder, name)
	return errors.Join(err, os.MkdirAll(folder, 0o755),
		os.WriteFile(path+".md", []byte(text), 0o644), os.WriteFile(path+".json", append(js, '\n'), 0o644))
}
