package libsandbox

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"adl.run/adl-runtime/libsandbox/internal/program"
)

// needFill skips where mounts cannot be made ahead.
func needFill(t *testing.T) {
	t.Helper()
	f, err := kernelFacts()
	if err != nil {
		t.Fatal(err)
	}
	if !f.ProcOfOthers {
		t.Skip("procfs takes no option pidns: Linux 6.17 does")
	}
}

// awaitFill waits for the layer of the next reset and its mounts.
func (l *layered) awaitFill() {
	l.t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		l.mu.Lock()
		done, failed := l.ahead.filled != nil, l.noFill
		l.mu.Unlock()
		if failed {
			l.t.Fatal("the mounts could not be made ahead")
		}
		if done {
			return
		}
	}
	l.t.Fatal("no mounts were made ahead")
}

// resetOps resets the container and returns how many ops the program had.
func (l *layered) resetOps(mode ResetMode) (ops int) {
	l.t.Helper()
	store := &Store{root: l.store.root} // the background reads the other
	store.tamper = func(p *program.Program) { ops = max(ops, len(p.Ops)) }
	sb, err := store.Load(l.id)
	if err != nil {
		l.t.Fatal(err)
	}
	l.mu.Lock()
	sb.ahead, l.ahead = l.ahead, ahead{}
	l.mu.Unlock()
	if err := sb.Reset(l.t.Context(), &ResetOptions{Mode: mode}); err != nil {
		l.t.Fatal(err)
	}
	l.mu.Lock()
	l.rec, l.read = sb.rec, sb.read
	l.mu.Unlock()
	return ops
}

// dropSpare gives up the layer that was made ahead.
func (l *layered) dropSpare() {
	l.t.Helper()
	e, err := l.store.lock(l.id)
	if err != nil {
		l.t.Fatal(err)
	}
	defer e.close()
	root, err := l.rec.Layer.open()
	if err != nil {
		l.t.Fatal(err)
	}
	spare, err := root.Load(e.spare())
	if err != nil {
		l.t.Fatal(err)
	}
	r := &resetting{entry: e, next: spare, ahead: l.take(&l.Sandbox.ahead, spare.Key())}
	r.dropAhead()
}

func TestFillAhead(t *testing.T) {
	needFill(t)
	dir := t.TempDir()
	hosts := filepath.Join(dir, "hosts")
	if err := os.WriteFile(hosts, []byte("first"), 0o644); err != nil {
		t.Fatal(err)
	}
	l := runLayered(t, &Store{root: t.TempDir()}, "fill", sleeping(t, func(s *specs.Spec) {
		s.Mounts = append(s.Mounts,
			specs.Mount{Destination: "/hosts", Type: "bind", Source: hosts, Options: []string{"bind", "ro"}},
			specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"ro", "nosuid"}})
		s.Linux.Sysctl = map[string]string{"kernel.msgmax": "4096"}
	}), nil)
	view := `busybox cat /proc/self/mountinfo | busybox cut -d' ' -f4- | busybox sed 's/[us]*[a-z]*dir+*=[^, ]*//g; s/master:[0-9]*//' | busybox sort
busybox ls -lR /dev | busybox sed 's/ [A-Z][a-z][a-z] .*:.. / /'; hostname; cat /proc/sys/kernel/msgmax /hosts; busybox ps -o pid,args | busybox grep [s]leep`
	first := l.sh(view)
	for _, test := range []struct {
		mode ResetMode
		most int
	}{{ResetKeepInit, 80}, {ResetRestart, 360}} {
		l.reset(test.mode)
		l.awaitFill()
		_, _ = l.try(spoil)
		if n := l.resetOps(test.mode); n > test.most {
			t.Errorf("%s: %d ops: the mounts were made by the reset", test.mode, n)
		}
		if d := cmp.Diff(strings.Split(first, "\n"), strings.Split(l.sh(view), "\n")); d != "" {
			t.Errorf("%s: -at first +after the reset\n%s", test.mode, d)
		}
		if got := l.sh(look); got != l.sh(look) || !strings.HasPrefix(got, "first\nbelow\n") || strings.Contains(got, "junk") {
			t.Errorf("%s: %s", test.mode, got)
		}
	}
	l.gone()
}

