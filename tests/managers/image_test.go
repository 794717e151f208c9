package managers

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// image is the name of the test image: a static busybox and nothing else. It is
// the pause image too.
const image = "localhost/box:1"

// writeImage writes the image in the format of `docker save`, which podman, ctr and
// Docker load without a network.
func writeImage(path string) error {
	layer, err := layer()
	if err != nil {
		return err
	}
	sum := sha256.Sum256(layer)
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux",
		"config": map[string]any{
			"Env": []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			"Cmd": []string{"sleep", "1000"},
		},
		"history": []map[string]any{{"created_by": "the tests"}}, // buildah counts them
		"rootfs":  map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}},
	})
	if err != nil {
		return err
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{image}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	a := newArchive()
	a.file("config.json", 0o644, config)
	a.file("layer.tar", 0o644, layer)
	a.file("manifest.json", 0o644, manifest)
	data, err := a.bytes()
	if err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// layer is the image's root file system.
func layer() ([]byte, error) {
	busybox, err := findBusybox()
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile(busybox)
	if err != nil {
		return nil, err
	}
	names, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		return nil, err
	}
	a := newArchive()
	for _, d := range []string{"bin", "dev", "etc", "home", "proc", "root", "sys", "usr", "var"} {
		a.add(&tar.Header{Name: d + "/", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	}
	a.add(&tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}, nil)
	a.file("bin/busybox", 0o755, program)
	for name := range strings.FieldsSeq(string(names)) {
		if name != "busybox" {
			a.add(&tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}, nil)
		}
	}
	a.file("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home:/bin/sh\n"))
	a.file("etc/group", 0o644, []byte("root:x:0:\nuser:x:1000:\nextra:x:2000:user\n"))
	a.file("etc/noexec", 0o644, []byte("not a program\n"))
	return a.bytes()
}

func findBusybox() (string, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return "", err
	}
	if exec.Command("ldd", path).Run() == nil {
		return "", fmt.Errorf("%s is not static (Debian: busybox-static)", path)
	}
	return path, nil
}

// archive is a tar archive in memory; its error is that of the first failure.
type archive struct {
	buf bytes.Buffer
	w   *tar.Writer
	err error
}

func newArchive() *archive {
	a := &archive{}
	a.w = tar.NewWriter(&a.buf)
	return a
}

func (a *archive) add(h *tar.Header, content []byte) {
	h.Size = int64(len(content))
	err := a.w.WriteHeader(h)
	if err == nil {
		_, err = a.w.Write(content)
	}
	a.err = errors.Join(a.err, err)
}

func (a *archive) file(name string, mode int64, content []byte) {
	a.add(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: mode}, content)
}

func (a *archive) bytes() ([]byte, error) {
	err := errors.Join(a.err, a.w.Close())
	return a.buf.Bytes(), err
}
