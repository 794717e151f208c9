package libsandbox

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// ownerDir has the test's own program make a sandbox there, and wait for its end.
const ownerDir = "ADL_TEST_OWNER_DIR"

// ownedConfig is the same for both processes.
func ownedConfig(dir string) *Config {
	return &Config{
		Store: &Store{root: filepath.Join(dir, "store")}, ID: "owned", Rootfs: filepath.Join(dir, "rootfs"),
		Layer: LayerOptions{Root: filepath.Join(dir, "layers")}, Env: []string{"PATH=/bin"}, Volumes: []string{dir + "/host:/cow:cow"},
	}
}

// TestOwnerKilled: what a killed owner leaves keeps its name and its files until it is
// collected; then nothing of it is left, and the next of that name begins anew.
func TestOwnerKilled(t *testing.T) {
	if dir := os.Getenv(ownerDir); dir != "" {
		own(t, dir)
		return
	}
	c := boxed(t)
	dir := filepath.Dir(c.Rootfs)
	tmpfs(t, filepath.Join(dir, "layers"), 0)
	if err := errors.Join(os.Chmod(filepath.Join(dir, "layers"), 0o700), os.Mkdir(filepath.Join(dir, "host"), 0o755)); err != nil {
		t.Fatal(err)
	}
	c = ownedConfig(dir)
	before := lookAtHost(t, t.TempDir())
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestOwnerKilled$")
	cmd.Env = append(os.Environ(), ownerDir+"="+dir)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err != nil || line != "made\n" {
		t.Fatalf("the owner says %q, %v", line, err)
	}
	if _, err := New(t.Context(), c); !errors.Is(err, ErrExist) {
		t.Errorf("before it is collected: %v", err)
	}
	done, err := c.Store.CollectOwned(t.Context())
	if err != nil || !slices.Equal(done, []Collected{{"owned", OwnerEnded}}) {
		t.Errorf("collected %v, %v", done, err)
	}
	noLayers(t, c.Layer.Root)
	l := newBox(t, c)
	if got := l.say("ls /old /cow; echo $x"); got != "/cow:\n\nls: /old: No such file or directory" {
		t.Errorf("the next has %q", got)
	}
	l.gone()
	reapChildren()
	before.compare(t, lookAtHost(t, t.TempDir()))
}

// own is the owner.
func own(t *testing.T, dir string) {
	sb, err := New(t.Context(), ownedConfig(dir))
	if err == nil {
		_, err = sb.Run(context.Background(), "echo old >/old; echo old >/cow/old; x=old; sleep 1000 &", nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("made")
	_ = unix.Pause()
}
