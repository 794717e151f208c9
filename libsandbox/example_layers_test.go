package libsandbox_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox"
	"adl.run/adl-runtime/spec"
)

// node is a container of the search: the state that some steps have led to.
type node struct {
	box  *libsandbox.Sandbox
	away int // from the goal
}

// search looks for the steps that turn 1 into goal. It branches the three best
// containers of each round, and returns the steps of the best one in the end.
func search(ctx context.Context, store *libsandbox.Store, b *spec.Bundle, l *libsandbox.LayerOptions, goal int) (steps string, err error) {
	first, err := store.Run(ctx, "t", b, &libsandbox.CreateOptions{Layer: l})
	if err != nil {
		return "", err
	}
	best := []node{{first, goal}}
	defer func() { err = errors.Join(err, drop(ctx, best)) }()
	if _, err := shell(ctx, first, "echo 1 >/n"); err != nil {
		return "", err
	}
	for round := 0; round < 5 && best[0].away != 0; round++ {
		var found []node
		for _, parent := range best {
			children, err := branch(ctx, parent.box, goal)
			found = append(found, children...)
			if err != nil {
				return "", errors.Join(err, drop(ctx, found))
			}
		}
		slices.SortStableFunc(found, func(a, b node) int { return cmp.Compare(a.away, b.away) })
		// What stands on the layers of a container goes on without it.
		if err := drop(ctx, slices.Concat(best, found[3:])); err != nil {
			return "", err
		}
		best = found[:3]
	}
	return shell(ctx, best[0].box, "cat /steps")
}

// branch makes a container for each step that can follow.
func branch(ctx context.Context, parent *libsandbox.Sandbox, goal int) (children []node, err error) {
	now, err := parent.Snapshot(ctx, "")
	if err != nil {
		return nil, err
	}
	for i, step := range []string{"n * 3", "n + 7", "n * n - 1"} {
		id := fmt.Sprintf("%s.%d", parent.ID(), i)
		box, err := parent.Fork(ctx, id, &libsandbox.ForkOptions{Snapshot: now.Name})
		if err != nil {
			return children, err
		}
		children = append(children, node{box: box})
		out, err := shell(ctx, box, "n=$(cat /n); n=$(("+step+")); echo $n | tee /n; echo '"+step+"' >>/steps")
		if err != nil {
			return children, err
		}
		n, err := strconv.Atoi(out)
		if err != nil {
			return children, err
		}
		children[i].away = max(n-goal, goal-n)
	}
	return children, nil
}

func drop(ctx context.Context, nodes []node) error {
	var errs []error
	for _, n := range nodes {
		errs = append(errs, n.box.Delete(ctx, &libsandbox.DeleteOptions{Force: true}))
	}
	return errors.Join(errs...)
}

// shell runs a script in a container and returns what it prints.
func shell(ctx context.Context, box *libsandbox.Sandbox, script string) (string, error) {
	p, err := box.Process()
	if err != nil {
		return "", err
	}
	p.Args = []string{"sh", "-c", script}
	r, w, err := os.Pipe()
	if err != nil {
		return "", err
	}
	defer r.Close()
	process, err := box.Exec(ctx, p, &libsandbox.ExecOptions{Stdout: w, Stderr: w})
	w.Close()
	if err != nil {
		return "", err
	}
	out, err := io.ReadAll(r)
	if err != nil {
		return "", err
	}
	status, err := process.Wait(ctx)
	if err == nil && status != 0 {
		err = fmt.Errorf("%s: status %d: %s", script, status.ExitStatus(), out)
	}
	return strings.TrimSpace(string(out)), err
}

// A search over states of a container: each is branched as often as there is something
// to try, and the best go on. The bundle's process sleeps, and has a shell beside it.
func Example_treeSearch() {
	store, err := libsandbox.OpenStore("/run/search")
	if err != nil {
		fmt.Println(err)
		return
	}
	bundle, err := spec.Open("bundle")
	if err != nil {
		fmt.Println(err)
		return
	}
	steps, err := search(context.Background(), store, bundle, &libsandbox.LayerOptions{Driver: "overlay"}, 224)
	fmt.Println(steps, err)
}

// TestTreeSearch is the example on a bundle with busybox.
func TestTreeSearch(t *testing.T) {
	b, layers := sleeper(t)
	store, err := libsandbox.OpenStore(filepath.Join(b.Dir, "store"))
	if err != nil {
		t.Fatal(err)
	}
	steps, err := search(t.Context(), store, b, &libsandbox.LayerOptions{Driver: "overlay", Root: layers}, 224)
	if err != nil {
		t.Fatal(err)
	}
	if want := "n + 7\nn + 7\nn * n - 1"; steps != want {
		t.Errorf("steps %q, want %q", steps, want)
	}
	if left, err := store.List(); err != nil || len(left) > 0 {
		t.Errorf("%d containers are left, %v", len(left), err)
	}
}

// sleeper makes a bundle of busybox that sleeps, and a layer root: a tmpfs, as the
// temporary directory may be on an overlay, which takes no layers.
func sleeper(t *testing.T, applets ...string) (b *spec.Bundle, layers string) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes containers")
	}
	busybox, err := os.ReadFile("/usr/bin/busybox")
	if err != nil {
		t.Skip("needs busybox-static: " + err.Error())
	}
	dir := t.TempDir()
	bin := filepath.Join(dir, "rootfs/bin")
	s := spec.Default(false)
	s.Process.Args, s.Process.Terminal = []string{"sleep", "1000"}, false
	s.Root.Readonly = false
	raw, err := json.Marshal(s)
	err = errors.Join(err, os.MkdirAll(bin, 0o755), os.WriteFile(filepath.Join(dir, "config.json"), raw, 0o644))
	for _, name := range append(applets, "sh", "cat", "tee", "sleep") {
		err = errors.Join(err, os.WriteFile(filepath.Join(bin, name), busybox, 0o755))
	}
	layers = filepath.Join(dir, "layers")
	err = errors.Join(err, os.Mkdir(layers, 0o700), unix.Mount("tmpfs", layers, "tmpfs", 0, "mode=700"))
	t.Cleanup(func() { _ = unix.Unmount(layers, unix.MNT_DETACH) })
	if err != nil {
		t.Fatal(err)
	}
	if b, err = spec.Open(dir); err != nil {
		t.Fatal(err)
	}
	return b, layers
}
