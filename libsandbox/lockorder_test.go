package libsandbox

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// TestWaitForCreation: a call that waits for a container in the making holds nothing
// meanwhile that others want, above all not what a reset wants which gets the container's
// lock before it.
func TestWaitForCreation(t *testing.T) {
	const soon = lockTimeout / 2
	for name, call := range map[string]func(*Sandbox) error{
		"Process": func(sb *Sandbox) error { _, err := sb.Process(); return err },
		"Exec": func(sb *Sandbox) error {
			_, err := sb.Exec(t.Context(), &specs.Process{Args: []string{"busybox", "true"}, Env: []string{"PATH=/bin"}, Cwd: "/"}, nil)
			return err
		},
		"ReadFile":   func(sb *Sandbox) error { _, err := sb.ReadFile("/first"); return err },
		"generation": func(sb *Sandbox) error { sb.generation(); return nil },
		"Signal":     func(sb *Sandbox) error { return sb.Signal(0, false) },
	} {
		t.Run(name, func(t *testing.T) {
			store := &Store{root: t.TempDir()}
			loaded := make(chan *Sandbox)
			goOn := make(chan struct{})
			store.step = func(step string) {
				if step != "recorded" {
					return
				}
				sb, err := (&Store{root: store.root}).Load("c")
				if err != nil {
					t.Error(err)
				}
				loaded <- sb
				<-goOn
			}
			go func() {
				sb := <-loaded
				results := make(chan error, 2)
				go func() { results <- call(sb) }()
				time.Sleep(50 * time.Millisecond) // for it to begin to wait
				free := make(chan struct{})
				go func() { sb.Jobs(); close(free) }()
				select {
				case <-free:
				case <-time.After(soon):
					t.Error("the sandbox cannot be used while a call waits")
				}
				go func() { results <- sb.Reset(t.Context(), &ResetOptions{Mode: ResetKeepInit}) }()
				time.Sleep(50 * time.Millisecond)
				close(goOn)
				for range cap(results) {
					select {
					case err := <-results:
						// By the reset.
						killed := errors.Is(err, ErrNotRunning) || errors.Is(err, ErrPaused) || errors.Is(err, errExecDied)
						if err != nil && !killed {
							t.Error(err)
						}
					case <-time.After(soon):
						t.Error("a call still waits although the container is made")
					}
				}
				close(loaded)
			}()
			runLayered(t, store, "c", sleeping(t, nil), nil)
			<-loaded
		})
	}
}

// TestLookDuringReset: whoever looks at a container while it is reset by the same Sandbox
// finds a container, before or after. With the race detector it is also a test that nobody
// reads what a reset is writing.
func TestLookDuringReset(t *testing.T) {
	l := newBox(t, boxed(t))
	done := make(chan struct{})
	var all sync.WaitGroup
	for name, look := range map[string]func() error{
		"signal":     func() error { return l.Signal(0, false) },
		"signal all": func() error { return l.Signal(0, true) },
		"stats":      func() error { _, err := l.Stats(); return err },
		"processes":  func() error { _, err := l.Processes(); return err },
		"console":    func() error { l.Console(); return nil },
		"state": func() error {
			s, err := l.State()
			if err == nil && (s.Rootfs == "" || s.Status == specs.StateCreating || l.Pid() == 0) {
				err = fmt.Errorf("%+v", s)
			}
			return err
		},
	} {
		all.Go(func() {
			for {
				if err := look(); err != nil && !errors.Is(err, ErrNotRunning) {
					t.Errorf("%s: %v", name, err)
				}
				select {
				case <-done:
					return
				case <-time.After(time.Millisecond):
				}
			}
		})
	}
	for range 5 {
		l.reset(ResetRestart)
		l.reset(ResetKeepInit)
	}
	close(done)
	all.Wait()
	l.gone()
}
