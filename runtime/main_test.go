package runtime

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
)

// result is what a command line left behind.
type result struct {
	status         int
	stdout, stderr string
}

// command runs Main in this process, with its own state directory and files for
// output. Nothing that these tests ask for starts a container.
func command(t *testing.T, args ...string) result {
	t.Helper()
	dir := t.TempDir()
	open := func(name string) *os.File {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	stdin, stdout, stderr := open("stdin"), open("stdout"), open("stderr")
	args = append([]string{"adl", "--root", filepath.Join(dir, "root")}, args...)
	status := Main(args, stdin, stdout, stderr)
	return result{status, contents(t, stdout), contents(t, stderr)}
}

func contents(t *testing.T, f *os.File) string {
	t.Helper()
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestUsageErrors(t *testing.T) {
	for _, tt := range []struct {
		args   string
		status int
		msg    string
		help   string // the first line of stdout
	}{
		{"create", 1, `adl: \"create\" requires exactly 1 argument(s)`, "Incorrect Usage."},
		{"run a b", 1, `adl: \"run\" requires exactly 1 argument(s)`, "Incorrect Usage."},
		{"run --dry-run a b", 1, `adl: \"run\" requires a maximum of 1 argument(s)`, "Incorrect Usage."},
		{"start", 1, `adl: \"start\" requires exactly 1 argument(s)`, "Incorrect Usage."},
		{"kill", 1, `adl: \"kill\" requires a minimum of 1 argument(s)`, "Incorrect Usage."},
		{"kill a b c", 1, `adl: \"kill\" requires a maximum of 2 argument(s)`, "Incorrect Usage."},
		{"list a", 1, `adl: \"list\" requires exactly 0 argument(s)`, "Incorrect Usage."},
		{"list --format", 1, "flag needs an argument: -format", "Incorrect Usage: flag needs an argument: -format"},
		{"run x --foo", 1, "flag provided but not defined: -foo", "Incorrect Usage: flag provided but not defined: -foo"},
		{"--foo run x", 1, "flag provided but not defined: -foo", "Incorrect Usage: flag provided but not defined: -foo"},
		{"nope", 3, "No help topic for 'nope'", ""},
		{"list -f xml", 1, "invalid format option", ""},
		{"--log-format xml list", 1, "invalid log-format: xml", ""},
		{"--log /nonexistent/log list", 1, "open /nonexistent/log: no such file or directory", ""},
		{"--root / list", 1, "option --root argument should not be set to /", ""},
		{"state nope", 1, `container \"nope\": container does not exist`, ""},
		{"start nope", 1, `container \"nope\": container does not exist`, ""},
		{"kill nope FOO", 1, `container \"nope\": container does not exist`, ""},
		{"delete nope", 1, `container \"nope\": container does not exist`, ""},
		{"run -b /nonexistent x", 1, "open /nonexistent/config.json: no such file or directory", ""},
		{"run /nonexistent/", 1, "open /nonexistent/config.json: no such file or directory", ""},
		{"create -b /nonexistent x", 1, "open /nonexistent/config.json: no such file or directory", ""},
	} {
		t.Run(tt.args, func(t *testing.T) {
			got := command(t, strings.Fields(tt.args)...)
			if got.status != tt.status {
				t.Errorf("status %d, want %d", got.status, tt.status)
			}
			if !strings.HasSuffix(got.stderr, `level=error msg="`+tt.msg+"\"\n") || strings.Count(got.stderr, "\n") != 1 {
				t.Errorf("stderr %q, want one line with %q", got.stderr, tt.msg)
			}
			if first, _, _ := strings.Cut(got.stdout, "\n"); first != tt.help {
				t.Errorf("stdout begins with %q, want %q", first, tt.help)
			}
		})
	}
}

// No configuration may be looked for, let alone a container made, where only
// information is asked for.
func TestInformation(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"--version", "adl-runtime version "},
		{"-v", "adl-runtime version "},
		{"--version run x", "adl-runtime version "},
		{"", "NAME:\n   adl-runtime - "},
		{"--help", "NAME:\n   adl-runtime - "},
		{"help run", "NAME:\n   adl-runtime run - "},
		{"run x --help", "NAME:\n   adl-runtime run - "},
		{"list", "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"},
		{"list --format json", "null\n"},
		{"list -q", ""},
		{"delete --force nope", ""},
		{"delete nope -f", ""},
	} {
		t.Run(tt.args, func(t *testing.T) {
			got := command(t, strings.Fields(tt.args)...)
			if got.status != 0 || got.stderr != "" {
				t.Errorf("status %d, stderr %q", got.status, got.stderr)
			}
			if !strings.HasPrefix(got.stdout, tt.want) || tt.want == "" && got.stdout != "" {
				t.Errorf("stdout %q, want it to begin with %q", got.stdout, tt.want)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	lines := strings.Split(command(t, "--version").stdout, "\n")
	for _, prefix := range []string{"adl-runtime version ", "spec: " + specs.Version, "go: go1."} {
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, prefix) }) {
			t.Errorf("no line %q in %q", prefix, lines)
		}
	}
}

func TestReorder(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"delete id --force", "delete --force id"},
		{"--root r delete id -f", "--root r delete -f id"},
		{"--root=delete kill id 9 --all", "--root=delete kill --all id 9"},
		{"run id -b dir --keep", "run -b dir --keep id"},
		{"run id --bundle=dir", "run --bundle=dir id"},
		{"run id --pid-file --odd", "run --pid-file --odd id"},
		{"run id -- --keep", "run id -- --keep"},
		{"run id -b", "run -b id"}, // then refused: a value is missing
		{"run - -d", "run -d -"},
		{"run id --keep --help", "run --help"},
		{"ps -f json id -o pid", "ps -f json id -o pid"},
		{"ps id -ef -f table", "ps id -ef -f table"},
		{"shell --tty list id -f json", "shell --tty -f json list id"},
		{"shell --tty id -f json", "shell --tty id -f json"},
		{"shell --tty -- list -f json", "shell --tty --id-follows -- list -f json"},
		{"shell list -- id", "shell list -- id"},
		{"nope id --force", "nope id --force"},
		{"--root", "--root"},
		{"", ""},
	} {
		args := append([]string{"adl"}, strings.Fields(tt.args)...)
		got := strings.Join(reorder((&app{}).cli(), args)[1:], " ")
		if got != tt.want {
			t.Errorf("%q became %q, want %q", tt.args, got, tt.want)
		}
	}
}

