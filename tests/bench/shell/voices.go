package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"adl.run/adl-runtime/spec"
)

// piped is a program that is spoken with through its stdin and stdout.
type piped struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	run func(text string, want int) error
}

func startPiped(cmd *exec.Cmd) (p *piped, err error) {
	p = &piped{cmd: cmd}
	cmd.Stderr = os.Stderr
	if p.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReaderSize(out, 256<<10)
	return p, cmd.Start()
}

// close ends it by the end of its input.
func (p *piped) close() error { return errors.Join(p.in.Close(), p.cmd.Wait()) }

// startCoprocess starts `shell --json` for the first sandbox.
func (b *bench) startCoprocess() (*piped, error) {
	p, err := startPiped(exec.Command(b.o.paths["adl"], "--root", b.storeRoot(), "shell", "--json", "box0"))
	if err == nil {
		p.run = p.request
	}
	return p, err
}

// request has a command run by the co-process. It does not decode the answer.
func (p *piped) request(text string, want int) error {
	q, err := json.Marshal(map[string]string{"command": text})
	if err == nil {
		_, err = p.in.Write(append(q, '\n'))
	}
	if err != nil {
		return err
	}
	var size int
	var line []byte // its last piece
	first, more := true, true
	for more {
		if line, more, err = p.out.ReadLine(); err != nil {
			return err
		}
		if first && !bytes.Contains(line, []byte(`"status":0`)) {
			return fmt.Errorf("answer %.300q", line)
		}
		first = false
		size += len(line)
	}
	if size < want || size > want+want/10+1000 { // line ends are escaped
		return fmt.Errorf("an answer of %d bytes to %q", size, text)
	}
	return nil
}

func (b *bench) coprocessSession() error {
	p, err := b.startCoprocess()
	if err != nil {
		return err
	}
	return errors.Join(p.run(builtin, 0), p.close())
}

// startBare starts a bash that is no sandbox's.
func (b *bench) startBare() (*piped, error) {
	cmd := exec.Command(b.o.paths["bash"], "--norc", "--noprofile")
	cmd.Env = []string{"PATH=/usr/bin", "data=" + filepath.Join(b.rootfs(), "data")}
	p, err := startPiped(cmd)
	if err == nil {
		p.run = p.line
	}
	return p, err
}

// line has a command run by a bash.
func (p *piped) line(text string, want int) error {
	const end = "status 0\n"
	if _, err := io.WriteString(p.in, text+"\necho status $?\n"); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, p.out, int64(want)); err != nil {
		return err
	}
	if line, err := p.out.ReadString('\n'); err != nil || line != end {
		return fmt.Errorf("%q, %v", line, err)
	}
	return nil
}

func (b *bench) bareSession() error {
	p, err := b.startBare()
	if err != nil {
		return err
	}
	return errors.Join(p.run(builtin, 0), p.close())
}

// command runs a program whose output has a certain length.
func command(want int, argv ...string) error {
	cmd := exec.Command(argv[0], argv[1:]...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	switch {
	case err != nil:
		return fmt.Errorf("%q: %w: %s", argv, err, stderr.String())
	case len(out) != want && want >= 0:
		return fmt.Errorf("%q: %d bytes, %s", argv, len(out), stderr.String())
	}
	return nil
}

// verb runs our command; its output does not matter.
func (b *bench) verb(args ...string) error {
	return command(-1, append([]string{b.o.paths["adl"], "--root", b.storeRoot()}, args...)...)
}

func (b *bench) commandLine(text string, want int) error {
	return command(want, b.o.paths["adl"], "--root", b.storeRoot(), "shell", "box0", "--", text)
}

// peers makes the containers of other runtimes.
func (b *bench) peers() error {
	for _, name := range []string{"crun", "runc"} {
		path := b.o.paths[name]
		if path == "" {
			continue
		}
		dir, err := b.bundle(name)
		if err != nil {
			return err
		}
		root := filepath.Join(b.base, "store-"+name)
		if err := quiet(path, "--root", root, "run", "-d", "-b", dir, name); err != nil {
			return err
		}
		b.later(func() error { return quiet(path, "--root", root, "delete", "-f", name) })
		b.voices = append(b.voices, &voice{name + " exec", func(text string, want int) error {
			return command(want, path, "--root", root, "exec", name, "sh", "-c", text)
		}, 1})
	}
	if path := b.o.paths["podman"]; path != "" {
		b.podman(path)
	}
	return nil
}

// quiet runs a command whose children keep its outputs.
func quiet(argv ...string) error {
	said, err := os.CreateTemp("", "bench-shell-")
	if err != nil {
		return err
	}
	defer os.Remove(said.Name())
	defer said.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(said.Name())
		return fmt.Errorf("%q: %w: %s", argv, err, text)
	}
	return nil
}

// bundle writes the bundle of a container that sleeps, and returns its directory.
func (b *bench) bundle(id string) (string, error) {
	s := spec.Default(false)
	s.Version = "1.0.2" // crun 1.8 knows no newer one
	s.Process.Args, s.Process.Terminal = []string{"/bin/sleep", "100000"}, false
	s.Process.Env = append(s.Process.Env, "data=/data")
	s.Root.Path, s.Root.Readonly = b.rootfs(), false
	s.Linux.CgroupsPath = "/" + b.cgroup + "/" + id
	s.Mounts = append(s.Mounts, bindUsr())
	raw, err := json.Marshal(s)
	dir := filepath.Join(b.base, "bundle-"+id)
	if err == nil {
		err = os.Mkdir(dir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), raw, 0o644)
	}
	return dir, err
}

// podman starts a container of podman's. Where that fails, it is left out.
func (b *bench) podman(path string) {
	state := filepath.Join(b.base, "podman")
	global := []string{
		path, "--root", state + "/root", "--runroot", state + "/run", "--tmpdir", state + "/tmp",
		"--cgroup-manager", "cgroupfs", "--events-backend", "none",
	}
	for _, r := range []string{"crun", "runc"} {
		if b.o.paths[r] != "" {
			global = append(global, "--runtime", b.o.paths[r])
			break
		}
	}
	with := func(args ...string) []string { return append(global[:len(global):len(global)], args...) }
	const id = "adl-bench-shell"
	err := quiet(with("run", "-d", "--name", id, "--network", "none", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "-v", "/usr:/usr:ro", "-e", "data=/data",
		"--cgroup-parent", "/"+b.cgroup, "--rootfs", b.rootfs(), "/bin/sleep", "100000")...)
	b.later(func() error {
		if err != nil {
			_ = quiet(with("rm", "-f", "-t", "0", id)...) // what there is of it
			return nil
		}
		return quiet(with("rm", "-f", "-t", "0", id)...)
	})
	if err != nil {
		b.rep.note("podman is left out: " + strings.ReplaceAll(err.Error(), "\n", " "))
		return
	}
	b.voices = append(b.voices, &voice{"podman exec", func(text string, want int) error {
		return command(want, with("exec", id, "sh", "-c", text)...)
	}, 1})
}