// TestFillStale: what was made ahead is not used when it is not what would be made now.
func TestFillStale(t *testing.T) {
	needFill(t)
	for name, test := range map[string]struct {
		change func(t *testing.T, l *layered, hosts string)
		mode   ResetMode
	}{
		"another source": {func(t *testing.T, _ *layered, hosts string) {
			if err := os.WriteFile(hosts+".new", []byte("second"), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(hosts+".new", hosts); err != nil {
				t.Fatal(err)
			}
		}, ResetKeepInit},
		"restart": {func(*testing.T, *layered, string) {}, ResetRestart},
	} {
		t.Run(name, func(t *testing.T) {
			hosts := filepath.Join(t.TempDir(), "hosts")
			if err := os.WriteFile(hosts, []byte("first"), 0o644); err != nil {
				t.Fatal(err)
			}
			l := runLayered(t, &Store{root: t.TempDir()}, "stale", sleeping(t, func(s *specs.Spec) {
				s.Mounts = append(s.Mounts, specs.Mount{Destination: "/hosts", Type: "bind", Source: hosts, Options: []string{"bind"}})
			}), nil)
			l.reset(ResetKeepInit)
			l.awaitFill()
			test.change(t, l, hosts)
			want, err := os.ReadFile(hosts)
			if err != nil {
				t.Fatal(err)
			}
			if n := l.resetOps(test.mode); n < 80 {
				t.Errorf("%d ops: what was made ahead was used", n)
			}
			if got := l.sh("cat /hosts; busybox ps -o args | busybox grep -c [s]leep"); got != string(want)+"1" {
				t.Errorf("got %q, want %q and one process", got, want)
			}
			l.gone()
		})
	}
}

// TestFillEachOpFails makes each op fail of the program that makes the mounts ahead. Then
// there is no layer ahead, and nothing of one; a reset works all the same.
func TestFillEachOpFails(t *testing.T) {
	needFill(t)
	var notes []string
	n := 1
	store := &Store{root: t.TempDir(), tamperFill: func(p *program.Program) {
		notes = nil
		for i := range p.Ops {
			notes = append(notes, p.Texts[p.Ops[i].Note])
		}
		p.Ops[n] = failing(p.Ops[n])
	}}
	l := runLayered(t, store, "fill", sleeping(t, nil), nil)
	l.wanted = wanted{reset: true, mode: ResetKeepInit}
	l.prepareNext()
	before := lookAtHost(t, store.root)
	failed := 0
	for n = 2; n < len(notes); n++ {
		l.noFill = false
		l.prepareNext()
		if l.ahead.filled != nil { // not every failure is one
			l.dropSpare()
			continue
		}
		failed++
		if l.ahead.mount != nil {
			t.Fatalf("op %d (%s): a mount is left", n, notes[n])
		}
		if names, err := filepath.Glob(store.root + "/fill/*"); err != nil || slices.Contains(names, store.root+"/fill/"+spareFile) {
			t.Fatalf("op %d (%s): a layer is left: %v, %v", n, notes[n], names, err)
		}
		for n+1 < len(notes) && notes[n+1] == notes[n] && n%5 != 0 {
			n++ // not all of one note
		}
	}
	if failed < 60 {
		t.Errorf("only %d ops failed", failed)
	}
	before.compare(t, lookAtHost(t, store.root))
	if names, err := os.ReadDir(filepath.Join(l.root, "layers")); err != nil || len(names) != 1 {
		t.Errorf("layers: %v, %v", names, err)
	}
	l.sh(spoil)
	l.Sandbox.store = &Store{root: store.root}
	l.reset(ResetKeepInit)
	if got := l.sh(look); !strings.HasPrefix(got, "first\nbelow\n") {
		t.Errorf("after the reset: %s", got)
	}
	l.gone()
}

// TestPrepareNextOfAnother: nothing is made ahead for another container that has been
// given the id.
func TestPrepareNextOfAnother(t *testing.T) {
	store := &Store{root: t.TempDir()}
	l := runLayered(t, store, "id", sleeping(t, nil), nil)
	l.gone()
	other := runLayered(t, store, "id", sleeping(t, nil), nil)
	l.wanted = wanted{reset: true, mode: ResetKeepInit}
	l.prepareNext()
	if _, err := os.Stat(filepath.Join(store.root, "id", spareFile)); !os.IsNotExist(err) || l.ahead.layer != nil {
		t.Errorf("a layer was made: %v", err)
	}
	other.wanted = wanted{reset: true, mode: ResetKeepInit}
	other.prepareNext()
	if other.ahead.layer == nil {
		t.Error("no layer was made for the one whose container it is")
	}
	other.gone()
}
