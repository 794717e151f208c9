package main

import (
	"archive/tar"
	"compress/gzip"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

const suite = "github.com/opencontainers/runtime-tools"

// buildTools builds the validation programs, runtimetest, the shim and the
// rootfs into opts.build, and returns the names of the programs to run, sorted.
func buildTools(opts options) ([]string, error) {
	packages, err := goTool(opts, "list", "-f", `{{if eq .Name "main"}}{{.ImportPath}}{{end}}`, suite+"/validation/...")
	if err != nil {
		return nil, err
	}
	list := strings.Fields(packages)
	if len(list) == 0 {
		return nil, errors.New("the suite has no programs")
	}
	programs, tools := filepath.Join(opts.build, "programs"), filepath.Join(opts.build, "tools")
	for _, dir := range []string{programs, tools} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	if err := goBuild(opts, programs, list...); err != nil {
		return nil, err
	}
	if err := goBuild(opts, tools, suite+"/cmd/runtimetest", "./shim"); err != nil {
		return nil, err
	}
	if err := writeRootfs(rootfsPath(opts)); err != nil {
		return nil, fmt.Errorf("rootfs: %w", err)
	}
	return selectPrograms(list, opts), nil
}

func selectPrograms(packages []string, opts options) []string {
	var names []string
	for _, p := range packages {
		if name := path.Base(p); opts.only == nil || opts.only.MatchString(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func goBuild(opts options, dir string, packages ...string) error {
	args := append([]string{"build", "-trimpath", "-ldflags=-s -w", "-o", dir + "/"}, packages...)
	_, err := goTool(opts, args...)
	return err
}

// goTool runs the go command in this module without cgo, so that runtimetest
// is static and can run in the rootfs.
func goTool(opts options, args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = filepath.Join(opts.repo, "tests", "conformance")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "", fmt.Errorf("go %s: %w\n%s", args[0], err, exit.Stderr)
	}
	return string(out), err
}

// rootfsPath is where the programs' helper wants its archive: this name, in
// the working directory.
func rootfsPath(opts options) string {
	return filepath.Join(opts.build, "rootfs-"+runtime.GOARCH+".tar.gz")
}

// writeRootfs makes the archive that every validation program unpacks as its
// bundle: a static busybox, links for some of its applets, and the directories that the default
// mounts cover.
func writeRootfs(name string) error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("%w (it is the package busybox-static)", err)
	}
	if err := checkStatic(busybox); err != nil {
		return err
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	zip, _ := gzip.NewWriterLevel(f, gzip.BestSpeed)
	w := tar.NewWriter(zip)
	return errors.Join(fillRootfs(w, busybox), w.Close(), zip.Close())
}

func checkStatic(name string) error {
	f, err := elf.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is not static (install busybox-static)", name)
		}
	}
	return nil
}

func fillRootfs(w *tar.Writer, busybox string) error {
	for _, dir := range []string{"./", "./bin/", "./dev/", "./etc/", "./proc/", "./sys/"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}); err != nil {
			return err
		}
	}
	if err := addText(w, "./etc/passwd", "root:x:0:0:root:/:/bin/sh\n"); err != nil {
		return err
	}
	if err := addText(w, "./etc/group", "root:x:0:\ntty:x:5:\n"); err != nil {
		return err
	}
	// What the programs use; each of them unpacks this several times.
	for _, a := range []string{"cat", "echo", "false", "ls", "sh", "sleep", "touch", "true"} {
		link := &tar.Header{Typeflag: tar.TypeSymlink, Name: "./bin/" + a, Linkname: "busybox", Mode: 0o777}
		if err := w.WriteHeader(link); err != nil {
			return err
		}
	}
	return addFile(w, "./bin/busybox", busybox)
}

func addText(w *tar.Writer, name, text string) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(text))}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.WriteString(w, text)
	return err
}

func addFile(w *tar.Writer, name, source string) error {
	f, err := os.Open(source)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: info.Size()}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}
