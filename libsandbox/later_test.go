package libsandbox

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// laterAfter is in the environment of this program where it is to start itself later, after
// so long at the latest; what it starts writes to the file that the argument names.
const laterAfter = "LIBSANDBOX_TEST_LATER"

func TestMain(m *testing.M) {
	var err error
	switch {
	case len(os.Args) == 4 && os.Args[1] == "-later":
		err = laterMain(os.Args[2], os.Args[3])
	case os.Getenv(laterAfter) != "":
		err = startLater(os.Args[1])
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// startLater goes on until its standard input ends.
func startLater(file string) error {
	latest, err := time.ParseDuration(os.Getenv(laterAfter))
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	if err := execLater([]string{"later", "-later", file, strconv.Itoa(os.Getpid())}, []*os.File{w}, latest); err != nil {
		return err
	}
	_, err = os.Stdin.Read(make([]byte, 1))
	if err.Error() != "EOF" {
		return err
	}
	return nil
}

// laterMain tells what it finds.
func laterMain(file, starter string) error {
	inherited := 0
	for fd := 3; fd < 64; fd++ {
		if link, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)); err == nil && strings.HasPrefix(link, "pipe:") {
			inherited++
		}
	}
	text := fmt.Sprintf("alive %v, environment %v, descriptors %d\n", strconv.Itoa(os.Getppid()) == starter, os.Environ(), inherited)
	return os.WriteFile(file, []byte(text), 0o600)
}

// TestExecLater: the other process begins when this one has ended, or after a while where
// it lives on, with nothing of its environment and descriptors.
func TestExecLater(t *testing.T) {
	for latest, alive := range map[time.Duration]bool{time.Hour: false, 10 * time.Millisecond: true} {
		t.Run(fmt.Sprint(latest), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "out")
			cmd := exec.Command(os.Args[0], file)
			cmd.Env = append(os.Environ(), laterAfter+"="+latest.String())
			cmd.Stderr = os.Stderr
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			end := func() {
				stdin.Close()
				if err := cmd.Wait(); err != nil {
					t.Error(err)
				}
			}
			if !alive {
				end()
			} else {
				defer end()
			}
			var raw []byte
			for limit := time.Now().Add(20 * time.Second); time.Now().Before(limit) && len(raw) == 0; time.Sleep(time.Millisecond) {
				raw, _ = os.ReadFile(file)
			}
			if want := fmt.Sprintf("alive %v, environment [], descriptors 0\n", alive); string(raw) != want {
				t.Errorf("%q, want %q", raw, want)
			}
		})
	}
}
