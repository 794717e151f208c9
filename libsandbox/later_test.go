package libsandbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// laterOut is in the environment of this program where it is to start itself later and to
// end after so long; what it starts writes to a file that the argument names.
const laterOut = "LIBSANDBOX_TEST_LATER"

func TestMain(m *testing.M) {
	var err error
	switch {
	case len(os.Args) == 3 && os.Args[1] == "-later":
		err = laterMain(os.Args[2])
	case os.Getenv(laterOut) != "":
		err = startLater(os.Args[1])
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func startLater(file string) error {
	life, err := time.ParseDuration(os.Getenv(laterOut))
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	if err := execLater([]string{"later", "-later", file}, []*os.File{w}); err != nil {
		return err
	}
	time.Sleep(life)
	return nil
}

// TestExecLater: the other process begins when this one has ended, or soon after where it
// lives on, with nothing of its environment and descriptors.
func TestExecLater(t *testing.T) {
	for _, life := range []time.Duration{10 * time.Millisecond, 10 * latest} {
		t.Run(fmt.Sprint(life), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "out")
			cmd := exec.Command(os.Args[0], file)
			cmd.Env = append(os.Environ(), laterOut+"="+life.String())
			cmd.Stderr = os.Stderr
			began := time.Now()
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			var text string
			for time.Since(began) < 20*time.Second && !strings.HasSuffix(text, "end\n") {
				raw, _ := os.ReadFile(file)
				text = string(raw)
				time.Sleep(time.Millisecond)
			}
			select {
			case err := <-ended:
				if err != nil {
					t.Error(err)
				}
				if life > latest {
					t.Error("it waited for the end")
				}
			default:
				if life < latest {
					t.Error("it did not wait for the end")
				}
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
			if want := "environment []\ndescriptors 0\nend\n"; text != want {
				t.Errorf("%q, want %q", text, want)
			}
		})
	}
}

// laterMain tells what it finds.
func laterMain(file string) error {
	var inherited int
	for fd := 3; fd < 64; fd++ {
		if link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil && strings.HasPrefix(link, "pipe:") {
			inherited++
		}
	}
	text := fmt.Sprintf("environment %v\ndescriptors %d\nend\n", os.Environ(), inherited)
	return os.WriteFile(file, []byte(text), 0o600)
}
