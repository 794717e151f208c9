package runtime

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"adl.run/adl-runtime/libsandbox"
	"adl.run/adl-runtime/spec"
)

func TestParseSignal(t *testing.T) {
	for s, want := range map[string]unix.Signal{
		"": unix.SIGTERM, "TERM": unix.SIGTERM, "SIGTERM": unix.SIGTERM, "sigterm": unix.SIGTERM, "Kill": unix.SIGKILL,
		"9": unix.SIGKILL, "0": 0, "37": 37, "64": 64, "usr1": unix.SIGUSR1, "SIGWINCH": unix.SIGWINCH,
	} {
		if got, err := parseSignal(s); got != want || err != nil {
			t.Errorf("%q: %v, %v, want %v", s, got, err, want)
		}
	}
	for _, s := range []string{"FOO", "SIG", "65", "-9", "9x", "SIGSIGTERM"} {
		if got, err := parseSignal(s); err == nil || err.Error() != "unknown signal "+strconv.Quote(s) {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
}

// sampleStates are a running and a stopped container; the library may still
// know the pid of the second.
func sampleStates() []stateJSON {
	created := time.Date(2026, 1, 2, 3, 4, 5, 678900000, time.FixedZone("", 3600))
	running := libsandbox.State{
		State:  specs.State{Version: "1.3.0", ID: "one", Status: specs.StateRunning, Pid: 42, Bundle: "/b/one", Annotations: map[string]string{"k": "v"}},
		Rootfs: "/b/one/rootfs", Created: created,
	}
	stopped := running
	stopped.ID, stopped.Status, stopped.Annotations = "a-rather-long-name", specs.StateStopped, nil
	all := []stateJSON{newStateJSON(&running), newStateJSON(&stopped)}
	all[1].Owner = "root"
	return all
}

// The expected texts are runc 1.1.5's for the same values.
func TestWriteList(t *testing.T) {
	for format, want := range map[string]string{
		"quiet": "one\na-rather-long-name\n",
		"table": `ID                   PID         STATUS      BUNDLE      CREATED                     OWNER
one                  42          running     /b/one      2026-01-02T02:04:05.6789Z   
a-rather-long-name   0           stopped     /b/one      2026-01-02T02:04:05.6789Z   root
`,
		"json": `[{"ociVersion":"1.3.0","id":"one","pid":42,"status":"running","bundle":"/b/one","rootfs":"/b/one/rootfs","created":"2026-01-02T02:04:05.6789Z","annotations":{"k":"v"},"owner":""},` +
			`{"ociVersion":"1.3.0","id":"a-rather-long-name","pid":0,"status":"stopped","bundle":"/b/one","rootfs":"/b/one/rootfs","created":"2026-01-02T02:04:05.6789Z","owner":"root"}]` + "\n",
	} {
		var b strings.Builder
		if err := writeList(&b, format, sampleStates()); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, b.String()); d != "" {
			t.Errorf("%s: %s", format, d)
		}
	}
}

func TestWriteState(t *testing.T) {
	var b strings.Builder
	if err := writeState(&b, sampleStates()[0]); err != nil {
		t.Fatal(err)
	}
	want := `{
  "ociVersion": "1.3.0",
  "id": "one",
  "pid": 42,
  "status": "running",
  "bundle": "/b/one",
  "rootfs": "/b/one/rootfs",
  "created": "2026-01-02T02:04:05.6789Z",
  "annotations": {
    "k": "v"
  },
  "owner": ""
}`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Error(d)
	}
}

func TestUserName(t *testing.T) {
	if got := userName(0); got != "root" {
		t.Errorf("user 0 is %q", got)
	}
	if got := userName(1<<31 - 7); got != "#2147483641" {
		t.Errorf("a user without a name is %q", got)
	}
}

func TestRunTarget(t *testing.T) {
	generated := regexp.MustCompile(`^adl-[0-9a-f]{8}$`)
	for _, tt := range []struct{ args, id, bundle string }{
		{"name", "name", "."},
		{"-b dir name", "name", "dir"},
		{"bundle/", "", "bundle/"},
		{"./bundle", "", "./bundle"},
		{"/a/b", "", "/a/b"},
		{".", "", "."},
		{"..", "", ".."},
		{"-b dir a/b", "a/b", "dir"}, // the library refuses the id
		{"", "", "."},
		{"-b dir", "", "dir"},
	} {
		set := flag.NewFlagSet("run", flag.ContinueOnError)
		set.String("b", "", "")
		set.String("bundle", "", "")
		if err := set.Parse(strings.Fields(tt.args)); err != nil {
			t.Fatal(err)
		}
		if dir := set.Lookup("b").Value.String(); dir != "" {
			set.Set("bundle", dir)
		}
		got := runTarget(cli.NewContext(nil, set, nil))
		if got.bundle != tt.bundle || got.generated != (tt.id == "") {
			t.Errorf("%q: %+v", tt.args, got)
		}
		if got.id != tt.id && !(got.generated && generated.MatchString(got.id)) {
			t.Errorf("%q: id %q, want %q", tt.args, got.id, tt.id)
		}
	}
}

func TestExitStatus(t *testing.T) {
	for raw, want := range map[unix.WaitStatus]int{0: 0, 7 << 8: 7, 255 << 8: 255, 9: 137, 15: 143, 11 | 0x80: 139} {
		if got := exitStatus(raw); got != want {
			t.Errorf("wait status %#x: %d, want %d", uint32(raw), got, want)
		}
	}
}

func TestCheckTerminal(t *testing.T) {
	for _, tt := range []struct {
		terminal, detach bool
		socket           string
		ok               bool
	}{
		{true, true, "", false},
		{true, true, "s", true},
		{true, false, "", true},
		{true, false, "s", false},
		{false, true, "", true},
		{false, true, "s", false},
		{false, false, "", true},
		{false, false, "s", false},
	} {
		if err := checkTerminal(&specs.Process{Terminal: tt.terminal}, tt.socket, tt.detach); (err == nil) != tt.ok {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}

func TestExtraFiles(t *testing.T) {
	b := func() *spec.Bundle { return &spec.Bundle{Spec: &specs.Spec{Process: &specs.Process{}}} }
	if files, err := extraFiles(b(), 0); files != nil || err != nil {
		t.Errorf("none asked for: %v, %v", files, err)
	}
	own, err := os.Open(os.DevNull) // close-on-exec, so that nobody can have passed it
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if _, err := extraFiles(b(), int(own.Fd())-2); !errors.Is(err, unix.EBADF) {
		t.Errorf("a descriptor of this process would be passed on: %v", err)
	}
	t.Setenv("LISTEN_FDS", "100000")
	t.Setenv("LISTEN_PID", "1")
	if n := listenFDs(); n != 0 {
		t.Errorf("%d sockets meant for another process", n)
	}
	t.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	withSockets := b()
	if _, err := extraFiles(withSockets, 0); !errors.Is(err, unix.EBADF) {
		t.Errorf("missing sockets: %v", err)
	}
	if d := cmp.Diff([]string{"LISTEN_FDS=100000", "LISTEN_PID=1"}, withSockets.Spec.Process.Env); d != "" {
		t.Error(d)
	}
}

func TestUserRoot(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a", "b")
	got, err := userRoot(root)
	if err != nil || got != root {
		t.Fatal(got, err)
	}
	if fi, err := os.Stat(root); err != nil || fi.Mode() != os.ModeDir|os.ModeSticky|0o700 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
}