func TestLogFile(t *testing.T) {
	const missing = `container "nope": container does not exist`
	log := filepath.Join(t.TempDir(), "log")
	for range 2 { // it is appended to
		got := command(t, "--log", log, "--log-format", "json", "state", "nope")
		if got.stderr != missing+"\n" || got.status != 1 {
			t.Errorf("%+v", got)
		}
	}
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
	if len(lines) != 2 {
		t.Fatalf("log %q, want two lines", data)
	}
	var entry map[string]string
	if err := json.Unmarshal([]byte(lines[1]), &entry); err != nil {
		t.Fatal(err)
	}
	if entry["level"] != "error" || entry["msg"] != missing || entry["time"] == "" {
		t.Errorf("entry %v", entry)
	}
}

func TestSpec(t *testing.T) {
	dir := t.TempDir()
	if got := command(t, "spec", "-b", dir); got != (result{}) {
		t.Fatalf("%+v", got)
	}
	path := filepath.Join(dir, "config.json")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var s specs.Spec
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	if s.Version != specs.Version || !strings.HasPrefix(string(data), "{\n\t\"ociVersion\"") {
		t.Errorf("config.json begins with %.40q", data)
	}
	if got := command(t, "spec", "-b", dir); got.status != 1 || !strings.Contains(got.stderr, "file config.json exists") {
		t.Errorf("written over: %+v", got)
	}
	if again, _ := os.ReadFile(path); string(again) != string(data) {
		t.Error("the refused spec changed the file")
	}
	os.Remove(path)
	if got := command(t, "spec", "--rootless", "--bundle", dir); got.status != 0 {
		t.Fatalf("%+v", got)
	}
	data, _ = os.ReadFile(path)
	if !strings.Contains(string(data), "uidMappings") {
		t.Error("--rootless wrote no id mapping")
	}
}

func TestFeatures(t *testing.T) {
	got := command(t, "features")
	var f features.Features
	if err := json.Unmarshal([]byte(got.stdout), &f); err != nil || got.status != 0 {
		t.Fatal(err, got)
	}
	if !slices.IsSorted(f.MountOptions) || len(slices.Compact(f.MountOptions)) != 64 {
		t.Errorf("mount options %v", f.MountOptions)
	}
	want := []string{"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"}
	if d := cmp.Diff(want, f.Linux.Namespaces); d != "" {
		t.Error(d)
	}
	if f.OCIVersionMin != "1.0.0" || f.OCIVersionMax != specs.Version || len(f.Hooks) != 6 {
		t.Errorf("%s to %s, hooks %v", f.OCIVersionMin, f.OCIVersionMax, f.Hooks)
	}
	if !*f.Linux.Cgroup.V1 || !*f.Linux.Cgroup.V2 || !*f.Linux.Cgroup.Systemd || !*f.Linux.Seccomp.Enabled {
		t.Error("cgroup or seccomp support is wrong")
	}
	if f.Annotations["run.adl.version"] == "" || !slices.Contains(f.Linux.Capabilities, "CAP_SYS_ADMIN") {
		t.Error("no version or no capabilities")
	}
}
