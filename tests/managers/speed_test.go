package managers

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/tests/harness"
)

// envSpeed is how many times TestSpeed measures everything.
const envSpeed = "MANAGERS_SPEED"

// TestSpeed measures whole commands of managers, on each runtime in turn. podman's run
// must not take longer than on crun.
func TestSpeed(t *testing.T) {
	rounds, _ := strconv.Atoi(os.Getenv(envSpeed))
	if rounds <= 0 {
		t.Skip(envSpeed, " does not say how many rounds to measure")
	}
	need(t, "runc", "crun")
	hideUnified(t)
	p, d := newPodman(t), newContainerd(t)
	runtimes := []string{env.runtime}
	for _, name := range []string{"crun", "runc"} {
		path, err := exec.LookPath(name)
		harness.Must(t, err)
		runtimes = append(runtimes, path)
	}
	times := map[string]map[string][]float64{} // ms, by command and runtime
	for round := range rounds + 1 {            // the first is not counted
		for i := range runtimes {
			runtime := runtimes[(round+i)%len(runtimes)]
			for _, m := range measureManagers(p.on(t, runtime), d.on(t, runtime)) {
				if times[m.what] == nil {
					times[m.what] = map[string][]float64{}
				}
				if round > 0 {
					times[m.what][runtime] = append(times[m.what][runtime], m.ms)
				}
			}
		}
	}
	t.Log(speedTable(runtimes, times))
	if ours, crun := middle(times[podmanRun][runtimes[0]]), middle(times[podmanRun][runtimes[1]]); ours > crun {
		t.Errorf("%s: %.1f ms, %.1f ms on crun", podmanRun, ours, crun)
	}
}

// hideUnified hides cgroup v2 where the layout is hybrid, which crun 1.8 refuses. What
// that crun then writes to the mount point ends with the tmpfs.
func hideUnified(t *testing.T) {
	const unified = "/sys/fs/cgroup/unified"
	if _, err := os.Stat(unified); err != nil {
		return
	}
	harness.Must(t, unix.Mount("hidden", unified, "tmpfs", 0, ""))
	t.Cleanup(func() { harness.Must(t, unix.Unmount(unified, unix.MNT_DETACH)) })
}

// podmanRun is also in the list of measureManagers.
const podmanRun = "podman run --rm"

type measured struct {
	what string
	ms   float64
}

// measureManagers measures each command once.
func measureManagers(p, d client) []measured {
	p.Helper()
	var all []measured
	time1 := func(what string, c client, args ...string) {
		p.Helper()
		start := time.Now()
		c.ok(args...)
		all = append(all, measured{what, float64(time.Since(start).Microseconds()) / 1000})
	}
	const quiet = " --network none"
	time1(podmanRun, p, p.args("run --rm"+quiet, "true")...)
	p.start("speed", quiet, "sleep 1000")
	time1("podman exec", p, "exec", "speed", "true")
	time1("podman rm -f", p, "rm", "-f", "-t", "0", "speed")
	time1("ctr run --rm", d, append(append([]string{"run", "--rm"}, d.create...), image, "speed", "true")...)
	return all
}

// on is a client of podman on another runtime.
func (p *podman) on(t *testing.T, runtime string) client {
	c := p.client(t)
	c.global = append(slices.Clone(c.global), "--runtime", runtime)
	return c
}

// on is a client of containerd on another runtime.
func (d *containerd) on(t *testing.T, runtime string) client {
	c := d.client(t)
	c.create = slices.Clone(c.create)
	c.create[slices.Index(c.create, env.runtime)] = runtime
	return c
}

func middle(list []float64) float64 {
	return slices.Sorted(slices.Values(list))[len(list)/2]
}

func speedTable(runtimes []string, times map[string]map[string][]float64) string {
	var text strings.Builder
	text.WriteString("ms, min / median\n")
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, r := range runtimes {
		fmt.Fprint(w, "\t", filepath.Base(r))
	}
	fmt.Fprintln(w, "\tby crun\tby runc")
	for _, what := range slices.Sorted(maps.Keys(times)) {
		fmt.Fprint(w, what)
		for _, r := range runtimes {
			fmt.Fprintf(w, "\t%.1f / %.1f", slices.Min(times[what][r]), middle(times[what][r]))
		}
		for _, r := range runtimes[1:] {
			fmt.Fprintf(w, "\t%.3f", middle(times[what][runtimes[0]])/middle(times[what][r]))
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	return text.String()
}
