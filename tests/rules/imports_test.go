package rules

import (
	"path"
	"slices"
	"strings"
	"testing"
)

// imports is who may import whom within the module, most special first. A pattern
// ends in /... for all below. A package without a line here is a complaint: a new
// one has to find its place in the house.
func importRules() []struct {
	from string
	to   []string
} {
	return []struct {
		from string
		to   []string
	}{
		{".", []string{"runtime"}},
		{"runtime", []string{"spec", "libsandbox", "libsandbox/security", "libsandbox/shell", "libsandbox/holder"}},
		{"spec", nil},
		{"libsandbox", []string{"spec", "libsandbox/..."}},
		{"libsandbox/shell", []string{"libsandbox/internal/kernel/..."}},
		{"libsandbox/holder", []string{"libsandbox/shell", "libsandbox/internal/kernel"}},
		{"libsandbox/cgroup", []string{"libsandbox/internal/kernel/...", "libsandbox/internal/systemd"}},
		{"libsandbox/internal/systemd", nil},
		{"libsandbox/internal/resctrl/resctrltest", nil},
		{"libsandbox/internal/resctrl", []string{"libsandbox/internal/kernel"}},
		{"libsandbox/layer", []string{"spec", "libsandbox/internal/kernel/..."}},
		{"libsandbox/security/...", nil},
		{"libsandbox/internal/program", nil},
		{"libsandbox/internal/compile", []string{"libsandbox/internal/program", "libsandbox/security"}},
		{"libsandbox/internal/engine", []string{"libsandbox/internal/program", "libsandbox/internal/kernel"}},
		{"libsandbox/internal/kernel/...", []string{"libsandbox/internal/kernel/..."}},
		{"hack/completion", []string{"runtime"}},
		{"hack/huge", nil},
		{"tests/harness", nil}, // knows a runtime only as an executable
		{"tests/bench/frame", nil},
		{"tests/bench/layers", []string{"tests/bench/frame", "spec", "libsandbox", "libsandbox/layer"}},
		{"tests/bench/shell", []string{"tests/bench/frame", "spec", "libsandbox", "libsandbox/shell"}},
		{"tests/bench", []string{"tests/bench/frame"}},
		{"tests/soak", []string{"libsandbox", "libsandbox/shell"}},
		{"tests/...", []string{"tests/harness", "spec"}},
	}
}

func matches(pattern, pkg string) bool {
	if dir, ok := strings.CutSuffix(pattern, "/..."); ok {
		return pkg == dir || strings.HasPrefix(pkg, dir+"/")
	}
	return pattern == pkg
}

func importComplaint(from, to string) string {
	for _, r := range importRules() {
		if !matches(r.from, from) {
			continue
		}
		if slices.ContainsFunc(r.to, func(p string) bool { return matches(p, to) }) {
			return ""
		}
		return from + " must not import " + to
	}
	return from + " is in no line of importRules"
}

func TestImportsGoOneWay(t *testing.T) {
	for _, p := range packages(t, "./...") {
		from, _ := short(p.ImportPath)
		for _, i := range p.Imports {
			if to, ours := short(i); ours {
				if c := importComplaint(from, to); c != "" {
					t.Error(c)
				}
			}
		}
		if c := importComplaint(from, ""); strings.Contains(c, "importRules") {
			t.Error(c)
		}
	}
	for _, bad := range [][2]string{
		{"spec", "libsandbox"},
		{"libsandbox", "runtime"},
		{"libsandbox/cgroup", "libsandbox"},
		{"runtime", "libsandbox/internal/engine"},
		{"libsandbox/internal/compile", "libsandbox/internal/kernel"},
		{"nowhere", "spec"},
	} {
		if importComplaint(bad[0], bad[1]) == "" {
			t.Errorf("the rule lets %s import %s", bad[0], bad[1])
		}
	}
}

// TestPurePackages: what does no I/O can be tested without privileges, and gives
// the same program on every machine.
func TestPurePackages(t *testing.T) {
	imports := make(map[string][]string)
	for _, p := range packages(t, "./...") {
		imports[p.ImportPath] = p.Imports
	}
	impure := []string{"os", "os/exec", "os/user", "io/ioutil", "net", "plugin", module + "/libsandbox/internal/kernel"}
	for _, name := range []string{"internal/compile", "internal/program", "security/seccomp"} {
		start := module + "/libsandbox/" + name
		if imports[start] == nil {
			t.Fatalf("no package %s", start)
		}
		seen := map[string]bool{start: true}
		for todo := []string{start}; len(todo) > 0; todo = todo[1:] {
			for _, i := range imports[todo[0]] {
				if slices.Contains(impure, i) {
					t.Errorf("%s, reached from %s, imports %s", todo[0], name, i)
				}
				if _, ours := short(i); ours && !seen[i] {
					seen[i] = true
					todo = append(todo, i)
				}
			}
		}
	}
}

// TestLinkedPackages: what is linked is initialised and faulted in at every start.
func TestLinkedPackages(t *testing.T) {
	p := packages(t, ".")
	if len(p) != 1 || len(p[0].Deps) < 50 {
		t.Fatalf("go list says %+v", p)
	}
	for _, banned := range []struct{ pattern, why string }{
		{"go.podman.io/storage/...", "images belong in a helper program, started by the verbs that need it"},
		{"go.podman.io/image/...", "images belong in a helper program, started by the verbs that need it"},
		{"github.com/containers/...", "images belong in a helper program, started by the verbs that need it"},
		{"github.com/opencontainers/cgroups/...", "it links a D-Bus client and net (docs/adr/0003)"},
		{"github.com/godbus/dbus/...", "a D-Bus client is worth its time only with --systemd-cgroup"},
		{"net/http", "a runtime has no business on the network"},
		{"testing", "it registers flags"},
		{"C", "the binary is static and pure Go"},
		{"runtime/cgo", "the binary is static and pure Go"},
	} {
		for _, d := range p[0].Deps {
			if matches(banned.pattern, d) {
				t.Errorf("adl-runtime links %s: %s", d, banned.why)
			}
		}
	}
}

func TestPackageNames(t *testing.T) {
	for _, p := range packages(t, "./...") {
		switch path.Base(p.ImportPath) {
		case "util", "utils", "common", "types", "helper", "helpers", "config", "misc", "base", "shared":
			t.Errorf("%s: a package is one noun with one reason to exist", p.ImportPath)
		}
	}
}
