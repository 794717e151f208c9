package libsandbox_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"adl.run/adl-runtime/libsandbox"
)

// visit makes a sandbox, uses it and takes back what was done.
func visit(ctx context.Context, config *libsandbox.Config) (report []string, err error) {
	sb, err := libsandbox.New(ctx, config)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, sb.Delete(ctx, &libsandbox.DeleteOptions{Force: true})) }()
	if err := sb.WriteFile("/work/greeting", []byte("hello\n"), nil); err != nil {
		return nil, err
	}
	for _, command := range []string{
		"cat greeting; name=sandbox",           // begins in the working directory
		"echo $name; rm greeting",              // in the same shell
		"cat greeting",                         // fails
		"echo begun; sleep 1000; echo not me!", // takes too long
	} {
		r, err := sb.Run(ctx, command, &libsandbox.RunOptions{Timeout: 500 * time.Millisecond})
		if err != nil {
			return report, err
		}
		report = append(report, fmt.Sprintf("%q, status %d, timed out: %v", r.Stdout, r.ExitStatus, r.TimedOut))
	}
	if err := sb.Reset(ctx, nil); err != nil {
		return report, err
	}
	r, err := sb.Run(ctx, "ls; echo name=$name", nil)
	if err != nil {
		return report, err
	}
	return append(report, fmt.Sprintf("after the reset: %q", r.Stdout)), nil
}

// A sandbox on a directory with a root filesystem, with limits.
func ExampleNew() {
	report, err := visit(context.Background(), &libsandbox.Config{
		Rootfs:     "/srv/rootfs",
		WorkingDir: "/work",
		Resources:  libsandbox.ResourceLimits{CPUs: "0.5", Memory: "512m", Pids: 100},
	})
	fmt.Println(strings.Join(report, "\n"), err)
}

func TestExampleNew(t *testing.T) {
	config := sandboxConfig(t)
	config.WorkingDir = "/work"
	config.Resources = libsandbox.ResourceLimits{CPUs: "0.5", Memory: "512m", Pids: 100}
	report, err := visit(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if r := report[3]; !strings.HasPrefix(r, `"begun\n"`) || !strings.HasSuffix(r, "timed out: true") {
		t.Error(r)
	}
	report[3] = ""
	want := []string{
		`"hello\n", status 0, timed out: false`, `"sandbox\n", status 0, timed out: false`,
		`"", status 1, timed out: false`, "", `after the reset: "name=\n"`,
	}
	if !slices.Equal(report, want) {
		t.Errorf("%q, want %q", report, want)
	}
}

// work gives each of n workers a sandbox of a pool for its task, one after the other.
func work(ctx context.Context, config *libsandbox.Config, workers, sandboxes int) (results []string, err error) {
	pool, err := libsandbox.NewPool(ctx, config, sandboxes, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	results, errs := make([]string, workers), make([]error, workers)
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() {
			sb, err := pool.Get(ctx)
			if err != nil {
				errs[i] = err
				return
			}
			defer pool.Put(sb) // resets it
			r, err := sb.Run(ctx, fmt.Sprintf("ls /tmp/ | wc -l; echo $((%d * %d)) | tee /tmp/result", i, i), nil)
			if err != nil {
				errs[i] = err
				return
			}
			results[i] = strings.Join(strings.Fields(string(r.Stdout)), " ")
		})
	}
	all.Wait()
	return results, errors.Join(errs...)
}

// Thirty-two workers share eight sandboxes. None sees what another has left.
func ExamplePool() {
	config := &libsandbox.Config{Rootfs: "/srv/rootfs", Tmpfs: []string{"/tmp"}}
	results, err := work(context.Background(), config, 32, 8)
	fmt.Println(results, err)
}

func TestExamplePool(t *testing.T) {
	config := sandboxConfig(t)
	config.Tmpfs = []string{"/tmp"}
	began := time.Now()
	results, err := work(t.Context(), config, 32, 8)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range results {
		if want := fmt.Sprintf("0 %d", i*i); r != want {
			t.Errorf("worker %d: %q, want %q", i, r, want)
		}
	}
	t.Logf("32 workers on 8 sandboxes took %v", time.Since(began))
}

// climb looks for the steps that turn 1 into goal. Every state is a snapshot in one
// sandbox, which goes from one to another.
func climb(ctx context.Context, config *libsandbox.Config, goal int) (steps string, err error) {
	sb, err := libsandbox.New(ctx, config)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, sb.Delete(ctx, &libsandbox.DeleteOptions{Force: true})) }()
	if _, err := sb.Run(ctx, "echo 1 >/n; : >/steps", nil); err != nil {
		return "", err
	}
	type state struct {
		name string
		away int
	}
	first, err := sb.Snapshot(ctx, "")
	if err != nil {
		return "", err
	}
	best := []state{{first.Name, goal}}
	for range 5 {
		var found []state
		for _, s := range best {
			for _, step := range []string{"n * 3", "n + 7", "n * n - 1"} {
				if err := sb.Restore(ctx, s.name); err != nil {
					return "", err
				}
				r, err := sb.Run(ctx, fmt.Sprintf("n=$(cat /n); echo $((%s)) | tee /n; echo '%s' >>/steps", step, step), nil)
				if err != nil {
					return "", err
				}
				n, err := strconv.Atoi(strings.TrimSpace(string(r.Stdout)))
				if err != nil {
					return "", err
				}
				snap, err := sb.Snapshot(ctx, "")
				if err != nil {
					return "", err
				}
				found = append(found, state{snap.Name, max(n-goal, goal-n)})
			}
		}
		slices.SortStableFunc(found, func(a, b state) int { return a.away - b.away })
		best = found[:3]
		if best[0].away == 0 {
			break
		}
	}
	if err := sb.Restore(ctx, best[0].name); err != nil {
		return "", err
	}
	raw, err := sb.ReadFile("/steps")
	return strings.TrimSpace(string(raw)), err
}

// A search over states in one sandbox: each is a snapshot to go back to.
func ExampleSandbox_Restore() {
	fmt.Println(climb(context.Background(), &libsandbox.Config{Rootfs: "/srv/rootfs"}, 224))
}

func TestExampleRestore(t *testing.T) {
	steps, err := climb(t.Context(), sandboxConfig(t), 224)
	if want := "n + 7\nn + 7\nn * n - 1"; err != nil || steps != want {
		t.Errorf("steps %q, %v, want %q", steps, err, want)
	}
}

// sandboxConfig is a config on busybox, in a store and a layer root of the test's.
func sandboxConfig(t *testing.T) *libsandbox.Config {
	t.Helper()
	b, layers := sleeper(t, "rm", "ls", "wc", "ps")
	store, err := libsandbox.OpenStore(filepath.Join(b.Dir, "store"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left, err := store.List(); err != nil || len(left) > 0 {
			t.Errorf("%d sandboxes are left, %v", len(left), err)
		}
	})
	return &libsandbox.Config{Store: store, Rootfs: b.Rootfs(), Layer: libsandbox.LayerOptions{Root: layers}}
}
