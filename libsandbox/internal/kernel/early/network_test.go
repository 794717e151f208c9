package early

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMakes(t *testing.T) {
	for _, c := range []struct{ args, config string }{
		{"run c1", "./config.json"},
		{"create c1", "./config.json"},
		{"run bundle/", "bundle//config.json"},
		{"run /a/b", "/a/b/config.json"},
		{"run .", "./config.json"},
		{"run ..", "../config.json"},
		{"run -b /a c1", "/a/config.json"},
		{"run c1 --bundle /a", "/a/config.json"},
		{"run -b /a b/c", "/a/config.json"},
		{"--root /run/x --log /l --log-format json --debug --systemd-cgroup run -d -b /a --pid-file /p c1", "/a/config.json"},
		{"--root=/run/x create c1", "./config.json"},
		{"run --root /run/x c1", "./config.json"},
		{"run -b", "./config.json"},
		{"", ""},
		{"delete run", ""},
		{"exec c1 run", ""},
		{"--version", ""},
		{"--root run", ""},
		{"run --dry-run c1", ""},
		{"run -b " + strings.Repeat("a", len(path)) + " c1", ""},
	} {
		commandLine(append([]string{"adl-runtime"}, strings.Fields(c.args)...), nil)
		clear(path[:])
		got := ""
		if bundle, ok := makes(); ok && setConfig(bundle) {
			got, _, _ = strings.Cut(string(path[:]), "\x00")
		}
		if got != c.config {
			t.Errorf("%s: %q, want %q", c.args, got, c.config)
		}
	}
}

func TestOwnNetwork(t *testing.T) {
	for _, c := range []struct {
		config string
		want   bool
	}{
		{`{"linux":{"namespaces":[{"type":"pid"},{"type":"network"}]}}`, true},
		{"{\"namespaces\": [\n{\n\t\"type\" :\r\n\"network\"\n}]}", true},
		{`{"namespaces":[{"type":"network","path":"/proc/1/ns/net"}]}`, false},
		{`{"namespaces":[{"type":"network"},{"type":"mount","path":"/proc/1/ns/mnt"}]}`, true},
		{`{"namespaces":[{"type":"network"},{"type":"user"}]}`, false},
		{`{"namespaces":[{"type":"pid"}],"resources":{"network":{}}}`, false},
		{`{"process":{"user":{"uid":0}},"mounts":[{"type":"tmpfs"}]}`, false},
		{`{"type":"network"`, true},
		{`{"type"`, false},
		{``, false},
	} {
		clear(text[:])
		copy(text[:], c.config)
		if got := ownNetwork(); got != c.want {
			t.Errorf("%s: %v", c.config, got)
		}
	}
}

// TestNetwork starts a program that begins at adl_entry for bundles, and looks at the
// namespace that it finds.
func TestNetwork(t *testing.T) {
	if os.Geteuid() != 0 || runtime.NumCPU() == 1 {
		t.Skip("needs root and two processors")
	}
	exe := buildEntry(t)
	const (
		found = "interface lo up|loopback|running"
		tries = 100 // on a busy machine the process may not have begun when it is wanted
	)
	for _, c := range []struct {
		name, namespaces string
		args             []string
		want             bool
	}{
		{"own", `{"type":"network"}`, []string{"run", "-b", "BUNDLE", "c1"}, true},
		{"joined", `{"type":"network","path":"/proc/1/ns/net"}`, []string{"run", "-b", "BUNDLE", "c1"}, false},
		{"another verb", `{"type":"network"}`, []string{"state", "-b", "BUNDLE", "c1"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			bundle := t.TempDir()
			config := fmt.Sprintf(`{"linux":{"namespaces":[%s]}}`, c.namespaces)
			if err := os.WriteFile(filepath.Join(bundle, ConfigFile), []byte(config), 0o644); err != nil {
				t.Fatal(err)
			}
			for i, a := range c.args {
				c.args[i] = strings.ReplaceAll(a, "BUNDLE", bundle)
			}
			var out []byte
			for range tries {
				var err error
				if out, err = exec.Command(exe, c.args...).Output(); err != nil {
					t.Fatal(err)
				}
				if !c.want || strings.Contains(string(out), found) {
					break
				}
			}
			if got := strings.Contains(string(out), found); got != c.want || strings.Count(string(out), "interface") > 1 {
				t.Errorf("%v:\n%s", got, out)
			}
		})
	}
	t.Run("not taken", func(t *testing.T) {
		bundle := t.TempDir()
		if err := os.WriteFile(filepath.Join(bundle, ConfigFile), []byte(`{"type":"network"}`), 0o644); err != nil {
			t.Fatal(err)
		}
		// Whoever is killed cannot end it.
		var out []byte
		var err error
		for range tries {
			if out, err = exec.Command(exe, "run", bundle+"/", "leave").Output(); err != nil {
				break
			}
		}
		if err == nil {
			t.Fatal("it was not killed")
		}
		var pid int
		for line := range strings.Lines(string(out)) {
			_, _ = fmt.Sscanf(line, "maker %d", &pid)
		}
		if pid == 0 {
			t.Fatalf("no process in\n%s", out)
		}
		for deadline := time.Now().Add(5 * time.Second); unix.Kill(pid, 0) == nil && !zombie(pid); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("process %d is still there", pid)
			}
		}
	})
}

// zombie says whether a process has ended. Whose child it is now may not have waited for it.
func zombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}
