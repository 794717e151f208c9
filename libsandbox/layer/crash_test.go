package layer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// killed is what a step panics with: the goroutine ends as if the process had been
// killed, but for its descriptors, which the kernel would have closed.
type killed struct{}

// until calls f with a root that is killed after n steps, and says which was the last,
// or "" where f came to its end.
func until(r *Root, n int, f func(r *Root) error) (last string, err error) {
	victim := *r
	victim.step = func(did string) {
		if n--; n == 0 {
			last = did
			panic(killed{})
		}
	}
	defer func() {
		if p := recover(); p != nil && p != (killed{}) {
			panic(p)
		}
	}()
	return "", f(&victim)
}

// collect does what a garbage collector does once all owners are gone.
func collect(r *Root) error {
	for range 20 { // each round frees what stood on the last one's
		all, err := r.Layers()
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return r.Empty(context.Background(), Pace{})
		}
		for i := range all {
			if err := judge(r, &all[i], all); err != nil {
				return err
			}
		}
	}
	return errors.New("layers do not become fewer")
}

func judge(r *Root, m *Meta, all []Meta) error {
	if m.Owner.ID == "" {
		return fmt.Errorf("layer %s has no owner", m.Key)
	}
	for _, user := range m.Users {
		key, isLayer := strings.CutPrefix(user, layerUser)
		exists := slices.ContainsFunc(all, func(m Meta) bool { return m.Key == key })
		if isLayer && exists {
			continue
		}
		if err := r.Release(m.Key, user); err != nil {
			return err
		}
	}
	l, err := r.Load(m.Key)
	if errors.Is(err, ErrNotExist) {
		return nil
	}
	if err == nil {
		err = l.Discard()
	}
	if errors.Is(err, ErrInUse) {
		return nil
	}
	return err
}

// everything is a life of layers in which each system call of the package occurs.
func everything(f *fixture) func(r *Root) error {
	return func(r *Root) error {
		first, err := r.New(&f.config)
		if err != nil {
			return err
		}
		for _, name := range []string{"b", "a"} {
			if err := os.WriteFile(filepath.Join(written(first), name), []byte("written by a container"), 0o600); err != nil {
				return err
			}
		}
		kept := first
		if f.config.Driver == Btrfs {
			if err := subvolume(filepath.Join(written(first), "sub")); err != nil {
				return err
			}
			kept, err = first.Snapshot()
		} else {
			err = first.Commit()
		}
		if err != nil {
			return err
		}
		if err := r.Hold(kept.Key(), "named"); err != nil {
			return err
		}
		second, err := first.Next(on(kept))
		if err != nil {
			return err
		}
		third := second
		if f.config.Driver == Overlay {
			third, _, err = second.Copy()
			if err == nil {
				err = r.Hold(third.Key(), "copy")
			}
			if err != nil {
				return err
			}
		}
		fork := Config{Driver: f.config.Driver, UserXattr: f.config.UserXattr, Size: f.config.Size, Owner: Owner{"/s", "c2"}, Parents: on(kept)}
		fourth, err := r.New(&fork)
		if err != nil {
			return err
		}
		for _, l := range []*Layer{second, fourth} {
			if err := l.Discard(); err != nil {
				return err
			}
		}
		if err := r.Empty(context.Background(), Pace{}); err != nil {
			return err
		}
		if f.config.Driver == Overlay {
			if err := r.Release(third.Key(), "copy"); err != nil {
				return err
			}
		} else if err := first.Discard(); err != nil {
			return err
		}
		if err := r.Release(kept.Key(), "named"); err != nil {
			return err
		}
		if _, err := r.Layers(); err != nil {
			return err
		}
		return r.Empty(context.Background(), Pace{})
	}
}

// TestKilledAtEveryStep: whatever step a process dies at, the layers that are left can
// be told and taken away, and then nothing is left.
func TestKilledAtEveryStep(t *testing.T) {
	eachKind(t, func(t *testing.T, f *fixture) {
		lower := look(t, f.lower, true)
		seen := map[string]bool{}
		for n := 1; ; n++ {
			last, err := until(f.root, n, everything(f))
			if err != nil {
				t.Fatalf("without being killed: %v", err)
			}
			if err := collect(f.root); err != nil {
				t.Fatalf("after %q (step %d): %v", last, n, err)
			}
			f.nothingLeft()
			if t.Failed() {
				t.Fatalf("after %q (step %d)", last, n)
			}
			if last == "" {
				t.Logf("%d steps", n-1)
				break
			}
			seen[last] = true
		}
		for _, step := range []string{"mkdir layer", "create layer.json", "write layer.json", "add user", "mkdir users", "rmdir users", "remove user", "trash layer"} {
			if !seen[step] {
				t.Errorf("no step %q in %v", step, seen)
			}
		}
		sameTree(t, "the lower directory", lower, look(t, f.lower, true))
	})
}

// TestRemains: a directory whose maker was killed before it had a layer.json is left
// alone as long as anybody makes a layer.
func TestRemains(t *testing.T) {
	needRoot(t)
	f := newFixture(t, &kinds()[1])
	f.check(f.new().Discard())
	dir := filepath.Join(f.root.dir, layersDir, "0123456789abcdef")
	f.check(os.Mkdir(dir, 0o700))
	u, err := f.root.use()
	f.check(err)
	all, err := f.root.Layers()
	if len(all) != 0 || err != nil {
		t.Errorf("layers %v, %v", all, err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("swept while a layer is being made: %v", err)
	}
	u.close()
	_, err = f.root.Layers()
	f.check(err)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("not swept: %v", err)
	}
	f.empty()
	f.nothingLeft()
}

// Set for the process that TestKill kills.
const (
	victimRoot  = "LAYER_TEST_VICTIM_ROOT"
	victimLower = "LAYER_TEST_VICTIM_LOWER"
)

// victim makes and discards layers until it is killed.
func victim(dir, lower string) {
	r, err := Open(dir)
	for err == nil {
		f := fixture{root: r, config: Config{Driver: Overlay, Lowers: []string{lower}, Owner: Owner{"/s", "c"}}}
		err = everything(&f)(r)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestKill is TestKilledAtEveryStep by SIGKILL.
func TestKill(t *testing.T) {
	needRoot(t)
	f := newFixture(t, &kinds()[1])
	for n := range 25 {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), victimRoot+"="+f.root.dir, victimLower+"="+f.lower)
		cmd.Stderr = os.Stderr
		f.check(cmd.Start())
		time.Sleep(time.Duration(20+n*3) * time.Millisecond)
		f.check(cmd.Process.Kill())
		_ = cmd.Wait()
		if status := cmd.ProcessState.Sys().(interface{ Signal() unix.Signal }).Signal(); status != unix.SIGKILL {
			t.Fatalf("it ended before it was killed: %v", cmd.ProcessState)
		}
		f.check(collect(f.root))
		f.nothingLeft()
	}
}
