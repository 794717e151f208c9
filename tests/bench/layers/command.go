package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/tests/bench/frame"
)

// peer runs the commands of one runtime on one thread, which has mounts of its own. crun
// 1.8 refuses a hybrid cgroup layout, so cgroup v2 is not mounted there beside v1.
type peer struct {
	name, path string
	p          *place
	work       chan func()
	null       uintptr
	merged     string // where a fresh overlay is mounted; of a peer without layers
	n          int    // overlays made
}

func newPeer(p *place, name, path string) (*peer, error) {
	r := &peer{name: name, path: path, p: p, work: make(chan func()), merged: filepath.Join(p.dir, "merged-"+name)}
	fd, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	r.null = uintptr(fd)
	go func() {
		runtime.LockOSThread() // until its end
		for f := range r.work {
			f()
		}
	}()
	return r, errors.Join(os.MkdirAll(r.merged, 0o755), r.do(func() error { return r.ownMounts() }))
}

func (r *peer) ownMounts() error {
	if r.name == "adl" {
		return nil
	}
	if err := frame.PrivateMounts(); err != nil {
		return err
	}
	return frame.HideUnified()
}

// do calls f on the thread.
func (r *peer) do(f func() error) error {
	done := make(chan error)
	r.work <- func() { done <- f() }
	return <-done
}

// command runs the runtime. Only a failed command is run again for its messages.
func (r *peer) command(args ...string) error {
	argv := append([]string{r.path, "--root", r.p.state(r.name)}, args...)
	attr := &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{r.null, r.null, r.null}, Sys: &syscall.SysProcAttr{Setpgid: true},
	}
	pid, err := syscall.ForkExec(argv[0], argv, attr)
	if err != nil {
		return err
	}
	ws, err := frame.WaitPid(pid)
	if err == nil && ws == 0 {
		return nil
	}
	said, ferr := os.CreateTemp(r.p.run, "said-")
	if ferr != nil {
		return fmt.Errorf("%q: status %#x", argv, int(ws))
	}
	defer said.Close()
	attr.Files[1], attr.Files[2] = said.Fd(), said.Fd()
	if pid, err := syscall.ForkExec(argv[0], argv, attr); err == nil {
		_, _ = frame.WaitPid(pid)
	}
	text, _ := os.ReadFile(said.Name())
	return fmt.Errorf("%q: status %#x, and again: %s", argv, int(ws), bytes.TrimSpace(text))
}

func (r *peer) pidFile(id string) string { return filepath.Join(r.p.run, "pid-"+id) }

// reap waits for the end of the container's init, as a manager does, in the background.
func (r *peer) reap(id string) error {
	raw, err := os.ReadFile(r.pidFile(id))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(raw)))
	if err != nil || pid < 2 {
		return fmt.Errorf("pid file of %s: %q", id, raw)
	}
	go func() { _, _ = frame.WaitPid(pid) }()
	return nil
}

// runBox runs a container: on a layer if it is ours, otherwise on the overlay.
func (r *peer) runBox(id string) error {
	args := []string{"run", "-d", "--pid-file", r.pidFile(id), "-b", filepath.Join(r.p.run, "bundle-"+id)}
	if r.name == "adl" {
		args = append(args, "--layer", string(r.p.driver), "--layer-root", r.p.layerRoot())
	}
	return r.command(append(args, id)...)
}

// freshOverlay takes the old overlay away and mounts another.
func (r *peer) freshOverlay() error {
	if err := unix.Unmount(r.merged, unix.MNT_DETACH); err != nil && err != unix.EINVAL {
		return os.NewSyscallError("umount", err)
	}
	r.n++
	dir := fmt.Sprintf("%s-%d", r.merged, r.n)
	for _, d := range []string{dir, dir + "/upper", dir + "/work"} {
		if err := unix.Mkdir(d, 0o755); err != nil {
			return fmt.Errorf("mkdir %s: %w", d, err)
		}
	}
	data := "lowerdir=" + r.p.rootfs() + ",upperdir=" + dir + "/upper,workdir=" + dir + "/work,volatile"
	return os.NewSyscallError("mount", unix.Mount("overlay", r.merged, "overlay", 0, data))
}

// again deletes the container and runs it.
func (r *peer) again(id string) error {
	if err := r.command("delete", "-f", id); err != nil {
		return err
	}
	if r.name != "adl" {
		if err := r.freshOverlay(); err != nil {
			return err
		}
	}
	return r.runBox(id)
}

// close deletes the containers.
func (r *peer) close(ids ...string) {
	_ = r.do(func() error {
		for _, id := range ids {
			_ = r.command("delete", "-f", id)
		}
		if r.name != "adl" {
			_ = unix.Unmount(r.merged, unix.MNT_DETACH)
		}
		return nil
	})
	close(r.work)
	unix.Close(int(r.null))
}

// commands measures commands, from their start to their end.
func (b *bench) commands(p *place) error {
	var cells []cell
	for name, path := range b.o.paths {
		r, err := newPeer(p, name, path)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		ids := []string{name + "-again"}
		if name == "adl" {
			ids = append(ids, "adl-restart", "adl-keep-init")
		}
		defer r.close(ids...)
		for _, id := range ids {
			if err := r.firstRun(id); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		cells = append(cells, r.cells()...)
	}
	return b.rounds(p, cells)
}

func (r *peer) firstRun(id string) error {
	rootfs := r.merged
	if r.name == "adl" {
		rootfs = r.p.rootfs()
	}
	if _, err := r.p.writeBundle(id, rootfs); err != nil {
		return err
	}
	err := r.do(func() error {
		if r.name != "adl" {
			if err := r.freshOverlay(); err != nil {
				return err
			}
		}
		return r.runBox(id)
	})
	if err == nil {
		err = r.reap(id)
	}
	return err
}

func (r *peer) cells() []cell {
	what, id := "delete -f, run -d", r.name+"-again"
	if r.name != "adl" {
		what = "delete -f, mount an overlay, run -d"
	}
	cells := []cell{{
		key:   key{r.p.fs, r.name, what, "empty"},
		run:   func() error { return r.do(func() error { return r.again(id) }) },
		after: func() error { return r.reap(id) },
	}}
	if r.name != "adl" {
		return cells
	}
	for _, mode := range []string{"restart", "keep-init"} {
		c := cell{
			key: key{r.p.fs, r.name, "reset, " + mode, "empty"},
			run: func() error { return r.do(func() error { return r.command("reset", "--"+mode, "adl-"+mode) }) },
		}
		if mode == "restart" {
			c.after = func() error { return r.reap("adl-restart") }
		}
		cells = append(cells, c)
	}
	return cells
}
